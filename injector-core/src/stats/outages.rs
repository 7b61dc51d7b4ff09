//! How long service was away, by cut: what a client sees that tries each endpoint, or is bound to one.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::api::{ClusterOutage, FailOver, Outage};

use super::cuts::NamedCut;
use super::mix::{Factor, strata};
use super::survival::{Curve, Observation};
use super::trial::{EndpointTimes, Instant, Trial, base};

/// A time over some trials; `null` is "not reached" or "no trial".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Trials (or endpoints of trials) that it is known of.
    pub n: u64,
    /// The number of these that are censored: the time was longer than could be seen.
    pub censored: u64,
    /// The median (Kaplan–Meier).
    pub p50_ns: Option<u64>,
    /// The 90 % quantile.
    pub p90_ns: Option<u64>,
    /// The largest; `null` where any was censored: that one may be the largest, however early it was lost sight of.
    pub max_ns: Option<u64>,
    /// A lower bound of the largest, where it is not known.
    #[serde(default)]
    pub max_at_least_ns: Option<u64>,
}

impl Spread {
    /// The spread of observations in any order.
    pub fn of(observations: Vec<Observation>) -> Self {
        let n = observations.len() as u64;
        let events = observations.iter().filter(|seen| **seen == Observation::event(seen.time_ns));
        let censored = n - events.count() as u64;
        let curve = Curve::estimate(observations);
        let at = |share| curve.quantile(share).estimate;
        // Unlike a quantile, it is no estimate: one censored early may have lasted longer than all the others.
        let largest = curve.last_ns;
        let (max_ns, max_at_least_ns) = if censored == 0 { (largest, None) } else { (None, largest) };
        Self { n, censored, p50_ns: at(0.5), p90_ns: at(0.9), max_ns, max_at_least_ns }
    }
}

/// How endpoints came back while the cut lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailOvers {
    /// Endpoints of trials that were out during the cut and came back before the heal.
    pub back: u64,
    /// Endpoints of trials that were out during the cut and did not come back before the heal: censored at
    /// the heal.
    pub not_back: u64,
    /// Endpoints of trials that were never out during the cut: they are no part of the times.
    pub never_out: u64,
    /// The times from the cut to the return.
    pub times: Spread,
}

/// The outages of one name's required endpoints in the trials of one stratum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageFigures {
    /// The shape that was cut.
    pub shape: String,
    /// `ingress`.
    pub name: String,
    /// Trials.
    pub trials: u64,
    /// When all endpoints were out.
    pub all_out: Spread,
    /// The rest's fail-over; `null` for shapes without sides.
    pub rest_fail_over: Option<FailOvers>,
    /// The outage of each endpoint that was cut off; `null` for shapes without sides.
    pub cut_off: Option<Spread>,
    /// The time after the heal in which some endpoint was out.
    pub some_after_heal: Spread,
    /// The mean over endpoints: what a client bound to one of them sees.
    pub share: Spread,
    /// Endpoints of trials that were never out, before the heal or after it.
    pub never_out: u64,
    /// Endpoints of trials that were in service at the heal and out after it, and how long.
    pub lost_by_heal: Spread,
    /// The times from heal to settled, of all required endpoints together.
    pub settled: Spread,
}

/// The outages by cut, then by name; strata are in the order of their slowest medians of settled. `cuts` are those of
/// [`named`](super::cuts::named).
pub(super) fn by_cut(trials: &[&Trial], cuts: &HashMap<&str, NamedCut<'_>>) -> Vec<OutageFigures> {
    let mut rows: Vec<OutageFigures> = strata(trials, Factor::Cut)
        .into_iter()
        .flat_map(|stratum| {
            let own: Vec<&Trial> = stratum.into_iter().map(|at| trials[at]).collect();
            figures(&own, &cuts[own[0].stratum.as_str()])
        })
        .collect();
    let slowness = |row: &OutageFigures| {
        let ns = |ns: Option<u64>| ns.unwrap_or(if row.settled.n > 0 { u64::MAX } else { 0 });
        std::cmp::Reverse((ns(row.settled.p50_ns), ns(row.settled.p90_ns)))
    };
    rows.sort_by_key(slowness);
    rows
}

fn figures(trials: &[&Trial], cut: &NamedCut<'_>) -> Vec<OutageFigures> {
    let trials: Vec<&Trial> = trials.iter().copied().filter(|trial| !trial.injection_in_doubt()).collect();
    let mut names: Vec<&str> = Vec::new();
    for cluster in trials.iter().flat_map(|trial| &trial.outages) {
        if !names.contains(&cluster.name.as_str()) {
            names.push(&cluster.name);
        }
    }
    names.into_iter().map(|name| one_name(&trials, cut, name)).collect()
}

