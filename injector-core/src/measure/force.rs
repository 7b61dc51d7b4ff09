//! Whether a cut was in force on each link from its beginning to its end, and proved. Pure.

use crate::api::{CoverageState, InForce, LinkRecord, Stamped};
use crate::clock::TimeRange;
use crate::figures::counted;

/// The links, each with whether its cut was in force and proved; before the heal nothing is said, nor of links that are
/// left out on purpose.
pub fn judged(links: Vec<LinkRecord>, cut: Option<Stamped>, heal: Option<Stamped>) -> Vec<LinkRecord> {
    let Some((cut, heal)) = cut.zip(heal) else { return links };
    let judge = |link: LinkRecord| {
        if link.left_out {
            return link;
        }
        let is_kept_out = link.dropped_packets > Some(0) || has_dropped_check(&link);
        // A drop on a translated link shows only that packets by the peers' own addresses were kept out.
        let is_open = link.coverage.as_ref().is_some_and(|coverage| {
            coverage.state == CoverageState::Unknown && (coverage.is_translated || !is_kept_out)
        });
        let in_force = match why_not(&link, cut, heal) {
            Some(_) => InForce::No,
            None if is_open || link.unnamed_packets > 0 || link.hooks_unread => InForce::Unknown,
            None => InForce::Yes,
        };
        let proved = in_force == InForce::Yes && is_kept_out;
        LinkRecord { in_force: Some(in_force), proved, ..link }
    };
    links.into_iter().map(judge).collect()
}

/// The frames of the active check that arrived during the cut; `None` if it says nothing about the link.
fn checked(link: &LinkRecord) -> Option<u64> {
    link.check.as_ref()?.arrived()
}

/// Whether none of the active check's frames arrived, and our hooks are the reason: each was dropped there.
fn has_dropped_check(link: &LinkRecord) -> bool {
    let sent = link.check.as_ref().map_or(0, |check| check.sent);
    checked(link) == Some(0) && sent > 0 && link.group_packets >= Some(sent)
}

/// Why the cut of a link was not in force all the time; `None` if nothing says so, or the link is left out on purpose.
pub fn why_not(link: &LinkRecord, cut: Stamped, heal: Stamped) -> Option<String> {
    if link.left_out {
        return None;
    }
    let crossed = checked(link).filter(|arrived| *arrived > 0);
    let seen = crossed.map(|arrived| {
        let sent = link.check.as_ref().map_or(0, |check| check.sent);
        format!("{arrived} of {} of the active check arrived during the cut", counted(sent, "frame"))
    });
    // The cause comes first: it is what can be put right.
    let causes = [cause(link, cut, heal), seen];
    causes.into_iter().flatten().reduce(|cause, seen| format!("{cause}; {seen}"))
}

