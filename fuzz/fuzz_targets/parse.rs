//! The packet parser, and the search for HTTP/2 frames, on any bytes.
#![no_main]

#[path = "../src/parse.rs"]
mod parse;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| parse::check(frame));
