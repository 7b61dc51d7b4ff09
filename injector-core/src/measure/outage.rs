//! When an endpoint was out of service: windows from probes, in the order in which they were due.
//!
//! An endpoint goes *out* when the first probe that was not served was due. It is *back* at the earliest answer of
//! the first unbroken run of at least K served probes, all of the run counting. An answer that came after the failure
//! that broke its run ends no window, so that windows never overlap.

use std::time::Duration;

use crate::api::{FailOver, Outage};
use crate::clock::{MonoNs, TimeRange};

/// A probe, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// When it was due.
    pub due: MonoNs,
    /// When its answer was complete, or its failure known.
    pub done: MonoNs,
    /// Whether the expected answer came within its bound.
    pub is_served: bool,
}

/// A time without service, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it began.
    pub out: MonoNs,
    /// The end of the window, if that was seen.
    pub back: Option<MonoNs>,
    /// When K answers of the run that ended it had come.
    pub confirmed: Option<MonoNs>,
    /// When the first failed probe in it was due; later than `out` where the endpoint was not in service at the start.
    pub failed_from: Option<MonoNs>,
}

impl Window {
    /// Whether it lasts at `at`.
    pub fn covers(&self, at: MonoNs) -> bool {
        self.out <= at && self.back.is_none_or(|back| back > at)
    }
}

/// When an endpoint is out and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// K.
    pub consecutive: usize,
    /// The longest failure that opens no window.
    pub tolerate: Duration,
}

/// The findings of the probes that were due before one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The windows in their order; only the last one may be open.
    pub windows: Vec<Window>,
    /// The earliest instant at which the open window can end; `None` where none is open.
    pub hope: Option<MonoNs>,
    /// Up to here no later probe changes the windows, except for an end that lies after it.
    pub certain: MonoNs,
    /// Failures that opened no window, by the instants at which they were due.
    pub tolerated: Vec<MonoNs>,
}

/// Reads probes due before `known`, whose results are all there, in the order in which they were due. The
/// endpoint is in service at `from` if `is_in_service`.
pub fn windows(
    probes: impl Iterator<Item = Judged>,
    rules: Rules,
    from: MonoNs,
    is_in_service: bool,
    known: MonoNs,
) -> Windows {
    let mut walk = Walk {
        rules,
        gap: (!is_in_service).then(|| Gap { from, is_tolerable: false, failed: Vec::new() }),
        run: Run::default(),
        closed: Vec::new(),
        tolerated: Vec::new(),
    };
    for probe in probes.filter(|probe| probe.due < known) {
        // The probe was under way at the start: an answer says nothing, a failure counts from the start on.
        let early = probe.due < from;
        if early && (probe.is_served || probe.done <= from) {
            continue;
        }
        walk.step(Judged { due: probe.due.max(from), ..probe });
    }
    walk.end(known)
}

/// Failures that no complete run of answers has ended yet.
struct Gap {
    from: MonoNs,
    is_tolerable: bool,
    failed: Vec<MonoNs>,
}

impl Gap {
    fn window(&self, end: Option<(MonoNs, MonoNs)>) -> Window {
        Window {
            out: self.from,
            back: end.map(|(back, _)| back),
            confirmed: end.map(|(_, confirmed)| confirmed),
            failed_from: self.failed.first().copied(),
        }
    }
}

/// Served probes without a failure between them.
#[derive(Default)]
struct Run {
    /// The K earliest answers, in order.
    earliest: Vec<MonoNs>,
}

impl Run {
    fn add(&mut self, done: MonoNs, keep: usize) {
        let at = self.earliest.partition_point(|&other| other <= done);
        self.earliest.insert(at, done);
        self.earliest.truncate(keep);
    }

    fn first(&self) -> Option<MonoNs> {
        self.earliest.first().copied()
    }

    /// The earliest answer and the K-th one, once there are K.
    fn whole(&self, consecutive: usize) -> Option<(MonoNs, MonoNs)> {
        (self.earliest.len() == consecutive).then(|| (self.earliest[0], self.earliest[consecutive - 1]))
    }
}

