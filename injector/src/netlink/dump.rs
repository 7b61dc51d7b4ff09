//! Lists of rtnetlink, of which only what the caller keeps is held: parsed as a whole, the message of one interface takes
//! 20 KB, so a list of 1,000 would take 20 MB, which the allocator never gives back.

use std::io;

use netlink_packet_core::{NetlinkDeserializable as _, NetlinkHeader, NetlinkSerializable as _};
use netlink_packet_route::RouteNetlinkMessage;

use super::raw::RawSocket;

/// What `keep` makes of the entries of a list of the calling thread's namespace, read to its end.
///
/// # Errors
/// The kernel's refusal; `Interrupted` if the list changed each time that it was read.
pub async fn read<T, Kept: IntoIterator<Item = T>>(
    question: RouteNetlinkMessage,
    keep: impl Fn(RouteNetlinkMessage) -> Kept,
) -> io::Result<Vec<T>> {
    let socket = RawSocket::open(libc::NETLINK_ROUTE)?;
    let mut body = vec![0; question.buffer_len()];
    question.serialize(&mut body);
    let each = |found: &mut Vec<T>, kind, body: &[u8]| {
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        match RouteNetlinkMessage::deserialize(&header, body) {
            Ok(message) => found.extend(keep(message)),
            Err(error) => tracing::error!(kind, %error, "a message of the kernel can't be read"),
        }
    };
    socket.dump_in_turns(question.message_type(), &body, each).await
}
