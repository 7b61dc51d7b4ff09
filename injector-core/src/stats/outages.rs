//! How long service was away, by cut: what a client sees that tries each endpoint, or is bound to one.

use serde::{Deserialize, Serialize};

use crate::api::{ClusterOutage, FailOver, Outage};

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

/// The outages by cut, then by name; strata are in the order of their slowest medians of settled.
pub fn by_cut(trials: &[&Trial]) -> Vec<OutageFigures> {
    let mut rows: Vec<OutageFigures> = strata(trials, Factor::Cut)
        .into_iter()
        .flat_map(|stratum| {
            let own: Vec<&Trial> = stratum.into_iter().map(|at| trials[at]).collect();
            figures(&own)
        })
        .collect();
    let slowness = |row: &OutageFigures| {
        let ns = |ns: Option<u64>| ns.unwrap_or(if row.settled.n > 0 { u64::MAX } else { 0 });
        std::cmp::Reverse((ns(row.settled.p50_ns), ns(row.settled.p90_ns)))
    };
    rows.sort_by_key(slowness);
    rows
}

fn figures(trials: &[&Trial]) -> Vec<OutageFigures> {
    let trials: Vec<&Trial> = trials.iter().copied().filter(|trial| !trial.injection_in_doubt()).collect();
    let mut names: Vec<&str> = Vec::new();
    for cluster in trials.iter().flat_map(|trial| &trial.outages) {
        if !names.contains(&cluster.name.as_str()) {
            names.push(&cluster.name);
        }
    }
    names.into_iter().map(|name| one_name(&trials, name)).collect()
}

fn one_name(trials: &[&Trial], name: &str) -> OutageFigures {
    let clusters = || trials.iter().flat_map(|trial| &trial.outages).filter(|outage| outage.name == name);
    let spread = |figure: &dyn Fn(&ClusterOutage) -> Option<u64>| {
        Spread::of(clusters().filter_map(|c| Some(Observation::of(c.open, figure(c)?))).collect())
    };
    let of_name = |endpoint: &&EndpointTimes| endpoint.required && base(&endpoint.name) == name;
    let outages = || {
        trials
            .iter()
            .flat_map(|trial| trial.endpoints.iter().filter(of_name))
            .filter_map(|e| e.outage.as_ref())
    };
    // The endpoints on one side, where the shape has sides.
    let side = |is_cut_off: bool| {
        let with_sides = trials.iter().filter_map(|trial| Some((*trial, trial.cut_off.as_ref()?)));
        let found: Vec<(&Trial, &Outage)> = with_sides
            .flat_map(|(trial, cut_off)| {
                let on_side = move |endpoint: &&EndpointTimes| {
                    endpoint.peer.as_ref().is_some_and(|peer| cut_off.contains(peer) == is_cut_off)
                };
                let own = trial.endpoints.iter().filter(of_name).filter(on_side);
                own.filter_map(move |endpoint| Some((trial, endpoint.outage.as_ref()?)))
            })
            .collect();
        (!found.is_empty()).then_some(found)
    };
    let lost = outages().filter_map(|outage| {
        Some(Observation::of(outage.open, outage.lost_by_heal_ns.filter(|&ns| ns > 0)?))
    });
    let settled = trials.iter().filter_map(|t| t.observation(&t.cluster, Instant::Settled, t.deadline_ns));
    OutageFigures {
        shape: trials.first().map_or_else(String::new, |trial| trial.label.clone()),
        name: name.to_owned(),
        trials: trials.len() as u64,
        all_out: spread(&|cluster| cluster.all_ns),
        rest_fail_over: side(false).map(|found| fail_overs(&found)),
        cut_off: side(true).map(|found| {
            let sums =
                found.iter().filter_map(|(_, outage)| Some(Observation::of(outage.open, outage.sum_ns?)));
            Spread::of(sums.collect())
        }),
        some_after_heal: spread(&|cluster| Some(cluster.some_after_heal_ns)),
        share: spread(&|cluster| cluster.share_ns),
        never_out: outages().filter(|outage| outage.never_out() == Some(true)).count() as u64,
        lost_by_heal: Spread::of(lost.collect()),
        settled: Spread::of(settled.collect()),
    }
}

fn fail_overs(found: &[(&Trial, &Outage)]) -> FailOvers {
    let count = |kind| found.iter().filter(|(_, outage)| outage.fail_over == Some(kind)).count() as u64;
    let times = found.iter().filter_map(|(trial, outage)| match outage.fail_over? {
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
    use super::*;

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
}
