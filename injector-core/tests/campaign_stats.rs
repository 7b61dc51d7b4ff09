//! Summaries and comparisons of planted campaigns.

#[path = "support/synthetic.rs"]
mod synthetic;

use injector_core::api::Outcome;
use injector_core::measure::STARVED_REMEDY;
use injector_core::model::Shape;
use injector_core::stats::compare::{Finding, compare};
use injector_core::stats::power::comparison_power;
use injector_core::stats::sequential::Decision;
use injector_core::stats::strata::{Arm, Stratum, difference, exact_p};
use injector_core::stats::summary::{Plan, Summary, summarize};
use injector_core::stats::trial::Trial;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synthetic::{DEADLINE, Plant, SECOND, campaign, plants, record};

fn trials(plants: &[Plant]) -> Vec<Trial> {
    let settings = campaign(plants.len() as u64).settings;
    (0..).zip(plants).map(|(at, plant)| settings.trial(at, &record(at, plant))).collect()
}

/// Trials of cuts that were asked for by name, not drawn.
fn fixed(plants: &[Plant]) -> Vec<Trial> {
    let settings = campaign(plants.len() as u64).settings;
    let trial = |(at, plant): (u64, &Plant)| {
        let mut record = record(at, plant);
        record.shape.asked = Shape::Isolate(vec![plant.isolated.into()]);
        settings.trial(at, &record)
    };
    (0..).zip(plants).map(trial).collect()
}

fn of(isolated: &'static str, plant: &Plant, n: usize) -> Vec<Plant> {
    vec![Plant { isolated, ..plant.clone() }; n]
}

fn summary(plants: &[Plant]) -> Summary {
    summarize(&trials(plants), &Plan { trials: Some(plants.len() as u64), ..Plan::default() })
}

#[test]
fn figures_by_hand() {
    let mut planted: Vec<Plant> = (1..=8).map(|s| Plant::recovered(s * SECOND)).collect();
    planted.extend([Plant::not_recovered(), Plant::not_recovered()]);
    planted.push(Plant::undecided(Outcome::Unknown));
    planted.push(Plant::undecided(Outcome::HarnessFailed));
    let s = summary(&planted);
    assert_eq!((s.trials, s.cluster.settled.n, s.cluster.settled.beyond_deadline), (12, 10, 2));
    assert_eq!(
        (s.cluster.settled.rate, s.cluster.settled.rate_bounds),
        (Some(0.2), Some([2.0 / 12.0, 4.0 / 12.0]))
    );
    // R, binom.test(2, 10): 0.02521073, 0.55609546.
    let [low, high] = s.cluster.settled.rate_ci95.unwrap();
    assert!((low - 0.025_210_73).abs() < 1e-7 && (high - 0.556_095_46).abs() < 1e-7);
    assert_eq!((s.cluster.settled.p50_ns, s.cluster.settled.p90_ns), (Some(5 * SECOND), None));
    assert_eq!(s.cluster.settled.survival_at_deadline.map(|s| (s * 1e9).round()), Some(2e8));
    assert_eq!((s.outcomes.unknown, s.outcomes.harness_failed), (1, 1));
    assert_eq!(s.verdict.exit_code, 1);
    // The ingress is what fails, the metadata service always recovers.
    let group = |name: &str| s.endpoint_groups.iter().find(|group| group.name == name).unwrap();
    assert_eq!((group("ingress").series.settled.beyond_deadline, group("ingress").instances), (2, 3));
    assert_eq!((group("metadata").series.settled.beyond_deadline, &*group("metadata").role), (0, "advisory"));
    // Trial 8 is in doubt for all; trial 9 is unknown for the required endpoints (which the plant makes
    // unknown for all).
    assert_eq!(group("metadata").series.settled.n, 10);
    assert_eq!((s.slowest[0].trial, s.slowest[1].trial, s.slowest[2].settled_ns), (8, 9, Some(8 * SECOND)));
}