struct Walk {
    rules: Rules,
    gap: Option<Gap>,
    run: Run,
    closed: Vec<Window>,
    tolerated: Vec<MonoNs>,
}

impl Walk {
    fn step(&mut self, probe: Judged) {
        if probe.is_served {
            if self.gap.is_some() {
                self.run.add(probe.done, self.rules.consecutive);
            }
            return;
        }
        if let Some((back, confirmed)) = self.run.whole(self.rules.consecutive)
            && back < probe.due
            && let Some(gap) = self.gap.take()
        {
            if self.is_tolerated(&gap, back) {
                self.tolerated.extend(gap.failed);
            } else {
                self.closed.push(gap.window(Some((back, confirmed))));
            }
        }
        self.run = Run::default();
        let gap =
            self.gap.get_or_insert_with(|| Gap { from: probe.due, is_tolerable: true, failed: Vec::new() });
        gap.failed.push(probe.due);
    }

    fn is_tolerated(&self, gap: &Gap, back: MonoNs) -> bool {
        gap.is_tolerable && back <= gap.from + self.rules.tolerate
    }

    fn end(mut self, known: MonoNs) -> Windows {
        let (mut hope, mut certain) = (None, known);
        if let Some(gap) = self.gap.take() {
            // A later answer of this run may be earlier than those seen, but not than the instant it is due at.
            let earliest = self.run.first().map_or(known, |first| first.min(known));
            let whole = self.run.whole(self.rules.consecutive);
            if self.is_tolerated(&gap, earliest) {
                match whole {
                    Some((back, _)) if back <= known => self.tolerated.extend(gap.failed),
                    _ => certain = gap.from,
                }
            } else if let Some((back, confirmed)) = whole {
                self.closed.push(gap.window(Some((back, confirmed))));
            } else {
                self.closed.push(gap.window(None));
                hope = Some(earliest);
            }
        }
        Windows { windows: self.closed, hope, certain, tolerated: self.tolerated }
    }
}

/// The times and rules, beside its windows, from which an endpoint's outage is computed.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// The cut.
    pub cut: MonoNs,
    /// The heal.
    pub heal: MonoNs,
    /// The end of the watch.
    pub until: MonoNs,
    /// The bound within which an answer counts as served.
    pub served_within: Duration,
    /// Whether the cut lay on the probe's own way.
    pub is_unseen: bool,
    /// Whether the probes show the whole cut: some ended in it, and all that were due in it were sent. Else that time is not known.
    pub is_probed: bool,
}

impl Scope {
    /// Whether it is known what the endpoint did during the cut.
    fn is_known_before_heal(&self) -> bool {
        self.is_probed && !self.is_unseen
    }
}

/// The figures of an endpoint that was healthy before the cut; `probes` are those of its windows.
pub fn outage(
    found: &Windows,
    probes: impl Iterator<Item = Judged>,
    consecutive: usize,
    interval: Duration,
    scope: &Scope,
) -> Outage {
    let Scope { cut, heal, until, .. } = *scope;
    let seen: Vec<Window> = found
        .windows
        .iter()
        // An unseen endpoint is waited for from the heal on, and is out from its first failure on.
        .filter_map(|window| Some(Window { out: window.failed_from?, ..*window }))
        .filter(|window| window.out < until)
        .map(|window| Window { back: window.back.filter(|&back| back <= until), ..window })
        .collect();
    let end = |window: &Window| window.back.unwrap_or(until);
    let length = |window: &Window| end(window).saturating_since(window.out);
    let before = |window: &Window| end(window).min(heal).saturating_since(window.out);
    let sum: Duration = seen.iter().map(length).sum();
    let before_heal: Duration = seen.iter().map(before).sum();
    let is_known = scope.is_known_before_heal();
    let during = seen.first().filter(|window| window.out < heal);
    let (fail_over, fail_over_ns) = match during {
        _ if !is_known => (None, None),
        None => (Some(FailOver::NeverOut), None),
        Some(window) => match window.back.zip(window.confirmed) {
            Some((back, confirmed)) if confirmed <= heal => {
                (Some(FailOver::Back), Some(nanos(back.saturating_since(cut))))
            }
            _ => (Some(FailOver::NotBack), None),
        },
    };
    let in_service_at_heal = is_known && !seen.iter().any(|window| window.covers(heal));
    let lost = seen.iter().filter(|window| window.out > heal).map(length).sum();
    Outage {
        served_within_ns: nanos(scope.served_within),
        windows: seen.iter().map(|window| TimeRange { from_ns: window.out, until_ns: window.back }).collect(),
        sum_ns: is_known.then(|| nanos(sum)),
        longest_ns: seen.iter().map(length).max().filter(|_| is_known).map(nanos),
        before_heal_ns: is_known.then(|| nanos(before_heal)),
        after_heal_ns: nanos(sum.saturating_sub(before_heal)),
        open: seen.last().is_some_and(|window| window.back.is_none()),
        fail_over,
        fail_over_ns,
        lost_by_heal_ns: in_service_at_heal.then(|| nanos(lost)),
        tolerated: found.tolerated.iter().filter(|&&due| due < until).count() as u64,
        stall_ns: stall(probes, interval * u32::try_from(consecutive).unwrap_or(u32::MAX), scope),
        unseen: scope.is_unseen,
    }
}

