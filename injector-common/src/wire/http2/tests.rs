//! With bytes as grpc-go, nghttp2 and nginx send them.

extern crate std;

use std::collections::BTreeSet;
use std::vec::Vec;

use super::{Cursor, Frame, Said, Streams, frame, success};

impl Streams for BTreeSet<u32> {
    fn open(&mut self, stream: u32) {
        self.insert(stream);
    }
    fn is_open(&mut self, stream: u32) -> bool {
        self.contains(&stream)
    }
}

/// SETTINGS (max frame size), SETTINGS ack, `WINDOW_UPDATE`, PING ack: what a server sends ahead of its first answer.
const PREAMBLE: [&[u8]; 4] = [
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00",
    b"\x00\x00\x00\x04\x01\x00\x00\x00\x00",
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x07",
    b"\x00\x00\x08\x06\x01\x00\x00\x00\x00\x02\x04\x10\x10\x09\x0e\x07\x07",
];
/// `:status: 200`, `content-type: application/grpc`.
const HEADERS: &[u8] =
    b"\x00\x00\x0e\x01\x04\x00\x00\x00\x01\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64";
/// A `HealthCheckResponse { status: SERVING }`.
const DATA: &[u8] = b"\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x02\x08\x01";
/// `grpc-status: 0`, `grpc-message: ""`.
const TRAILERS: &[u8] =
    b"\x00\x00\x18\x01\x05\x00\x00\x00\x01\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01\x30\
\x40\x89\x9a\xca\xc8\xb5\x25\x42\x07\x31\x7f\x00";
/// `:status: 200`, `content-type`, `grpc-status: 14`, and the stream is over: a failure.
const TRAILERS_ONLY: &[u8] =
    b"\x00\x00\x1b\x01\x05\x00\x00\x00\x01\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\
\x65\x64\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x02\x31\x34";

fn answers(streams: &mut BTreeSet<u32>, frames: &[&[u8]]) -> bool {
    let segment: Vec<u8> = frames.concat();
    success(&segment.as_slice(), &mut Cursor::new(0), segment.len() as u32, streams)
}

fn one(frames: &[&[u8]]) -> bool {
    answers(&mut BTreeSet::new(), frames)
}