fn one_name(trials: &[&Trial], cut: &NamedCut<'_>, name: &str) -> OutageFigures {
    let clusters = trials.iter().flat_map(|trial| trial.outages.iter().map(move |outage| (*trial, outage)));
    let clusters: Vec<(&Trial, &ClusterOutage)> =
        clusters.filter(|(_, outage)| outage.name == name).collect();
    let spread = |figure: &dyn Fn(&Trial, &ClusterOutage) -> Option<Observation>| {
        Spread::of(clusters.iter().filter_map(|(trial, outage)| figure(trial, outage)).collect())
    };
    let of_name = |endpoint: &&EndpointTimes| endpoint.required && base(&endpoint.name) == name;
    let endpoints = || trials.iter().flat_map(|trial| trial.endpoints.iter().filter(of_name));
    // The endpoints on one side, where the shape has sides.
    let side = |is_cut_off: bool| {
        let cut_off = cut.cut_off?;
        let found: Vec<(&Trial, &EndpointTimes, &Outage)> = trials
            .iter()
            .flat_map(|trial| {
                let on_side = move |endpoint: &&EndpointTimes| {
                    endpoint.peer.as_ref().is_some_and(|peer| cut_off.contains(peer) == is_cut_off)
                };
                let own = trial.endpoints.iter().filter(of_name).filter(on_side);
                own.filter_map(move |endpoint| Some((*trial, endpoint, endpoint.outage.as_ref()?)))
            })
            .collect();
        (!found.is_empty()).then_some(found)
    };
    let lost = endpoints().filter_map(|endpoint| {
        let outage = endpoint.outage.as_ref()?;
        Some(endpoint.seen(outage, outage.lost_by_heal_ns.filter(|&ns| ns > 0)?))
    });
    let settled = trials.iter().filter_map(|t| t.observation(&t.cluster, Instant::Settled, t.deadline_ns));
    OutageFigures {
        shape: cut.label.clone(),
        name: name.to_owned(),
        trials: trials.len() as u64,
        all_out: spread(&|trial, outage| Some(trial.seen(outage, outage.all_ns?))),
        rest_fail_over: side(false).map(|found| fail_overs(&found)),
        cut_off: side(true).map(|found| {
            let sums =
                found.iter().filter_map(|(_, endpoint, outage)| Some(endpoint.seen(outage, outage.sum_ns?)));
            Spread::of(sums.collect())
        }),
        some_after_heal: spread(&|trial, outage| Some(trial.some_after_heal(outage))),
        share: spread(&|trial, outage| Some(trial.seen(outage, outage.share_ns?))),
        never_out: endpoints().filter(|endpoint| endpoint.never_out() == Some(true)).count() as u64,
        lost_by_heal: Spread::of(lost.collect()),
        settled: Spread::of(settled.collect()),
    }
}