/// The longest time between two answers in which no failed probe was due, if over `bound`.
fn stall(probes: impl Iterator<Item = Judged>, bound: Duration, scope: &Scope) -> Option<u64> {
    let from = if scope.is_unseen { scope.heal } else { scope.cut };
    let (served, failed): (Vec<Judged>, Vec<Judged>) = probes
        .filter(|probe| probe.done >= from && probe.due < scope.until)
        .partition(|probe| probe.is_served);
    let mut answers: Vec<MonoNs> = served.iter().map(|probe| probe.done).collect();
    answers.push(from);
    answers.sort_unstable();
    let mut failed: Vec<MonoNs> = failed.iter().map(|probe| probe.due).collect();
    failed.sort_unstable();
    answers
        .windows(2)
        .filter(|pair| {
            let next = failed.partition_point(|&due| due < pair[0]);
            failed.get(next).is_none_or(|&due| due > pair[1])
        })
        .map(|pair| pair[1].saturating_since(pair[0]))
        .filter(|&gap| gap > bound)
        .max()
        .map(nanos)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const K: usize = 3;
    const CUT: u64 = 100;
    const HEAL: u64 = 200;

    const fn at(ms: u64) -> MonoNs {
        MonoNs(ms * 1_000_000)
    }

    /// A probe due at `due` ms that took `took` ms.
    fn probe(due: u64, took: u64, is_served: bool) -> Judged {
        Judged { due: at(due), done: at(due + took), is_served }
    }

    /// Probes every 10 ms up to 400 ms, answered at once except for those that `change` gives.
    fn probes(change: impl Fn(u64) -> Option<(u64, bool)>) -> Vec<Judged> {
        (0..40)
            .map(|n| n * 10)
            .map(|due| {
                let (took, is_served) = change(due).unwrap_or((1, true));
                probe(due, took, is_served)
            })
            .collect()
    }

    fn judged(probes: &[Judged], tolerate: u64) -> Outage {
        let rules = Rules { consecutive: K, tolerate: Duration::from_millis(tolerate) };
        let found = windows(probes.iter().copied(), rules, at(CUT), true, at(400));
        of_windows(&found, probes, &SCOPE)
    }

    /// A cut that was felt and probed.
    const SCOPE: Scope = Scope {
        cut: at(CUT),
        heal: at(HEAL),
        until: at(400),
        served_within: Duration::from_millis(100),
        is_unseen: false,
        is_probed: true,
    };

    fn of_windows(found: &Windows, probes: &[Judged], scope: &Scope) -> Outage {
        outage(found, probes.iter().copied(), K, Duration::from_millis(10), scope)
    }

    fn ends(outage: &Outage) -> Vec<(u64, Option<u64>)> {
        let ms = |at: MonoNs| at.0 / 1_000_000;
        outage.windows.iter().map(|window| (ms(window.from_ns), window.until_ns.map(ms))).collect()
    }

    fn failing(from: u64, to: u64) -> impl Fn(u64) -> Option<(u64, bool)> {
        move |due| (from..to).contains(&due).then_some((50, false))
    }

    #[test]
    fn out_when_the_first_failure_was_due_and_back_at_the_earliest_answer_of_a_run() {
        assert_eq!(ends(&judged(&probes(failing(120, 180)), 0)), [(120, Some(181))]);
        // The run's first probe waits for a back-off of its own: the next one's answer is earlier.
        let slow = probes(|due| if due == 180 { Some((60, true)) } else { failing(120, 180)(due) });
        assert_eq!(ends(&judged(&slow, 0)), [(120, Some(191))]);
        // Two are no run of three.
        let two = probes(|due| failing(120, 180)(due).or(failing(200, 210)(due)));
        assert_eq!(ends(&judged(&two, 0)), [(120, Some(211))]);
    }

    #[test]
    fn answers_that_come_after_their_run_was_broken_end_no_window() {
        let late = |due| match due {
            120..180 => Some((50, false)),
            180..210 => Some((90, true)),
            210 => Some((1, false)),
            _ => None,
        };
        assert_eq!(ends(&judged(&probes(late), 0)), [(120, Some(221))]);
    }

    #[test]
    fn probes_under_way_at_the_cut_count_only_as_failures() {
        let hanging = |ok| move |due: u64| (80..100).contains(&due).then_some((40, ok));
        assert_eq!(ends(&judged(&probes(hanging(true)), 0)), []);
        assert_eq!(ends(&judged(&probes(hanging(false)), 0)), [(100, Some(101))]);
        // A failure that was known before the cut is none of it.
        assert_eq!(ends(&judged(&probes(failing(20, 50)), 0)), []);
    }

    #[test]
    fn fail_over_needs_every_answer_before_the_heal() {
        let back = judged(&probes(failing(100, 150)), 0);
        assert_eq!((back.fail_over, back.fail_over_ns), (Some(FailOver::Back), Some(51_000_000)));
        assert_eq!((back.before_heal_ns, back.after_heal_ns), (Some(51_000_000), 0));
        let just_not = judged(&probes(failing(100, 180)), 0);
        assert_eq!((just_not.fail_over, just_not.fail_over_ns), (Some(FailOver::NotBack), None));
        assert_eq!(ends(&just_not), [(100, Some(181))], "its window ends in the cut all the same");
        let never = judged(&probes(|_| None), 0);
        assert_eq!((never.fail_over, never.never_out()), (Some(FailOver::NeverOut), Some(true)));
        assert_eq!((never.sum_ns, never.longest_ns, never.lost_by_heal_ns), (Some(0), None, Some(0)));
    }

    #[test]
    fn the_heal_can_be_the_outage() {
        let lost = judged(&probes(failing(250, 300)), 0);
        assert_eq!((lost.fail_over, lost.never_out()), (Some(FailOver::NeverOut), Some(false)));
        assert_eq!(lost.lost_by_heal_ns, Some(51_000_000));
        // An endpoint that was out at the heal did not lose its service by the heal.
        let relapsed = judged(&probes(|due| failing(150, 220)(due).or(failing(300, 320)(due))), 0);
        assert_eq!((relapsed.windows.len(), relapsed.lost_by_heal_ns), (2, None));
        let open = judged(&probes(failing(390, 400)), 0);
        assert_eq!((open.open, open.sum_ns), (true, Some(10_000_000)));
    }

    #[test]
    fn short_failures_are_tolerated_and_counted() {
        let short = judged(&probes(failing(150, 160)), 20);
        assert_eq!((short.never_out(), short.tolerated), (Some(true), 1));
        let long = judged(&probes(failing(150, 180)), 20);
        assert_eq!((ends(&long), long.tolerated), (vec![(150, Some(181))], 0));
    }

    #[test]
    fn a_stall_is_no_outage() {
        // Answered together at 171 ms.
        let stalled = judged(&probes(|due| (110..170).contains(&due).then(|| (171 - due, true))), 0);
        assert_eq!((stalled.never_out(), stalled.stall_ns), (Some(true), Some(70_000_000)));
        assert_eq!(judged(&probes(failing(110, 170)), 0).stall_ns, None, "failed probes mark it");
    }

    #[test]
    fn an_unseen_endpoint_is_not_out_before_the_heal() {
        let of = |change: &dyn Fn(u64) -> Option<(u64, bool)>| {
            let probes: Vec<Judged> =
                probes(change).into_iter().filter(|probe| probe.due >= at(HEAL)).collect();
            let rules = Rules { consecutive: K, tolerate: Duration::ZERO };
            let found = windows(probes.iter().copied(), rules, at(HEAL), false, at(400));
            of_windows(&found, &probes, &Scope { is_unseen: true, ..SCOPE })
        };
        let silent = of(&|_| None);
        assert_eq!((silent.never_out(), silent.sum_ns, silent.fail_over), (None, None, None));
        assert_eq!((silent.before_heal_ns, silent.after_heal_ns, silent.unseen), (None, 0, true));
        let failing = of(&failing(210, 250));
        assert_eq!((ends(&failing), failing.after_heal_ns), (vec![(210, Some(251))], 41_000_000));
        assert_eq!(failing.longest_ns, None, "it may have been out for longer before the heal");
    }

    #[test]
    fn without_a_probe_in_the_cut_nothing_is_known_before_the_heal() {
        let of = |change: &dyn Fn(u64) -> Option<(u64, bool)>| {
            let probes: Vec<Judged> = probes(change)
                .into_iter()
                .filter(|probe| !(CUT..HEAL).contains(&(probe.due.0 / 1_000_000)))
                .collect();
            let rules = Rules { consecutive: K, tolerate: Duration::ZERO };
            let found = windows(probes.iter().copied(), rules, at(CUT), true, at(400));
            of_windows(&found, &probes, &Scope { is_probed: false, ..SCOPE })
        };
        for (outage, after) in [(of(&|_| None), 0), (of(&failing(210, 250)), 41_000_000)] {
            assert_eq!((outage.fail_over, outage.before_heal_ns, outage.lost_by_heal_ns), (None, None, None));
            assert_eq!((outage.sum_ns, outage.longest_ns, outage.after_heal_ns), (None, None, after));
            assert_eq!((outage.unseen, outage.never_out()), (false, (after > 0).then_some(false)));
        }
    }

    proptest! {
        #[test]
        fn windows_never_overlap_and_add_up(
            lives in proptest::collection::vec((0..80_u64, any::<bool>()), 40),
            tolerate in 0..40_u64,
        ) {
            let life = probes(|due| lives.get((due / 10) as usize).copied());
            let outage = judged(&life, tolerate);
            for pair in outage.windows.windows(2) {
                prop_assert!(pair[0].until_ns.unwrap() < pair[1].from_ns);
            }
            let until = |window: &TimeRange| window.until_ns.unwrap_or(at(400));
            prop_assert!(outage.windows.iter().all(|w| at(CUT) <= w.from_ns && w.from_ns < until(w)));
            let sum: u64 = outage.windows.iter().map(|w| until(w).0 - w.from_ns.0).sum();
            prop_assert_eq!(outage.sum_ns, Some(sum));
            prop_assert_eq!(outage.before_heal_ns.unwrap() + outage.after_heal_ns, sum);
            // Outside of windows no probe fails, except for those that are tolerated, or may yet be.
            let rules = Rules { consecutive: K, tolerate: Duration::from_millis(tolerate) };
            let certain = windows(life.iter().copied(), rules, at(CUT), true, at(400)).certain;
            let outside = life.iter().filter(|probe| {
                let due = probe.due.max(at(CUT));
                !probe.is_served
                    && (probe.due >= at(CUT) || probe.done > at(CUT))
                    && due < certain
                    && !outage.windows.iter().any(|w| w.from_ns <= due && due < until(w))
            });
            prop_assert_eq!(outside.count() as u64, outage.tolerated);
            // A tighter bound never takes an outage away.
            let tight: Vec<Judged> = life
                .iter()
                .map(|p| Judged { is_served: p.is_served && p.done <= p.due + Duration::from_millis(40), ..*p })
                .collect();
            prop_assert!(judged(&tight, 0).sum_ns >= judged(&life, 0).sum_ns);
        }
    }
}
