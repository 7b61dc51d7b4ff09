//! Whether two campaigns can be compared: by typed settings, never by prose.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::differences::{differences, value};
use super::settings::Settings;
use crate::clock::Span;
use crate::model::{EndpointProbe, ProbeOptions, ProbeSettings, Ready, Traffic};

impl Settings {
    /// The stimuli that are worded differently, as `endpoint: this one's, the other's`. They say what was sent and
    /// decide nothing: comparability rests on typed settings.
    pub fn reworded(&self, other: &Self) -> Vec<String> {
        let reworded = self.pairs(other).filter(|(a, b)| a.rules.stimulus != b.rules.stimulus);
        // Where both settings are known and differ, that has been said.
        let is_told = |a: &EndpointProbe, b: &EndpointProbe| {
            a.rules.is_known_as(&b.rules) && ComparableProbe::from(a) != ComparableProbe::from(b)
        };
        reworded
            .filter(|(a, b)| !is_told(a, b))
            .map(|(a, b)| format!("{}: {}; {}", a.endpoint, a.rules.stimulus, b.rules.stimulus))
            .collect()
    }

    /// The endpoints whose probes start in namespaces of different names, as `endpoint: this one's, the other's`. Labs name them
    /// anew for each run: only whoever ran both knows whether it is the same place.
    pub fn started_elsewhere(&self, other: &Self) -> Vec<String> {
        let place = |probe: &EndpointProbe| {
            let settings = probe.rules.settings.as_ref()?;
            Some(settings.get(NETNS).map_or("the daemon's own", String::as_str).to_owned())
        };
        let differs = |(a, b): (&EndpointProbe, &EndpointProbe)| {
            let (here, there) = (place(a)?, place(b)?);
            (here != there).then(|| format!("{}: {here}, {there}", a.endpoint))
        };
        self.pairs(other).filter_map(differs).collect()
    }

    /// The endpoints whose `settings` only one of the two runs records in a schema that this version reads.
    pub fn known_to_one(&self, other: &Self) -> Vec<String> {
        let pairs = self.pairs(other);
        pairs
            .filter(|(a, b)| a.rules.settings.is_some() || b.rules.settings.is_some())
            .filter(|(a, b)| !a.rules.is_known_as(&b.rules))
            .map(|(a, _)| a.endpoint.clone())
            .collect()
    }

    /// The probes of the endpoints that both have.
    fn pairs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a EndpointProbe, &'a EndpointProbe)> {
        self.probes.iter().filter_map(|probe| {
            Some((probe, other.probes.iter().find(|other| other.endpoint == probe.endpoint)?))
        })
    }

    /// Every setting in which `other` differs, as `name: this one's value, the other's`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let keyed = |settings: &Self| {
            let mut all = value(settings);
            let probes = settings.probes.iter().map(|probe| (probe.endpoint.clone(), value(probe)));
            all["probes"] = Value::Object(probes.collect());
            all
        };
        differences("", &keyed(&self.as_known_to(other)), &keyed(&other.as_known_to(self)))
    }

    /// These settings without those that `other`, perhaps of an older version, does not record.
    fn as_known_to(&self, other: &Self) -> Self {
        let mut known = self.clone();
        for probe in &mut known.probes {
            let Some(same) = other.probes.iter().find(|other| other.endpoint == probe.endpoint) else {
                continue;
            };
            if !probe.rules.is_known_as(&same.rules) {
                (probe.rules.settings, probe.rules.addresses) = (None, None);
            }
        }
        known
    }

    /// The settings that make two campaigns incomparable where they differ: deadline, observation, K, probes, hold,
    /// gates, what traffic the cuts drop, and the cycle, which closes records.
    pub fn incomparable(&self, other: &Self) -> Vec<String> {
        let (a, b) = (self.as_known_to(other), other.as_known_to(self));
        let (a, b) = (a.comparable(), b.comparable());
        if a == b { Vec::new() } else { differences("", &value(&a), &value(&b)) }
    }

    fn comparable(&self) -> Comparable<'_> {
        let mut hold: Vec<Span> = self.cells.iter().map(|cell| cell.hold).collect();
        hold.sort_unstable();
        hold.dedup();
        let mut traffic: Vec<Traffic> = self.cells.iter().map(|cell| cell.traffic.canonical()).collect();
        traffic.sort_by_cached_key(|traffic| value(traffic).to_string());
        traffic.dedup();
        let probes =
            self.probes.iter().map(|probe| (&*probe.endpoint, ComparableProbe::from(probe))).collect();
        let mut advisory: Vec<&str> = self.gates.advisory.iter().map(String::as_str).collect();
        advisory.sort_unstable();
        Comparable {
            deadline: self.deadline,
            ready: self.ready,
            probes,
            hold,
            traffic,
            cycle: self.cycle,
            gates: ComparableGates { advisory, no_gate: self.gates.no_gate },
        }
    }
}

