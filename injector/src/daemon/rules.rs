//! What of the config decides measurements, as the API shows it.

use std::fmt::Write as _;

use injector_core::api::Rules;
use injector_core::config::{Config, Endpoint, HttpRequest, ProbeKind, Tls, Trust, digest};
use injector_core::model::ProbeRules;

/// What decides verdicts.
pub(super) fn of(config: &Config) -> Rules {
    Rules { ready: config.ready, deadline: config.deadline, max_for: config.max_for }
}

/// How an endpoint is probed. A container has another address after a restart, and the probe is the same.
pub(super) fn probe(config: &Config, endpoint: &Endpoint) -> ProbeRules {
    let is_contained =
        endpoint.peer.and_then(|peer| config.peer(peer)).is_some_and(|peer| peer.container.is_some());
    let address = endpoint.address.filter(|_| !is_contained).map(|address| address.to_string());
    let filled = |text: &str| match &address {
        Some(address) => text.replace("{address}", address),
        None => text.to_owned(),
    };
    ProbeRules {
        stimulus: filled(&stimulus(&endpoint.probe.kind)) + &resolved(endpoint),
        options: endpoint.probe.options,
    }
}

/// The address that a host name has for the whole run.
fn resolved(endpoint: &Endpoint) -> String {
    let mut text = String::new();
    for (name, address) in &endpoint.hosts {
        let _ = write!(text, ", {name} is {address}");
    }
    text
}

/// How TLS is spoken: files by their paths.
fn tls_words(tls: Option<&Tls>) -> String {
    let Some(tls) = tls else { return String::new() };
    let mut text = match &tls.trust {
        Trust::Host => ", TLS".to_owned(),
        Trust::Ca(file) => format!(", TLS with ca {}", file.path().display()),
        Trust::Anyone => ", TLS with any certificate".to_owned(),
    };
    if let Some(name) = &tls.server_name {
        let _ = write!(text, " for {name}");
    }
    if let Some(identity) = &tls.identity {
        let _ = write!(text, " as {}", identity.cert.path().display());
    }
    text
}

/// In words, without what may be secret: the values of headers, queries, bodies and arguments. A digest of these shows
/// where two measurements differ.
fn stimulus(kind: &ProbeKind) -> String {
    let mut hidden: Vec<&str> = Vec::new();
    let mut text = match kind {
        ProbeKind::Http { request, expect } => {
            let HttpRequest { url, method, headers, body, unix, tls } = request;
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
            if let Some(path) = unix {
                let _ = write!(text, ", by unix:{path}");
            }
            text.push_str(&tls_words(tls.as_ref()));
            let _ = write!(text, ", expects {}", expect.status);
            if let Some(part) = &expect.body_contains {
                let _ = write!(text, " with {:?}", part.written());
            }
            if let Some(json) = &expect.json {
                let _ = write!(text, ", {:?} is {:?}", json.pointer, json.equals);
            }
            text
        }
        ProbeKind::Grpc { target, tls, method, message } => {
            let mut text = format!("grpc {target} {method}{}", tls_words(tls.as_ref()));
            if !message.is_empty() {
                let _ = write!(text, ", sends {} bytes #{:04x}", message.len(), digest_of_bytes(message));
            }
            text
        }
        ProbeKind::Tcp { target, tls, exchange } => {
            let mut text = format!("tcp {target}{}", tls_words(tls.as_ref()));
            if let Some(exchange) = exchange {
                hidden.push(exchange.send.written());
                let _ = write!(text, ", sends a text, expects {:?}", exchange.expect.written());
            }
            text
        }
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
        let config = Config::parse(&config, "test.yaml").unwrap();
        super::probe(&config, &config.endpoints[0]).stimulus
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
        let redis = |text: &str| {
            stimulus_of(&format!(
                "{{ tcp: {{ target: \"{{address}}:1\", send: \"{text}\\r\\n\", expect: +OK }} }}"
            ))
        };
        let auth = redis("AUTH hunter2");
        assert!(auth.starts_with("tcp 192.0.2.1:1, sends a text, expects \"+OK\" #"), "{auth}");
        assert_ne!(auth, redis("AUTH hunter3"));
        let tls = stimulus_of(
            "{ http: { url: \"https://{address}/\", tls: { ca: /c.pem, cert: /a.pem, key: /a.key, server_name: a.lab }, \
             expect: { status: [200, 3xx], json: { pointer: /up, equals: true } } } }",
        );
        assert_eq!(
            tls,
            "http GET https://192.0.2.1/, TLS with ca /c.pem for a.lab as /a.pem, expects 200 or 3xx, \"/up\" is \"true\""
        );
        let grpc = stimulus_of("{ grpc: { target: \"{address}:1\", method: a.B/C, message: aHVudGVyMg== } }");
        assert!(grpc.starts_with("grpc 192.0.2.1:1 a.B/C, sends 7 bytes #"), "{grpc}");
    }
}