fn cause(link: &LinkRecord, cut: Stamped, heal: Stamped) -> Option<String> {
    let is_in = |time: TimeRange| time.overlaps(cut.begin_ns, heal.end_ns);
    if let Some(gap) = link.uncovered.iter().find(|gap| is_in(gap.time)) {
        return Some(format!(
            "{} had no hook of ours for a part of the cut, so that packets of the link could pass",
            gap.interface
        ));
    }
    let is_open = |state| matches!(state, CoverageState::Not | CoverageState::Partly);
    if let Some(coverage) = link.coverage.as_ref().filter(|coverage| is_open(coverage.state)) {
        let reason = coverage.reason.as_deref().unwrap_or("not all of its ways pass hooks of ours");
        return Some(format!("{}: {reason}", coverage.state));
    }
    if let Some(bypass) = link.bypassed.iter().find(|bypass| is_in(bypass.time)) {
        return Some(format!("{}: {}", bypass.interface, bypass.why));
    }
    if let Some(leaked @ 1..) = link.leaked_packets {
        return Some(format!(
            "{} passed during the cut, sent with the peer's MAC address or from its port; list the addresses in the \
             config, or say `forwards: true` of the peer",
            counted(leaked, "packet")
        ));
    }
    let bytes = link.crossed_bytes.filter(|bytes| *bytes > 0).map(|bytes| {
        format!(
            "TCP connections between the two received {bytes} bytes during the cut, by a way that passes no hook of ours"
        )
    });
    bytes.or_else(|| {
        let flows = link.crossed_flows.filter(|flows| *flows > 0)?;
        Some(format!(
            "{} between the two carried packets during the cut with other addresses at both ends, which NAT gave them",
            counted(flows, "flow")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::link;
    use super::*;
    use crate::api::{Bypassed, Coverage, LinkCheck, Uncovered};
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
        assert_eq!(of(|link| link.dropped_packets = Some(0)), (Some(InForce::Yes), false));
        assert_eq!(of(|link| link.leaked_packets = Some(1)), (Some(InForce::No), false));
        assert_eq!(
            of(|link| link.unnamed_packets = 1),
            (Some(InForce::Unknown), false),
            "it may be the peer"
        );
        assert_eq!(of(|link| link.hooks_unread = true), (Some(InForce::Unknown), false));
        assert_eq!(of(|link| link.crossed_bytes = Some(0)), (Some(InForce::Yes), true));
        assert_eq!(of(|link| link.crossed_bytes = Some(1)), (Some(InForce::No), false));
        assert_eq!(of(|link| link.crossed_flows = Some(0)), (Some(InForce::Yes), true));
        assert_eq!(of(|link| link.crossed_flows = Some(1)), (Some(InForce::No), false));
        assert_eq!(judged(vec![link(5)], Some(at(1)), None)[0].in_force, None, "not before the heal");
    }

    #[test]
    fn what_is_not_known_is_unknown_until_something_is_dropped() {
        let covered = |link: &mut LinkRecord, state| {
            link.coverage = Some(Coverage { state, reason: None, is_translated: false });
        };
        assert_eq!(of(|link| covered(link, CoverageState::Unknown)), (Some(InForce::Yes), true));
        let silent = |link: &mut LinkRecord| {
            covered(link, CoverageState::Unknown);
            link.dropped_packets = Some(0);
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
    fn a_drop_by_one_address_says_nothing_of_packets_by_another() {
        let translated = |link: &mut LinkRecord| {
            link.coverage =
                Some(Coverage { state: CoverageState::Unknown, reason: None, is_translated: true });
        };
        assert_eq!(of(translated), (Some(InForce::Unknown), false), "it dropped five");
        let leaked = |link: &mut LinkRecord| {
            translated(link);
            link.leaked_packets = Some(1);
        };
        assert_eq!(of(leaked), (Some(InForce::No), false));
        let checked = judged(vec![checked_by(3, 0, translated)], Some(at(1000)), Some(at(2000))).remove(0);
        assert_eq!((checked.in_force, checked.proved), (Some(InForce::Unknown), false), "nor the check's");
    }

    /// A link that nothing was dropped on, by an active check with a control and one try.
    fn checked_by(control: u64, arrived: u64, change: impl FnOnce(&mut LinkRecord)) -> LinkRecord {
        let mut link = LinkRecord { dropped_packets: Some(0), group_packets: Some(3 - arrived), ..link(5) };
        let (control, arrived_after_cut) = (Some(control), Some(arrived));
        link.check = Some(LinkCheck { control, sent: 3, arrived_after_cut, ..LinkCheck::default() });
        change(&mut link);
        link
    }

    #[test]
    fn the_active_check_proves_the_cut_of_an_idle_link_or_disproves_it() {
        let judge = |link: LinkRecord| {
            let judged = judged(vec![link], Some(at(1000)), Some(at(2000))).remove(0);
            (judged.in_force, judged.proved)
        };
        let unknown = |link: &mut LinkRecord| {
            link.coverage =
                Some(Coverage { state: CoverageState::Unknown, reason: None, is_translated: false });
        };
        assert_eq!(judge(checked_by(3, 0, |_| ())), (Some(InForce::Yes), true));
        assert_eq!(judge(checked_by(3, 0, unknown)), (Some(InForce::Yes), true), "as a drop is");
        assert_eq!(judge(checked_by(3, 1, |_| ())), (Some(InForce::No), false));
        assert_eq!(
            judge(checked_by(3, 1, |link| link.dropped_packets = Some(9))),
            (Some(InForce::No), false)
        );
        assert_eq!(judge(checked_by(0, 0, |_| ())), (Some(InForce::Yes), false), "no control");
        assert_eq!(judge(checked_by(0, 0, unknown)), (Some(InForce::Unknown), false));
        let lost_elsewhere = |link: &mut LinkRecord| link.group_packets = Some(2);
        assert_eq!(
            judge(checked_by(3, 0, lost_elsewhere)),
            (Some(InForce::Yes), false),
            "no hook dropped it"
        );
        assert_eq!(judge(checked_by(3, 0, |link| link.leaked_packets = Some(1))), (Some(InForce::No), false));
        assert_eq!(judge(checked_by(3, 1, |link| link.left_out = true)), (None, false));
    }

    #[test]
    fn the_cause_is_named_before_what_was_seen_of_it() {
        let why =
            |change: fn(&mut LinkRecord)| why_not(&checked_by(3, 2, change), at(1000), at(2000)).unwrap();
        assert_eq!(why(|_| ()), "2 of 3 frames of the active check arrived during the cut");
        let both = why(|link| link.crossed_bytes = Some(7));
        assert!(
            both.contains("7 bytes")
                && both.ends_with("; 2 of 3 frames of the active check arrived during the cut"),
            "{both}"
        );
    }

    #[test]
    fn only_what_was_during_the_cut_counts() {
        for (from, until, expected) in [
            (0, Some(1000), InForce::Yes),
            (0, Some(1001), InForce::No),
            (1999, None, InForce::No),
            (2000, None, InForce::Yes),
        ] {
            let time = TimeRange { from_ns: MonoNs(from), until_ns: until.map(MonoNs) };
            let gap = Uncovered { interface: "eth0".into(), time };
            assert_eq!(of(|link| link.uncovered.push(gap)).0, Some(expected), "{from} to {until:?}");
            let bypass = Bypassed { interface: "eth0".into(), why: "x".into(), time };
            assert_eq!(of(|link| link.bypassed.push(bypass)).0, Some(expected), "{from} to {until:?}");
        }
    }
}
