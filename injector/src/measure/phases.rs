//! Where the time between heal and settled went.

use crate::api::types::{LinkRecord, Phases};
use crate::clock::MonoNs;
use crate::model::NamedLink;

/// The phases over the links that dropped something.
///
/// A boundary is the latest stamp of its event on any of these links (links without the event don't move it), but
/// never before the boundary ahead of it. Stamps after `settled` came too late to matter and are left out. Where
/// a boundary is missing its phase is null, and the next phase is counted from the last boundary that is there.
/// `first_oks` are those of the required endpoints that were out; the first ok is missing unless each had one.
pub(super) fn phases(
    links: &[LinkRecord],
    heal: MonoNs,
    first_oks: &[Option<MonoNs>],
    settled: Option<MonoNs>,
) -> Phases {
    let dropping: Vec<&LinkRecord> = links.iter().filter(|link| link.dropped_packets > 0).collect();
    let counts =
        |stamp: Option<MonoNs>| stamp.filter(|&stamp| settled.is_none_or(|settled| stamp <= settled));
    let latest = |event: fn(&LinkRecord) -> Option<MonoNs>| {
        dropping.iter().filter_map(|link| counts(event(link))).max()
    };
    let first_ok =
        first_oks.iter().copied().max().filter(|_| first_oks.iter().all(Option::is_some)).flatten();
    let mut boundary = heal;
    let mut phase = |stamp: Option<MonoNs>| {
        let next = stamp?.max(boundary);
        let length = next.since(boundary);
        boundary = next;
        length
    };
    Phases {
        silence_ns: phase(latest(|link| link.first_packet_ns)),
        reconnect_ns: phase(latest(|link| link.first_synack_ns)),
        resync_ns: phase(latest(|link| link.first_data_ns)),
        response_ns: phase(counts(first_ok)),
        coordination_ns: phase(settled),
        last_link: dropping
            .iter()
            .filter_map(|link| counts(link.first_packet_ns).map(|stamp| (stamp, link)))
            .max_by_key(|&(stamp, _)| stamp)
            .map(|(_, link)| NamedLink { src: link.src.clone(), dst: link.dst.clone() }),
    }
}
