//! What a connection survives: errors before a body was read, clients that write head and body apart, close one
//! direction, or go away. No privileges.

#[path = "support/served.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use support::{Asked, HttpResponse, Served};

const OWNED: &str = r#"{"shape": {"isolate": ["n1"]}, "owner": "connection"}"#;

/// One answer of a connection that stays open: status, head and body.
fn answer(reader: &mut BufReader<UnixStream>) -> (u16, String, Value) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the connection ended in: {head:?}");
    }
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, serde_json::from_slice(&body).unwrap())
}

fn head(method: &str, path: &str, length: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

/// As Python's `http.client` does: two writes, and nothing is read in between.
#[test]
fn errors_reach_a_client_that_writes_head_and_body_apart() {
    let served = Served::start();
    let long = format!("/v1/partitions/{}", "n".repeat(65));
    let errors = [
        ("PUT", "/v1/nothing", 404),
        ("PUT", "/v1/status", 405),
        ("PUT", long.as_str(), 400),
        ("PUT", "/v1/partitions/p?dryrun=1", 400),
        ("DELETE", "/v1/partitions/ghost", 404),
        ("POST", "/v1/marks", 400),
    ];
    let stream = served.connect();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    write!(writer, "{}{OWNED}", head("PUT", "/v1/partitions/mine", OWNED.len())).unwrap();
    assert_eq!(answer(&mut reader).0, 200);
    for attempt in 0..504 {
        let (method, path, status) = errors[attempt % errors.len()];
        // The body comes while the answer is made, after it could have been, and in pieces.
        let body = "x".repeat([1, 700, 70_000][attempt % 3]);
        writer.write_all(head(method, path, body.len()).as_bytes()).unwrap();
        if attempt % 5 == 0 {
            std::thread::yield_now();
        }
        for piece in body.as_bytes().chunks(30_000) {
            writer.write_all(piece).unwrap_or_else(|error| panic!("{attempt}: {method} {path}: {error}"));
        }
        let (found, head, problem) = answer(&mut reader);
        assert_eq!(found, status, "{attempt}: {method} {path}: {problem}");
        assert!(head.contains("application/problem+json") && problem["code"].is_string(), "{head}");
        assert!(!head.contains("connection: close"), "{attempt}: {head}");
    }
    // The same connection still applies, and what it owns was never taken for lost.
    write!(writer, "{}{OWNED}", head("PUT", "/v1/partitions/more", OWNED.len())).unwrap();
    assert_eq!(answer(&mut reader).0, 200);
    let asked: Vec<Asked> = served.asked.try_iter().collect();
    assert!(!asked.iter().any(|asked| matches!(asked, Asked::Disconnected(_))), "{asked:?}");
}

#[test]
fn a_body_over_the_limit_is_answered_and_the_connection_goes_on() {
    let served = Served::start();
    let stream = served.connect();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    for chunked in [false, true] {
        let body = vec![b'x'; 3 * 1024 * 1024];
        if chunked {
            write!(writer, "PUT /v1/partitions/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            for piece in body.chunks(100_000) {
                write!(writer, "{:x}\r\n", piece.len()).unwrap();
                writer.write_all(piece).unwrap();
                writer.write_all(b"\r\n").unwrap();
            }
            writer.write_all(b"0\r\n\r\n").unwrap();
        } else {
            writer.write_all(head("PUT", "/v1/partitions/p", body.len()).as_bytes()).unwrap();
            writer.write_all(&body).unwrap();
        }
        let (status, _, problem) = answer(&mut reader);
        assert_eq!((status, problem["code"].as_str()), (413, Some("body-too-large")));
        assert!(problem["detail"].as_str().unwrap().contains("1048576 bytes"), "{problem}");
    }
    writer.write_all(head("GET", "/v1/status", 0).as_bytes()).unwrap();
    assert_eq!(answer(&mut reader).0, 200);
}

/// More than is read for nothing: the answer comes, then the connection's end.
#[test]
fn a_body_without_end_is_answered_and_cut_off() {
    let served = Served::start();
    let mut stream = served.connect();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(head("PUT", "/v1/nothing", 30 * 1024 * 1024).as_bytes()).unwrap();
    stream.write_all(&vec![b'x'; 30 * 1024 * 1024]).unwrap();
    let answer = HttpResponse::read(&mut stream);
    assert_eq!(answer.status, 404);
    assert!(answer.head.contains("connection: close"), "{answer:?}");
}

/// A body that never comes holds neither the answer nor the daemon for long.
#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let served = Served::start();
    let mut stream = served.connect();
    stream.write_all(head("PUT", "/v1/nothing", 1000).as_bytes()).unwrap();
    assert_eq!(HttpResponse::read(&mut stream).status, 404);
}

