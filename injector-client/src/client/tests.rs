//! Tests of the client against sockets that answer from a script.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use super::*;

/// Answers one request on a connection, and closes it when it is asked to.
fn answer_once(listener: &UnixListener, close: &mpsc::Receiver<()>) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 1024];
    assert_ne!(stream.read(&mut head).unwrap(), 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").unwrap();
    close.recv().unwrap();
    // Also where a child of another test has the socket, for a moment.
    stream.shutdown(std::net::Shutdown::Both).unwrap();
}

#[test]
fn a_connection_that_was_closed_while_nobody_looked_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (close, asked) = mpsc::channel();
    let (closed, is_closed) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..2 {
            answer_once(&listener, &asked);
            closed.send(()).unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = runtime.block_on(Client::connect(&path)).unwrap();
    for _ in 0..2 {
        let sent = client.send(Method::GET, "/v1/partitions", Bytes::new());
        // The whole answer is read, so that the connection could be used again.
        let answer = runtime.block_on(async { sent.await.unwrap().into_body().collect().await.unwrap() });
        assert_eq!(answer.to_bytes(), "[]");
        // Outside the runtime: the client can't see it happen.
        close.send(()).unwrap();
        is_closed.recv().unwrap();
    }
}

#[test]
fn a_daemon_of_another_version_is_named_where_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let refusal = r#"{"code":"no-such-call","status":404,"detail":"there is no GET /v1/status"}"#;
    let answers = [("404 Not Found", refusal), ("200 OK", r#"{"version":"99.0.0"}"#)];
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for (status, body) in answers {
            let mut head = [0; 1024];
            assert_ne!(stream.read(&mut head).unwrap(), 0);
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(async { Client::connect(&path).await.unwrap().status().await });
    let Err(ClientError::Problem(problem)) = &refused else { panic!("{refused:?}") };
    assert_eq!(problem.code, Code::NoSuchCall);
    assert!(problem.to_string().contains("is older than the daemon (99.0.0)"), "{problem}");
}

#[test]
fn a_problem_with_an_unknown_code_still_says_what_is_wrong() {
    let body = br#"{"code":"a-later-word","status":400,"detail":"no such thing"}"#;
    assert_eq!(unread(StatusCode::BAD_REQUEST, body), "status 400 Bad Request: no such thing");
    assert_eq!(unread(StatusCode::BAD_GATEWAY, b"<html>"), "status 502 Bad Gateway");
}

#[test]
fn a_daemon_that_does_not_answer_is_given_up_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    // It listens, and the kernel takes the connection; nobody accepts it, as of a process that is stopped.
    let _listener = UnixListener::bind(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = Duration::from_millis(50);
    let (asked, followed) = runtime.block_on(async {
        let mut client = Client::connect(&path).await.unwrap().give_up_after(limit);
        let asked = client.status().await.map(drop);
        let client = Client::connect(&path).await.unwrap().give_up_after(limit);
        (asked, client.events(0, true).await.map(drop))
    });
    for given_up in [asked, followed] {
        let said = given_up.unwrap_err().to_string();
        let own = format!("(pid {}) did not answer within 50ms", std::process::id());
        assert!(said.contains(&own) && said.contains("sudo kill -CONT"), "{said}");
    }
}

/// A long poll may take as long as it asks for.
#[test]
fn what_a_call_waits_for_is_added_to_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let given_up = runtime.block_on(async {
        let mut client = Client::connect(&path).await.unwrap().give_up_after(Duration::from_millis(50));
        client.recovery("p", None, Duration::from_millis(150)).await
    });
    assert!(given_up.unwrap_err().to_string().contains("did not answer within 200ms"));
}