#[test]
fn back_to_back_cycles_still_give_a_curve() {
    // Cuts every 10 s: every record is closed 5 s after its heal; four were ready by then, one was not.
    let mut planted: Vec<Plant> = (1..=4)
        .map(|s| Plant { ready_ns: Some(s * SECOND), ..Plant::undecided(Outcome::Censored) })
        .collect();
    planted.push(Plant::undecided(Outcome::Censored));
    let s = summary(&planted);
    assert_eq!((s.cluster.ready.n, s.cluster.ready.in_curve, s.cluster.ready.rate), (0, 5, None));
    assert_eq!((s.cluster.ready.p50_ns, s.cluster.ready.p90_ns), (Some(3 * SECOND), None));
    assert_eq!(s.cluster.ready.survival_at_deadline, None, "nothing is known beyond 5 s");
    // None was watched for 12 s, so that none can be called settled or unsettled at any time.
    assert_eq!((s.cluster.settled.p50_ns, s.cluster.settled.survival_at_deadline), (None, None));
    assert_eq!((s.verdict.exit_code, s.cluster.settled.rate_bounds), (2, Some([0.0, 1.0])));
}

/// Long watched trials mixed with ones cut short at random must give the same curve as all of them watched.
#[test]
fn cutting_trials_short_does_not_bend_the_curve() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let full = plants(4000, 5, 0.05);
    let cut_short: Vec<Plant> = full
        .iter()
        .map(|plant| {
            let until = rng.random_range(0..40 * SECOND);
            let final_at = plant.settled_ns.map_or(DEADLINE, |at| at + 12 * SECOND);
            if until >= final_at {
                return plant.clone();
            }
            Plant {
                outcome: Outcome::Censored,
                settled_ns: None,
                ready_ns: plant.ready_ns.filter(|&at| at < until),
                observed_ns: Some(until),
                ..plant.clone()
            }
        })
        .collect();
    let (full, cut) = (summary(&full), summary(&cut_short));
    assert!(cut.outcomes.censored > 1000);
    for (a, b) in [(&full.cluster.settled, &cut.cluster.settled), (&full.cluster.ready, &cut.cluster.ready)] {
        for (a, b) in [(a.p50_ns, b.p50_ns), (a.p90_ns, b.p90_ns)] {
            let (a, b) = (a.unwrap() as f64, b.unwrap() as f64);
            assert!((a / b - 1.0).abs() < 0.15, "{a} {b}");
        }
    }
}

#[test]
fn starved_trials_count_and_are_told_apart() {
    let mut planted = vec![Plant::recovered(SECOND); 10];
    planted.push(Plant { starved: true, ..Plant::not_recovered() });
    let s = summary(&planted);
    assert_eq!((s.starved, s.verdict.exit_code), (1, 1));
    assert_eq!(s.cluster_without_starved.settled.beyond_deadline, 0);
    assert_eq!(s.cluster_without_starved.settled.n, 10);
}

#[test]
fn an_undecided_verdict_counts_the_reasons_and_says_what_to_do_about_a_busy_host() {
    let starved = Plant { starved: true, ..Plant::undecided(Outcome::HarnessFailed) };
    // The host is to blame only where the record's own reason is that it was too busy.
    let summary = |plants: &[Plant], reason: &dyn Fn(usize) -> String| {
        let mut trials = trials(plants);
        for (at, trial) in trials.iter_mut().enumerate() {
            (trial.reason, trial.proved) = (Some(reason(at)), true);
        }
        summarize(&trials, &Plan { trials: Some(plants.len() as u64), ..Plan::default() })
    };
    let held_up =
        |at: usize| format!("{at} probes were never sent: the daemon was held up; {STARVED_REMEDY}");
    let none = summary(&vec![starved.clone(); 3], &held_up);
    assert_eq!(none.verdict.exit_code, 2);
    assert_eq!(
        none.verdict.sentence,
        "No trial was decided, so nothing can be said (3 harness failed: the host was too busy to measure); measure on \
         an idle machine, probe less often (a longer `interval`), and use a release build."
    );
    let mut planted = vec![Plant::recovered(SECOND); 11];
    planted.push(Plant { starved: true, ..Plant::undecided(Outcome::Censored) });
    let cut = |_| "\"dist\" cut before the recovery was decided".to_owned();
    let ended = summary(&planted, &cut);
    assert_eq!(
        ended.verdict.sentence,
        "0 of 11 decided trials did not settle by the deadline, but 1 undecided trial could lift the rate to 8.4 % (1 \
         censored: \"dist\" cut before the recovery was decided)."
    );
    assert_eq!((ended.undecided.len(), ended.undecided[0].starved), (1, false));
    assert_eq!(ended.undecided[0].trials, [11]);
    planted.extend([starved.clone(), starved.clone()]);
    let both = summary(&planted, &|at| if at == 11 { cut(at) } else { held_up(at) }).verdict.sentence;
    assert!(
        both.contains(
            "(2 harness failed: the host was too busy to measure; 1 censored: \"dist\" cut before the recovery was decided); \
             measure on"
        ),
        "{both}"
    );
    let many = summary(&vec![starved; 6], &|at| format!("reason {at}")).verdict.sentence;
    assert!(many.ends_with("1 harness failed: reason 2; 3 for other reasons)."), "{many}");
}