#[test]
fn a_client_that_closes_its_own_direction_is_answered() {
    let served = Served::start();
    for _ in 0..50 {
        let mut stream = served.connect();
        let body = r#"{"shape": {"isolate": ["n1"]}}"#;
        write!(stream, "{}{body}", head("PUT", "/v1/partitions/p", body.len())).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(HttpResponse::read(&mut stream).status, 200);
    }
    // Also where its request is not whole.
    let mut stream = served.connect();
    write!(stream, "{}{{", head("PUT", "/v1/partitions/torn", 30)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = HttpResponse::read(&mut stream);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("bad-body")), "{answer:?}");
    let torn = |asked: &Asked| matches!(asked, Asked::Apply { name, .. } if name == "torn");
    assert!(!served.asked.try_iter().any(|asked| torn(&asked)));
}

#[test]
fn a_half_closed_client_that_goes_away_is_noticed() {
    let served = Served::start();
    let mut stream = served.connect();
    write!(stream, "GET /v1/partitions/pending/recovery?wait=5m HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    served.wait_for(|asked| matches!(asked, Asked::Recovery { .. }));
    assert!(served.asked.try_recv().is_err(), "it still reads");
    drop(stream);
    served.wait_for(|asked| matches!(asked, Asked::Disconnected(_)));
}

#[test]
fn heads_that_can_not_be_read_are_problems() {
    let served = Served::start();
    let many = "h: x\r\n".repeat(200);
    for (request, status, code) in [
        ("GET\r\n\r\n".to_owned(), 400, "bad-head"),
        ("GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "bad-head"),
        ("GET /v1/status HTTP/9.9\r\n\r\n".to_owned(), 400, "bad-head"),
        (format!("GET /v1/status HTTP/1.1\r\nlong: {}\r\n\r\n", "x".repeat(400_000)), 431, "head-too-large"),
        // The library lets these pass.
        (format!("GET /v1/status HTTP/1.1\r\nlong: {}\r\n\r\n", "x".repeat(70_000)), 431, "head-too-large"),
        (format!("GET /v1/status HTTP/1.1\r\nlong: {}\r\n\r\n", "x".repeat(65_503)), 431, "head-too-large"),
        (format!("GET /v1/status HTTP/1.1\r\n{many}\r\n"), 431, "head-too-large"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_600)), 414, "uri-too-long"),
    ] {
        let mut stream = served.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let answer = HttpResponse::read(&mut stream);
        let start: String = request.chars().take(40).collect();
        assert_eq!(answer.status, status, "{start}: {answer:?}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{start}: {answer:?}");
        assert_eq!(answer.json()["code"], code, "{start}: {answer:?}");
        assert!(answer.json()["remedy"].is_string());
    }
}

/// The limit is what is documented: a head that has just reached it is read.
#[test]
fn a_head_of_64_kib_is_read() {
    let served = Served::start();
    let (before, after) = ("GET /v1/status HTTP/1.1\r\nconnection: close\r\nlong: ", "\r\n\r\n");
    let long = "x".repeat(64 * 1024 - before.len() - after.len());
    let mut stream = served.connect();
    stream.write_all(format!("{before}{long}{after}").as_bytes()).unwrap();
    assert_eq!(HttpResponse::read(&mut stream).status, 200);
}

/// Every directed link of 60 peers with the longest names.
#[test]
fn a_grudge_of_sixty_long_names_fits() {
    let served = Served::start();
    let name = |at: usize| format!("{:x<61}{at:03}", "peer-");
    let grudge: serde_json::Map<String, Value> = (0..60)
        .map(|dst| (name(dst), (0..60).filter(|src| *src != dst).map(|src| Value::from(name(src))).collect()))
        .collect();
    let body = serde_json::json!({ "shape": { "grudge": grudge } }).to_string();
    assert!(body.len() > 200_000);
    assert_eq!(served.call("PUT", "/v1/partitions/p", &body).status, 200);
}
