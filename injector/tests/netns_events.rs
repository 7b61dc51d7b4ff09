//! Readers that wait: the stream of events page by page and as it grows, and a record that is held back. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use injector_lab::{AttachPoint, needs};
use serde_json::Value;
use support::{Daemon, Lab, PATIENCE};

/// How long nothing has to come for a reader to take it that nothing comes.
const QUIET: Duration = Duration::from_millis(700);
/// How long an event that was waited for may take on a busy machine.
const PROMPT: Duration = Duration::from_secs(10);

/// A reader of the stream of events.
struct Reader(BufReader<UnixStream>);

impl Reader {
    /// Asks for it, and reads the head of the answer.
    fn of(daemon: &Daemon, query: &str) -> Self {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /v1/events?{query} HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n").unwrap();
        let mut reader = Self(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.0.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        reader
    }

    /// The next event; `None` if none comes in time.
    fn next(&mut self, patience: Duration) -> Option<Value> {
        self.0.get_ref().set_read_timeout(Some(patience)).unwrap();
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(0) => panic!("the stream has ended"),
                // Between the events are the lengths of chunks.
                Ok(_) if !line.starts_with('{') => {}
                Ok(_) => return Some(serde_json::from_str(&line).unwrap()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The ids of all events up to the end of the stream.
    fn ids(self) -> Vec<u64> {
        let lines = self.0.lines().map(Result::unwrap).filter(|line| line.starts_with('{'));
        lines.map(|line| id(&serde_json::from_str(&line).unwrap())).collect()
    }
}

fn id(event: &Value) -> u64 {
    event["id"].as_u64().unwrap()
}

fn history(daemon: &Daemon, since: u64) -> Vec<u64> {
    Reader::of(daemon, &format!("follow=false&since={since}")).ids()
}

/// Marks the timeline; the id of the event.
fn mark(daemon: &Daemon, text: &str) -> u64 {
    let (status, event) = daemon.raw("POST", "/v1/marks", format!("{{\"text\": \"{text}\"}}").as_bytes());
    assert_eq!(status, 200, "{event}");
    id(&event)
}

/// The id of the last event, once nothing happens any more.
fn last_event(daemon: &Daemon) -> u64 {
    let mut last = mark(daemon, "begin");
    let mut reader = Reader::of(daemon, &format!("since={last}"));
    while let Some(event) = reader.next(PROMPT) {
        last = id(&event);
    }
    last
}

#[test]
#[needs(root)]
fn a_reader_that_waits_has_each_event_as_it_happens() {
    let lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &lab.config(AttachPoint::OwnNic, "auto"));
    let last = last_event(&daemon);
    let mut reader = Reader::of(&daemon, &format!("since={last}"));
    assert_eq!(reader.next(QUIET), None, "nothing has happened since");
    for (number, text) in (1..).zip(["one", "two"]) {
        let marked = mark(&daemon, text);
        let begun = Instant::now();
        let event = reader.next(PATIENCE).unwrap();
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
        assert_eq!((id(&event), marked), (last + number, last + number), "{event}");
        assert_eq!((&event["kind"], &event["text"]), (&"mark".into(), &text.into()), "{event}");
        assert_eq!(reader.next(QUIET), None, "it comes once");
    }
}

#[test]
#[needs(root)]
fn a_reader_that_does_not_wait_has_nothing_where_nothing_is_new() {
    let lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &lab.config(AttachPoint::OwnNic, "auto"));
    let last = last_event(&daemon);
    let begun = Instant::now();
    assert!(history(&daemon, last).is_empty());
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    // An id that is still to come is no error, and nothing either.
    assert!(history(&daemon, last + 1000).is_empty());
}

/// A page has 256 events. Whoever reads on while others come has each of them once.
#[test]
#[needs(root)]
fn pages_follow_each_other_and_the_stream_follows_them_without_a_loss() {
    let lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &lab.config(AttachPoint::OwnNic, "auto"));
    let marks = |count: usize| (0..count).map(|_| mark(&daemon, "x")).max().unwrap();
    let last = marks(600);
    for since in [0, 1, 255, 256, 257, 511, 512, 513, last - 1] {
        let ids = history(&daemon, since);
        assert!(ids.iter().copied().eq(since + 1..=since + ids.len() as u64), "since {since}: {ids:?}");
        assert!(ids.last().is_some_and(|id| *id >= last), "since {since}: {} events", ids.len());
    }

    let mut reader = Reader::of(&daemon, "since=0");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| marks(300));
        let mut ids = Vec::new();
        // It reads the history while they come.
        for _ in 0..300 {
            ids.push(id(&reader.next(PATIENCE).unwrap()));
            std::thread::sleep(Duration::from_millis(1));
        }
        let last = writer.join().unwrap();
        while ids.last().is_none_or(|id| *id < last) {
            let event = reader.next(PATIENCE).unwrap();
            assert_ne!(event["kind"], "lost", "{event}");
            ids.push(id(&event));
        }
        assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{ids:?}");
    });
}

#[test]
#[needs(root)]
fn a_record_that_is_waited_for_comes_when_it_is_final_or_the_wait_is_over() {
    const WAIT: Duration = Duration::from_millis(700);
    let lab = Lab::switched(2);
    let config = lab.config(AttachPoint::OwnNic, "auto") + "ready: { observe: 1s, observe_max: 2s }\n";
    let daemon = Daemon::start(&lab, "d", &config);
    daemon.cli("partition isolate n1 --name p --for 60s");
    let waited_for = |wait: &str| {
        let asked = Instant::now();
        let (status, record) = daemon.raw("GET", &format!("/v1/partitions/p/recovery?wait={wait}"), b"");
        assert_eq!(status, 200, "{record}");
        (record["final"].as_bool().unwrap(), asked.elapsed())
    };
    let (is_final, took) = waited_for("700ms");
    assert!(!is_final && took >= WAIT && took < WAIT + PROMPT, "{is_final} after {took:?}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| waited_for("50s"));
        std::thread::sleep(WAIT);
        assert!(!waiting.is_finished(), "it is cut still");
        daemon.cli("heal p");
        let (is_final, took) = waiting.join().unwrap();
        assert!(is_final && took < Duration::from_secs(40), "{is_final} after {took:?}");
    });
}
