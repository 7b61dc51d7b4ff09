//! Whether a cut was in force on each link from its beginning to its end, and proved. Pure.

use crate::api::types::{CoverageState, InForce, LinkRecord, Stamped};
use crate::clock::MonoNs;

/// The links, each with whether its cut was in force and proved; before the heal nothing is said, nor of links that are
/// left out on purpose.
pub fn judged(links: Vec<LinkRecord>, cut: Option<Stamped>, heal: Option<Stamped>) -> Vec<LinkRecord> {
    let Some((cut, heal)) = cut.zip(heal) else { return links };
    let judge = |link: LinkRecord| {
        if link.left_out {
            return link;
        }
        let is_unknown = link.coverage.as_ref().is_some_and(|of| of.state == CoverageState::Unknown);
        let in_force = match why_not(&link, cut, heal) {
            Some(_) => InForce::No,
            None if is_unknown && link.dropped_packets == 0 => InForce::Unknown,
            None => InForce::Yes,
        };
        let proved = in_force == InForce::Yes && link.dropped_packets > 0;
        LinkRecord { in_force: Some(in_force), proved, ..link }
    };
    links.into_iter().map(judge).collect()
}

/// Why the cut of a link was not in force all the time; `None` if nothing says so, or the link is left out on purpose.
pub fn why_not(link: &LinkRecord, cut: Stamped, heal: Stamped) -> Option<String> {
    if link.left_out {
        return None;
    }
    let is_in = |from: MonoNs, until: Option<MonoNs>| {
        from < heal.end_ns && until.is_none_or(|until| until > cut.begin_ns)
    };
    if let Some(gap) = link.uncovered.iter().find(|gap| is_in(gap.from_ns, gap.until_ns)) {
        return Some(format!(
            "no hook of ours was at either end during the cut (interface {})",
            gap.interface
        ));
    }
    let is_open = |state| matches!(state, CoverageState::Not | CoverageState::Partly);
    if let Some(coverage) = link.coverage.as_ref().filter(|coverage| is_open(coverage.state)) {
        let reason = coverage.reason.as_deref().unwrap_or("not all of its ways pass hooks of ours");
        return Some(format!("{}: {reason}", coverage.state));
    }
    if let Some(bypass) = link.bypassed.iter().find(|bypass| is_in(bypass.from_ns, bypass.until_ns)) {
        return Some(format!("{}: {}", bypass.interface, bypass.why));
    }
    if link.leaked_packets > 0 {
        return Some(format!(
            "{} packets passed during the cut although the MAC address or the port that they came by is the peer's; \
             list their addresses in the config, or say `forwards: true` of the peer",
            link.leaked_packets
        ));
    }
    link.crossed_bytes.filter(|bytes| *bytes > 0).map(|bytes| {
        format!(
            "TCP connections between the two received {bytes} bytes during the cut, by a way that passes no hook of ours"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::link;
    use super::*;
    use crate::api::types::{Bypassed, Coverage, Uncovered};
    use crate::clock::{MonoNs, WallOffset};

    fn at(instant: u64) -> Stamped {
        let instant = MonoNs(instant);
        Stamped { begin_ns: instant, end_ns: instant, wall: WallOffset::now().wall(instant) }
    }

    fn of(change: impl FnOnce(&mut LinkRecord)) -> (Option<InForce>, bool) {
        let mut link = link(5);
        change(&mut link);
        let judged = judged(vec![link], Some(at(1000)), Some(at(2000))).remove(0);
        (judged.in_force, judged.proved)
    }

    #[test]
    fn a_drop_proves_a_cut_that_nothing_speaks_against() {
        assert_eq!(of(|_| ()), (Some(InForce::Yes), true));
        assert_eq!(of(|link| link.dropped_packets = 0), (Some(InForce::Yes), false));
        assert_eq!(of(|link| link.leaked_packets = 1), (Some(InForce::No), false));
        assert_eq!(of(|link| link.crossed_bytes = Some(0)), (Some(InForce::Yes), true));
        assert_eq!(of(|link| link.crossed_bytes = Some(1)), (Some(InForce::No), false));
        assert_eq!(judged(vec![link(5)], Some(at(1)), None)[0].in_force, None, "not before the heal");
    }

    #[test]
    fn what_is_not_known_is_unknown_until_something_is_dropped() {
        let covered = |link: &mut LinkRecord, state| link.coverage = Some(Coverage { state, reason: None });
        assert_eq!(of(|link| covered(link, CoverageState::Unknown)), (Some(InForce::Yes), true));
        let silent = |link: &mut LinkRecord| {
            covered(link, CoverageState::Unknown);
            link.dropped_packets = 0;
        };
        assert_eq!(of(silent), (Some(InForce::Unknown), false));
        assert_eq!(of(|link| covered(link, CoverageState::Partly)), (Some(InForce::No), false));
        assert_eq!(of(|link| covered(link, CoverageState::Covered)), (Some(InForce::Yes), true));
        let left_out = |link: &mut LinkRecord| {
            covered(link, CoverageState::Not);
            link.left_out = true;
        };
        assert_eq!(of(left_out), (None, false), "it takes no part in the verdict");
    }

    #[test]
    fn only_what_was_during_the_cut_counts() {
        for (from, until, expected) in [
            (0, Some(1000), InForce::Yes),
            (0, Some(1001), InForce::No),
            (1999, None, InForce::No),
            (2000, None, InForce::Yes),
        ] {
            let (from_ns, until_ns) = (MonoNs(from), until.map(MonoNs));
            let gap = Uncovered { interface: "eth0".into(), from_ns, until_ns };
            assert_eq!(of(|link| link.uncovered.push(gap)).0, Some(expected), "{from} to {until:?}");
            let bypass = Bypassed { interface: "eth0".into(), why: "x".into(), from_ns, until_ns };
            assert_eq!(of(|link| link.bypassed.push(bypass)).0, Some(expected), "{from} to {until:?}");
        }
    }
}