#[test]
fn an_undecided_trial_of_an_idle_host_has_another_cause() {
    let calm = summary(&[Plant::undecided(Outcome::Unknown)]);
    assert_eq!(calm.verdict.sentence, "No trial was decided, so nothing can be said (1 unknown: planted).");
}

#[test]
fn verdicts() {
    let verdict = |planted: &[Plant], plan: Plan| summarize(&trials(planted), &plan).verdict.exit_code;
    let of = |trials| Plan { trials: Some(trials), ..Plan::default() };
    let mut planted = vec![Plant::recovered(SECOND); 20];
    assert_eq!(verdict(&planted, of(20)), 0);
    assert_eq!(verdict(&planted, of(21)), 2, "not all trials were made");
    assert_eq!(verdict(&[], of(1)), 2);
    planted.push(Plant::undecided(Outcome::Unknown));
    assert_eq!(verdict(&planted, of(21)), 2, "the unknown one may have failed");
    assert_eq!(verdict(&planted, Plan { max_rate: 0.05, ..of(21) }), 0, "even then it passes");
    planted.push(Plant::not_recovered());
    assert_eq!(verdict(&planted, of(22)), 1);
    assert_eq!(verdict(&planted, Plan { no_gate: true, ..of(22) }), 0);
    let sequential = Plan { stop_when: Some((0.01, 0.05)), ..of(200) };
    let passing = summarize(&trials(&vec![Plant::recovered(SECOND); 80]), &sequential);
    assert_eq!((passing.verdict.exit_code, &*passing.intervals), (0, "nominal"));
    let test = passing.sequential.unwrap();
    assert_eq!((test.decision, test.trials), (Decision::AcceptP0, 72));
    assert_eq!(verdict(&vec![Plant::recovered(SECOND); 50], sequential.clone()), 2);
    assert_eq!(verdict(&vec![Plant::not_recovered(); 2], sequential), 1);
}

/// A pass of few trials says what they can't exclude, whatever made it pass.
#[test]
fn the_verdict_of_five_good_trials_says_what_it_leaves_open() {
    let good = vec![Plant::recovered(SECOND); 5];
    let sentence = |planted: &[Plant], plan: Plan| {
        let plan = Plan { trials: Some(planted.len() as u64), ..plan };
        let verdict = summarize(&trials(planted), &plan).verdict;
        assert_eq!(verdict.exit_code, 0, "{verdict:?}");
        verdict.sentence
    };
    let open = "; but up to 52.2 % can't be excluded, and 59 trials would show a fault of 5 %.";
    let late = "0 of 5 decided trials did not settle by the deadline";
    assert_eq!(sentence(&good, Plan::default()), format!("{late}: 0.0 %, within the 0.0 % allowed{open}"));
    let no_gate = Plan { no_gate: true, ..Plan::default() };
    assert_eq!(
        sentence(&good, no_gate.clone()),
        format!("{late}; the gate is off, so that this passes whatever it finds{open}")
    );
    let by_test = Plan { stop_when: Some((0.01, 0.9)), ..Plan::default() };
    let taken = sentence(&good, by_test);
    assert!(taken.starts_with(&format!("{late}; after ")), "{taken}");
    assert!(taken.ends_with(&format!(" takes the rate for 1.0 %{open}")), "{taken}");
    // Enough of them leave nothing to say.
    let many = sentence(&vec![Plant::recovered(SECOND); 59], no_gate);
    assert!(many.ends_with("so that this passes whatever it finds."), "{many}");
}