fn fail_overs(found: &[(&Trial, &EndpointTimes, &Outage)]) -> FailOvers {
    let count = |kind| found.iter().filter(|(_, _, outage)| outage.fail_over == Some(kind)).count() as u64;
    let times = found.iter().filter_map(|(trial, _, outage)| match outage.fail_over? {
        FailOver::NeverOut => None,
        FailOver::Back => outage.fail_over_ns.map(Observation::event),
        FailOver::NotBack => trial.hold_ns.map(Observation::censored),
    });
    FailOvers {
        back: count(FailOver::Back),
        not_back: count(FailOver::NotBack),
        never_out: count(FailOver::NeverOut),
        times: Spread::of(times.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::{MARGIN, compare};
    use super::super::cuts::named;
    use super::super::survival::End;
    use super::*;
    use crate::api::{EndpointRecord, Outcome, RecoveryRecord};

    #[test]
    fn the_largest_is_unknown_where_one_was_censored() {
        let largest = |seen: &[Observation]| {
            let spread = Spread::of(seen.to_vec());
            (spread.max_ns, spread.max_at_least_ns)
        };
        let (event, censored) = (Observation::event, Observation::censored);
        assert_eq!(largest(&[event(520), event(551)]), (Some(551), None));
        assert_eq!(largest(&[event(520), event(551), censored(2990)]), (None, Some(2990)));
        assert_eq!(largest(&[event(551), censored(551)]), (None, Some(551)), "it is longer");
        assert_eq!(largest(&[event(551), censored(30)]), (None, Some(551)), "it may be longer");
        assert_eq!(largest(&[censored(30)]), (None, Some(30)));
        assert_eq!(largest(&[]), (None, None));
    }

    /// A trial that settled after 1 s, of two endpoints; some endpoint was out for `ms` after the heal, as far as that is
    /// known: the first one's outage may not be.
    fn trial(ms: u64, change: impl Fn(&mut RecoveryRecord)) -> Trial {
        let mut record: RecoveryRecord =
            serde_json::from_str(include_str!("../../tests/data/golden/record.json")).unwrap();
        let heal = record.heal.unwrap().end_ns;
        let mut first = record.endpoints[0].clone();
        let outage = first.outage.as_mut().unwrap();
        (outage.windows, outage.open, outage.sum_ns) = (Vec::new(), false, Some(0));
        (first.settled_ns, first.required) = (Some(heal), true);
        let second = EndpointRecord { name: format!("{}@n9", base(&first.name)), ..first.clone() };
        record.endpoints = vec![first, second];
        let cluster = &mut record.outage.as_mut().unwrap()[0];
        (cluster.without_data, cluster.open, cluster.some_after_heal_ns) = (0, false, ms * 1_000_000);
        record.heal_to_settled_ns = Some(1_000_000_000);
        record.outcome = Some(Outcome::Recovered);
        record.links[0].still_cut_by.clear();
        change(&mut record);
        Trial::new(0, &record)
    }

    fn unknown(record: &mut RecoveryRecord) {
        record.endpoints[0].outage = None;
        record.outage.as_mut().unwrap()[0].without_data = 1;
        record.outcome = Some(Outcome::Unknown);
    }

    #[test]
    fn what_an_endpoint_without_data_may_add_is_a_lower_bound() {
        let after = |change: &dyn Fn(&mut RecoveryRecord)| {
            let trial = trial(300, change);
            let row = &of_cuts(&[&trial])[0];
            (row.some_after_heal.censored, row.some_after_heal.max_ns, row.some_after_heal.max_at_least_ns)
        };
        let (exact, bound) = ((0, Some(300_000_000), None), (1, None, Some(300_000_000)));
        assert_eq!(after(&|_| ()), exact);
        assert_eq!(after(&unknown), bound);
        // After the heal an unseen endpoint is seen.
        let unseen = |record: &mut RecoveryRecord| {
            let outage = record.endpoints[0].outage.as_mut().unwrap();
            (outage.unseen, outage.sum_ns, outage.before_heal_ns) = (true, None, None);
            record.outage.as_mut().unwrap()[0].without_data = 1;
        };
        assert_eq!(after(&unseen), exact);
        let trial = trial(300, unseen);
        assert_eq!(trial.some_out(&trial.outages[0]).end, End::Censored, "before it, it is not");
        // An advisory endpoint is no part of it.
        assert_eq!(
            after(&|record| {
                unknown(record);
                record.endpoints[0].required = false;
            }),
            exact
        );
    }

    fn of_cuts(trials: &[&Trial]) -> Vec<OutageFigures> {
        by_cut(trials, &named(trials.iter().copied()))
    }

    /// Another cut ended the watch between two windows.
    #[test]
    fn a_watch_that_ended_before_all_had_settled_gives_lower_bounds() {
        let cut_short = trial(300, |record| {
            record.outcome = Some(Outcome::Censored);
            record.heal_to_settled_ns = None;
            for endpoint in &mut record.endpoints {
                endpoint.settled_ns = None;
            }
        });
        let row = &of_cuts(&[&cut_short])[0];
        assert_eq!((row.some_after_heal.censored, row.all_out.censored, row.share.censored), (1, 1, 1));
        assert_eq!(row.never_out, 0, "they may yet go out");
        assert_eq!(cut_short.total_outage(), Some(Observation::censored(0)));
        let whole = trial(300, |_| ());
        assert_eq!(of_cuts(&[&whole])[0].never_out, 2);
        assert_eq!(whole.total_outage(), Some(Observation::event(0)));
    }

    #[test]
    fn two_campaigns_do_not_differ_by_endpoints_without_data() {
        let a: Vec<Trial> = (0..12).map(|at| trial(757 + at, |_| ())).collect();
        let of = |b: Vec<Trial>| {
            let found = compare(&a, &b, MARGIN);
            let test =
                found.times.into_iter().find(|test| test.instant == "some out after the heal").unwrap();
            (test.b_p50_ns, test.p.is_some_and(|p| p < 0.01))
        };
        assert_eq!(of((0..12).map(|_| trial(0, unknown)).collect()), (None, false));
        assert_eq!(of((0..12).map(|_| trial(0, |_| ())).collect()), (Some(0), true));
    }
}
