//! The sample dashboard names metrics and labels that a running daemon has.

use std::collections::BTreeSet;
use std::path::Path;

use injector_core::api::Outcome;
use injector_lab::needs;
use serde_json::Value;

use crate::Fixture;

/// Every query of the dashboard, of its panels and of its annotations, with its place.
pub fn queries() -> Vec<(String, String)> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/grafana/partitions.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        found.push((format!("annotation {}", text(&annotation["name"])), text(&annotation["expr"])));
    }
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            found.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    found
}

/// The names of metrics in a query, and what is used as a label of them.
fn words(query: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = query.split(|c| !is_word(c)).filter(|word| word.starts_with("injector_")).collect();
    let mut labels = BTreeSet::new();
    // `by (a, b)` and `{a="x"}`.
    for group in query.split("by (").skip(1) {
        labels.extend(group.split(')').next().unwrap().split(',').map(str::trim));
    }
    for matchers in query.split('{').skip(1) {
        let matchers = matchers.split('}').next().unwrap();
        labels.extend(matchers.split('"').step_by(2).filter_map(|part| {
            let name = part.trim_matches([',', ' ', '=', '~', '!']);
            (!name.is_empty()).then_some(name)
        }));
    }
    (names, labels)
}

#[test]
fn a_query_is_taken_apart() {
    let (names, labels) =
        words(r#"sum by (le, shape) (rate(injector_x_bucket{by="request",outcome=~"a|b"}[5m])) > 0"#);
    assert_eq!(names, BTreeSet::from(["injector_x_bucket"]));
    assert_eq!(labels, BTreeSet::from(["by", "le", "outcome", "shape"]));
}

#[test]
#[needs(root)]
fn every_query_of_the_dashboard_names_what_a_daemon_exposes() {
    let fixture = Fixture::new("");
    assert_eq!(fixture.cut("p"), Outcome::Recovered);
    let samples = fixture.metrics();
    let live = samples.labels_by_name();
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    let annotations: Vec<&str> =
        queries.iter().filter_map(|(at, _)| at.strip_prefix("annotation ")).collect();
    assert_eq!(annotations, ["cut", "heal"]);
    let mut asked = BTreeSet::new();
    for (at, query) in &queries {
        let (names, labels) = words(query);
        assert!(!names.is_empty(), "{at}: {query}");
        for name in names {
            let known = live.get(name).unwrap_or_else(|| panic!("{at}: a daemon has no {name}: {query}"));
            let strange: Vec<_> = labels.iter().filter(|label| !known.contains(*label)).collect();
            assert!(strange.is_empty(), "{at}: {name} has no label {strange:?}, but {known:?}");
            asked.insert(name.trim_end_matches("_bucket").to_owned());
        }
    }
    // What is not on it is left out on purpose.
    let left_out = ["injector_config_number", "injector_config_refused", "injector_data_plane_total"];
    let per_partition = |family: &str| family.starts_with("injector_partition_dropped_");
    let missing: Vec<&String> = samples
        .types
        .keys()
        .filter(|family| {
            !asked.contains(*family) && !left_out.contains(&family.as_str()) && !per_partition(family)
        })
        .collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
#[needs(root)]
fn the_page_of_metrics_names_what_a_daemon_exposes_with_its_type() {
    let fixture = Fixture::new("");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/reference/metrics.md");
    let page = std::fs::read_to_string(file).unwrap();
    for (family, kind) in &fixture.metrics().types {
        assert!(page.contains(&format!("| `{family}` | {kind} |")), "the page lacks {family}, a {kind}");
    }
}
