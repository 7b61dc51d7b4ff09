use std::net::IpAddr;

use super::*;
use crate::model::{Connection, Nothing, PeerId};

mod containers;
mod endpoints;
mod local;
mod metrics;
mod peers;
mod roles;

/// Five lines that are right, for tests to add to.
const BASE: &str = "\
peers:
  n1: { addresses: [10.0.0.1] }
  n2: { addresses: [10.0.0.2, \"fd00::2\"] }
  net: { addresses: [10.2.0.0/16] }
interfaces: auto
";

/// Every key there is.
pub(super) const FULL: &str = r#"
socket: { path: /run/lab/a.sock, group: lab, mode: "0600" }
metrics: { listen: 127.0.0.1:9464 }
peers:
  n2: { addresses: [10.0.0.2/32, 10.2.0.0/16], mac: "52:54:00:00:00:02" }
  n1: { addresses: [10.0.0.1, "fd00::1", "fd01::/64"] }
  n3: { mac: "52:54:00:00:00:03" }
interfaces:
  - { name: tap1 }
  - { name: eth0, netns: n1, hook: xdp }
  - { name: eth0, netns: /proc/self/ns/net, hook: clsact }
  - { name: eth0, netns: { pid: 12 }, hook: tc }
endpoints:
  - name: ingress
    peers: [n1, n2]
    probe:
      http:
        url: "http://{address}:8080/{seq}"
        method: POST
        headers: { content-type: application/json }
        body: "{seq} {peer}"
        expect: { status: 201, body_contains: ok, json: { pointer: /status, equals: ok } }
      interval: 20ms
      timeout: 2s
      connection: pooled
    wire: { port: 8080, success: http }
    netns: client
  - name: meta
    peers: [n1]
    role: advisory
    probe: { grpc: { target: "{address}:5122", method: a.B/C, message: "CgE=" } }
    wire: { port: 5122, success: grpc }
  - { name: health, peers: [n1], probe: { grpc: { target: "{address}:5122" } } }
  - { name: port, peers: [n1], probe: { tcp: { target: "{address}:1", send: "PING\r\n", expect: "+PONG" } }, wire: { port: 1, success: { prefix: "+PONG" } } }
  - { name: script, probe: { exec: { command: [/bin/check, "{seq}"], user: nobody } } }
ready: { consecutive: 3, observe: 1s, observe_max: 2s, tolerate: 10ms }
deadline: 30s
protect: [tcp/22, 10.0.0.254, "fd00::fe"]
max_for: 1m
presets: { lonely: { isolate: [n1] }, half: { halves: {} }, led: { isolate: ["@leader"] } }
roles:
  leader: { exec: [./who-leads] }
  primary: { exec: { command: [/bin/who, --now], user: nobody, env: { TOKEN: "${env:TOKEN}" } }, timeout: 500ms, netns: client }
  chief:
    http:
      url: "http://10.0.0.1:8080/cluster?t=${env:TOKEN}"
      method: POST
      headers: { authorization: "${env:TOKEN}" }
      body: "{}"
      pointer: /leader
      names: { "8e9e": n3 }
  followers: { http: { url: "http://{address}:8080/", peers: [n1, n2], pointer: /state, equals: follower } }
  same: { http: { url: "http://10.0.0.1/{peer}", pointer: /leader, same_as: /header/member_id } }
"#;

/// Whether the schema accepts a text that is YAML; else what it has against it.
pub(super) fn by_schema(text: &str) -> Result<(), String> {
    static VALIDATOR: std::sync::LazyLock<jsonschema::Validator> =
        std::sync::LazyLock::new(|| jsonschema::validator_for(&schema::schema()).unwrap());
    let tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let tree = serde_json::to_value(tree).map_err(|error| error.to_string())?;
    let faults: Vec<String> =
        VALIDATOR.iter_errors(&tree).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// Parses a config, and asserts that the JSON Schema accepts it too.
fn parse(text: &str) -> Config {
    let config = Config::parse(text, "lab.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    if let Err(fault) = by_schema(text.trim_start_matches('\u{feff}')) {
        panic!("config/schema.rs refuses what is a config: {fault}\n{text}");
    }
    config
}

/// The schema as it is shipped, beside the configs that name it.
#[test]
fn the_shipped_schema_is_the_one_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/lab.schema.json");
    let now = schema::text() + "\n";
    if std::env::var_os("INJECTOR_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let shipped = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(shipped, now, "run this test with INJECTOR_BLESS=1, and read `git diff`");
}

#[test]
fn the_schema_describes_each_key_and_names_what_is_wrong() {
    let schema = schema::schema();
    let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for (key, property) in definitions.filter_map(|one| one["properties"].as_object()).flatten() {
        let is_described = property.get("description").is_some() || property.get("$ref").is_some();
        assert!(is_described, "{key} has no description: {property}");
    }
    for (text, says) in [
        ("peers: { n1: { adresses: [10.0.0.1] } }\ninterfaces: auto\n", "/peers/n1"),
        ("peers: { n1: { addresses: [10.0.0.1] } }\ninterfaces: none\n", "/interfaces"),
        ("peers: { n1: { addresses: [10.0.0.1] } }\n", "interfaces"),
        ("peers: { n1: { addresses: [10.0.0.1] } }\ninterfaces: auto\ndeadline: 20\n", "/deadline"),
    ] {
        let said = by_schema(text).expect_err(text);
        assert!(said.contains(says), "{says}: {said}");
        assert!(Config::parse(text, "lab.yaml").is_err(), "{text}");
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = parse(BASE);
    assert_eq!(
        config.socket,
        Socket {
            path: "/run/injector/injector.sock".into(),
            group: "injector".into(),
            mode: 0o660,
            readers: None
        }
    );
    assert_eq!(
        config.ready,
        Ready {
            consecutive: 5,
            observe: Span::secs(12),
            observe_max: Span::secs(60),
            tolerate: Span::default()
        }
    );
    assert_eq!((config.deadline, config.max_for), (Span::secs(20), Span::secs(600)));
    assert_eq!(config.interfaces, Interfaces::Auto);
    assert!(config.endpoints.is_empty() && config.protect.is_empty() && config.presets.is_empty());
}

#[test]
fn every_key_is_read() {
    let config = parse(FULL);
    assert_eq!(config.socket.mode, 0o600);
    let names: Vec<_> = config.names.peers().map(|id| config.names.name(id)).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    assert_eq!(config.peers.iter().map(|peer| peer.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(config.peers[1].addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.peers[1].prefixes, ["10.2.0.0/16".parse::<IpNet>().unwrap()]);
    assert_eq!(config.peers[1].mac, Some([0x52, 0x54, 0, 0, 0, 2]));
    let interface = |netns, hook, name: &str| Interface { name: name.to_owned(), netns, hook, peer: None };
    assert_eq!(
        config.interfaces,
        Interfaces::Named(vec![
            interface(None, Hook::Auto, "tap1"),
            interface(Some(Netns::Name("n1".to_owned())), Hook::Xdp, "eth0"),
            interface(Some(Netns::Path("/proc/self/ns/net".into())), Hook::Clsact, "eth0"),
            interface(Some(Netns::Pid(12)), Hook::Tc, "eth0"),
        ])
    );
    assert_eq!(config.ready.tolerate, Span::millis(10));
    assert_eq!(config.protect.len(), 3);
    assert_eq!(config.protect[1], Protect::Address("10.0.0.254".parse().unwrap()));
    assert_eq!(config.presets["lonely"], Shape::Isolate(vec!["n1".into()]));
    assert_eq!(config.presets["half"], Shape::Halves(Nothing {}));
}

#[test]
fn the_text_itself_is_checked() {
    for text in ["peers: [\n", "a: b: c\n", "peers: !tag {}\n", "a: 1\n---\nb: 2\n", "peers: *x\n"] {
        let errors = Config::parse(text, "lab.yaml").unwrap_err();
        assert!(errors.0[0].what.contains("this is not YAML"), "{errors}");
        assert!(errors.0[0].remedy.contains("fix the syntax"), "{errors}");
    }
    let tab = Config::parse("peers:\n\tn1: {}\n", "lab.yaml").unwrap_err();
    assert_eq!((tab.0[0].line, tab.0[0].column), (Some(2), Some(1)), "{tab}");
    let empty = Config::parse("", "lab.yaml").unwrap_err();
    assert!(empty.0[0].what.contains("found nothing where a mapping is expected"), "{empty}");
}

#[test]
fn readers_are_another_group_than_the_sockets() {
    let of = |socket: &str| Config::parse(&format!("{BASE}socket: {socket}\n"), "lab.yaml").unwrap().socket;
    assert_eq!(of("{ readers: staff }").readers.as_deref(), Some("staff"));
    assert_eq!(of("{ group: staff }").readers, None);
}

#[test]
fn what_this_daemon_looks_after_is_checked() {
    let config = parse(
        "peers: { n1: { addresses: [10.0.0.1], vip: [10.0.0.9], forwards: true }, n2: { addresses: [10.0.0.2], vip: [10.0.0.9, \"fd00::9\"] } }\n\
         interfaces: [{ name: tap1, peer: n2 }, { name: eth0 }]\nhere: [n2]\nelsewhere: [eth1, { name: eth1, netns: x }]\n",
    );
    let vip: IpAddr = "10.0.0.9".parse().unwrap();
    assert_eq!((&config.peers[0].vip[..], config.peers[0].forwards), (&[vip][..], true));
    assert_eq!((config.peers[1].vip.len(), config.peers[1].forwards), (2, false));
    let Interfaces::Named(named) = &config.interfaces else { panic!("{:?}", config.interfaces) };
    assert_eq!(named.iter().map(|interface| interface.peer).collect::<Vec<_>>(), [Some(PeerId(2)), None]);
    assert_eq!(config.here, Some(vec![PeerId(2)]));
    assert!(config.is_here(PeerId(2)) && !config.is_here(PeerId(1)) && !config.is_here(PeerId::WORLD));
    let device = |netns: Option<&str>| Device {
        name: "eth1".to_owned(),
        netns: netns.map(|netns| Netns::Name(netns.to_owned())),
    };
    assert_eq!(config.elsewhere, [device(None), device(Some("x"))]);
    let all = parse(BASE);
    assert!(all.here.is_none() && all.elsewhere.is_empty() && all.is_here(PeerId(1)));
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_text() {
    let errors = Config::parse(
        "socket: { mode: \"0666\" }\npeers:\n  n1: { addresses: [10.2.0.1/16], mac: x }\n  n1: {}\n  \
         n2: { adresses: [] }\ninterfaces: [{ nam: eth0 }]\nendpoints:\n  - name: a\n    peers: [n1, n9]\n    \
         probe: { http: { url: \"http://{address}:8080/\" }, interval: 0s }\ndeadline: 1\n",
        "lab.yaml",
    );
    let errors = errors.unwrap_err().0;
    let paths: Vec<_> = errors.iter().map(|error| (error.line.unwrap(), error.path.as_str())).collect();
    assert_eq!(
        paths,
        [
            (1, "socket.mode"),
            (3, "peers.n1.addresses[0]"),
            (3, "peers.n1.mac"),
            (4, "peers.n1"),
            // What may follow from an unknown key comes after it; the key that it means is not also missing.
            (5, "peers.n2.adresses"),
            (5, "peers.n2"),
            (6, "interfaces[0].nam"),
            (9, "endpoints[0].peers[1]"),
            (10, "endpoints[0].probe.interval"),
            (11, "deadline"),
        ]
    );
    assert_eq!(
        errors[1].to_string(),
        "lab.yaml:3:21: peers.n1.addresses[0]: 10.2.0.1/16 has host bits set; write the address 10.2.0.1 alone, \
         or 10.2.0.0/16 for all of them"
    );
}

#[test]
fn a_file_that_can_not_be_read_says_so() {
    let error = Config::load("/nonexistent/lab.yaml").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("/nonexistent/lab.yaml: the config can't be read (No such"), "{text}");
    assert_eq!(error.0[0].line, None);
}

#[test]
fn every_fault_of_a_text_has_a_line_and_a_column() {
    for (text, line, column) in [
        ("", 1, 1),
        ("interfaces: auto\n", 1, 1),
        ("peers: { n1: { addresses: [10.0.0.1] } }\n", 1, 1),
        ("- a\n", 1, 1),
        ("peers: {}\n--- \npeers: {}\n", 2, 1),
        ("---\npeers: {}\n---\npeers: {}\n", 3, 1),
        ("peers: {}\n...\nb: {}\n", 3, 1),
        ("peers: [\n", 2, 1),
        ("peers: &a [*a]\n", 1, 8),
        ("a: \"\\u{1b}\"\n", 1, 7),
        ("peers: !x {}\n", 1, 8),
        ("peers: *nobody\n", 1, 8),
        ("\u{feff}peers: {}\n\tx: 1\n", 2, 1),
    ] {
        for error in Config::parse(text, "lab.yaml").unwrap_err().0 {
            assert!(error.line.is_some() && error.column.is_some(), "{text:?}: {error}");
        }
        let first = &Config::parse(text, "lab.yaml").unwrap_err().0[0];
        assert_eq!((first.line, first.column), (Some(line), Some(column)), "{text:?}: {first}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let marked = format!("\u{feff}{BASE}");
    assert_eq!(Config::parse(&marked, "lab.yaml"), Config::parse(BASE, "lab.yaml"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-c:{}\\[\\],&*!?|>'\" \n\t#%-]{0,60}") {
        let _ = Config::parse(&text, "lab.yaml");
    }

    #[test]
    fn no_mutilated_config_makes_it_panic(from in 0_usize..400, length in 0_usize..30, put in "[a-z0-9:{}\\[\\] \n]{0,4}") {
        let text = include_str!("../../../configs/lab.yaml");
        let chars: Vec<char> = text.chars().collect();
        let from = from.min(chars.len());
        let to = (from + length).min(chars.len());
        let text: String = chars[..from].iter().copied().chain(put.chars()).chain(chars[to..].iter().copied()).collect();
        let _ = Config::parse(&text, "lab.yaml");
    }
}
