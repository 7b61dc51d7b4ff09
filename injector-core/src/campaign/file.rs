//! `campaign.yaml`: a matrix of shapes and holds, and how its trials are made.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::spec::CampaignSpec;
use crate::api::{VerdictOptions, verdict_fields};
use crate::clock::Span;
use crate::config::{self, ConfigError, ConfigErrors, text};
use crate::flat::flat;
use crate::model::{Shape, Traffic, seed, traffic_fields};
use crate::run::Hooks;
use crate::run::settings::{Cell, StopWhen};
use crate::topology::words::parse_words;
use faults::{EXAMPLE, at, fault};

mod faults;

flat! {
    /// The file as written.
    #[derive(Deserialize)]
    #[serde(from = "FlatCampaign")]
    struct Campaign;
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct FlatCampaign;
    {
        shapes: Vec<Shaped>,
        holds: Vec<Span>,
        trials: u64,
        #[serde(default, deserialize_with = "seed::optional")]
        seed: Option<u64>,
        deadline: Option<Span>,
        cooldown: Option<Span>,
        cycle: Option<Span>,
        traffic: ..traffic_fields!(Traffic),
        verdict: ..verdict_fields!(VerdictOptions),
        gate: Option<bool>,
        max_rate: Option<Share>,
        stop_when: Option<StopWhen>,
        healthy_timeout: Option<Span>,
        abort_after: Option<u32>,
        before_trial: Option<String>,
        after_trial: Option<String>,
        on_slow: Option<String>,
        #[serde(default)]
        systems: BTreeMap<String, String>,
    }
}

/// A shape in the words of the command line (`isolate n1`).
struct Shaped(Shape);

impl<'de> Deserialize<'de> for Shaped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A grudge's JSON may hold blanks.
        let words: Vec<String> = match text.split_once(' ') {
            Some(("grudge", json)) => vec!["grudge".to_owned(), json.to_owned()],
            _ => text.split_whitespace().map(str::to_owned).collect(),
        };
        parse_words(&words).map(Self).map_err(serde::de::Error::custom)
    }
}

/// `0.05` or `5%`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Share {
    Number(f64),
    Text(String),
}

/// Reads a campaign file.
pub fn read(path: &Path) -> Result<CampaignSpec, ConfigErrors> {
    let file = path.display().to_string();
    let text = text::read(path).map_err(|error| config::unread(&file, "the campaign file", &error))?;
    parse(&file, &text)
}

/// A campaign file that is complete by itself.
pub struct Whole {
    /// The settings that the file gives.
    pub spec: CampaignSpec,
    file: String,
    text: String,
}

impl Whole {
    /// Reads and checks one: what can be read of it, and all of its faults.
    pub fn read(path: &Path) -> (Option<Self>, Vec<ConfigError>) {
        let file = path.display().to_string();
        let text = match text::read(path) {
            Ok(text) => text,
            Err(error) => return (None, config::unread(&file, "the campaign file", &error).0),
        };
        let (spec, mut faults) = parse_all(&file, &text);
        let Some(spec) = spec else { return (None, faults) };
        let whole = Self { spec, file, text };
        // What only the values together show is about the values that the file has.
        if faults.is_empty() {
            let together = whole.spec.check();
            faults.extend(together.err().map(|error| whole.fault(error.key, &error.to_string())));
        }
        (Some(whole), faults)
    }

    /// A fault of a key's value, whose text ends with the remedy.
    pub fn fault(&self, path: &str, said: &str) -> ConfigError {
        let (what, remedy) = said.split_once("; ").unwrap_or((said, EXAMPLE));
        fault(&self.file, at(&self.text, path), path, what, remedy)
    }

    /// A fault of a cell's shape.
    pub fn fault_of_cell(&self, cell: usize, said: &str) -> ConfigError {
        // Each shape has a cell for each hold, one after the other.
        let tree: serde_yaml::Value = serde_yaml::from_str(&self.text).unwrap_or_default();
        let holds = tree.get("holds").and_then(serde_yaml::Value::as_sequence).map_or(1, Vec::len);
        self.fault(&format!("shapes[{}]", cell / holds.max(1)), said)
    }
}

/// Reads the text of a campaign file; `file` is its name for messages.
pub fn parse(file: &str, text: &str) -> Result<CampaignSpec, ConfigErrors> {
    match parse_all(file, text) {
        (Some(spec), faults) if faults.is_empty() => Ok(spec),
        (_, faults) => Err(ConfigErrors(faults)),
    }
}

