//! Where the time between heal and settled went.

use std::collections::HashMap;

use crate::api::{LinkRecord, Phases};
use crate::clock::{MonoNs, TimeRange};
use crate::model::NamedLink;

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

/// The phases over the links that dropped something.
///
/// A boundary is the latest stamp of its event on any of these links (links without the event don't move it), but
/// never before the boundary ahead of it. Stamps after `settled` came too late to matter and are left out. Where
/// a boundary is missing its phase is null, and the next phase is counted from the last boundary that is there.
pub(super) fn phases(links: &[LinkRecord], marks: &Marks<'_>) -> Phases {
    let Marks { heal, ready, settled, .. } = *marks;
    let dropping: Vec<&LinkRecord> = links.iter().filter(|link| link.dropped_packets > Some(0)).collect();
    let counts =
        |stamp: Option<MonoNs>| stamp.filter(|&stamp| settled.is_none_or(|settled| stamp <= settled));
    let latest = |event: fn(&LinkRecord) -> Option<MonoNs>| {
        dropping.iter().filter_map(|link| counts(event(link))).max()
    };
    let carries = latest(|link| link.reconnected_ns);
    let mut boundary = heal;
    let mut phase = |stamp: Option<MonoNs>| {
        let next = stamp?.max(boundary);
        let length = next.since(boundary);
        boundary = next;
        length
    };
    Phases {
        silence_ns: phase(latest(|link| link.first_packet_ns)),
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
        last_link: dropping
            .iter()
            .filter_map(|link| counts(link.first_packet_ns).map(|stamp| (stamp, link)))
            .max_by_key(|&(stamp, _)| stamp)
            .map(|(_, link)| NamedLink { src: link.src.clone(), dst: link.dst.clone() }),
        last_synack_ns: dropping.iter().filter_map(|link| link.first_synack_ns).max(),
    }
}