/// The settings that two campaigns must agree on to be compared, each part in one spelling.
#[derive(PartialEq, Serialize)]
struct Comparable<'a> {
    deadline: Span,
    ready: Ready,
    probes: BTreeMap<&'a str, ComparableProbe>,
    hold: Vec<Span>,
    traffic: Vec<Traffic>,
    cycle: Option<Span>,
    gates: ComparableGates<'a>,
}

/// Where probes start, among the settings of an endpoint's.
const NETNS: &str = "netns";

/// A probe without its stimulus, which is prose, and without addresses and the namespace's name, which another cluster has of
/// its own.
#[derive(PartialEq, Serialize)]
struct ComparableProbe {
    required: bool,
    settings: Option<ProbeSettings>,
    #[serde(flatten)]
    options: ProbeOptions,
}

impl From<&EndpointProbe> for ComparableProbe {
    fn from(probe: &EndpointProbe) -> Self {
        let EndpointProbe { required, rules, .. } = probe;
        let mut settings = rules.settings.clone();
        if let Some(settings) = &mut settings {
            settings.remove(NETNS);
        }
        Self { required: *required, settings, options: rules.options }
    }
}

#[derive(PartialEq, Serialize)]
struct ComparableGates<'a> {
    advisory: Vec<&'a str>,
    no_gate: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Connection, Draw, ProbeRules, Shape};
    use crate::run::settings::{Cell, Gates};

    fn settings() -> Settings {
        let ready = Ready {
            consecutive: 5,
            observe: Span::secs(12),
            observe_max: Span::secs(60),
            tolerate: Span::secs(0),
        };
        Settings {
            cells: vec![Cell::new(Shape::RandomNode(Draw::default()), Span::secs(5))],
            trials: 100,
            seed: 1,
            deadline: Span::secs(20),
            cool_down: Span::secs(5),
            cycle: None,
            ready,
            probes: Vec::new(),
            gates: Gates { advisory: Vec::new(), no_gate: false, max_rate: 0.0, stop_when: None },
            allow_uncovered: false,
            strict: false,
            verify: None,
        }
    }

    #[test]
    fn runs_that_only_differ_in_size_and_seed_are_compared() {
        let other = Settings { trials: 40, seed: 2, cool_down: Span::secs(1), ..settings() };
        assert_eq!(settings().incomparable(&other), Vec::<String>::new());
    }

    #[test]
    fn a_reworded_stimulus_leaves_runs_comparable_and_is_told() {
        let probe = |stimulus: &str, timeout| EndpointProbe {
            endpoint: "ingress@n1".to_owned(),
            required: true,
            rules: ProbeRules {
                stimulus: stimulus.to_owned(),
                settings: None,
                addresses: None,
                options: ProbeOptions { interval: Span::millis(10), timeout, connection: Connection::Fresh },
            },
        };
        let with = |probe| Settings { probes: vec![probe], ..settings() };
        let (a, b) = (with(probe("http GET /", Span::secs(1))), with(probe("GET / by HTTP", Span::secs(1))));
        assert_eq!(a.incomparable(&b), Vec::<String>::new());
        assert_eq!(a.reworded(&b), ["ingress@n1: http GET /; GET / by HTTP"]);
        assert_eq!(a.incomparable(&with(probe("http GET /", Span::secs(2)))).len(), 1);
    }

    #[test]
    fn what_probes_ask_and_expect_makes_runs_incomparable_and_where_they_start_is_told() {
        let with = |settings: Option<&[(&str, &str)]>, addresses: &[&str]| {
            let typed = settings.map(|settings| {
                settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            });
            let rules = ProbeRules {
                addresses: typed.is_some().then(|| addresses.iter().map(|&it| it.to_owned()).collect()),
                settings: typed,
                ..ProbeRules::default()
            };
            let probe = EndpointProbe { endpoint: "ingress@n1".to_owned(), required: true, rules };
            Settings { probes: vec![probe], ..self::settings() }
        };
        let usual = [("netns", "client"), ("expect.status", "2xx")];
        let run = with(Some(&usual), &["10.0.0.1"]);
        let other = with(Some(&[usual[0], ("expect.status", "200 or 503")]), &["10.0.0.1"]);
        let expected = ["probes.ingress@n1.settings.expect.status: \"2xx\", \"200 or 503\""];
        assert_eq!(
            (run.incomparable(&other), run.differences(&other)),
            (expected.map(str::to_owned).into(), expected.map(str::to_owned).into())
        );
        assert_eq!((run.reworded(&other), run.started_elsewhere(&other)), (Vec::new(), Vec::new()));
        for (other, difference, told) in [
            (&[("netns", "n1"), usual[1]][..], "\"client\", \"n1\"", "client, n1"),
            (&[usual[1]], "\"client\", null", "client, the daemon's own"),
        ] {
            let other = with(Some(other), &["10.0.0.1"]);
            assert_eq!(run.incomparable(&other), Vec::<String>::new(), "a lab names its namespaces anew");
            assert_eq!(run.started_elsewhere(&other), [format!("ingress@n1: {told}")]);
            assert_eq!(run.differences(&other), [format!("probes.ingress@n1.settings.netns: {difference}")]);
        }
        // Another cluster has other addresses; one campaign has one cluster.
        let elsewhere = with(Some(&usual), &["10.1.0.1"]);
        assert_eq!(run.incomparable(&elsewhere), Vec::<String>::new());
        assert_eq!(
            run.differences(&elsewhere),
            ["probes.ingress@n1.addresses[0]: \"10.0.0.1\", \"10.1.0.1\""]
        );
        // Settings that an older run does not record are unknown.
        let old = with(None, &[]);
        assert_eq!((run.incomparable(&old), old.differences(&run)), (Vec::new(), Vec::new()));
        assert_eq!(
            (run.known_to_one(&old), run.known_to_one(&run)),
            (vec!["ingress@n1".to_owned()], Vec::new())
        );
    }

    #[test]
    fn scopes_in_another_order_are_the_same_traffic() {
        let scoped = |scopes: [&str; 2]| {
            let mut cell = settings().cells.remove(0);
            cell.traffic.scopes = scopes.map(|scope| scope.parse().unwrap()).to_vec();
            Settings { cells: vec![cell], ..settings() }
        };
        let (a, b) = (scoped(["tcp/1", "udp/2"]), scoped(["udp/2", "tcp/1"]));
        assert_eq!(a.incomparable(&b), Vec::<String>::new());
    }

    #[test]
    fn what_decides_an_outcome_makes_runs_incomparable() {
        let cell = settings().cells.remove(0);
        let mut lossy = cell.clone();
        lossy.traffic.loss = "30%".parse().unwrap();
        let longer = Cell { hold: Span::secs(9), ..cell };
        for (other, expected) in [
            (Settings { deadline: Span::secs(9), ..settings() }, "deadline: "),
            (Settings { cycle: Some(Span::secs(5)), ..settings() }, "cycle: "),
            (Settings { cells: vec![lossy], ..settings() }, "traffic[0].loss: "),
            (Settings { cells: vec![longer], ..settings() }, "hold[0]: "),
        ] {
            let found = settings().incomparable(&other);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
        }
    }
}
