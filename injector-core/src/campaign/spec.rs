//! The specification of a campaign: settings of a file and of the command line, made definite.

use std::collections::BTreeMap;

use super::given::GivenCell;
use crate::api::{EndpointView, Status, VerdictOptions};
use crate::clock::Span;
use crate::nearest::did_you_mean;
use crate::run::settings::{Campaign, Cell, Gates, Settings, StopWhen};
use crate::run::{Conduct, Hooks};
use crate::stats::sequential::Sprt;

/// Why a specification can't be meant, with what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SpecError {
    what: String,
    /// The key of a campaign file that it is about.
    pub key: &'static str,
}

impl SpecError {
    fn new(key: &'static str, what: impl Into<String>) -> Self {
        Self { what: what.into(), key }
    }
}

/// The pause after each record, if none is given.
pub const COOLDOWN: Span = Span::secs(5);
/// How long endpoints may take to be healthy before a trial, if nothing is given.
pub const HEALTHY_TIMEOUT: Span = Span::secs(60);
/// After how many failures in a row a campaign is given up, if nothing is given.
pub const ABORT_AFTER: u32 = 3;

/// A campaign as asked for; what is missing has a default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CampaignSpec {
    /// Shape, hold and traffic of each cell.
    pub cells: Vec<Cell>,
    /// The one cell of a command line, in place of `cells`, until [`CampaignSpec::definite`].
    pub given: Option<GivenCell>,
    /// Trials, all cells together.
    pub trials: Option<u64>,
    /// Drawn if missing.
    pub seed: Option<u64>,
    /// The deadline from the heal; the daemon's if missing.
    pub deadline: Option<Span>,
    /// The pause after each record.
    pub cooldown: Option<Span>,
    /// Back to back: the next cut this long after each heal, whatever the state.
    pub cycle: Option<Span>,
    /// What the verdicts take into account.
    pub verdict: VerdictOptions,
    /// Whether the exit code is 0 whatever the rate.
    pub no_gate: bool,
    /// The share beyond the deadline that passes.
    pub max_rate: Option<f64>,
    /// The sequential test.
    pub stop_when: Option<StopWhen>,
    /// How long endpoints may take to be healthy.
    pub healthy_timeout: Option<Span>,
    /// After how many failures in a row the campaign is given up.
    pub abort_after: Option<u32>,
    /// Commands beside trials.
    pub hooks: Hooks,
    /// Versions of the systems under test, by name: kept with the results, and without effect on them.
    pub systems: BTreeMap<String, String>,
}

impl CampaignSpec {
    /// The spec that a campaign was begun with.
    pub fn begun(campaign: &Campaign) -> Self {
        let settings = campaign.settings.clone();
        let conduct = campaign.conduct.clone();
        Self {
            verdict: settings.verdict(),
            cells: settings.cells,
            given: None,
            trials: Some(settings.trials),
            seed: Some(settings.seed),
            deadline: Some(settings.deadline),
            cooldown: Some(settings.cool_down),
            cycle: settings.cycle,
            no_gate: settings.gates.no_gate,
            max_rate: Some(settings.gates.max_rate),
            stop_when: settings.gates.stop_when,
            healthy_timeout: conduct.as_ref().map(|conduct| conduct.healthy_timeout),
            abort_after: conduct.as_ref().map(|conduct| conduct.abort_after),
            hooks: conduct.map(|conduct| conduct.hooks).unwrap_or_default(),
            systems: campaign.versions.systems.clone(),
        }
    }

