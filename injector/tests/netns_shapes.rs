//! Shapes, traffic and requests on a real daemon: what is drawn, what is left alone, what is refused, and what is said.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use injector_core::api::{LinkCounters, PartitionRequest, PartitionView, Verify, WarningCode};
use injector_core::clock::Span;
use injector_core::model::{Percent, Traffic};
use injector_core::topology::words::parse_words;
use injector_lab::{AttachPoint, CLIENT, Lab, needs};
use live::daemon::{Daemon, isolate};
use live::traffic::{KINDS, assert_cut, assert_flows};
use live::without_unread_hooks;

const LONG: Duration = Duration::from_mins(2);

fn asked(shape: &str) -> PartitionRequest {
    let words: Vec<String> = shape.split(' ').map(str::to_owned).collect();
    PartitionRequest { for_: Some(Span(LONG)), ..PartitionRequest::new(parse_words(&words).unwrap()) }
}

fn links(view: &PartitionView) -> BTreeSet<String> {
    let link = |link: &LinkCounters| format!("{}>{}", link.src, link.dst);
    view.links.as_ref().unwrap().iter().map(link).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn start(lab: &Lab) -> Daemon {
    Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"))
}

#[test]
#[needs(root)]
fn a_draw_is_recorded_with_its_seed_and_made_again_from_it() {
    let lab = Lab::new(5);
    let daemon = start(&lab);
    for (shape, count) in [
        ("random 2", 12),
        ("minority", 12),
        ("minority-third", 8),
        ("random-groups 3", 16),
        ("random-node --among n4,n5", 8),
        ("random-halves --among n1,n2,n3", 4),
        ("majorities-ring --among n1,n2,n3", 3),
    ] {
        let view = daemon.apply("p", &asked(shape));
        assert_eq!(view.request.shape.to_string(), shape);
        assert_eq!(links(&view).len(), count, "{shape}: {}", view.resolved);
        let seed = view.seed.expect("a seed was drawn");
        daemon.heal("p");
        let record = daemon.record_now("p");
        assert_eq!(record.seed, Some(seed));
        assert_eq!(record.shape.asked.to_string(), shape);
        assert_eq!(record.shape.resolved.as_ref(), Some(&view.resolved));
        let again = PartitionRequest { seed: Some(seed), ..asked(shape) };
        let again = daemon.apply("again", &again);
        assert_eq!((again.resolved.clone(), links(&again)), (view.resolved.clone(), links(&view)), "{shape}");
        daemon.heal("again");
        // What was resolved means itself.
        let same = daemon.apply("same", &asked(&view.resolved.to_string()));
        assert_eq!((links(&same), same.seed), (links(&view), None), "{shape}");
        daemon.heal("same");
    }
    let dry = |words: &str| daemon.cli(&words.split(' ').collect::<Vec<_>>());
    let output = dry("partition minority --among n1,n2,n3 --seed 4 --dry-run");
    let text = without_unread_hooks(&said(&output));
    assert!(
        output.status.success() && text.contains("would cut: isolate n") && text.contains("seed   4"),
        "{text}"
    );
    let again = said(&dry("partition minority --among n3,n2,n1 --seed 4 --dry-run"));
    assert_eq!(text, without_unread_hooks(&again));
    let output = dry("partition halves --among n1,n2 --dry-run");
    assert_eq!(output.status.code(), Some(64));
    assert!(
        said(&output).contains("takes no --among, since it draws nothing; write it as: halves"),
        "{}",
        said(&output)
    );
    let output = dry("partition random 5 --dry-run");
    assert_eq!(output.status.code(), Some(64));
    assert!(
        said(&output).contains("random 5 needs at least 6 peers, and 5 are configured"),
        "{}",
        said(&output)
    );
}

#[test]
#[needs(root)]
fn between_leaves_everyone_else_untouched() {
    let lab = Lab::new(4);
    let daemon = start(&lab);
    for (from, to) in [("n1", "n2"), ("n1", "n3"), ("n3", "n4")] {
        assert_flows(&lab, &KINDS, from, to);
    }
    let view = daemon.apply("p", &asked("between n1 n2,n3"));
    assert_eq!(links(&view), ["n1>n2", "n1>n3", "n2>n1", "n3>n1"].map(str::to_owned).into());
    for other in ["n2", "n3"] {
        assert_cut(&lab, &KINDS, "n1", other);
        assert_cut(&lab, &KINDS, other, "n1");
    }
    for (from, to) in [("n1", "n4"), ("n4", "n1"), ("n2", "n3"), ("n4", "n2"), ("n3", "n4"), (CLIENT, "n1")] {
        assert_flows(&lab, &KINDS, from, to);
    }
    daemon.heal("p");
    assert_flows(&lab, &KINDS, "n1", "n2");
    // Three groups: each is cut off from the two others, and n4 from nobody.
    let view = daemon.apply("q", &asked("between n1 n2 n3"));
    assert_eq!(links(&view).len(), 6);
    assert_cut(&lab, &KINDS, "n2", "n3");
    for node in ["n1", "n2", "n3"] {
        assert_flows(&lab, &KINDS, node, "n4");
    }
    daemon.heal("q");
    assert_flows(&lab, &KINDS, "n2", "n3");
}

#[test]
#[needs(root)]
fn what_a_cut_did_to_traffic_is_recorded_and_said() {
    let lab = Lab::new(3);
    let daemon = start(&lab);
    let words = [
        "partition",
        "isolate",
        "n1",
        "--name",
        "p",
        "--scope",
        "tcp/5122",
        "--loss",
        "50%",
        "--direction",
        "out",
    ];
    let text = said(&daemon.cli(&words));
    let traffic = "direction out, tcp/5122, loss 50%";
    assert!(text.contains(&format!("  traffic {traffic}\n")), "{text}");
    let text = said(&daemon.cli(&["status"]));
    assert!(text.contains(&format!("isolate n1 ({traffic})")), "{text}");
    daemon.heal("p");
    let text = said(&daemon.cli(&["wait", "p", "--timeout", "1ms"]));
    assert!(text.contains(&format!("  traffic  {traffic}\n")), "{text}");
    let (_, record) = daemon.raw("GET", "/v1/partitions/p/recovery", b"");
    let expected = serde_json::json!({
        "direction": "out", "scopes": ["tcp/5122"], "loss": "50%", "flap": null, "neighbour": "auto"
    });
    assert_eq!(record["traffic"], expected);
    daemon.apply("q", &isolate("n2", LONG));
    daemon.heal("q");
    assert_eq!(daemon.record_now("q").traffic, Some(Traffic::default()));
}

#[test]
#[needs(root)]
fn traffic_that_would_not_be_cut_is_refused() {
    let lab = Lab::new(2);
    let daemon = start(&lab);
    for (options, expected) in [
        (["--loss", "0%"], "0% cuts nothing; write a share above 0%, such as \"30%\", or make no partition"),
        (["--flap", "200ms/0%"], "never drops; write a larger on-share, as in \"200ms/50%\""),
    ] {
        let output = daemon.cli(&[&["partition", "isolate", "n1"][..], &options].concat());
        assert_eq!(output.status.code(), Some(64), "{}", said(&output));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    for (traffic, field) in [(r#""loss": "0%""#, "loss"), (r#""flap": "1s/0%""#, "flap")] {
        let body = format!(r#"{{"shape": {{"isolate": ["n1"]}}, {traffic}}}"#);
        let (status, problem) = daemon.raw("PUT", "/v1/partitions/p", body.as_bytes());
        assert_eq!((status, problem["field"].as_str()), (400, Some(field)), "{problem}");
    }
    assert!(daemon.status().partitions.is_empty());
}

#[test]
#[needs(root)]
fn a_dry_run_says_what_the_active_check_cannot_see() {
    let lab = Lab::new(2);
    let daemon = start(&lab);
    let output =
        daemon.cli(&["partition", "isolate", "n1", "--verify", "active", "--loss", "50%", "--dry-run"]);
    let text = said(&output);
    let why = "warning: the active check says nothing about n1→n2, n2→n1: only cuts in full are checked";
    assert!(output.status.success() && text.contains(why), "{text}");
    let lossy = Traffic { loss: Percent::new(50.0).unwrap(), ..Traffic::default() };
    let mut request = PartitionRequest { traffic: lossy, ..isolate("n1", LONG) };
    request.verdict.verify = Some(Verify::Active);
    let codes = |view: &PartitionView| view.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>();
    assert!(codes(&daemon.apply("p", &request)).contains(&WarningCode::NotChecked));
    daemon.heal("p");
    // In full, every link is checked, and nothing is to be said.
    let text = said(&daemon.cli(&["partition", "isolate", "n1", "--verify", "active", "--dry-run"]));
    assert!(!without_unread_hooks(&text).contains("warning"), "{text}");
    // Without the check nobody asked.
    let text = said(&daemon.cli(&["partition", "isolate", "n1", "--loss", "50%", "--dry-run"]));
    assert!(!text.contains("active check"), "{text}");
    // The world has no namespace that is seen.
    let text = said(&daemon.cli(&["partition", "links", "n1:world", "--verify", "active", "--dry-run"]));
    assert!(
        text.contains("the active check says nothing about n1→world: the network namespace of world"),
        "{text}"
    );
}

#[test]
#[needs(root)]
fn a_body_that_means_nothing_is_refused_with_field_and_remedy() {
    let lab = Lab::new(3);
    let daemon = start(&lab);
    for (body, field, detail, remedy) in [
        ("{", None, "EOF while parsing an object", "send the JSON to its end"),
        ("[]", None, "invalid type: sequence, expected a request, such as", "openapi.json"),
        (r#"[{"isolate": ["n1"]}]"#, None, "invalid type: sequence, expected a request", "openapi.json"),
        (r#"{"shape": {}}"#, Some("shape"), "the shape is empty; write one", "openapi.json"),
        (
            r#"{"shape": {"isolate": ["n1"], "random_node": {}}}"#,
            Some("shape"),
            "two shapes in one, isolate and random_node; make a partition of each",
            "openapi.json",
        ),
        (
            r#"{"shape": {"grudge": {"n1": ["n2"], "n1": ["n3"]}}}"#,
            Some("shape.grudge"),
            "\"n1\" is twice in the grudge; put all that it drops into one list",
            "openapi.json",
        ),
    ] {
        let (status, problem) = daemon.raw("PUT", "/v1/partitions/p", body.as_bytes());
        let text = |key: &str| problem[key].as_str();
        assert_eq!(
            (status, text("code"), text("field")),
            (400, Some("bad-body"), field),
            "{body}: {problem}"
        );
        assert!(text("detail").unwrap().contains(detail), "{body}: {problem}");
        assert!(text("remedy").unwrap().contains(remedy), "{body}: {problem}");
        assert!(!problem.to_string().contains("Flat") && !problem.to_string().contains('?'), "{problem}");
    }
    let output = daemon.cli(&["partition", "grudge", r#"{"n1": ["n2"], "n1": ["n3"]}"#]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("\"n1\" is twice in the grudge"), "{}", said(&output));
    assert!(daemon.status().partitions.is_empty(), "something was cut");
}
