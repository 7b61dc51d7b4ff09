//! Several endpoints at once: from when on all of them are ready, and whether that lasts.

use std::time::Duration;

use super::endpoint::Track;
use crate::clock::MonoNs;

/// The bounds of a verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Settled by here is recovered.
    pub deadline: MonoNs,
    pub observe: Duration,
    pub observe_max: Duration,
    /// The observation begins here at the earliest: an endpoint by itself is watched through the cluster's window.
    pub not_before: MonoNs,
}

/// The judgement of some endpoints together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assessment {
    /// The first instant at which all were ready.
    pub ready: Option<MonoNs>,
    pub settling: Settling,
}

/// Whether they settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    /// Later probes may decide it.
    Open,
    /// All were ready from `at` on, and stayed so until `until`.
    Settled { at: MonoNs, until: MonoNs },
    /// Whatever follows, the endpoints can't be ready for good before `earliest`, which is too late; `last`
    /// holds them up.
    Hopeless { last: usize, earliest: MonoNs },
}

/// Judges tracks together; there is at least one.
///
/// Each further probe can only move the earliest possible instant later, so a verdict that is not
/// [`Settling::Open`] never changes.
pub(super) fn judge(tracks: &[&Track], bounds: &Bounds) -> Assessment {
    let mut at = vec![0; tracks.len()];
    let mut ready = None;
    loop {
        // Where a stretch is not seen yet, the earliest instant at which one may begin represents it.
        let stretch = |track: usize| {
            let Track { stretches, hope, certain, .. } = tracks[track];
            match stretches.get(at[track]) {
                Some(open) if open.end.is_none() && open.ready > *certain => (*certain, None, false),
                Some(stretch) => (stretch.ready, stretch.end, true),
                None => (hope.expect("a closed last stretch leaves hope"), None, false),
            }
        };
        let all = || (0..tracks.len()).map(|track| (track, stretch(track)));
        let (last, earliest) = all()
            .map(|(track, (begin, ..))| (track, begin))
            .max_by_key(|&(_, begin)| begin)
            .expect("at least one track");
        let from = earliest.max(bounds.not_before);
        let ended = all().find(|(_, (_, end, _))| end.is_some_and(|end| end <= from)).map(|(track, _)| track);
        if let Some(track) = ended {
            at[track] += 1;
            continue;
        }
        let is_certain = all().all(|(track, (_, _, is_seen))| is_seen && tracks[track].certain >= earliest);
        if is_certain {
            ready.get_or_insert(earliest);
        }
        // After the first time that all were ready, an observation must fit into observe_max.
        let spare = bounds.observe_max.saturating_sub(bounds.observe);
        let limit = ready.map_or(bounds.deadline, |first: MonoNs| bounds.deadline.min(first + spare));
        let assessment = |settling| Assessment { ready, settling };
        if earliest > limit {
            return assessment(Settling::Hopeless { last, earliest });
        }
        // It is not certain yet when the first time begins that counts as ready.
        if ready.is_none() {
            return assessment(Settling::Open);
        }
        // The observation begins here at the earliest, so a stretch that ends before it could be over never lasts.
        let until = from + bounds.observe;
        let relapsed =
            all().find(|(_, (_, end, _))| end.is_some_and(|end| end < until)).map(|(track, _)| track);
        if let Some(track) = relapsed {
            at[track] += 1;
            continue;
        }
        if !is_certain {
            return assessment(Settling::Open);
        }
        let is_over = all().all(|(track, (_, end, _))| end.is_some() || tracks[track].certain >= until);
        return assessment(if is_over { Settling::Settled { at: earliest, until } } else { Settling::Open });
    }
}