    /// This spec where it says something, else the other one.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        let (cells, given) = match (self.given, other.cells.as_slice()) {
            // Only what was given can contradict the campaign that is continued.
            (Some(given), [cell]) => (vec![given.over(cell)], None),
            (Some(given), _) => (Vec::new(), Some(given)),
            (None, _) if self.cells.is_empty() => (other.cells, other.given),
            (None, _) => (self.cells, None),
        };
        Self {
            cells,
            given,
            trials: self.trials.or(other.trials),
            seed: self.seed.or(other.seed),
            deadline: self.deadline.or(other.deadline),
            cooldown: self.cooldown.or(other.cooldown),
            cycle: self.cycle.or(other.cycle),
            verdict: self.verdict.over(other.verdict),
            no_gate: self.no_gate || other.no_gate,
            max_rate: self.max_rate.or(other.max_rate),
            stop_when: self.stop_when.or(other.stop_when),
            healthy_timeout: self.healthy_timeout.or(other.healthy_timeout),
            abort_after: self.abort_after.or(other.abort_after),
            hooks: Hooks {
                before_trial: self.hooks.before_trial.or(other.hooks.before_trial),
                after_trial: self.hooks.after_trial.or(other.hooks.after_trial),
                on_slow: self.hooks.on_slow.or(other.hooks.on_slow),
            },
            systems: if self.systems.is_empty() { other.systems } else { self.systems },
        }
    }

    /// This spec with a cell for the shape that a command line names.
    #[must_use]
    pub fn definite(mut self) -> Self {
        if let Some(given) = self.given.take() {
            self.cells = vec![given.definite()];
        }
        self
    }

    /// Finds what can't be meant before any daemon is asked.
    pub fn check(&self) -> Result<(), SpecError> {
        let usage = |key: &'static str, text: &str| Err(SpecError::new(key, text));
        let Some(trials) = self.trials else {
            return usage(
                "trials",
                "the number of trials is missing; write --trials 100, or trials: 100 in the campaign file",
            );
        };
        if trials == 0 {
            return usage("trials", "a campaign of 0 trials measures nothing; write --trials 1 or more");
        }
        if self.cells.is_empty() {
            return usage("shapes", "no shape is given; name one, or a file with --campaign");
        }
        if trials < self.cells.len() as u64 {
            let cells = self.cells.len();
            let what = format!("{trials} trials can't visit {cells} cells (shapes × holds)");
            return usage("trials", &format!("{what}; make at least one trial of each"));
        }
        if self.cells.iter().any(|cell| cell.hold.as_nanos() == 0) {
            return usage(
                "holds",
                "a cut of no length can't be held; write --hold 5s, or holds: [5s] in the campaign file",
            );
        }
        if let Some(StopWhen { p0, p1 }) = self.stop_when {
            Sprt::new(p0, p1).map_err(|error| SpecError::new("stop_when", error.to_string()))?;
            if self.cells.len() > 1 {
                return usage(
                    "stop_when",
                    "--stop-when tests the rate of one cell; name one shape and one hold, or leave it out",
                );
            }
        }
        if self.cycle.is_some_and(|cycle| cycle.0.as_millis() < 500) {
            return usage(
                "cycle",
                "a cycle (--cycle, or cycle: in the campaign file) needs at least 500ms between a heal and the next cut",
            );
        }
        Ok(())
    }

    /// Finds what can't be measured with the endpoints of a config, each by its full name and whether it is required.
    pub fn check_endpoints(&self, endpoints: &[(&str, bool)]) -> Result<(), SpecError> {
        if endpoints.is_empty() {
            let what = "the config names no endpoints, so that no recovery can be measured; add some";
            return Err(SpecError::new("", what));
        }
        for name in &self.verdict.advisory {
            if !endpoints.iter().any(|(endpoint, _)| is_named(endpoint, name)) {
                let all: Vec<&str> = endpoints.iter().map(|(endpoint, _)| *endpoint).collect();
                let bases = all.iter().map(|endpoint| endpoint.split('@').next().unwrap_or(endpoint));
                let proposal = did_you_mean(name, all.iter().copied().chain(bases));
                let what = format!(
                    "no endpoint \"{name}\" is configured; {proposal}the endpoints are {}",
                    all.join(", ")
                );
                return Err(SpecError::new("advisory", what));
            }
        }
        let decides = |(endpoint, is_required): &(&str, bool)| {
            *is_required && !self.verdict.advisory.iter().any(|name| is_named(endpoint, name))
        };
        if !self.no_gate && !endpoints.iter().any(decides) {
            let what = "every endpoint is advisory, so that no trial can be decided; leave one required, or measure with --no-gate";
            return Err(SpecError::new("advisory", what));
        }
        Ok(())
    }

    /// The settings by a daemon's rules, and the rest. `seed` represents one that is not given.
    pub fn into_settings(self, status: &Status, seed: u64) -> Result<(Settings, Conduct), SpecError> {
        self.check()?;
        let endpoints = status.endpoints.iter().map(|endpoint| (endpoint.name.as_str(), endpoint.required));
        self.check_endpoints(&endpoints.collect::<Vec<_>>())?;
        let rules = &status.rules;
        let settings = Settings {
            trials: self.trials.unwrap_or_default(),
            cells: self.cells,
            seed: self.seed.unwrap_or(seed),
            deadline: self.deadline.unwrap_or(rules.deadline),
            cool_down: self.cooldown.unwrap_or(COOLDOWN),
            cycle: self.cycle,
            ready: rules.ready,
            probes: status.endpoints.iter().map(EndpointView::endpoint_probe).collect(),
            gates: Gates {
                advisory: self.verdict.advisory,
                no_gate: self.no_gate,
                max_rate: self.max_rate.unwrap_or(0.0),
                stop_when: self.stop_when,
            },
            allow_uncovered: self.verdict.allow_uncovered,
            strict: self.verdict.strict,
            verify: self.verdict.verify,
        };
        let conduct = Conduct {
            healthy_timeout: self.healthy_timeout.unwrap_or(HEALTHY_TIMEOUT),
            abort_after: self.abort_after.unwrap_or(ABORT_AFTER).max(1),
            hooks: self.hooks,
        };
        Ok((settings, conduct))
    }
}