/// What nobody could judge bears no pass, with the sequential test as little as without it.
#[test]
fn the_sequential_test_does_not_pass_over_undecided_trials() {
    let plan = Plan { stop_when: Some((0.01, 0.05)), trials: Some(400), ..Plan::default() };
    let of = |undecided: &Plant, n, good, first| {
        let mut planted = vec![Plant::recovered(SECOND); good];
        let at = if first { 0 } else { planted.len() };
        planted.splice(at..at, vec![undecided.clone(); n]);
        summarize(&trials(&planted), &plan)
    };
    for outcome in [Outcome::Unknown, Outcome::Censored, Outcome::HarnessFailed] {
        let undecided = Plant::undecided(outcome);
        for first in [true, false] {
            let s = of(&undecided, 200, 72, first);
            assert_eq!((s.verdict.exit_code, &*s.intervals), (2, "exact"), "{:?}", s.verdict);
            assert_eq!(
                s.verdict.sentence,
                "0 of 72 decided trials did not settle by the deadline; after 72 decided trials the sequential test \
                 takes the rate for 1.0 %, but not with 200 undecided trials counted as late."
            );
        }
        // One that may have failed takes 39 more good trials (see sequential.rs), and the sentence names it.
        let s = of(&undecided, 1, 111, true);
        assert_eq!(s.verdict.exit_code, 0, "{:?}", s.verdict);
        assert!(s.verdict.sentence.ends_with("1.0 %, with 1 undecided trial counted as late too."));
        assert_eq!(s.sequential.map(|test| (test.trials, test.undecided)), Some((111, 1)));
    }
    // What failed for certain needs no other trial.
    let mut failing = vec![Plant::undecided(Outcome::Unknown); 50];
    failing.extend([Plant::not_recovered(), Plant::not_recovered()]);
    assert_eq!(summarize(&trials(&failing), &plan).verdict.exit_code, 1);
}

#[test]
fn a_fixed_fault_and_a_new_one() {
    let bad = trials(&plants(140, 1, 0.15));
    let good = trials(&plants(140, 2, 0.0));
    let worse = compare(&good, &bad, 0.05);
    assert_eq!((worse.finding, worse.finding.exit_code()), (Finding::Worse, 1), "{worse:?}");
    let fixed = compare(&bad, &good, 0.05);
    assert_eq!((fixed.finding, fixed.finding.exit_code()), (Finding::NotWorse, 0), "{fixed:?}");
    let few = compare(&trials(&plants(20, 3, 0.0)), &trials(&plants(20, 4, 0.0)), 0.05);
    assert_eq!((few.finding, few.trials_to_rule_out), (Finding::Undecided, Some(59)), "{few:?}");
    assert!(
        few.sentence.contains("about 59 trials in each run would rule out the margin"),
        "{}",
        few.sentence
    );
    let mut holes = plants(140, 5, 0.0);
    holes.extend(vec![Plant::undecided(Outcome::Censored); 60]);
    // The trials that nobody could judge may all have been bad; A's may not help B.
    let undecided = compare(&good, &trials(&holes), 0.05);
    assert_eq!(undecided.finding, Finding::Undecided, "{undecided:?}");
    let seen = "0 of 140 trials (60 more undecided), A in 0 of 140;";
    assert!(
        undecided.sentence.contains(seen) && undecided.sentence.contains("could lift that to"),
        "{undecided:?}"
    );
    let mut few = plants(240, 6, 0.0);
    few.extend(vec![Plant::undecided(Outcome::Censored); 2]);
    assert_eq!(compare(&good, &trials(&few), 0.05).finding, Finding::NotWorse);
    assert_eq!(compare(&trials(&holes), &good, 0.05).finding, Finding::NotWorse);
    let nothing = compare(&[], &good, 0.05);
    assert_eq!((nothing.finding, nothing.p_worse, nothing.a.rate), (Finding::Undecided, None, None));
}

