//! The settings of the config that decide measurements, as the API shows them.

use std::fmt::Write as _;

use injector_core::api::Rules;
use injector_core::config::{Config, Endpoint, Netns, Peer, Wire, WireSuccess};
use injector_core::model::{PROBE_SETTINGS_SCHEMA, ProbeRules, ProbeSettings};

/// The rules that decide verdicts.
pub(super) fn of(config: &Config) -> Rules {
    Rules { ready: config.ready, deadline: config.deadline, max_for: config.max_for }
}

/// How an endpoint is probed. A container has another address after a restart, and the probe is the same.
pub(super) fn probe(config: &Config, endpoint: &Endpoint) -> ProbeRules {
    let peer = endpoint.peer.and_then(|peer| config.peer(peer));
    let is_contained = peer.is_some_and(|peer| peer.container.is_some());
    let address = endpoint.address.filter(|_| !is_contained).map(|address| address.to_string());
    let filled = |text: &str| match &address {
        Some(address) => text.replace("{address}", address),
        None => text.to_owned(),
    };
    ProbeRules {
        stimulus: filled(&endpoint.probe.kind.stimulus()) + &resolved(endpoint),
        settings: Some(settings(endpoint)),
        addresses: Some(addresses(endpoint, peer.filter(|_| !is_contained))),
        options: endpoint.probe.options,
    }
}

/// The settings of a probe that two measurements have to agree on, beside the schedule.
fn settings(endpoint: &Endpoint) -> ProbeSettings {
    let mut settings = endpoint.probe.kind.settings();
    let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
    set("schema", PROBE_SETTINGS_SCHEMA.to_string());
    match &endpoint.netns {
        // A process has another number after a restart, and the place is the same.
        Some(Netns::Pid(_)) => drop(set("netns", "of a process".to_owned())),
        Some(netns) => drop(set("netns", netns.to_string())),
        None => {}
    }
    if let Some(family) = endpoint.family {
        set("family", family.to_string());
    }
    if let Some(Wire { port, success }) = &endpoint.wire {
        let success = match success {
            WireSuccess::Http => "http".to_owned(),
            WireSuccess::Grpc => "grpc".to_owned(),
            WireSuccess::Payload => "payload".to_owned(),
            WireSuccess::Prefix(bytes) => format!("prefix {}", bytes.escape_ascii()),
        };
        set("wire", format!("port {port}, {success}"));
    }
    settings
}

/// The addresses that the config gives its peer, and those of its host name.
fn addresses(endpoint: &Endpoint, peer: Option<&Peer>) -> Vec<String> {
    let listed = peer.into_iter().flat_map(|peer| {
        let single = peer.addresses.iter().map(ToString::to_string);
        let vip = peer.vip.iter().map(|address| format!("vip {address}"));
        single.chain(peer.prefixes.iter().map(ToString::to_string)).chain(vip)
    });
    let resolved = endpoint.hosts.iter().map(|(name, address)| format!("{name} is {address}"));
    listed.chain(resolved).collect()
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

    fn rules_of(peer: &str, endpoint: &str) -> super::ProbeRules {
        let config = format!(
            "peers: {{ a: {{ {peer} }} }}\ninterfaces: [{{ name: tap1 }}]\nendpoints: [{{ name: e, peers: [a], {endpoint} }}]\n"
        );
        let config = Config::parse(&config, "test.yaml").unwrap();
        super::probe(&config, &config.endpoints[0])
    }

    fn stimulus_of(probe: &str) -> String {
        rules_of("addresses: [192.0.2.1]", &format!("probe: {probe}")).stimulus
    }

    #[test]
    fn settings_say_by_keys_where_a_probe_starts_what_it_asks_and_what_it_expects() {
        let rules = rules_of(
            "addresses: [192.0.2.1], vip: [192.0.2.9]",
            "netns: client, wire: { port: 80, success: http }, probe: { http: { url: \"http://{address}/x?key=hunter2\", \
             headers: { Authorization: hunter2 }, expect: { status: [503, 2xx] } } }",
        );
        let settings = rules.settings.unwrap();
        let shown = |key: &str| settings.get(key).map(String::as_str);
        assert_eq!(shown("kind"), Some("http"));
        assert_eq!(shown("netns"), Some("client"));
        assert_eq!(shown("url"), Some("http://{address}/x"), "the address is beside it");
        assert_eq!(shown("expect.status"), Some("2xx or 503"));
        assert_eq!(shown("wire"), Some("port 80, http"));
        assert!(shown("query").is_some_and(|digest| digest.starts_with('#')), "{settings:?}");
        assert!(shown("headers.authorization").is_some_and(|digest| digest.starts_with('#')), "{settings:?}");
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        assert_eq!(rules.addresses.unwrap(), ["192.0.2.1", "vip 192.0.2.9"]);
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