/// Whether an endpoint is meant by a full or a base name.
pub fn is_named(endpoint: &str, name: &str) -> bool {
    endpoint == name || crate::stats::trial::base(endpoint) == name
}

/// A share, written `0.05` or `5%`.
pub fn rate(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse::<f64>().ok(),
    };
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("\"{text}\" is not a share from 0 to 1; write it as 0.05 or 5%"))
}

/// A system under test and its version, written `etcd=3.5.1`.
pub fn system(text: &str) -> Result<(String, String), String> {
    let (name, version) = text.split_once('=').unwrap_or((text, ""));
    if name.trim().is_empty() || version.trim().is_empty() {
        return Err(format!("\"{text}\" is no name and version; write it as etcd=3.5.1"));
    }
    Ok((name.trim().to_owned(), version.trim().to_owned()))
}

/// The sequential test's rates, written `p0=0.01,p1=0.05`.
pub fn stop_when(text: &str) -> Result<StopWhen, String> {
    let error = || format!("\"{text}\" does not name two rates; write p0=0.01,p1=0.05");
    let (mut p0, mut p1) = (None, None);
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(error)?;
        let value = Some(rate(value.trim())?);
        match name.trim() {
            "p0" => p0 = value,
            "p1" => p1 = value,
            _ => return Err(error()),
        }
    }
    let (p0, p1) = p0.zip(p1).ok_or_else(error)?;
    Sprt::new(p0, p1).map_err(|error| error.to_string())?;
    Ok(StopWhen { p0, p1 })
}

#[cfg(test)]
mod tests {
    use super::super::given::{GivenTraffic, HOLD};
    use super::*;
    use crate::model::{Direction, Traffic};
    use crate::model::{Draw, Shape};

    fn cells(count: u64) -> Vec<Cell> {
        (1..=count).map(|hold| Cell::new(Shape::RandomNode(Draw::default()), Span::secs(hold))).collect()
    }

