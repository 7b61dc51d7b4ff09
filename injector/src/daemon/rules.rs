//! What of the config decides measurements, as the API shows it.

use std::fmt::Write as _;

use injector_core::api::Rules;
use injector_core::config::{Config, Endpoint, ProbeKind};
use injector_core::model::ProbeRules;

/// What decides verdicts.
pub(super) fn of(config: &Config) -> Rules {
    Rules { ready: config.ready, deadline: config.deadline, max_for: config.max_for }
}

/// How an endpoint is probed.
pub(super) fn probe(endpoint: &Endpoint) -> ProbeRules {
    let address = endpoint.address.map(|address| address.to_string());
    let filled = |text: &str| match &address {
        Some(address) => text.replace("{address}", address),
        None => text.to_owned(),
    };
    ProbeRules {
        stimulus: filled(&stimulus(&endpoint.probe.kind)),
        interval: endpoint.probe.interval,
        timeout: endpoint.probe.timeout,
        connection: endpoint.probe.connection,
    }
}

fn stimulus(kind: &ProbeKind) -> String {
    match kind {
        ProbeKind::Http { url, method, headers, body, status, body_contains } => {
            let mut text = format!("http {method} {url}");
            for (name, value) in headers {
                let _ = write!(text, ", {name}: {value}");
            }
            if let Some(body) = body {
                let _ = write!(text, ", sends {body:?}");
            }
            let expected = status.map_or_else(|| "2xx".to_owned(), |status| status.to_string());
            let _ = write!(text, ", expects {expected}");
            if let Some(part) = body_contains {
                let _ = write!(text, " with {part:?}");
            }
            text
        }
        ProbeKind::Grpc { target, method, message } => {
            let mut text = format!("grpc {target} {method}");
            if !message.is_empty() {
                let _ = write!(text, ", sends {} bytes ", message.len());
                for byte in message {
                    let _ = write!(text, "{byte:02x}");
                }
            }
            text
        }
        ProbeKind::Tcp { target } => format!("tcp {target}"),
        ProbeKind::Exec { command, user } => {
            let user = user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
            format!("exec {}{user}", command.join(" "))
        }
    }
}
