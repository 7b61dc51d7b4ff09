//! The ids that a namespace has for other namespaces: a veth names the namespace of its other end by one.

use std::os::fd::{AsRawFd, OwnedFd};

use futures_util::StreamExt as _;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

/// The calling thread's namespace's id for another one, which is open as a file; `None` if it has none.
pub async fn of(handle: &Handle, namespace: &OwnedFd) -> Option<i32> {
    let mut question = NsidMessage::default();
    question.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd().cast_unsigned()));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
    request.header.flags = NLM_F_REQUEST;
    let mut answers = handle.clone().request(request).ok()?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) = answer.payload {
            return answer.attributes.iter().find_map(|attribute| match attribute {
                NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                _ => None,
            });
        }
    }
    None
}
