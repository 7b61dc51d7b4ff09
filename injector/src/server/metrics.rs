//! `GET /metrics`: a reading of the daemon's metrics as Prometheus text.

mod text;

use std::collections::BTreeMap;

use injector_core::api::{LinkTotals, PartitionState};
use injector_core::metrics::{
    AttachmentsLost, EndpointHistory, HEALERS, Histogram, History, OUTCOMES, OpenPartition, Reading,
    ShapeHistory, healer_word, outcome_word,
};

use self::text::Family;

/// The media type of the Prometheus text format.
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

/// Writes the families one after the other, each with HELP and TYPE. What is not known is left out or has a
/// label of its own, and is never 0.
pub(super) fn render(reading: &Reading) -> String {
    let mut text = String::new();
    daemon(&mut text, reading);
    open_partitions(&mut text, &reading.partitions);
    toggles(&mut text, &reading.history);
    closed(&mut text, &reading.history);
    by_endpoint(&mut text, &reading.history);
    now(&mut text, reading);
    attachments_lost(&mut text, &reading.history);
    lost(&mut text, reading);
    text
}

fn daemon(text: &mut String, reading: &Reading) {
    let labels = [
        ("version", reading.version.as_str()),
        ("abi", &reading.abi.to_string()),
        ("kernel", &reading.kernel),
    ];
    Family::new(text, "injector_build_info", GAUGE, "The running daemon; always 1.").sample(&labels, 1);
    let help = "Which config is in force: 1 at the start, one more with each reload.";
    Family::new(text, "injector_config_number", GAUGE, help).sample(&[], reading.config_number);
    let help =
        "1 if the last reload was refused or failed, so that the config before it is in force; else 0.";
    Family::new(text, "injector_config_refused", GAUGE, help)
        .sample(&[], u8::from(reading.is_config_refused));
}

fn open_partitions(text: &mut String, partitions: &[OpenPartition]) {
    let mut by_state =
        Family::new(text, "injector_partitions", GAUGE, "Partitions that are not closed, by state.");
    for (word, state) in [
        ("prepared", PartitionState::Prepared),
        ("scheduled", PartitionState::Scheduled),
        ("active", PartitionState::Active),
        ("watched", PartitionState::Watched),
    ] {
        let count = partitions.iter().filter(|partition| partition.state == state).count();
        by_state.sample(&[("state", word)], count);
    }
    let active = partitions.iter().filter(|partition| partition.state == PartitionState::Active);
    let cuts: usize = active.map(|partition| partition.totals.links).sum();
    let help = "Links that are cut now; a link of two partitions counts twice.";
    Family::new(text, "injector_links_cut", GAUGE, help).sample(&[], cuts);
    for (name, help, value) in [
        (
            "injector_partition_dropped_packets_total",
            "Packets dropped by a partition that is not closed, GSO segments counted each.",
            (|totals| totals.dropped_packets) as fn(&LinkTotals) -> Option<u64>,
        ),
        (
            "injector_partition_dropped_bytes_total",
            "Bytes dropped by a partition that is not closed, as the hooks saw them.",
            |totals| totals.dropped_bytes,
        ),
    ] {
        let mut drops = Family::new(text, name, COUNTER, help);
        for partition in partitions {
            let labels =
                [("partition", partition.name.as_str()), ("generation", &partition.generation.to_string())];
            if let Some(dropped) = value(&partition.totals) {
                drops.sample(&labels, dropped);
            }
        }
    }
}

fn toggles(text: &mut String, history: &History) {
    let help = "Packets dropped since the start by each partition, summed: one that two partitions drop counts twice.";
    Family::new(text, "injector_dropped_packets_total", COUNTER, help).sample(&[], history.drops().packets);
    let help = "Bytes dropped since the start by each partition, summed, as the hooks saw them.";
    Family::new(text, "injector_dropped_bytes_total", COUNTER, help).sample(&[], history.drops().bytes);

    let help = "Partitions that took effect or were scheduled, by shape as asked.";
    let mut cuts = Family::new(text, "injector_cuts_total", COUNTER, help);
    for (shape, counted) in history.shapes.iter() {
        cuts.sample(&[("shape", shape)], counted.cuts);
    }
    let help =
        "Cuts that were ended, by what ended them; what was withdrawn before its start is not among them.";
    let mut heals = Family::new(text, "injector_heals_total", COUNTER, help);
    for by in HEALERS.map(healer_word) {
        heals.sample(&[("by", by)], history.heals.get(by).copied().unwrap_or_default());
    }
    let help = "How late a cut or heal was: after its request came, or after the set instant until noticed.";
    let mut late = Family::new(text, "injector_toggle_lateness_seconds", HISTOGRAM, help);
    for ((toggle, by), histogram) in &history.toggles {
        late.histogram(&[("toggle", toggle.word()), ("by", by.word())], histogram);
    }
    let help = "How long after its due time a probe left.";
    Family::new(text, "injector_probe_lateness_seconds", HISTOGRAM, help).histogram(&[], &history.probes);
    let help = "Probes that were never sent: the prober fell behind, or their command could not be started.";
    Family::new(text, "injector_unsent_probes_total", COUNTER, help).sample(&[], history.unsent_probes);
}

