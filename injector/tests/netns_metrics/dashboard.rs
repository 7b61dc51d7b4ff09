//! The sample dashboard names metrics and labels that a running daemon has.

use std::collections::BTreeSet;
use std::path::Path;

use injector_core::api::Outcome;
use injector_lab::needs;
use serde_json::Value;

use crate::Fixture;

fn dashboard() -> Value {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/grafana/partitions.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Every query of the dashboard, of its panels and of its annotations, with its place.
pub fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
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

/// The panels that Grafana has without a plugin, as far as a dashboard of ours may use them.
const PANELS: [&str; 9] =
    ["barchart", "bargauge", "gauge", "heatmap", "piechart", "stat", "state-timeline", "table", "timeseries"];
/// The columns of Grafana's grid.
const COLUMNS: u64 = 24;

/// What makes Grafana draw "Panel plugin not found", ask no data source, or push panels aside.
fn faults(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let source = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let is_source = |one: &&Value| {
        one["name"] == "datasource" && one["type"] == "datasource" && one["query"] == "prometheus"
    };
    if variables.iter().filter(is_source).count() != 1 {
        faults.push("no variable chooses the data source".to_owned());
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        if annotation["datasource"] != source {
            faults.push(format!("annotation {}: another data source", annotation["name"]));
        }
    }
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let mut fault = |what: String| faults.push(format!("panel {}: {what}", panel["title"]));
        let kind = panel["type"].as_str().unwrap_or_default();
        if !PANELS.contains(&kind) {
            fault(format!("{} is no panel of Grafana", panel["type"]));
        }
        match panel["id"].as_u64() {
            Some(id) if id > 0 && ids.insert(id) => {}
            _ => fault(format!("the id {} is none of its own", panel["id"])),
        }
        if panel["datasource"] != source {
            fault("another data source".to_owned());
        }
        let mut letters = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            if target["datasource"] != source {
                fault("another data source of a query".to_owned());
            }
            if !target["refId"].as_str().is_some_and(|letter| letters.insert(letter)) {
                fault(format!("the refId {} is none of its own", target["refId"]));
            }
            // Buckets are drawn as such only where the query says so.
            if (kind == "heatmap") != (target["format"] == "heatmap") {
                fault(format!("a {kind} of a query with the format {}", target["format"]));
            }
        }
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or(0));
        if w == 0 || h == 0 || x + w > COLUMNS {
            fault(format!("it has no place in the grid: {}", panel["gridPos"]));
        }
        let mut cells = (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row)));
        if !cells.all(|cell| taken.insert(cell)) {
            fault(format!("it overlaps another one: {}", panel["gridPos"]));
        }
    }
    faults
}

#[test]
fn grafana_draws_each_panel_of_the_dashboard() {
    let good = dashboard();
    assert!(good["panels"].as_array().unwrap().len() > 10);
    assert_eq!(faults(&good), [""; 0]);
    // Each kind of fault is noticed.
    let spoilt = |pointer: &str, value: Value| {
        let mut dashboard = good.clone();
        *dashboard.pointer_mut(pointer).unwrap() = value;
        faults(&dashboard).join("\n")
    };
    for (pointer, value, fault) in [
        ("/panels/0/type", "graph-of-mine".into(), "is no panel of Grafana"),
        ("/panels/1/id", 1.into(), "the id 1 is none of its own"),
        ("/panels/2/datasource", Value::Null, "another data source"),
        ("/panels/2/targets/0/datasource/uid", "prometheus-1".into(), "another data source of a query"),
        ("/panels/0/targets/1/refId", "A".into(), "the refId \"A\" is none of its own"),
        ("/panels/3/gridPos/x", 11.into(), "it overlaps another one"),
        ("/panels/5/gridPos/w", 5.into(), "it has no place in the grid"),
        ("/annotations/list/0/datasource/uid", "other".into(), "annotation \"cut\": another data source"),
        ("/templating/list/0/type", "query".into(), "no variable chooses the data source"),
    ] {
        let found = spoilt(pointer, value);
        assert!(found.contains(fault), "{pointer}: {found:?}");
    }
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
