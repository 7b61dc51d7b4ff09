//! `GET /metrics`: a status as Prometheus text.

use std::fmt::{Display, Write as _};

use injector_core::api::{LinkTotals, PartitionState, Status};

/// The media type of the Prometheus text format.
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One family after the other, each with HELP and TYPE. What is not known is left out, never 0.
pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    let mut build = Family::new(&mut text, "injector_build_info", "gauge", "The running daemon; always 1.");
    build.sample(
        &[("version", &status.version), ("abi", &status.abi.to_string()), ("kernel", &status.kernel)],
        1,
    );

    let mut by_state =
        Family::new(&mut text, "injector_partitions", "gauge", "Partitions not closed, by state.");
    for (word, state) in [
        ("prepared", PartitionState::Prepared),
        ("scheduled", PartitionState::Scheduled),
        ("active", PartitionState::Active),
        ("watched", PartitionState::Watched),
    ] {
        let count = status.partitions.iter().filter(|partition| partition.state == state).count();
        by_state.sample(&[("state", word)], count);
    }

    for (name, help, value) in [
        (
            "injector_partition_dropped_packets_total",
            "Packets dropped, GSO segments counted each.",
            (|totals| totals.dropped_packets) as fn(&LinkTotals) -> Option<u64>,
        ),
        ("injector_partition_dropped_bytes_total", "Bytes dropped as the hooks saw them.", |totals| {
            totals.dropped_bytes
        }),
    ] {
        let mut drops = Family::new(&mut text, name, "counter", help);
        for partition in &status.partitions {
            let labels =
                [("partition", partition.name.as_str()), ("generation", &partition.generation.to_string())];
            if let Some(dropped) = value(&partition.totals) {
                drops.sample(&labels, dropped);
            }
        }
    }

    let help = "Whether the endpoint's last probes succeeded; absent before there were enough.";
    let mut healthy = Family::new(&mut text, "injector_endpoint_healthy", "gauge", help);
    for endpoint in &status.endpoints {
        if let Some(is_healthy) = endpoint.healthy {
            let role = if endpoint.required { "required" } else { "advisory" };
            let peer = endpoint.peer.as_deref().unwrap_or_default();
            let labels = [("endpoint", endpoint.name.as_str()), ("peer", peer), ("role", role)];
            healthy.sample(&labels, u8::from(is_healthy));
        }
    }

    let help = "Whether an interface has our programs.";
    let mut attached = Family::new(&mut text, "injector_interface_attached", "gauge", help);
    for attachment in &status.attachments {
        let netns = attachment.netns.as_deref().unwrap_or_default();
        let hook = attachment.hook.as_deref().unwrap_or_default();
        let labels = [("interface", attachment.interface.as_str()), ("netns", netns), ("hook", hook)];
        attached.sample(&labels, u8::from(attachment.hook.is_some()));
    }

    let help = "Events lost since the start.";
    Family::new(&mut text, "injector_lost_events_total", "counter", help).sample(&[], status.lost_events);

    let help = "Lines of the daemon's log lost since the start.";
    Family::new(&mut text, "injector_lost_log_lines_total", "counter", help)
        .sample(&[], status.lost_log_lines);

    let mut counters =
        Family::new(&mut text, "injector_data_plane_total", "counter", "What the kernel programs counted.");
    for (name, value) in &status.counters {
        counters.sample(&[("counter", name)], value);
    }
    text
}

struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn new(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Self { text, name }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::api::{EndpointView, Rules};
    use injector_core::clock::MonoNs;
    use injector_core::model::ProbeRules;
    use std::collections::BTreeMap;

    #[test]
    fn every_sample_has_its_family_and_labels_are_escaped() {
        let endpoint = |name: &str, healthy| EndpointView {
            name: name.to_owned(),
            peer: None,
            address: None,
            required: true,
            healthy,
            last_error: None,
            probe: ProbeRules::default(),
        };
        let status = Status {
            version: "1.0\"\n\\".to_owned(),
            abi: 1,
            kernel: "6.18".to_owned(),
            config_number: 1,
            pid: 1,
            now_ns: MonoNs(1),
            clock: injector_core::clock::HostClock::default(),
            attachments: Vec::new(),
            peers: BTreeMap::new(),
            coverage: None,
            partitions: Vec::new(),
            endpoints: vec![endpoint("known", Some(false)), endpoint("unknown", None)],
            rules: Rules::default(),
            lost_events: 3,
            lost_log_lines: 4,
            counters: BTreeMap::from([("unparsed".to_owned(), 9)]),
        };
        let text = render(&status);
        assert!(text.contains(r#"version="1.0\"\n\\""#), "{text}");
        assert!(text.contains("injector_lost_events_total 3\n"), "{text}");
        assert!(text.contains("injector_lost_log_lines_total 4\n"), "{text}");
        assert!(text.contains("injector_data_plane_total{counter=\"unparsed\"} 9\n"), "{text}");
        assert!(text.contains(r#"injector_endpoint_healthy{endpoint="known",peer="",role="required"} 0"#));
        assert!(!text.contains("endpoint=\"unknown\""), "what is not known is left out: {text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
        }
    }
}