fn closed(text: &mut String, history: &History) {
    let help = "Closed partitions by shape as asked and by outcome; (none) is an outcome that is not known.";
    let mut outcomes = Family::new(text, "injector_partitions_closed_total", COUNTER, help);
    // Every shape from the start: a first partition that opens and closes between two scrapes is an increase too.
    for (shape, counted) in history.shapes.iter() {
        by_outcome(&mut outcomes, ("shape", shape), &counted.closed);
    }
    let help = "Closed partitions by peer that was cut off from the rest and by outcome: the first 64 peers, (other) \
                for later ones, (none) where no peer is cut off or it is not known.";
    let mut outcomes = Family::new(text, "injector_peer_partitions_closed_total", COUNTER, help);
    for (peer, counted) in history.peers.iter() {
        by_outcome(&mut outcomes, ("peer", peer), counted);
    }
    for (name, help, of) in [
        (
            "injector_heal_to_ready_seconds",
            "From the heal until all required endpoints were ready, in closed partitions where that is known.",
            (|shape| &shape.ready) as fn(&ShapeHistory) -> &Histogram,
        ),
        (
            "injector_heal_to_settled_seconds",
            "From the heal until all required endpoints had settled, in closed partitions where that is known.",
            |shape| &shape.settled,
        ),
    ] {
        let mut times = Family::new(text, name, HISTOGRAM, help);
        for (shape, counted) in used_shapes(history) {
            times.histogram(&[("shape", shape)], of(counted));
        }
    }
}

/// The shapes that were cut.
fn used_shapes(history: &History) -> impl Iterator<Item = (&str, &ShapeHistory)> {
    history.shapes.iter().filter(|(_, counted)| counted.cuts > 0)
}

fn by_endpoint(text: &mut String, history: &History) {
    let help =
        "Closed partitions by endpoint and its own outcome: the first 64 endpoints, (other) for later ones.";
    let mut outcomes = Family::new(text, "injector_endpoint_partitions_closed_total", COUNTER, help);
    for (endpoint, counted) in history.endpoints.iter() {
        by_outcome(&mut outcomes, ("endpoint", endpoint), &counted.closed);
    }
    for (name, help, of) in [
        (
            "injector_endpoint_heal_to_ready_seconds",
            "From the heal until an endpoint was ready, in closed partitions where that is known.",
            (|endpoint| &endpoint.ready) as fn(&EndpointHistory) -> &Histogram,
        ),
        (
            "injector_endpoint_heal_to_settled_seconds",
            "From the heal until an endpoint had settled, in closed partitions where that is known.",
            |endpoint| &endpoint.settled,
        ),
    ] {
        let mut times = Family::new(text, name, HISTOGRAM, help);
        for (endpoint, counted) in history.endpoints.iter() {
            times.histogram(&[("endpoint", endpoint)], of(counted));
        }
    }
}

fn by_outcome(family: &mut Family<'_>, label: (&str, &str), outcomes: &BTreeMap<&'static str, u64>) {
    for outcome in OUTCOMES.map(outcome_word) {
        family.sample(&[label, ("outcome", outcome)], outcomes.get(outcome).copied().unwrap_or_default());
    }
}

fn now(text: &mut String, reading: &Reading) {
    let help = "Whether the endpoint's last probes succeeded; absent before there were enough.";
    let mut healthy = Family::new(text, "injector_endpoint_healthy", GAUGE, help);
    for endpoint in &reading.endpoints {
        if let Some(is_healthy) = endpoint.healthy {
            let role = if endpoint.required { "required" } else { "advisory" };
            let peer = endpoint.peer.as_deref().unwrap_or_default();
            let labels = [("endpoint", endpoint.name.as_str()), ("peer", peer), ("role", role)];
            healthy.sample(&labels, u8::from(is_healthy));
        }
    }
    let help = "Whether an interface has our programs.";
    let mut attached = Family::new(text, "injector_interface_attached", GAUGE, help);
    for interface in &reading.interfaces {
        let netns = interface.netns.as_deref().unwrap_or_default();
        let hook = interface.hook.as_deref().unwrap_or_default();
        let labels = [("interface", interface.interface.as_str()), ("netns", netns), ("hook", hook)];
        attached.sample(&labels, u8::from(interface.hook.is_some()));
    }
}

