//! What of the config decides measurements, as the API shows it.

use std::fmt::Write as _;

use injector_core::api::Rules;
use injector_core::config::{Config, Endpoint};
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
        stimulus: filled(&endpoint.probe.kind.stimulus()) + &resolved(endpoint),
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
