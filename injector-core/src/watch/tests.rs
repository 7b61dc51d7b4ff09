use super::screen::{Line, Style, in_ascii, screen};
use super::*;
use crate::api::{ConfigOutcome, Healed, HealedBy, Outcome, Stamped};
use crate::clock::WallNs;

const SIZE: (usize, usize) = (80, 24);

fn event(at: u64, kind: EventKind) -> Event {
    Event { id: at, at_ns: MonoNs(at), wall: WallNs(0), kind }
}

fn health(at_ms: u64, endpoint: &str, healthy: bool) -> Event {
    let error = (!healthy).then(|| "connection refused".to_owned());
    event(at_ms * 1_000_000, EventKind::Health { endpoint: endpoint.to_owned(), healthy, error })
}

fn status(json: &serde_json::Value) -> Status {
    let mut all = serde_json::json!({
        "version": "0.1.0", "abi": 1, "kernel": "6.12", "pid": 7, "config_number": 1, "now_ns": 10_000_000_000_u64,
        "clock": serde_json::to_value(crate::clock::HostClock::default()).unwrap(),
        "attachments": [], "peers": {}, "partitions": [], "endpoints": [], "rules": serde_json::to_value(crate::api::Rules::default()).unwrap(),
        "lost_events": 0, "lost_log_lines": 0, "counters": {},
    });
    for (key, value) in json.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn peers(names: &[&str]) -> serde_json::Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), serde_json::json!({ "addresses": [], "mac": null })))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn view(name: &str, generation: u32, state: &str, links: &[(&str, &str, u64)]) -> serde_json::Value {
    let links: Vec<serde_json::Value> = links
        .iter()
        .map(|(src, dst, packets)| serde_json::json!({ "src": src, "dst": dst, "dropped_packets": packets, "dropped_bytes": 0 }))
        .collect();
    serde_json::json!({
        "name": name, "generation": generation, "state": state, "request": { "shape": { "isolate": ["n1"] } },
        "resolved": { "isolate": ["n1"] }, "seed": null, "totals": { "links": links.len(), "dropped_packets": 12_345, "dropped_bytes": 0 },
        "links": links, "effective": null, "ends_at_ns": 14_200_000_000_u64, "healed": null, "warnings": [],
    })
}

fn endpoint(name: &str, healthy: Option<bool>) -> serde_json::Value {
    let rules = crate::model::ProbeRules::default();
    serde_json::json!({ "name": name, "peer": null, "required": true, "healthy": healthy, "last_error": null, "probe": rules })
}

fn text(lines: &[Line]) -> String {
    lines
        .iter()
        .map(|line| {
            line.iter().map(|(_, text)| text.as_str()).collect::<String>().trim_end().to_owned() + "\n"
        })
        .collect()
}

/// A cut with counters of two polls, three endpoints, one of them failing, and a recovery before.
fn seen() -> Watch {
    let mut watch = Watch::default();
    for at in [2_000, 2_001] {
        watch.event(&health(at, &format!("ingress@n{}", at - 1_999), true));
    }
    watch.event(&health(7_500, "ingress@n1", false));
    watch.event(&health(8_200, "ingress@n1", true));
    let partition = view("p", 3, "active", &[("n1", "n2", 100), ("n2", "n1", 0)]);
    watch.status(&status(&serde_json::json!({
        "peers": peers(&["n10", "n2", "n1"]),
        "endpoints": [endpoint("ingress@n1", Some(true)), endpoint("ingress@n2", Some(true)), endpoint("ingress@n10", None)],
        "partitions": [partition],
    })));
    let later = view("p", 3, "active", &[("n1", "n2", 2_600), ("n2", "n1", 0)]);
    watch.partition(MonoNs(11_000_000_000), &serde_json::from_value(later).unwrap());
    watch.recoveries.push_front(Recovery {
        name: "before".to_owned(),
        shape: "isolate n1".to_owned(),
        outcome: Some(Outcome::Recovered),
        ready_ns: Some(1_234_000_000),
        settled_ns: Some(101_000_000_000),
        phases: [Some(200_000_000), None, Some(0), Some(1_000_000_000)],
    });
    watch
}

