//! The responses of a cleartext HTTP/2 server, as far as single segments show them.
//!
//! A success is a HEADERS frame that says `:status 200` and leaves its stream open, followed by DATA on the same
//! stream: gRPC errors say 200 too, in a HEADERS frame that ends the stream ("trailers-only").
//!
//! Frames are read from the begin of a segment's payload (a GSO packet is one segment here). What can't be
//! followed is no success: a frame that begins within a segment whose first bytes continue an earlier frame,
//! frames after the first [`MAX_FRAMES`] of a segment, and a `:status` that refers to the dynamic table (the
//! static table has 200 itself, so that no known server does that). All this only ever loses evidence.

use crate::packet::Bytes;

/// The most frames of one segment that are read.
pub const MAX_FRAMES: u32 = 8;

const HEAD: u32 = 9;
/// RFC 7541 lets at most two size updates begin a header block.
const MAX_UPDATES: u32 = 2;
/// The continuation bytes of a size below 2^28.
const MAX_CONTINUATION: u32 = 4;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The part of a frame that matters for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// `:status 200`, and more to come.
    Opened,
    /// DATA that is not empty.
    Data,
    /// Any other content.
    Nothing,
}

/// A frame of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its stream.
    pub stream: u32,
    /// The part of the frame's content that matters for its stream.
    pub said: Said,
    /// Where the next one begins.
    pub next: u32,
}

/// A place in a segment, in memory: the verifier tracks what it knows of a register, and a loop that carries
/// the place in one is then another program for every way through the frames before.
#[repr(transparent)]
pub struct Cursor(u32);

impl Cursor {
    /// A cursor at a place.
    pub const fn new(at: u32) -> Self {
        Self(at)
    }

    /// The place.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        // SAFETY: a valid reference; volatile so that it stays in memory.
        unsafe { core::ptr::addr_of!(self.0).read_volatile() }
    }

    /// Moves it.
    #[inline(always)]
    pub fn set(&mut self, at: u32) {
        // SAFETY: as above.
        unsafe { core::ptr::addr_of_mut!(self.0).write_volatile(at) }
    }
}

/// The streams of one direction of a connection that have said `:status 200`.
pub trait Streams {
    /// Remembers one.
    fn open(&mut self, stream: u32);
    /// Whether it is remembered.
    fn is_open(&mut self, stream: u32) -> bool;
}

/// Whether a segment's payload, from the cursor to its end, completes a successful response.
#[inline(always)]
pub fn success<B: Bytes, S: Streams>(bytes: &B, cursor: &mut Cursor, end: u32, streams: &mut S) -> bool {
    for _ in 0..MAX_FRAMES {
        if cursor.get() >= end {
            return false;
        }
        let Some(frame) = frame(bytes, cursor.get()) else { return false };
        cursor.set(frame.next);
        match frame.said {
            Said::Opened => streams.open(frame.stream),
            Said::Data => {
                if streams.is_open(frame.stream) {
                    return true;
                }
            }
            Said::Nothing => {}
        }
    }
    false
}

/// The frame at a place; `None` where none begins.
#[inline(always)]
pub fn frame<B: Bytes>(bytes: &B, at: u32) -> Option<Frame> {
    let head: [u8; 9] = bytes.read(at)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let (kind, flags) = (head[3], head[4]);
    let body = at + HEAD;
    let next = body + length;
    // Only a client opens streams that are answered: they are odd, and the reserved bit is 0.
    let answer = stream & 0x8000_0001 == 1;
    let said = if answer && kind == HEADERS && flags & END_STREAM == 0 {
        if says_200(bytes, body, next, flags) { Said::Opened } else { Said::Nothing }
    } else if answer && kind == DATA && has_data(bytes, body, length, flags) {
        Said::Data
    } else {
        Said::Nothing
    };
    Some(Frame { stream, said, next })
}

#[inline(always)]
fn has_data<B: Bytes>(bytes: &B, body: u32, length: u32, flags: u8) -> bool {
    if flags & PADDED == 0 {
        return length != 0;
    }
    match bytes.read::<1>(body) {
        Some([padding]) => length > u32::from(padding) + 1,
        None => false,
    }
}

/// Whether a header block begins with `:status 200`, which is the only pseudo-header of a response and so
/// always its first field.
#[inline(always)]
fn says_200<B: Bytes>(bytes: &B, body: u32, end: u32, flags: u8) -> bool {
    let mut at = body;
    if flags & PADDED != 0 {
        at += 1;
    }
    if flags & PRIORITY != 0 {
        at += 5;
    }
    let mut field = byte(bytes, at);
    for _ in 0..MAX_UPDATES {
        if field & 0xe0 != 0x20 {
            break;
        }
        at += 1;
        if field & 0x1f == 0x1f {
            for _ in 0..MAX_CONTINUATION {
                let continues = byte(bytes, at) & 0x80 != 0;
                at += 1;
                if !continues {
                    break;
                }
            }
        }
        field = byte(bytes, at);
    }
    if at >= end {
        return false;
    }
    match field {
        // Static entry 8 whole.
        0x88 => true,
        // A literal value under the name of the static entries 8 to 14: indexed, not indexed, never indexed.
        0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => match bytes.read::<4>(at + 1) {
            Some([3, b'2', b'0', b'0']) => at + 5 <= end,
            // `200` by the Huffman code.
            Some([0x82, 0x10, 0x01, _]) => at + 4 <= end,
            Some(_) => false,
            None => bytes.read::<3>(at + 1) == Some([0x82, 0x10, 0x01]) && at + 4 <= end,
        },
        _ => false,
    }
}

/// A byte, or 0 past the end, which begins neither a size update nor a status.
#[inline(always)]
fn byte<B: Bytes>(bytes: &B, at: u32) -> u8 {
    match bytes.read::<1>(at) {
        Some([byte]) => byte,
        None => 0,
    }
}

#[cfg(test)]
mod tests;
