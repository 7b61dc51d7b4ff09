//! Where the time between heal and settled went.

use std::collections::HashMap;

use crate::api::{LinkRecord, Phases};
use crate::clock::{MonoNs, TimeRange};

/// The links, each with the instant at which it carried again.
///
/// A link carries from a SYN-ACK either way, or from payload both ways in one conversation: a retransmission that is not
/// answered, or answered by a reset, is no sign of it, and a late handshake beside a connection that works moves nothing.
/// Where the other direction is none of the links, it was never cut, and payload in this one is enough.
pub(super) fn reconnected(links: &[LinkRecord]) -> Vec<LinkRecord> {
    // A cut of many peers has thousands of links: finding each one by a scan would take longer than the lease
    // lasts.
    let by_ends: HashMap<(&str, &str), &LinkRecord> =
        links.iter().map(|link| ((link.src.as_str(), link.dst.as_str()), link)).collect();
    let carries = |link: &LinkRecord| {
        let back = by_ends.get(&(link.dst.as_str(), link.src.as_str())).copied();
        let synack = link.first_synack_ns.into_iter().chain(back.and_then(|back| back.first_synack_ns)).min();
        let data = match back {
            Some(back) => link.first_exchange_ns.into_iter().chain(back.first_exchange_ns).min(),
            None => link.first_data_ns,
        };
        synack.into_iter().chain(data).min()
    };
    links.iter().map(|link| LinkRecord { reconnected_ns: carries(link), ..link.clone() }).collect()
}

/// The instants that end the phases beside those of the links.
pub(super) struct Marks<'a> {
    pub heal: MonoNs,
    /// When all required endpoints were ready.
    pub ready: Option<MonoNs>,
    /// When they settled.
    pub settled: Option<MonoNs>,
    /// When some required endpoint was out, in order and disjoint; `None` where the outage of one is not known.
    pub some_out: Option<&'a [TimeRange]>,
}

/// An event of links after the heal, on those that dropped something.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkEvent<'a> {
    /// The link where it came last, and when; links where it came after settled aside, since nothing waited for them. `None`
    /// where it never came on a link, or it is not known which links dropped something.
    pub last: Option<(&'a LinkRecord, MonoNs)>,
    /// The links where it came only after settled, and when.
    pub late: Vec<(&'a LinkRecord, MonoNs)>,
    /// The links where it did not come while they were watched.
    pub never: Vec<&'a LinkRecord>,
}

impl<'a> LinkEvent<'a> {
    /// When the links carried again.
    pub fn reconnected(links: &'a [LinkRecord], settled: Option<MonoNs>) -> Self {
        Self::new(links, settled, |link| link.reconnected_ns)
    }

    fn new(
        links: &'a [LinkRecord],
        settled: Option<MonoNs>,
        stamp: fn(&LinkRecord) -> Option<MonoNs>,
    ) -> Self {
        let mut event = Self { last: None, late: Vec::new(), never: Vec::new() };
        if links.iter().any(|link| link.dropped_packets.is_none()) {
            return event;
        }
        for link in links.iter().filter(|link| link.dropped_packets > Some(0)) {
            match stamp(link) {
                None => event.never.push(link),
                Some(at) if settled.is_some_and(|settled| at > settled) => event.late.push((link, at)),
                Some(at) => {
                    if event.last.is_none_or(|(_, last)| at > last) {
                        event.last = Some((link, at));
                    }
                }
            }
        }
        // One more link is to come: none of those seen is the last.
        event.last = event.last.filter(|_| event.never.is_empty());
        event
    }

    fn at(&self) -> Option<MonoNs> {
        self.last.map(|(_, at)| at)
    }
}

/// The phases over the links that dropped something.
///
/// A boundary is the latest stamp of its event on any of these links, but never before the boundary ahead of it.
/// Stamps after `settled` came too late to matter and are left out. A link on which the event never came leaves
/// the boundary unknown. Where a boundary is missing its phase is null, and the next phase is counted from the last
/// boundary that is there.
pub(super) fn phases(links: &[LinkRecord], marks: &Marks<'_>) -> Phases {
    let Marks { heal, ready, settled, .. } = *marks;
    let first_packet = LinkEvent::new(links, settled, |link| link.first_packet_ns);
    let carries = LinkEvent::reconnected(links, settled).at();
    let mut boundary = heal;
    let mut phase = |stamp: Option<MonoNs>| {
        let next = stamp?.max(boundary);
        let length = next.since(boundary);
        boundary = next;
        length
    };
    Phases {
        silence_ns: phase(first_packet.at()),
        reconnect_ns: phase(carries),
        return_ns: phase(ready),
        relapse_ns: phase(settled),
        relapse_out_ns: ready.zip(settled).zip(marks.some_out).map(|((ready, settled), some_out)| {
            let within = |window: &TimeRange| {
                let end = window.until_ns.unwrap_or(settled).min(settled);
                end.since(window.from_ns.max(ready)).unwrap_or_default()
            };
            some_out.iter().map(within).sum()
        }),
        after_links_ns: settled.zip(carries).and_then(|(settled, carries)| settled.since(carries.max(heal))),
        last_link: first_packet.last.map(|(link, _)| link.named()),
        last_synack_ns: links
            .iter()
            .filter(|link| link.dropped_packets > Some(0))
            .filter_map(|link| link.first_synack_ns)
            .max(),
    }
}