#[test]
fn a_screen_of_80_by_24_shows_all_of_it() {
    let shown = text(&screen(&seen(), MonoNs(11_000_000_000), 0, "", SIZE));
    let expected = [
        "injector 0.1.0, pid 7, config 1                                 1 partition cuts",
        "PARTITIONS",
        "> p               isolate n1                cuts, 3.2 s to go     12k dropped",
        "LINKS, drops/s      n1    n2   n10",
        "  n1                   ✂2.5k     ·",
        "  n2                ✂0           ·",
        "  n10                ·     ·",
        "ENDPOINTS       the last 62 s, now at the right",
        "RECOVERIES                      ready  settled silence+reconnect+return+relapse",
    ];
    for line in expected {
        assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
    }
    assert_eq!(shown.lines().count(), 24, "{shown}");
    // 11 s of the daemon's clock: unknown, healthy from 2 s on, failed from 7.5 s to 8.2 s.
    let strip = shown.lines().find(|line| line.contains("ingress@n1 ")).unwrap();
    assert!(strip.ends_with("···✓✓✓✓✓✗✗✓✓✓") && strip.chars().count() == 80, "{strip}");
    let recovery = shown.lines().find(|line| line.contains("before")).unwrap();
    assert_eq!(recovery, "  before        recovered       1.2 s   1m 41s 0.2 s + – + 0.0 s + 1.0 s");
    assert!(shown.ends_with("↑↓ select  h heal it  H heal all  q quit\n"), "{shown}");
}

#[test]
fn a_terminal_of_ascii_shows_the_same_in_the_same_places() {
    let lines = screen(&seen(), MonoNs(11_000_000_000), 0, "n1→n2 ü", SIZE);
    let shown = text(&in_ascii(lines.clone()));
    assert!(shown.is_ascii(), "{shown}");
    let widths = |shown: &str| shown.lines().map(|line| line.chars().count()).collect::<Vec<_>>();
    assert_eq!(widths(&shown), widths(&text(&lines)));
    for line in [
        "  n1                   !2.5k     .",
        "  before        recovered       1.2 s   1m 41s 0.2 s + - + 0.0 s + 1.0 s",
        "n1>n2 ?",
        "^v select  h heal it  H heal all  q quit",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
    }
    assert!(shown.lines().any(|line| line.ends_with("...+++++xx+++")), "{shown}");
}

#[test]
fn any_size_has_as_many_lines_and_no_longer_ones() {
    let mut watch = seen();
    watch.peers = (1..=40).map(|peer| format!("a-peer-with-a-long-name-{peer}")).collect();
    for peer in 1..=40 {
        watch.event(&health(2_000, &format!("e@{peer}"), true));
    }
    for (width, height) in [(80, 24), (1, 1), (0, 0), (20, 5), (79, 10), (200, 60), (80, 2), (80, 3)] {
        let lines = screen(&watch, MonoNs(11_000_000_000), 0, "note", (width, height));
        assert_eq!(lines.len(), height, "{width}x{height}");
        for line in &lines {
            let columns: usize = line.iter().map(|(_, text)| text.chars().count()).sum();
            assert!(columns <= width, "{width}x{height}: {line:?}");
        }
    }
    let shown = text(&screen(&watch, MonoNs(11_000_000_000), 0, "", SIZE));
    assert!(
        shown.contains("LINKS, 10 of 40") && shown.contains("… ") && shown.contains("RECOVERIES"),
        "{shown}"
    );
}

