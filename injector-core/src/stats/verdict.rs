//! The verdict of a campaign: the sentence and the exit code that its figures give.

use serde::{Deserialize, Serialize};

use super::ALPHA;
use super::binomial::clopper_pearson;
use super::power::trials_to_see;
use super::sequential::{Decision, Sprt};
use super::series::{Figures, Plan};
use super::trial::{Instant, Trial};
use super::undecided::{self, Undecided};
use crate::figures::{Bound, counted};

/// The sequential test over the trials in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    /// The rate that passes.
    pub p0: f64,
    /// The rate that fails.
    pub p1: f64,
    /// The test's one-sided error rates, both.
    pub alpha: f64,
    /// The test's decision.
    pub decision: Decision,
    /// After how many decided trials (so far).
    pub trials: u64,
    /// Undecided trials among them: for [`Decision::AcceptP0`] they count as beyond the deadline, for [`Decision::AcceptP1`]
    /// not at all.
    #[serde(default)]
    pub undecided: u64,
    /// Whether the decided trials alone would have been accepted as `p0`.
    #[serde(default)]
    pub kept_open: bool,
}

/// The verdict that `measure` exits with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// 0 passes, 1 fails, 2 is not decided.
    pub exit_code: u8,
    /// Why, in a sentence.
    pub sentence: String,
}

/// Runs the test of these two rates; `None` if they can't be distinguished.
pub fn sequential(trials: &[Trial], (p0, p1): (f64, f64)) -> Option<Sequential> {
    let mut test = Sprt::new(p0, p1).ok()?;
    for trial in trials {
        test.count(trial.beyond(&trial.cluster, Instant::Settled, trial.deadline_ns));
    }
    Some(Sequential {
        p0,
        p1,
        alpha: ALPHA,
        decision: test.decision(),
        trials: test.trials(),
        undecided: test.undecided(),
        kept_open: test.is_kept_open(),
    })
}

/// The verdict over a campaign's cluster figures, the trials made and the reasons why some are undecided.
pub fn verdict(
    cluster: &Figures,
    trials: &[Trial],
    undecided: &[Undecided],
    plan: &Plan,
    sequential: Option<&Sequential>,
) -> Verdict {
    let made = trials.len() as u64;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let verdict = |exit_code, sentence| Verdict { exit_code, sentence };
    let of =
        format!("{} of {} decided trials did not settle by the deadline", cluster.beyond_deadline, cluster.n);
    if let Some(why) = &plan.given_up {
        return verdict(2, format!("The campaign was given up: {why}. Until then {of}."));
    }
    if made > 0 && !trials.iter().any(|trial| trial.proved) {
        return verdict(
            2,
            format!(
                "In none of {made} trials was the cut proved: it was not in force, or no packet was dropped on its links; so nothing can be said{}.",
                undecided::words(undecided)
            ),
        );
    }
    let (Some(rate), Some([_, worst])) = (cluster.rate, cluster.rate_bounds) else {
        return verdict(
            2,
            format!("No trial was decided, so nothing can be said{}.", undecided::words(undecided)),
        );
    };
    // Every pass says it, whatever let it pass.
    let open = left_open(cluster.beyond_deadline, cluster.n);
    if plan.no_gate {
        return verdict(0, format!("{of}; the gate is off, so that this passes whatever it finds{open}."));
    }
    if let Some(test) = sequential {
        return by_test(&of, test, &open);
    }
    let allowed = percent(plan.max_rate);
    if rate > plan.max_rate {
        return verdict(1, format!("{of}: {}, above the {allowed} allowed.", percent(rate)));
    }
    if let Some(planned) = plan.trials.filter(|&planned| made < planned) {
        return verdict(
            2,
            format!("{of}, but the campaign made only {made} of {}.", counted(planned, "trial")),
        );
    }
    if worst > plan.max_rate {
        return verdict(
            2,
            format!(
                "{of}, but {} could lift the rate to {}{}.",
                counted(cluster.undetermined, "undecided trial"),
                Bound::Upper.percent(worst),
                undecided::words(undecided)
            ),
        );
    }
    verdict(0, format!("{of}: {}, within the {allowed} allowed{open}.", percent(rate)))
}

/// The verdict of the sequential test; `of` says how many trials were late, `open` what a pass does not exclude.
fn by_test(of: &str, test: &Sequential, open: &str) -> Verdict {
    let after = format!("{of}; after {} the sequential test", counted(test.trials, "decided trial"));
    let takes = |rate: f64| format!("takes the rate for {:.1} %", rate * 100.0);
    let undecided = counted(test.undecided, "undecided trial");
    let (exit_code, sentence) = match test.decision {
        Decision::AcceptP0 if test.undecided == 0 => (0, format!("{after} {}{open}.", takes(test.p0))),
        Decision::AcceptP0 => {
            (0, format!("{after} {}, with {undecided} counted as late too{open}.", takes(test.p0)))
        }
        Decision::AcceptP1 => (1, format!("{after} {}.", takes(test.p1))),
        Decision::Undecided if test.kept_open => {
            (2, format!("{after} {}, but not with {undecided} counted as late.", takes(test.p0)))
        }
        Decision::Undecided if test.undecided > 0 => {
            (2, format!("{after} is undecided, and leaves out {undecided}."))
        }
        Decision::Undecided => (2, format!("{after} is undecided.")),
    };
    Verdict { exit_code, sentence }
}

/// A fault of this rate is what a campaign should be able to show.
const SMALL: f64 = 0.05;
/// The confidence of what can't be excluded, and the chance with which a fault is to be shown.
const CONFIDENCE: f64 = 0.95;

/// The rate that a pass of few trials does not rule out, in words; empty for many trials.
fn left_open(beyond: u64, n: u64) -> String {
    let enough = trials_to_see(SMALL, CONFIDENCE);
    let upper = clopper_pearson(beyond, n, CONFIDENCE).map(|[_, upper]| upper);
    match (upper, enough) {
        (Some(upper), Some(enough)) if n < enough => format!(
            "; but up to {} can't be excluded, and {enough} trials would show a fault of {:.0} %",
            Bound::Upper.percent(upper),
            SMALL * 100.0
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_of_few_trials_says_what_it_does_not_exclude() {
        assert_eq!(
            left_open(0, 1),
            "; but up to 97.5 % can't be excluded, and 59 trials would show a fault of 5 %"
        );
        assert_eq!(
            left_open(0, 5),
            "; but up to 52.2 % can't be excluded, and 59 trials would show a fault of 5 %"
        );
        assert_eq!(
            left_open(1, 58),
            "; but up to 9.3 % can't be excluded, and 59 trials would show a fault of 5 %"
        );
        assert_eq!(left_open(0, 59), "");
        assert_eq!(left_open(3, 400), "");
    }
}