/// A frame on a stream.
fn built(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn a_unary_answer_of_grpc_is_a_success() {
    assert!(one(&[HEADERS, DATA, TRAILERS]));
    let mut first = PREAMBLE.to_vec();
    first.extend([HEADERS, DATA, TRAILERS]);
    assert!(one(&first));
}

#[test]
fn headers_and_data_may_come_in_two_segments() {
    let mut streams = BTreeSet::new();
    assert!(!answers(&mut streams, &[HEADERS]));
    assert!(!answers(&mut streams, &[PREAMBLE[1]]));
    assert!(answers(&mut streams, &[DATA, TRAILERS]));
}

#[test]
fn errors_are_none() {
    assert!(!one(&[TRAILERS_ONLY]));
    assert!(!one(&[TRAILERS_ONLY, DATA]), "DATA after the end of a stream is nobody's");
    assert!(!one(&[HEADERS, TRAILERS]), "no DATA");
    assert!(!one(&[HEADERS, &built(0, 1, 1, b"")]), "empty DATA");
    assert!(!one(&[DATA]), "DATA without HEADERS");
    // 404, 500, 204 from the static table, 206 and 503 as literals.
    for status in [&b"\x8d"[..], b"\x8e", b"\x89", b"\x48\x03206", b"\x48\x82\x68\x01"] {
        assert!(!one(&[&built(1, 4, 1, status), DATA]), "{status:x?}");
    }
    assert!(!one(&[HEADERS, &built(0, 0, 3, b"x")]), "DATA of another stream");
    assert!(!one(&[b"HTTP/1.1 200 OK\r\n\r\nhello"]));
    assert!(!one(&[b""]));
}

#[test]
fn streams_interleave() {
    let headers = |stream| built(1, 4, stream, b"\x88");
    assert!(one(&[&headers(1), &headers(3), &built(0, 0, 1, b"x")]));
    assert!(one(&[&headers(1), &headers(3), &built(0, 0, 3, b"x")]));
}

#[test]
fn the_header_block_may_begin_with_size_updates() {
    let updates: [&[u8]; 4] = [b"\x20", b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f", b"\x3f\xff\xff\xff\x7f"];
    for update in updates {
        assert!(one(&[&built(1, 4, 1, &[update, b"\x88"].concat()), DATA]), "{update:x?}");
        assert!(!one(&[&built(1, 4, 1, &[update, b"\x8d"].concat()), DATA]), "{update:x?}");
    }
}

#[test]
fn the_header_block_may_be_padded_and_have_a_priority() {
    assert!(one(&[&built(1, 0x0c, 1, b"\x02\x88\0\0"), DATA]));
    assert!(one(&[&built(1, 0x24, 1, b"\0\0\0\0\x10\x88"), DATA]));
    assert!(one(&[&built(1, 0x2c, 1, b"\x01\0\0\0\0\x10\x88\0"), DATA]));
    assert!(!one(&[&built(1, 0x2c, 1, b"\x01\0\0\0\0\x10\x8d\0"), DATA]));
    assert!(!one(&[&built(1, 0x20, 1, b"\x88"), DATA]), "a block too short for its priority");
}

#[test]
fn the_status_may_be_a_literal() {
    for name in (0x48..=0x4e).chain(0x08..=0x0e).chain(0x18..=0x1e) {
        for value in [&b"\x03200"[..], b"\x82\x10\x01"] {
            let block = [&[name], value].concat();
            assert!(one(&[&built(1, 4, 1, &block), DATA]), "{block:x?}");
            // Nothing follows it in the segment.
            let mut streams = BTreeSet::new();
            assert!(!answers(&mut streams, &[&built(1, 4, 1, &block)]));
            assert!(streams.contains(&1), "{block:x?}");
        }
    }
    // Another name, and a literal that its frame does not hold.
    assert!(!one(&[&built(1, 4, 1, b"\x47\x03200"), DATA]));
    let torn = [&built(1, 0, 1, b"\x48\x03")[..], b"200"].concat();
    assert!(!one(&[&torn, DATA]));
}

#[test]
fn data_that_is_only_padding_is_none() {
    assert!(!one(&[HEADERS, &built(0, 8, 1, b"\x03\0\0\0")]));
    assert!(one(&[HEADERS, &built(0, 8, 1, b"\x02x\0\0")]));
}

#[test]
fn a_frame_is_read_with_its_neighbours() {
    let segment: Vec<u8> = [HEADERS, DATA].concat();
    let first = frame(&segment.as_slice(), 0).unwrap();
    assert_eq!(first, Frame { stream: 1, said: Said::Opened, next: HEADERS.len() as u32 });
    let second = frame(&segment.as_slice(), first.next).unwrap();
    assert_eq!(second, Frame { stream: 1, said: Said::Data, next: segment.len() as u32 });
    assert_eq!(frame(&segment.as_slice(), second.next), None);
    // Streams that no client opens.
    for stream in [0, 2, 0x8000_0001] {
        let bytes = built(1, 4, stream, b"\x88");
        assert_eq!(frame(&bytes.as_slice(), 0).unwrap().said, Said::Nothing);
    }
}

#[test]
fn a_torn_segment_never_makes_a_success_that_the_whole_is_not() {
    let segment: Vec<u8> = [PREAMBLE[0], HEADERS, DATA].concat();
    let data_head = PREAMBLE[0].len() + HEADERS.len() + 9;
    for end in 0..=segment.len() {
        assert_eq!(one(&[&segment[..end]]), end >= data_head, "{end}");
    }
}

#[test]
fn only_the_first_frames_of_a_segment_are_read() {
    let ping: &[u8] = PREAMBLE[3];
    assert!(one(&[ping, ping, ping, ping, ping, ping, HEADERS, DATA]));
    assert!(!one(&[ping, ping, ping, ping, ping, ping, ping, HEADERS, DATA]));
}
