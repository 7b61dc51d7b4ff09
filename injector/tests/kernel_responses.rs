//! First responses on the wire, stamped by the real programs: by `BPF_PROG_TEST_RUN`, no interface is touched.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use injector::datapath::Clocks;
use injector_common::key::ResponseKey;

use injector_lab::needs;
use support::packet;
use support::programs::{Hook, Programs, config, link, steady};

/// The test clock's middle.
const NOON: u64 = 1_000_000_000_000;
const PUSH: u8 = 0x18;

const SERVERS: &str = r#"
peers:
  n1: { addresses: [10.0.0.1, "fd00::1"] }
  n2: { addresses: [10.0.0.2, "fd00::2"] }
  n3: { addresses: [10.0.0.3, "fd00::3"] }
endpoints:
  - { name: http, peers: [n1], probe: { http: { url: "http://{address}:80/" } }, wire: { port: 80, success: http } }
  - { name: prefix, peers: [n1], probe: { http: { url: "http://{address}:81/" } }, wire: { port: 81, success: { prefix: "+PONG" } } }
  - { name: any, peers: [n1], probe: { http: { url: "http://{address}:82/" } }, wire: { port: 82, success: payload } }
  - { name: grpc, peers: [n1], probe: { http: { url: "http://{address}:83/" } }, wire: { port: 83, success: grpc } }
"#;

/// Programs with one slot, watched.
fn servers() -> Programs {
    let config = config(SERVERS);
    let mut programs = Programs::load(&config, Clocks::Test);
    programs.at(NOON);
    programs.place(7, &steady(3), &[link(&config, "n1", "n2")]);
    programs.word(0, 1 << 7);
    programs
}

/// A segment of n1's server at a port.
fn answer(port: u16, payload: &[u8]) -> Vec<u8> {
    packet::tcp("10.0.0.1", "10.0.0.3", port, 40000, PUSH, payload)
}

/// The endpoint's id is its place in the config.
fn stamped(programs: &Programs, endpoint: u32) -> Option<u64> {
    programs.responses().get(&ResponseKey { generation: 3, slot: 7, endpoint }).copied()
}

#[test]
#[needs(root)]
fn responses_are_stamped_by_their_kind() {
    let mut programs = servers();
    for hook in Hook::ALL {
        programs.forget();
        let failures = [
            answer(80, b"HTTP/1.1 503 Service Unavailable\r\n"),
            answer(80, b"HTTP/1.1 "),
            answer(80, b""),
            answer(81, b"+PON"),
            answer(81, b"-ERR"),
            answer(82, b""),
            answer(84, b"HTTP/1.1 200 OK\r\n"),
            packet::tcp("10.0.0.2", "10.0.0.1", 80, 40000, PUSH, b"HTTP/1.1 200 OK\r\n"),
            packet::udp("10.0.0.1", "10.0.0.2", 82, 40000, b"x"),
        ];
        for frame in &failures {
            assert!(!programs.drops(hook, frame));
            assert!(programs.responses().is_empty(), "{}", support::frame::hex(frame));
        }
        let successes = [
            (0, answer(80, b"HTTP/1.1 204 No Content\r\n")),
            (1, answer(81, b"+PONG\r\n")),
            (2, answer(82, b"x")),
        ];
        for (endpoint, frame) in &successes {
            programs.at(NOON + 1);
            assert!(!programs.drops(hook, frame));
            programs.at(NOON + 2);
            assert!(!programs.drops(hook, frame));
            assert_eq!(stamped(&programs, *endpoint), Some(NOON + 1), "the first counts");
        }
    }
}

const SETTINGS: &[u8] = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00";
const HEADERS: &[u8] =
    b"\x00\x00\x0e\x01\x04\x00\x00\x00\x01\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64";
const DATA: &[u8] = b"\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x02\x08\x01";
const EMPTY_DATA: &[u8] = b"\x00\x00\x00\x00\x01\x00\x00\x00\x01";
/// `:status: 200`, `grpc-status: 14`, end of stream.
const TRAILERS_ONLY: &[u8] =
    b"\x00\x00\x0e\x01\x05\x00\x00\x00\x01\x88\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x02\x31\x34";
/// Padded, with a priority, after a size update.
const DRESSED_HEADERS: &[u8] =
    b"\x00\x00\x0c\x01\x2c\x00\x00\x00\x01\x02\x00\x00\x00\x00\x10\x3f\xe1\x1f\x88\x00\x00";

#[test]
#[needs(root)]
fn grpc_answers_are_stamped() {
    let one = |payload: &[&[u8]]| vec![answer(83, &payload.concat())];
    let two =
        |first: &[&[u8]], second: &[&[u8]]| vec![answer(83, &first.concat()), answer(83, &second.concat())];
    let mut other_flow = two(&[HEADERS], &[DATA]);
    other_flow[1] = packet::tcp("10.0.0.1", "10.0.0.3", 83, 40001, PUSH, DATA);
    let cases = [
        ("headers and data", one(&[HEADERS, DATA]), true),
        ("several frames", one(&[SETTINGS, SETTINGS, HEADERS, DATA, TRAILERS_ONLY]), true),
        ("two segments", two(&[SETTINGS, HEADERS], &[SETTINGS, DATA]), true),
        ("padding, priority, size update", one(&[DRESSED_HEADERS, DATA]), true),
        ("trailers only", one(&[TRAILERS_ONLY]), false),
        ("no data", one(&[SETTINGS, HEADERS]), false),
        ("empty data", two(&[HEADERS], &[EMPTY_DATA]), false),
        ("no headers", one(&[DATA]), false),
        ("data of another flow", other_flow, false),
    ];
    let mut programs = servers();
    for hook in Hook::ALL {
        for (what, frames, expected) in &cases {
            programs.forget();
            for (index, frame) in frames.iter().enumerate() {
                programs.at(NOON + index as u64);
                assert!(!programs.drops(hook, frame));
            }
            let last = NOON + frames.len() as u64 - 1;
            assert_eq!(stamped(&programs, 3), expected.then_some(last), "{what}, {hook:?}");
        }
    }
}