#[test]
fn a_cut_that_only_one_run_has_decided_is_not_good() {
    let good = || Plant::recovered(SECOND);
    let both = [of("n1", &good(), 50), of("n2", &good(), 50)].concat();
    let and = |isolated, plant: &Plant, n| [both.clone(), of(isolated, plant, n)].concat();
    let unknown = || Plant::undecided(Outcome::Unknown);
    let failed = || Plant::undecided(Outcome::HarnessFailed);
    for asked in [trials, fixed] {
        for (a, b) in [
            (both.clone(), and("n3", &Plant::not_recovered(), 50)),
            (and("n3", &unknown(), 50), and("n3", &Plant::not_recovered(), 50)),
            // One trial of A must not make B's fifty weigh as one.
            (and("n3", &unknown(), 1), and("n3", &Plant::not_recovered(), 50)),
            (both.clone(), and("n3", &unknown(), 50)),
            (both.clone(), and("n3", &failed(), 50)),
        ] {
            let c = compare(&asked(&a), &asked(&b), 0.05);
            assert_eq!(c.finding, Finding::Undecided, "{c:?}");
            let reason = "Undecided: 50 of B's 50 trials of cuts that A has not decided are beyond the deadline or \
                          undecided (isolate n3), and can't be compared; ";
            assert!(c.sentence.starts_with(reason), "{}", c.sentence);
            assert!(
                c.sentence.contains("below 3.0 points") && c.sentence.contains("lift that to"),
                "{}",
                c.sentence
            );
            assert_eq!((c.uncompared.b_trials, c.uncompared.b_not_good), (50, 50));
            assert!(c.unmatched >= 50, "{c:?}");
        }
        // What B has beside A is good whatever A would have been, and a single failure is too little for the margin.
        for b in [and("n3", &good(), 10), and("n3", &Plant::not_recovered(), 1)] {
            let c = compare(&asked(&both), &asked(&b), 0.05);
            assert_eq!(c.finding, Finding::NotWorse, "{c:?}");
            assert!(c.sentence.contains("of cuts that not both have decided take no part"), "{}", c.sentence);
        }
    }
}

#[test]
fn a_cut_that_a_run_did_not_make_is_not_good_unless_a_draw_left_it_out() {
    let both = [of("n1", &Plant::recovered(SECOND), 50), of("n2", &Plant::recovered(SECOND), 50)].concat();
    let more = [both.clone(), of("n3", &Plant::recovered(SECOND), 50)].concat();
    let c = compare(&fixed(&more), &fixed(&both), 0.05);
    assert_eq!((c.finding, c.uncompared.a_not_made), (Finding::Undecided, 50), "{c:?}");
    let reason =
        "Undecided: 50 of A's decided trials are of cuts that B has not made (isolate n3), and can't";
    assert!(c.sentence.starts_with(reason), "{}", c.sentence);
    let drawn = compare(&trials(&more), &trials(&both), 0.05);
    assert_eq!((drawn.finding, drawn.unmatched), (Finding::NotWorse, 50), "{drawn:?}");
    let rows: Vec<String> = drawn.rows().map(|row| row.name).collect();
    assert_eq!(
        rows,
        ["all, with 50 that take no part", "isolate n1", "isolate n2", "isolate n3, takes no part"]
    );
    let note = drawn.without_part().unwrap();
    assert!(note.starts_with("50 trials of cuts that not both runs have decided take no part"), "{note}");
    let matched = compare(&trials(&both), &trials(&both), 0.05);
    assert_eq!((matched.rows().next().unwrap().name.as_str(), matched.without_part()), ("all", None));
}

