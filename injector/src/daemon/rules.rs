//! What of the config decides measurements, as the API shows it.

use std::fmt::Write as _;

use injector_core::api::Rules;
use injector_core::config::{Config, Endpoint, ProbeKind, digest};
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

/// In words, without what may be secret: the values of headers, queries, bodies and arguments. A digest of these shows
/// where two measurements differ.
fn stimulus(kind: &ProbeKind) -> String {
    let mut hidden: Vec<&str> = Vec::new();
    let mut text = match kind {
        ProbeKind::Http { url, method, headers, body, status, body_contains } => {
            let url = url.written();
            let mut text = match url.split_once('?') {
                Some((shown, query)) => {
                    hidden.push(query);
                    format!("http {method} {shown}?…")
                }
                None => format!("http {method} {url}"),
            };
            for (name, value) in headers {
                hidden.push(value.written());
                let _ = write!(text, ", {name}: …");
            }
            if let Some(body) = body {
                hidden.push(body.written());
                text.push_str(", sends a body");
            }
            let expected = status.map_or_else(|| "2xx".to_owned(), |status| status.to_string());
            let _ = write!(text, ", expects {expected}");
            if let Some(part) = body_contains {
                let _ = write!(text, " with {:?}", part.written());
            }
            text
        }
        ProbeKind::Grpc { target, method, message } => {
            let mut text = format!("grpc {target} {method}");
            if !message.is_empty() {
                let _ = write!(text, ", sends {} bytes #{:04x}", message.len(), digest_of_bytes(message));
            }
            text
        }
        ProbeKind::Tcp { target } => format!("tcp {target}"),
        ProbeKind::Exec { command, user, env } => {
            let user = user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
            let mut words = command.iter();
            let mut text = format!("exec {}", words.next().map(String::as_str).unwrap_or_default());
            hidden.extend(words.map(String::as_str));
            match hidden.len() {
                0 => {}
                1 => text.push_str(" with 1 argument"),
                count => {
                    let _ = write!(text, " with {count} arguments");
                }
            }
            text.push_str(&user);
            for (name, value) in env {
                hidden.push(value.written());
                let _ = write!(text, ", {name}=…");
            }
            text
        }
    };
    if !hidden.is_empty() {
        let _ = write!(text, " #{:04x}", digest(hidden));
    }
    text
}

fn digest_of_bytes(bytes: &[u8]) -> u16 {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    digest([text.as_str()])
}

#[cfg(test)]
mod tests {
    use injector_core::config::Config;

    fn stimulus_of(probe: &str) -> String {
        let config = format!(
            "peers: {{ a: {{ addresses: [192.0.2.1] }} }}\ninterfaces: [{{ name: tap1 }}]\n\
             endpoints: [{{ name: e, peers: [a], probe: {probe} }}]\n"
        );
        super::probe(&Config::parse(&config, "test.yaml").unwrap().endpoints[0]).stimulus
    }

    #[test]
    fn nothing_that_may_be_secret_is_shown_and_a_change_of_it_is() {
        let http = |token: &str| {
            stimulus_of(&format!(
                "{{ http: {{ url: \"http://{{address}}/x?key={token}\", method: POST, headers: {{ authorization: \
                 \"Bearer {token}\" }}, body: \"p={token}\" }} }}"
            ))
        };
        let first = http("hunter2");
        assert!(
            first
                .starts_with("http POST http://192.0.2.1/x?…, authorization: …, sends a body, expects 2xx #")
        );
        assert!(!first.contains("hunter2"), "{first}");
        assert_ne!(first, http("hunter3"));
        assert_eq!(first, http("hunter2"));
        let exec = stimulus_of("{ exec: { command: [check, --token, hunter2], env: { A: hunter2 } } }");
        assert!(
            exec.starts_with("exec check with 2 arguments, A=… #") && !exec.contains("hunter2"),
            "{exec}"
        );
        let grpc = stimulus_of("{ grpc: { target: \"{address}:1\", method: a.B/C, message: aHVudGVyMg== } }");
        assert!(grpc.starts_with("grpc 192.0.2.1:1 a.B/C, sends 7 bytes #"), "{grpc}");
    }
}