#[test]
fn a_link_is_cut_while_its_partition_is_active() {
    let mut watch = seen();
    assert_eq!(watch.cut("n1", "n2"), LinkCut::Yes { rate: Some(2_500.0) });
    assert_eq!(watch.cut("n1", "n10"), LinkCut::No);
    let healed = Healed {
        name: "p".into(),
        generation: 3,
        at: Stamped { begin_ns: MonoNs(11_500_000_000), end_ns: MonoNs(11_500_000_000), wall: WallNs(0) },
        healed_by: HealedBy::Request,
    };
    watch.event(&event(11_500_000_000, EventKind::Heal { healed }));
    assert_eq!(watch.cut("n1", "n2"), LinkCut::No);
    let shown = text(&screen(&watch, MonoNs(12_000_000_000), 0, "", SIZE));
    assert!(
        shown.contains("healed 0.5 s ago")
            && shown.contains("nothing is cut")
            && shown.contains("\nhealed p\n"),
        "{shown}"
    );
    let record = EventKind::Record { name: "p".into(), generation: 3, outcome: Outcome::Recovered };
    watch.event(&event(12_000_000_000, record));
    assert!(watch.partitions.is_empty());
}

/// The daemon lists no links of a partition that has more than 1,000, unless it is asked for them part by part.
#[test]
fn links_that_are_not_read_yet_are_not_shown_as_not_cut() {
    let part = |links: Option<&[(&str, &str, u64)]>| {
        let mut json = view("p", 3, "active", links.unwrap_or_default());
        json["totals"]["links"] = 3.into();
        if links.is_none() {
            json["links"] = serde_json::Value::Null;
        }
        json
    };
    let matrix = |watch: &Watch| {
        let shown = text(&screen(watch, MonoNs(11_000_000_000), 0, "", SIZE));
        let rows = shown.lines().skip_while(|line| !line.starts_with("LINKS")).skip(1).take(3);
        rows.map(|row| row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let mut watch = Watch::default();
    watch.status(&status(
        &serde_json::json!({ "peers": peers(&["n1", "n2", "n3"]), "partitions": [part(None)] }),
    ));
    assert_eq!(matrix(&watch), ["? ?", "? ?", "? ?"]);
    let mut read = |at: u64, links: &[(&str, &str, u64)]| {
        watch.partition(MonoNs(at * 1_000_000_000), &serde_json::from_value(part(Some(links))).unwrap());
        matrix(&watch)
    };
    assert_eq!(read(10, &[("n1", "n2", 7), ("n2", "n1", 0)]), ["cut ?", "cut ?", "? ?"]);
    assert_eq!(read(10, &[("n3", "n1", 0)]), ["cut ·", "cut ·", "cut ·"]);
    // Each part has the time of its own count.
    assert_eq!(read(11, &[("n1", "n2", 17), ("n2", "n1", 0)]), ["✂10 ·", "✂0 ·", "cut ·"]);
    assert_eq!(read(12, &[("n3", "n1", 10)]), ["✂10 ·", "✂0 ·", "✂5 ·"]);
}

/// The state of one endpoint at an instant, as the daemon's status has it.
fn status_at(seconds: u64, healthy: Option<bool>) -> Status {
    let now = MonoNs(seconds * 1_000_000_000);
    status(&serde_json::json!({ "now_ns": now, "endpoints": [endpoint("e", healthy)] }))
}

fn strip(watch: &Watch, seconds: u64) -> String {
    let served = watch.endpoints["e"].seconds(MonoNs(seconds * 1_000_000_000), 8);
    let sign = |served: &Served| match served {
        Served::Yes => '✓',
        Served::No => '✗',
        Served::Unknown => '·',
    };
    served.iter().map(sign).collect()
}

/// Where results are too old, `status` has `null` for the health; no event reports that.
#[test]
fn an_endpoint_whose_health_is_no_longer_known_is_not_shown_as_healthy() {
    let mut watch = Watch::default();
    watch.event(&health(1_000, "e", true));
    watch.status(&status_at(3, Some(true)));
    watch.status(&status_at(4, None));
    assert_eq!(strip(&watch, 6), "··✓✓✓···");
    assert_eq!(watch.endpoints["e"].now(), None);
    watch.status(&status_at(7, Some(true)));
    assert_eq!(strip(&watch, 8), "✓✓✓···✓✓");
    watch.status(&status_at(9, None));
    watch.event(&health(9_500, "e", false));
    assert_eq!(strip(&watch, 10), "✓···✓✓✗✗", "a failure within a second outweighs what is not known in it");
}

/// `top` reads the status first: what was before comes as events after it.
#[test]
fn events_of_the_past_are_shown_also_after_the_status_of_the_present() {
    let mut watch = Watch::default();
    watch.status(&status_at(8, Some(true)));
    watch.event(&health(2_000, "e", true));
    watch.event(&health(4_000, "e", false));
    watch.event(&health(6_000, "e", true));
    assert_eq!(strip(&watch, 8), "·✓✓✗✗✓✓✓");
    assert_eq!(watch.endpoints["e"].error, None, "an error of the past is none of the present");
    watch.event(&health(9_000, "e", false));
    assert_eq!(strip(&watch, 10), "✓✗✗✓✓✓✗✗");
    assert_eq!(watch.endpoints["e"].error.as_deref(), Some("connection refused"));
    // Also where the present state is not known.
    let mut watch = Watch::default();
    watch.status(&status_at(8, None));
    watch.event(&health(2_000, "e", true));
    assert_eq!(strip(&watch, 9), "✓✓✓✓✓✓··");
}

#[test]
fn peers_with_cut_links_come_first_where_not_all_have_room() {
    let mut watch = seen();
    watch.peers = (1..=40).map(|peer| format!("n{peer}")).collect();
    let cut = view("q", 4, "active", &[("n30", "n20", 1)]);
    watch.partition(MonoNs(10_000_000_000), &serde_json::from_value(cut).unwrap());
    let shown = text(&screen(&watch, MonoNs(11_000_000_000), 0, "", SIZE));
    let head = shown.lines().find(|line| line.starts_with("LINKS")).unwrap();
    assert_eq!(head, "LINKS, 10 of 40     n1    n2   n20   n30    n3    n4    n5    n6    n7    n8");
}

/// The screen is drawn five times a second: the work must grow with the peers, not with their pairs.
#[test]
fn a_screen_of_many_peers_takes_no_time_for_each_pair_of_them() {
    let drawn_in = |peers: usize| {
        let watch = Watch { peers: (0..peers).map(|peer| format!("n{peer}")).collect(), ..Watch::default() };
        let once = || {
            let begun = std::time::Instant::now();
            assert_eq!(screen(&watch, MonoNs(0), 0, "", SIZE).len(), SIZE.1);
            begun.elapsed()
        };
        (0..20).map(|_| once()).min().unwrap()
    };
    let (few, many) = (drawn_in(64), drawn_in(1024));
    // Were each pair looked at, it would be 256 times as many.
    assert!(many < few * 50, "{few:?} with 64 peers, {many:?} with 1,024");
}

#[test]
fn a_link_whose_drops_cannot_be_counted_is_cut() {
    let mut json = view("p", 3, "active", &[("n1", "n2", 0)]);
    json["links"][0]["dropped_packets"] = serde_json::Value::Null;
    let mut watch = Watch::default();
    watch.partition(MonoNs(1), &serde_json::from_value(json).unwrap());
    assert_eq!(watch.cut("n1", "n2"), LinkCut::Yes { rate: None });
    assert_eq!(watch.cut("n2", "n1"), LinkCut::No);
}

#[test]
fn what_others_write_acts_on_no_terminal_and_losses_are_shown() {
    let mut watch = seen();
    watch.event(&event(1, EventKind::Mark { text: "a\u{1b}[2Jb\u{202e}\nc".to_owned() }));
    watch.event(&event(2, EventKind::Lost { count: 9 }));
    let shown = screen(&watch, MonoNs(11_000_000_000), 0, "", SIZE);
    assert_eq!(text(&shown[22..23]), "mark: a?[2Jb??c\n");
    assert!(text(&shown).contains("9 events lost"));
    assert!(shown.iter().flatten().any(|(style, text)| *style == Style::Bad && text.contains('✗')));
    let outcome = ConfigOutcome::Refused;
    watch.event(&event(3, EventKind::Config { outcome, number: 1, what: String::new() }));
    assert_eq!(watch.last.as_deref(), Some("config: refused"));
}