    #[test]
    fn rates_are_shares_or_percentages() {
        assert_eq!(rate("0.05"), Ok(0.05));
        assert_eq!(rate("5%"), Ok(0.05));
        assert_eq!(rate("0%"), Ok(0.0));
        for text in ["5", "-0.1", "x", "101%", "NaN"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!(stop_when("p0=0.01,p1=5%"), Ok(StopWhen { p0: 0.01, p1: 0.05 }));
        for text in ["p0=0.01", "p0=0.05,p1=0.01", "p0=0.01,p2=0.05", "0.01,0.05", "p0=0,p1=0.5"] {
            assert!(stop_when(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_system_has_a_name_and_a_version() {
        assert_eq!(system("restate=1.7.12"), Ok(("restate".to_owned(), "1.7.12".to_owned())));
        assert_eq!(system("etcd=3.4.23=x").unwrap().1, "3.4.23=x");
        for text in ["etcd", "etcd=", "=3", " = "] {
            assert!(system(text).unwrap_err().contains("write it as etcd=3.5.1"), "{text}");
        }
    }

    #[test]
    fn a_resumed_campaign_keeps_what_its_command_line_leaves_out() {
        let shape = || Shape::Isolate(vec!["n1".into()]);
        let given = |hold, traffic| CampaignSpec {
            given: Some(GivenCell { shape: shape(), hold, traffic }),
            ..CampaignSpec::default()
        };
        let one_way = Traffic { direction: Direction::Out, ..Traffic::default() };
        let stored = Cell { traffic: one_way.clone(), ..Cell::new(shape(), Span::secs(2)) };
        let begun = CampaignSpec { cells: vec![stored.clone()], ..CampaignSpec::default() };
        let resumed = |spec: CampaignSpec| spec.over(begun.clone()).definite().cells;
        assert_eq!(resumed(given(None, GivenTraffic::default())), std::slice::from_ref(&stored));
        assert_eq!(resumed(CampaignSpec::default()), std::slice::from_ref(&stored));
        // What is given is compared, the usual value too.
        let hold = resumed(given(Some(HOLD), GivenTraffic::default()));
        assert_eq!(hold, [Cell { hold: HOLD, ..stored.clone() }]);
        let both = GivenTraffic { direction: Some(Direction::Both), ..GivenTraffic::default() };
        assert_eq!(resumed(given(None, both)), [Cell { traffic: Traffic::default(), ..stored }]);
        // A new campaign has the defaults, also after those of no file.
        let new = given(None, GivenTraffic::default()).over(CampaignSpec::default()).definite();
        assert_eq!((new.cells, new.given), (vec![Cell::new(shape(), HOLD)], None));
    }

    #[test]
    fn wishes_that_cannot_be_meant_are_refused() {
        let good = CampaignSpec { cells: cells(1), trials: Some(5), ..CampaignSpec::default() };
        assert!(good.check().is_ok());
        let stop_when = Some(StopWhen { p0: 0.01, p1: 0.05 });
        for (bad, expected) in [
            (CampaignSpec { trials: None, ..good.clone() }, "--trials"),
            (CampaignSpec { trials: Some(0), ..good.clone() }, "0 trials measures nothing"),
            (CampaignSpec { cells: vec![], ..good.clone() }, "no shape"),
            (CampaignSpec { cells: cells(6), ..good.clone() }, "6 cells"),
            (CampaignSpec { cells: cells(2), stop_when, ..good.clone() }, "one cell"),
            (CampaignSpec { cycle: Some(Span::millis(100)), ..good.clone() }, "--cycle"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn endpoints_that_no_trial_can_be_decided_by_are_refused() {
        let spec = |advisory: &str, no_gate| {
            let verdict = VerdictOptions { advisory: vec![advisory.to_owned()], ..VerdictOptions::default() };
            CampaignSpec { verdict, no_gate, ..CampaignSpec::default() }
        };
        let endpoints = [("web@n1", true), ("web@n2", true), ("admin@n1", false)];
        assert_eq!(CampaignSpec::default().check_endpoints(&endpoints), Ok(()));
        assert_eq!(spec("web@n1", false).check_endpoints(&endpoints), Ok(()));
        assert_eq!(spec("web", true).check_endpoints(&endpoints), Ok(()));
        for (spec, endpoints, expected) in [
            (
                spec("webb", false),
                &endpoints[..],
                "no endpoint \"webb\" is configured; did you mean \"web\"? the endpoints are",
            ),
            (spec("web", false), &endpoints[..], "every endpoint is advisory"),
            (CampaignSpec::default(), &endpoints[2..], "every endpoint is advisory"),
            (CampaignSpec::default(), &endpoints[..0], "names no endpoints"),
        ] {
            let error = spec.check_endpoints(endpoints).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_command_line_goes_over_the_file() {
        let file =
            CampaignSpec { cells: cells(2), trials: Some(5), seed: Some(1), ..CampaignSpec::default() };
        let line = CampaignSpec { trials: Some(9), no_gate: true, ..CampaignSpec::default() };
        let both = line.over(file);
        assert_eq!((both.trials, both.seed, both.no_gate, both.cells.len()), (Some(9), Some(1), true, 2));
    }
}