/// All faults of the text, and the campaign with a good value in the place of each faulty one, so that more of it can be checked.
fn parse_all(file: &str, text: &str) -> (Option<CampaignSpec>, Vec<ConfigError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Err(error) =
        config::check_form(text, file, "write the keys shapes, holds and trials, and others as needed")
    {
        return (None, error.0);
    }
    let (campaign, mut faults) = faults::parse::<Campaign>(file, text);
    let Some(campaign) = campaign else { return (None, faults) };
    let mut add =
        |key: &str, what: &str, remedy: &str| faults.push(fault(file, at(text, key), key, what, remedy));
    for (key, is_empty) in [("shapes", campaign.shapes.is_empty()), ("holds", campaign.holds.is_empty())] {
        if is_empty {
            add(key, "the list is empty", "name at least one");
        }
    }
    let max_rate = campaign.max_rate.and_then(|share| {
        let text = match share {
            Share::Number(number) => number.to_string(),
            Share::Text(text) => text,
        };
        let rate = super::spec::rate(&text);
        rate.map_err(|error| add("max_rate", &error, "write a share such as 0.05, or \"5%\"")).ok()
    });
    let cells = campaign.shapes.iter().flat_map(|shape| {
        campaign.holds.iter().map(|hold| Cell {
            shape: shape.0.clone(),
            hold: *hold,
            traffic: campaign.traffic.clone(),
        })
    });
    let spec = CampaignSpec {
        cells: cells.collect(),
        given: None,
        trials: Some(campaign.trials),
        seed: campaign.seed,
        deadline: campaign.deadline,
        cooldown: campaign.cooldown,
        cycle: campaign.cycle,
        verdict: campaign.verdict,
        no_gate: campaign.gate == Some(false),
        max_rate,
        stop_when: campaign.stop_when,
        healthy_timeout: campaign.healthy_timeout,
        abort_after: campaign.abort_after,
        hooks: Hooks {
            before_trial: campaign.before_trial,
            after_trial: campaign.after_trial,
            on_slow: campaign.on_slow,
        },
        systems: campaign.systems,
    };
    (Some(spec), faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Verify;

    const GOOD: &str = "shapes: [random-node, isolate n1]\nholds: [5s, 15s]\ntrials: 40\n";

    #[test]
    fn a_matrix_has_every_combination() {
        let spec = parse("c.yaml", GOOD).unwrap();
        assert_eq!(spec.cells.len(), 4);
        assert_eq!(spec.cells[3].hold, Span::secs(15));
        assert_eq!(spec.cells[3].shape, Shape::Isolate(vec!["n1".into()]));
        assert!(!spec.no_gate && spec.verdict.verify.is_none());
        let verified = parse("c.yaml", &format!("{GOOD}verify: active\n")).unwrap();
        assert_eq!(verified.verdict.verify, Some(Verify::Active));
        assert!(parse("c.yaml", &format!("{GOOD}verify: passive\n")).is_err());
    }

    #[test]
    fn draws_among_peers_and_roles_are_written_as_on_the_command_line() {
        let text = "\
shapes:
  - random 2 --among n1,n2,@followers
  - minority-third
  - isolate @leader
  - between @leader n1 n2
holds: [5s]
trials: 40
";
        let spec = parse("c.yaml", text).unwrap();
        let words: Vec<String> = spec.cells.iter().map(|cell| cell.shape.to_string()).collect();
        assert_eq!(
            words,
            [
                "random 2 --among n1,n2,@followers",
                "minority-third",
                "isolate @leader",
                "between @leader n1 n2"
            ]
        );
    }

    #[test]
    fn faults_have_a_place_and_a_remedy() {
        for (text, expected) in [
            (
                "shapes: [random-node]\nholds: [5s]\ntrials: 40\ntrails: 3\n",
                "c.yaml:4:1: trails: unknown key \"trails\", did you mean \"trials\"? known here: \"shapes\", ",
            ),
            ("shapes: [random-node]\nholds: [5]\ntrials: 40\n", "holds[0]"),
            (
                "shapes: [halves]\n\tholds: [5s]\n",
                "c.yaml:2:1: a tab indents this line, and YAML allows only spaces; replace the tabs",
            ),
            (
                "shapes: [halvs]\nholds: [5s]\ntrials: 4\n",
                "unknown shape \"halvs\"; did you mean \"halves\"? shapes are",
            ),
            ("shapes: [sideways]\nholds: [5s]\ntrials: 40\n", "unknown shape \"sideways\""),
            ("shapes: [random-node]\ntrials: 40\n", "c.yaml:1:1: \"holds\" is missing"),
            (
                "shapes: [halves --among n1]\nholds: [5s]\ntrials: 40\n",
                "takes no --among, since it draws nothing",
            ),
            ("shapes: [random]\nholds: [5s]\ntrials: 40\n", "write it as: random 2 [--among n1,n2,…]"),
            ("shapes: [isolate n1]\nholds: [5s]\ntrials: 4\nloss: 0%\n", "0% cuts nothing"),
            ("shapes: []\nholds: [5s]\ntrials: 40\n", "shapes: the list is empty"),
            ("shapes: [random-node]\nholds: [5s]\ntrials: 4\nmax_rate: 7\n", "max_rate"),
            ("shapes: [random-node]\nholds: [5s]\ntrials: 4\nseed: -1\n", "seed"),
            (
                "shapes: [random-node]\nholds: [5s]\ntrials: 4\nseed: 9007199254740992\n",
                "write a smaller one",
            ),
            (
                "shapes: [random-node]\nholds: [5s]\ntrials: 4\nseed: 18446744073709551616\n",
                "write a smaller one",
            ),
            ("shapes: [isolate n1]\nholds: [5s]\ntrials: 4\ndirection: to\n", "write `out`"),
            ("shapes: [isolate n1]\nholds: [5s]\ntrials: 4\nscopes: [tcp, gre]\n", "scopes[1]"),
            ("shapes: [isolate n1]\nholds: [5s]\ntrials: 4\nverify: passive\n", "verify"),
            ("shapes: [\n", "c.yaml:2:1: this is not YAML"),
            ("[isolate n1]\n", "c.yaml:1:1: found a list where a mapping is expected; write the keys shapes"),
            ("", "c.yaml:1:1: found nothing where a mapping is expected"),
            (
                "shapes: [isolate n1]\nholds: [5s]\n---\ntrials: 4\n",
                "c.yaml:3:1: this is not YAML (deserializing",
            ),
            (
                "shapes: [isolate n1]\nholds: [5s]\ntrials: 4\nholds: [9s]\n",
                "c.yaml:4:1: holds: duplicate key \"holds\", first on line 2; keep one of the two",
            ),
            (
                "shapes: [isolate n1]\nholds: [5s]\ntrials: many\n",
                "c.yaml:3:9: trials: found \"many\" where a whole number is expected; see configs",
            ),
            (
                "shapes: isolate n1\nholds: [5s]\ntrials: 3\n",
                "c.yaml:1:9: shapes: found \"isolate n1\" where a list is expected",
            ),
            (
                "shapes:\n- isolate n1\n- [isolate, n1]\nholds: [5s]\ntrials: 3\n",
                "c.yaml:3:3: shapes[1]: found a list where a text is expected",
            ),
            (
                "shapes:\n- isolate n1\n- 'grudge {\"n1\": [}'\nholds: [5s]\ntrials: 3\n",
                "c.yaml:3:3: shapes[1]: grudge: {\"n1\": [} does not parse (expected value at line 1 column 9); write it",
            ),
            (
                "shapes: [isolate n1]\nholds: [5s]\ntrials: 4\nmax_rate: [1]\n",
                "c.yaml:4:11: max_rate: this is not a share; write",
            ),
        ] {
            let error = parse("c.yaml", text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.starts_with("c.yaml:"), "{text}: {error}");
            assert!(error[7..].starts_with(|c: char| c.is_ascii_digit()), "{text}: no line in {error}");
        }
        // A fault that only the values together show has its place too, where the file is checked by itself.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        for (text, expected) in [
            ("trials: 0", ":3:9: trials: a campaign of 0 trials measures nothing; write --trials 1 or more"),
            ("trials: 1", ":3:9: trials: 1 trials can't visit 2 cells (shapes × holds); make at least one"),
            ("trials: 4\ncycle: 1ms", ":4:8: cycle: a cycle (--cycle"),
            (
                "trials: 4\nstop_when: { p0: 0.01, p1: 0.05 }",
                ":4:12: stop_when: --stop-when tests the rate of one",
            ),
        ] {
            std::fs::write(&path, format!("shapes: [isolate n1]\nholds: [5s, 9s]\n{text}\n")).unwrap();
            let error = ConfigErrors(Whole::read(&path).1).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = parse("c.yaml", "shapes: [random-node]\nholds: [5s, x]\ntrials: 4\n").unwrap_err();
        assert_eq!(error.0[0].line, Some(2), "{error}");
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let text = "\
shapes:
  - halvs
  - isolate n1
  - isolate
holds: [5s, 10]
trails: 3
scopes: [tcp, gre]
max_rate: 7
stop_when: { p0: x }
";
        let error = parse("c.yaml", text).unwrap_err().to_string();
        for expected in [
            "c.yaml:2:5: shapes[0]: unknown shape \"halvs\"",
            "c.yaml:4:5: shapes[2]: ",
            "c.yaml:5:13: holds[1]: ",
            "c.yaml:6:1: trails: unknown key \"trails\"",
            "c.yaml:1:1: \"trials\" is missing",
            "c.yaml:7:15: scopes[1]: ",
            "c.yaml:8:11: max_rate: ",
            "c.yaml:9:",
        ] {
            assert_eq!(error.matches(expected).count(), 1, "{expected}: {error}");
        }
        assert_eq!(parse("c.yaml", text).unwrap_err().0.len(), 8, "{error}");
    }
}
