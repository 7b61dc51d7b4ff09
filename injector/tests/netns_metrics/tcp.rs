//! The TCP address: what it answers, what it refuses, and that it takes nothing from heals.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use injector_lab::http::Request;
use injector_lab::{CLIENT, attempt, http, needs, until};

use crate::live::daemon::{Daemon, isolate};
use crate::live::lab::{AttachPoint, Lab};
use crate::samples::Samples;
use crate::{Fixture, LISTEN};

fn address() -> SocketAddr {
    LISTEN.parse().unwrap()
}

/// One request as it is written, and the whole answer.
fn raw(lab: &Lab, request: &str) -> String {
    lab.within(CLIENT, || {
        let mut stream = TcpStream::connect(address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    })
}

#[test]
#[needs(root)]
fn metrics_alone_are_answered_by_tcp() {
    let fixture = Fixture::new("");
    let ask = |method: &str, path: &str| {
        raw(&fixture.lab, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    };
    let answer = ask("GET", "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let samples = Samples::read(http::body(&answer));
    assert!(samples.with("injector_build_info").count() == 1);
    let head = ask("HEAD", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");

    fixture.daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    for (method, path, status, says) in [
        ("GET", "/v1/status", 404, "the API is on the Unix socket"),
        ("GET", "/v1/partitions/p", 404, "GET /metrics is all"),
        ("DELETE", "/v1/partitions", 404, "GET /metrics is all"),
        ("PUT", "/v1/partitions/q", 404, "GET /metrics is all"),
        ("POST", "/metrics", 405, "does not know POST"),
        ("DELETE", "/metrics", 405, "does not know DELETE"),
        ("GET", "/metrics?name[]=x", 400, "takes no parameters"),
        ("GET", "/metrics/", 404, "there is no GET /metrics/"),
    ] {
        let answer = ask(method, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        assert!(answer.contains("application/problem+json") && answer.contains(says), "{answer}");
    }
    let large = raw(&fixture.lab, &format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(400_000)));
    assert!(large.starts_with("HTTP/1.1 431 ") && large.contains("head-too-large"), "{large}");
    assert_eq!(fixture.daemon.partition("p").healed, None, "nothing that came by TCP has healed it");
    attempt(
        "anyone who reaches the TCP address of the metrics",
        "asks for other paths, by other methods",
        "only `GET /metrics` is answered",
    );
}

#[test]
#[needs(root)]
fn readers_that_hold_all_connections_keep_no_heal_waiting() {
    let fixture = Fixture::new("");
    fixture.daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    // Idle ones, and as many that send a head byte by byte.
    let held: Vec<TcpStream> = fixture.lab.within(CLIENT, || {
        let streams: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(address()).unwrap()).collect();
        for mut stream in &streams[30..] {
            stream.write_all(b"GET").unwrap();
        }
        streams
    });
    let busy = raw(&fixture.lab, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(busy.is_empty() || busy.starts_with("HTTP/1.1 429 "), "{busy}");
    let begun = Instant::now();
    let (_, late) = injector_lab::late_during(|| fixture.daemon.heal("p"));
    assert!(begun.elapsed() < Duration::from_secs(2) + late, "{:?}, {late:?} late", begun.elapsed());
    // By the Unix socket they are read all the while.
    fixture.metrics();
    drop(held);
    let answered = || raw(&fixture.lab, "GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n");
    until("closed connections make room", || answered().starts_with("HTTP/1.1 200 ").then_some(()));
    attempt(
        "anyone who reaches the TCP address of the metrics",
        "holds all of its connections",
        "heals on the socket are answered",
    );
}

/// However often metrics are read, the daemon's task is asked a few times a second, and heals at once.
#[test]
#[needs(root)]
fn a_flood_of_readers_asks_the_daemon_seldom() {
    let fixture = Fixture::new("");
    fixture.daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    let answers = fixture.lab.within(CLIENT, || {
        let end = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            let reader = || {
                let mut answers = 0;
                while Instant::now() < end {
                    let answer = http::over_tcp(address(), &Request::get("/metrics"));
                    answers += usize::from(answer.is_ok_and(|(status, _)| status == 200));
                }
                answers
            };
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(reader)).collect();
            std::thread::sleep(Duration::from_millis(500));
            let begun = Instant::now();
            let (_, late) = injector_lab::late_during(|| fixture.daemon.heal("p"));
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(1) + late, "{took:?}, {late:?} late");
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<usize>()
        })
    });
    assert!(answers > 50, "{answers}");
}

#[test]
#[needs(root)]
fn an_address_that_is_in_use_or_foreign_stops_the_start_and_nothing_is_attached() {
    let lab = Lab::new(2);
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let taken = lab.within(CLIENT, || TcpListener::bind(address()).unwrap());
    for (listen, says) in [
        (
            LISTEN,
            "metrics.listen: 127.0.0.1:9464: Address already in use (os error 98); end the program that listens there",
        ),
        ("192.0.2.1:9464", "name an address of this host"),
    ] {
        let config = format!("{config}metrics: {{ listen: {listen} }}\n");
        let Err((status, log)) = lab.within(CLIENT, || Daemon::try_start(&config).map(drop)) else {
            panic!("it starts at {listen}")
        };
        assert!(!status.success() && log.contains(says), "{log}");
    }
    drop(taken);
    let free = format!("{config}metrics: {{ listen: {LISTEN} }}\n");
    let daemon = lab.within(CLIENT, || Daemon::start(&free));
    until("the log names it", || daemon.log().contains(LISTEN).then_some(()));
    drop(daemon);
    let gone = lab.within(CLIENT, || TcpStream::connect(address()));
    assert!(gone.is_err(), "nobody listens after the end");
}

/// Without the key nothing listens; `check` and `doctor` say what would.
#[test]
#[needs(root)]
fn metrics_by_tcp_are_off_by_default_and_doctor_tries_the_address() {
    let lab = Lab::new(2);
    let config = lab.config(AttachPoint::OwnNic, "auto");
    let quiet = lab.within(CLIENT, || Daemon::start(&config));
    assert!(lab.within(CLIENT, || TcpStream::connect(address())).is_err());
    drop(quiet);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lab.yaml");
    let run = |listen: &str, arguments: &[&str]| {
        std::fs::write(&file, format!("{config}metrics: {{ listen: \"{listen}\" }}\n")).unwrap();
        let mut command = lab.command(CLIENT, env!("CARGO_BIN_EXE_injector"));
        let output = command.args(arguments).arg("--config").arg(&file).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(run(LISTEN, &["check"]).contains("metrics are read at http://127.0.0.1:9464/metrics"));
    assert!(run(LISTEN, &["doctor"]).contains("ok        metrics: 127.0.0.1:9464 is free"));
    let open = run("0.0.0.0:9464", &["doctor"]);
    assert!(open.contains("note      metrics: 0.0.0.0:9464 is free, and anyone who reaches it"), "{open}");
    let taken = lab.within(CLIENT, || TcpListener::bind(address()).unwrap());
    let refused = run(LISTEN, &["doctor"]);
    assert!(
        refused.contains("PREVENTS  metrics: metrics.listen: 127.0.0.1:9464: Address already"),
        "{refused}"
    );
    drop(taken);
    let daemon = lab.within(CLIENT, || Daemon::start(&format!("{config}metrics: {{ listen: {LISTEN} }}\n")));
    assert!(run(LISTEN, &["doctor"]).contains("ok        metrics: a daemon answers at 127.0.0.1:9464"));
    drop(daemon);
    attempt(
        "anyone on the network",
        "connects where metrics would be",
        "nothing listens unless the config asks for it",
    );
}
