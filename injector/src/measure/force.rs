//! Whether a cut was in force on each link from its beginning to its end, and proved. Pure.

use crate::api::types::{InForce, LinkRecord, Stamped};
use crate::clock::MonoNs;

/// The links, each with whether its cut was in force and proved; before the heal nothing is said.
pub fn judged(links: Vec<LinkRecord>, cut: Option<Stamped>, heal: Option<Stamped>) -> Vec<LinkRecord> {
    let Some((cut, heal)) = cut.zip(heal) else { return links };
    let judge = |link: LinkRecord| {
        let in_force = match why_not(&link, cut, heal) {
            Some(_) => InForce::No,
            None => InForce::Yes,
        };
        LinkRecord {
            in_force: Some(in_force),
            proved: in_force == InForce::Yes && link.dropped_packets > 0,
            ..link
        }
    };
    links.into_iter().map(judge).collect()
}

/// Why the cut of a link was not in force all the time; `None` if nothing says so.
pub fn why_not(link: &LinkRecord, cut: Stamped, heal: Stamped) -> Option<String> {
    let is_in = |from: MonoNs, until: Option<MonoNs>| {
        from < heal.end_ns && until.is_none_or(|until| until > cut.begin_ns)
    };
    if let Some(gap) = link.uncovered.iter().find(|gap| is_in(gap.from_ns, gap.until_ns)) {
        return Some(format!(
            "no hook of ours was at either end during the cut (interface {})",
            gap.interface
        ));
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
    use crate::api::types::{Bypassed, Uncovered};
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