/// What A could not judge may have been good.
#[test]
fn undecided_trials_of_a_do_not_help_b() {
    let bad = |n| of("n1", &Plant::not_recovered(), n);
    let good = |n| of("n1", &Plant::recovered(SECOND), n);
    let holes = of("n1", &Plant::undecided(Outcome::Unknown), 400);
    let a = [bad(80), good(320), holes].concat();
    let b = [bad(70), good(330)].concat();
    let c = compare(&trials(&a), &trials(&b), 0.05);
    assert_eq!(c.finding, Finding::Undecided, "{c:?}");
    assert_eq!(compare(&trials(&a[..400]), &trials(&b), 0.05).finding, Finding::NotWorse);
}

#[test]
fn times_are_descriptive_and_adjusted() {
    let fast: Vec<Plant> = (0..60).map(|at| Plant::recovered(SECOND + at * 10_000_000)).collect();
    let slow: Vec<Plant> = (0..60).map(|at| Plant::recovered(3 * SECOND + at * 10_000_000)).collect();
    let c = compare(&trials(&fast), &trials(&slow), 0.05);
    assert_ne!(c.finding, Finding::Worse, "slower is not beyond the deadline");
    let test = |name: &str| c.times.iter().find(|test| test.name == name).unwrap();
    assert!(test("cluster").p_holm.unwrap() < 1e-6 && test("ingress").p_holm.unwrap() < 1e-6);
    assert_eq!(test("metadata").p, None, "all of its times are equal");
    // The verdict is the same for both; the sentence says which is slower, by how much and how sure that is.
    let times = c.times_sentence.unwrap();
    assert!(
        times.starts_with(
            "From heal to settled: A's median is 1.29 s, B's 3.29 s: B is slower by 2.00 s (95 % "
        ),
        "{times}"
    );
    assert!(times.contains("By a log-rank test the times differ (p < 0.0001, adjusted)"), "{times}");
    let [low, high] = test("cluster").p50_difference_ci95_ns.map(Option::unwrap);
    assert!(1_700_000_000 < low && low < 2_000_000_000 && 2_000_000_000 < high && high < 2_300_000_000);
    let back = compare(&trials(&slow), &trials(&fast), 0.05).times_sentence.unwrap();
    assert!(back.contains("B is faster by 2.00 s (95 % interval: −2."), "{back}");
    let shifted: Vec<Plant> = (0..60).map(|at| Plant::recovered(SECOND + at * 10_200_000)).collect();
    let alike = compare(&trials(&fast), &trials(&shifted), 0.05).times_sentence.unwrap();
    assert!(
        alike.contains(": they differ by +6 ms, which may be chance (95 % interval: −")
            && alike.contains("the times can't be told apart"),
        "{alike}"
    );
    let few = compare(&trials(&slow[..3]), &trials(&fast[..3]), 0.05).times_sentence.unwrap();
    assert!(few.contains(": they differ by −2.00 s (too few trials for an interval)"), "{few}");
    let never = vec![Plant::not_recovered(); 60];
    assert_eq!(compare(&trials(&fast), &trials(&never), 0.05).times_sentence, None, "B has no median");
    assert!(c.times.iter().all(|t| t.p_holm.zip(t.p).is_none_or(|(holm, p)| holm >= p)));
}

fn arm(rng: &mut ChaCha8Rng, n: u64, rate: f64) -> Arm {
    Arm { n, beyond: (0..n).filter(|_| rng.random_bool(rate)).count() as u64 }
}

/// Three shapes with different failure rates: the size must hold although the strata differ.
#[test]
fn size_and_power_by_simulation() {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let campaigns = 3000;
    let mut share_worse = |rates_a: [f64; 3], rates_b: [f64; 3], n: u64| {
        let worse = (0..campaigns)
            .filter(|_| {
                let strata: Vec<Stratum> = rates_a
                    .iter()
                    .zip(&rates_b)
                    .map(|(&a, &b)| Stratum { a: arm(&mut rng, n, a), b: arm(&mut rng, n, b) })
                    .collect();
                exact_p(&strata).unwrap() <= 0.05
            })
            .count();
        worse as f64 / f64::from(campaigns)
    };
    let size = share_worse([0.02, 0.05, 0.20], [0.02, 0.05, 0.20], 47);
    assert!((0.01..=0.055).contains(&size), "size {size}");
    let power = share_worse([0.0; 3], [0.05; 3], 47);
    assert!((0.74..=0.86).contains(&power), "three strata of 47 have power {power}, planned 0.8");
    let planned = comparison_power(140, 0.0, 0.05);
    assert!((0.78..=0.86).contains(&planned), "{planned}");
}