fn attachments_lost(text: &mut String, history: &History) {
    let help = "How often another process was found to have detached programs of the daemon.";
    let mut lost = Family::new(text, "injector_attachments_lost_total", COUNTER, help);
    let AttachmentsLost { from_interfaces, from_cgroups } = history.attachments_lost;
    lost.sample(&[("from", "interface")], from_interfaces);
    lost.sample(&[("from", "cgroup")], from_cgroups);
}

fn lost(text: &mut String, reading: &Reading) {
    let help = "Events lost since the start.";
    let mut family = Family::new(text, "injector_lost_events_total", COUNTER, help);
    if let Some(lost) = reading.lost_events {
        family.sample(&[], lost);
    }
    let help = "Lines of the daemon's log lost since the start.";
    Family::new(text, "injector_lost_log_lines_total", COUNTER, help).sample(&[], reading.lost_log_lines);
    let mut counters =
        Family::new(text, "injector_data_plane_total", COUNTER, "What the kernel programs counted.");
    for (name, value) in &reading.counters {
        counters.sample(&[("counter", name)], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::api::HealedBy;
    use injector_core::metrics::{EndpointHealth, Toggle, ToggledBy};
    use injector_core::model::Shape;
    use std::time::Duration;

    fn reading() -> Reading {
        let endpoint = |name: &str, healthy| EndpointHealth {
            name: name.to_owned(),
            peer: None,
            required: true,
            healthy,
        };
        let mut reading = Reading {
            version: "1.0\"\n\\".to_owned(),
            abi: 1,
            kernel: "6.18".to_owned(),
            config_number: 2,
            is_config_refused: true,
            endpoints: vec![endpoint("known", Some(false)), endpoint("unknown", None)],
            lost_events: Some(3),
            lost_log_lines: 4,
            counters: vec![("unparsed", 9)],
            ..Reading::default()
        };
        reading.history.cut(&Shape::Isolate(vec!["n1".into()]));
        reading.history.healed(HealedBy::Deadline);
        reading.history.lost(AttachmentsLost { from_interfaces: 1, from_cgroups: 0 });
        reading.history.lost(AttachmentsLost { from_interfaces: 1, from_cgroups: 1 });
        reading.history.toggled(Toggle::Heal, ToggledBy::Request, Duration::from_millis(3));
        reading
    }

    #[test]
    fn every_sample_has_its_family_and_labels_are_escaped() {
        let text = render(&reading());
        assert!(text.contains(r#"version="1.0\"\n\\""#), "{text}");
        assert!(text.contains("injector_lost_events_total 3\n"), "{text}");
        assert!(text.contains("injector_lost_log_lines_total 4\n"), "{text}");
        assert!(text.contains("injector_config_refused 1\n"), "{text}");
        assert!(text.contains("injector_attachments_lost_total{from=\"interface\"} 2\n"), "{text}");
        assert!(text.contains("injector_attachments_lost_total{from=\"cgroup\"} 1\n"), "{text}");
        assert!(text.contains("injector_data_plane_total{counter=\"unparsed\"} 9\n"), "{text}");
        assert!(text.contains(r#"injector_endpoint_healthy{endpoint="known",peer="",role="required"} 0"#));
        assert!(!text.contains("endpoint=\"unknown\""), "what is not known is left out: {text}");
        assert!(text.contains("injector_cuts_total{shape=\"isolate\"} 1\n"), "{text}");
        assert!(text.contains("injector_heals_total{by=\"deadline\"} 1\n"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let is_told = |name: &str| text.contains(&format!("# TYPE {name} "));
            assert!(is_told(name) || family.is_some_and(is_told), "{line}");
        }
    }

    #[test]
    fn a_histogram_has_cumulative_buckets_up_to_infinity() {
        let text = render(&reading());
        let of = |what: &str| {
            let line = format!("injector_toggle_lateness_seconds{what} ");
            text.lines().find_map(|text| text.strip_prefix(&line)).unwrap_or_else(|| panic!("{line}: {text}"))
        };
        let labels = "toggle=\"heal\",by=\"request\"";
        assert_eq!(of(&format!("_bucket{{{labels},le=\"0.0025\"}}")), "0");
        assert_eq!(of(&format!("_bucket{{{labels},le=\"0.005\"}}")), "1");
        assert_eq!(of(&format!("_bucket{{{labels},le=\"+Inf\"}}")), "1");
        assert_eq!(of(&format!("_sum{{{labels}}}")), "0.003");
        assert_eq!(of(&format!("_count{{{labels}}}")), "1");
    }
}
