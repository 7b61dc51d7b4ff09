//! Lists of rtnetlink, read to their end. A list that changed while it was read may lack entries that were
//! there all the time, and says so in a flag that rtnetlink's own requests do not check.

use std::num::NonZeroI32;

use futures_util::StreamExt as _;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::{Error, Handle};

use super::raw::DUMPS;

/// The entries of a list.
///
/// # Errors
/// The kernel's refusal; `EINTR` if the list changed each time that it was read.
pub async fn read(handle: &Handle, question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Error> {
    for _ in 0..DUMPS {
        let mut request = NetlinkMessage::from(question.clone());
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = handle.clone().request(request)?;
        let mut found = Vec::new();
        let mut is_interrupted = false;
        while let Some(answer) = answers.next().await {
            is_interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => found.push(message),
                NetlinkPayload::Error(error) => return Err(Error::NetlinkError(error)),
                // A part of the answer was lost.
                NetlinkPayload::Overrun(_) => is_interrupted = true,
                _ => {}
            }
        }
        if !is_interrupted {
            return Ok(found);
        }
    }
    Err(error(std::io::Error::from_raw_os_error(libc::EINTR)))
}

/// Makes an error of this library of the system's.
pub fn error(source: std::io::Error) -> Error {
    let mut error = ErrorMessage::default();
    error.code = NonZeroI32::new(-source.raw_os_error().unwrap_or(libc::EIO));
    Error::NetlinkError(error)
}