/// "Not worse" at a true difference of exactly the margin is an error: it must be as rare as 5 %.
#[test]
fn not_worse_is_rarely_wrong() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (rate_a, n) in [(0.0, 60), (0.0, 20), (0.02, 50), (0.10, 70)] {
        let campaigns = 1500;
        let wrong = (0..campaigns)
            .filter(|_| {
                let strata: Vec<Stratum> = (0..3)
                    .map(|_| Stratum { a: arm(&mut rng, n, rate_a), b: arm(&mut rng, n, rate_a + 0.05) })
                    .collect();
                difference(&strata).unwrap().upper95 < 0.05
            })
            .count();
        let share = wrong as f64 / f64::from(campaigns);
        // 0.05 and two and a half standard errors of the simulation.
        assert!(share <= 0.064, "A at {rate_a}, {n} an arm and shape: {share}");
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Recovered),
        Just(Outcome::NotRecovered),
        Just(Outcome::Censored),
        Just(Outcome::Unknown),
        Just(Outcome::HarnessFailed)
    ]
}

prop_compose! {
    fn any_plant()(
        outcome in any_outcome(),
        ready_ns in proptest::option::of(1..30 * SECOND),
        settled_ns in proptest::option::of(1..30 * SECOND),
        observed_ns in proptest::option::of(1..40 * SECOND),
        relapses in 0_u64..3,
    ) -> Plant {
        Plant { outcome, ready_ns, settled_ns, relapses, observed_ns, ..Plant::recovered(0) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// No planted time is 0, so that any 0 in the summary would be a hole taken for a time.
    #[test]
    fn missing_is_never_zero(planted in proptest::collection::vec(any_plant(), 0..40)) {
        let all = trials(&planted);
        let s = summary(&planted);
        let json = serde_json::to_value(&s).unwrap();
        let mut zeros = Vec::new();
        times_of_zero("", &json, &mut zeros);
        prop_assert!(zeros.is_empty(), "{zeros:?}");
        let decided = all.iter().filter(|t| {
            t.cluster.outcome == Outcome::NotRecovered
                || t.cluster.outcome == Outcome::Recovered && t.cluster.settled_ns.is_some()
        }).count() as u64;
        prop_assert_eq!(s.cluster.settled.n, decided);
        prop_assert_eq!(s.cluster.settled.rate.is_none(), decided == 0);
        prop_assert_eq!(s.cluster.settled.rate_ci95.is_none(), decided == 0);
        prop_assert_eq!(s.cluster.settled.n + s.cluster.settled.undetermined, s.trials);
        let outcomes = s.outcomes;
        prop_assert_eq!(
            outcomes.recovered + outcomes.not_recovered + outcomes.censored + outcomes.unknown
                + outcomes.harness_failed,
            s.trials
        );
        if s.trials < 100 {
            prop_assert_eq!(s.cluster.settled.p99_ns, None);
        }
        let back: Summary = serde_json::from_value(json).unwrap();
        prop_assert_eq!(back, s);
    }
}

fn times_of_zero(path: &str, value: &serde_json::Value, zeros: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if key.ends_with("_ns") && value.as_u64() == Some(0) {
                    zeros.push(format!("{path}.{key}"));
                }
                times_of_zero(&format!("{path}.{key}"), value, zeros);
            }
        }
        serde_json::Value::Array(items) if !path.ends_with("curve") => {
            for item in items {
                times_of_zero(path, item, zeros);
            }
        }
        _ => {}
    }
}
