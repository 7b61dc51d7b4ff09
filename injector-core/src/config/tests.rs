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

/// What is wrong with a text in which `¶` stands before the place of the first fault.
fn faults(marked: &str) -> Vec<ConfigError> {
    let before = marked.split_once('¶').expect("a mark").0;
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    let errors = Config::parse(&marked.replacen('¶', "", 1), "lab.yaml").expect_err(marked).0;
    let first = &errors[0];
    assert_eq!((first.line, first.column), (Some(line), Some(column)), "{marked}\n{first}");
    if errors.iter().any(|error| error.what.contains("unknown key")) {
        let refused = by_schema(&marked.replacen('¶', "", 1));
        assert!(refused.is_err(), "config/schema.rs accepts an unknown key: {marked}");
    }
    errors
}

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

/// Asserts one fault: at the mark, with this path, and these parts of what and remedy.
fn one(marked: &str, path: &str, what: &str, remedy: &str) {
    let errors = faults(marked);
    let shown = ConfigErrors(errors.clone()).to_string();
    assert_eq!(errors.len(), 1, "{marked}\n{shown}");
    assert_eq!(errors[0].path, path, "{shown}");
    assert!(errors[0].what.contains(what), "{shown}");
    assert!(errors[0].remedy.contains(remedy), "{shown}");
}

/// The same for a text that follows [`BASE`].
fn one_more(marked: &str, path: &str, what: &str, remedy: &str) {
    one(&format!("{BASE}{marked}"), path, what, remedy);
}

/// The same for the body of `n1`.
fn one_peer(body: &str, path: &str, what: &str, remedy: &str) {
    one(&format!("interfaces: auto\npeers:\n  n1: {body}\n"), path, what, remedy);
}

/// The same for an endpoint's probe.
fn one_probe(probe: &str, path: &str, what: &str, remedy: &str) {
    let path = format!("endpoints[0].probe{path}");
    one_more(
        &format!("endpoints:\n  - name: e\n    peers: [n1, n2]\n    probe: {probe}\n"),
        &path,
        what,
        remedy,
    );
}

/// What is a config is one by the schema too.
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
        assert!(errors.0[0].remedy.contains("mend the syntax"), "{errors}");
    }
    let tab = Config::parse("peers:\n\tn1: {}\n", "lab.yaml").unwrap_err();
    assert_eq!((tab.0[0].line, tab.0[0].column), (Some(2), Some(1)), "{tab}");
    let empty = Config::parse("", "lab.yaml").unwrap_err();
    assert!(empty.0[0].what.contains("found nothing where a mapping is expected"), "{empty}");
    one("¶[1]\n", "", "found a list where a mapping is expected", "write the keys peers and interfaces");
    one("¶interfaces: auto\n", "peers", "\"peers\" is missing", "name the peers");
    one(
        "¶peers: { n1: { addresses: [10.0.0.1] } }\n",
        "interfaces",
        "\"interfaces\" is missing",
        "the word auto",
    );
}

#[test]
fn readers_are_another_group_than_the_sockets() {
    let of = |socket: &str| Config::parse(&format!("{BASE}socket: {socket}\n"), "lab.yaml").unwrap().socket;
    assert_eq!(of("{ readers: staff }").readers.as_deref(), Some("staff"));
    assert_eq!(of("{ group: staff }").readers, None);
    one_more("socket: { readers: ¶injector }\n", "socket.readers", "owns the socket", "name another group");
    one_more("socket: { readers: ¶7 }\n", "socket.readers", "", "in quotes");
}

#[test]
fn unknown_and_duplicate_keys_are_named() {
    one_more("¶deadlines: 5s\n", "deadlines", "unknown key \"deadlines\"", "known here: peers, interfaces");
    one_more(
        "socket: { ¶port: 1 }\n",
        "socket.port",
        "unknown key \"port\"",
        "known here: path, group, mode, readers",
    );
    one_more(
        "deadline: 1s\n¶deadline: 2s\n",
        "deadline",
        "duplicate key \"deadline\", first on line 6",
        "keep one",
    );
    one_peer(
        "{ addresses: [10.0.0.1] }\n  ¶n1: { addresses: [10.0.0.2] }",
        "peers.n1",
        "duplicate key \"n1\", first on line 3",
        "keep one",
    );
    one_peer(
        "{ addresses: [10.0.0.1], ¶macs: x }",
        "peers.n1.macs",
        "unknown key",
        "known here: addresses, mac",
    );
    one_probe(
        "{ http: { url: \"http://localhost/\", expect: { ¶code: 200 } } }",
        ".http.expect.code",
        "unknown key",
        "known here: status, body_contains",
    );
    one("interfaces: auto\npeers:\n  ¶1: { addresses: [10.0.0.1] }\n", "peers.1", "not a text", "in quotes");
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

    one_more("here: ¶n1\n", "here", "a list is expected", "here: [n1]");
    one_more("here: ¶[]\n", "here", "cut nothing", "here: [n1]");
    one_more("here: [n1, ¶n9]\n", "here[1]", "unknown peer \"n9\"", "the peers are n1, n2, net");
    one_more("here: [¶world]\n", "here[0]", "everyone who is no peer", "here: [n1]");
    one_more("here: [n1, ¶n1]\n", "here[1]", "given twice, first at here[0], line 6", "keep one");
    one_more("elsewhere: ¶eth1\n", "elsewhere", "a list is expected", "elsewhere: [eth1]");
    one_more("elsewhere: [¶a/b]\n", "elsewhere[0]", "can't be the name of an interface", "ip link");
    one_more("elsewhere: [¶{ netns: x }]\n", "elsewhere[0].name", "is missing", "{ name: eth0 }");
    one_more("elsewhere: [eth1, ¶eth1]\n", "elsewhere[1]", "given twice", "keep one");
    one_peer("{ addresses: [10.0.0.1], vip: ¶10.0.0.9 }", "peers.n1.vip", "a list is expected", "vip: [");
    one_peer(
        "{ addresses: [10.0.0.1], vip: [¶10.0.0.0/8] }",
        "peers.n1.vip[0]",
        "not an IP address",
        "vip: [",
    );
    one_peer("{ addresses: [10.0.0.1], vip: [¶224.0.0.1] }", "peers.n1.vip[0]", "is multicast", "sends from");
    one_peer(
        "{ addresses: [10.0.0.1], vip: [10.0.0.9, ¶10.0.0.9] }",
        "peers.n1.vip[1]",
        "given twice for this peer",
        "keep one",
    );
    one_peer(
        "{ addresses: [10.0.0.1], vip: [¶10.0.0.1] }",
        "peers.n1.vip[0]",
        "a peer's own address too, at peers.n1.addresses[0], line 3",
        "take it out of one of the lists",
    );
    one_peer(
        "{ addresses: [10.0.0.1], forwards: ¶1 }",
        "peers.n1.forwards",
        "neither true nor false",
        "router",
    );
    let worded = |peer: &str| {
        format!(
            "peers: {{ n1: {{ addresses: [10.0.0.1] }} }}\ninterfaces: [{{ name: tap1, peer: ¶{peer} }}]\n"
        )
    };
    one(&worded("n2"), "interfaces[0].peer", "unknown peer \"n2\"", "the peers are n1");
    one(&worded("world"), "interfaces[0].peer", "everyone who is no peer", "{ name: tap1, peer: n1 }");
}

#[test]
fn interfaces_are_checked() {
    let listed = |list: &str, path: &str, what: &str, remedy: &str| {
        one(
            &format!("peers: {{ n1: {{ addresses: [10.0.0.1] }} }}\ninterfaces: {list}\n"),
            path,
            what,
            remedy,
        );
    };
    listed("[{ name: ¶lo }]", "interfaces[0].name", "what a host sends to itself", "interfaces: auto");
    listed("¶all", "interfaces", "found \"all\" where a list is expected", "the word auto");
    listed("¶[]", "interfaces", "the list of interfaces is empty", "the word auto");
    listed("[¶{ netns: n1 }]", "interfaces[0].name", "\"name\" is missing", "{ name: eth0 }");
    listed("[¶eth0]", "interfaces[0]", "a mapping is expected", "{ name: eth0 }");
    listed("[{ name: ¶\"\" }]", "interfaces[0].name", "empty", "such as eth0");
    listed("[{ name: ¶abcdefghijklmnop }]", "interfaces[0].name", "has 16 bytes", "ip link");
    listed(
        "[{ name: ¶eth0@if2:x }]",
        "interfaces[0].name",
        "can't be the name of an interface",
        "what follows '@'",
    );
    listed(
        "[{ name: eth0, hook: ¶tcx }]",
        "interfaces[0].hook",
        "unknown hook \"tcx\"",
        "auto, tc, clsact or xdp",
    );
    listed(
        "[{ name: eth0, netns: ¶a/b }]",
        "interfaces[0].netns",
        "neither a name nor an absolute path",
        "/run/netns",
    );
    listed(
        "[{ name: eth0, netns: { pid: ¶0 } }]",
        "interfaces[0].netns.pid",
        "0 is not in range",
        "from 1 to",
    );
    listed(
        "[{ name: eth0, netns: { ¶pit: 3, pid: 3 } }]",
        "interfaces[0].netns.pit",
        "unknown key",
        "known here: pid",
    );
    listed(
        "[{ name: eth0, netns: a }, { name: eth0 }, ¶{ name: eth0, netns: a, hook: xdp }]",
        "interfaces[2]",
        "interface eth0 in a is given twice, first at interfaces[0], line 2",
        "keep one",
    );
}

#[test]
fn socket_ready_and_times_are_checked() {
    one_more("socket: { path: ¶run/a.sock }\n", "socket.path", "is relative", "absolute path");
    one_more(
        &format!("socket: {{ path: ¶/{} }}\n", "x".repeat(107)),
        "socket.path",
        "has 108 bytes",
        "shorter",
    );
    one_more("socket: { group: ¶\"\" }\n", "socket.group", "empty", "group's name");
    for mode in ["\"0668\"", "\"rw\"", "\"01777\"", "\"+660\"", "\"\""] {
        one_more(
            &format!("socket: {{ mode: ¶{mode} }}\n"),
            "socket.mode",
            "not an octal file mode",
            "\"0660\"",
        );
    }
    one_more("socket: { mode: ¶432 }\n", "socket.mode", "found the number 432 where a text", "in quotes");
    one_more("socket: { mode: ¶\"0666\" }\n", "socket.mode", "lets everyone cut the network", "\"0664\"");
    one_more("ready: { consecutive: ¶0 }\n", "ready.consecutive", "0 is not in range", "from 1 to");
    one_more(
        "ready: { consecutive: ¶five }\n",
        "ready.consecutive",
        "where a number is expected",
        "from 1 to",
    );
    one_more("ready: { observe: ¶0s }\n", "ready.observe", "0s is too short", "at least");
    one_more(
        "ready: { observe: 5s, observe_max: ¶4s }\n",
        "ready.observe_max",
        "shorter than observe of 5s",
        "at least 5s",
    );
    one_more(
        "ready: ¶{ observe: 90s }\n",
        "ready",
        "observe_max of 1m is shorter than observe of 1m 30s",
        "at least 1m 30s",
    );
    one_more("ready: { tolerate: ¶12s }\n", "ready.tolerate", "not shorter than observe", "shorter one");
    one_more("deadline: ¶0s\n", "deadline", "0s is too short", "at least 1ns");
    one_more("deadline: ¶20\n", "deadline", "found the number 20 where a text", "\"250ms\"");
    one_more("deadline: ¶soon\n", "deadline", "\"soon\" is not a duration", "\"5s\"");
    one_more("max_for: ¶0ms\n", "max_for", "too short", "at least");
    one_more("max_for: ¶1000years\n", "max_for", "1000years is too long", "at most");
}

#[test]
fn protect_and_presets_are_checked() {
    one_more("protect: [¶gre]\n", "protect[0]", "unknown protocol", "tcp/22 or 10.0.0.254");
    one_more("protect: [tcp/22, ¶icmp/8]\n", "protect[1]", "ICMP has no ports", "tcp/22");
    one_more("protect: [¶10.0.0.0/8]\n", "protect[0]", "10.0.0.0/8 is a prefix", "single addresses");
    one_more("protect: ¶tcp/22\n", "protect", "a list is expected", "such as: [tcp/22");
    one_more(
        "presets: { a: { isolate: [n1, ¶n9] } }\n",
        "presets.a.isolate[1]",
        "unknown peer \"n9\"",
        "known peers: n1, n2, net, world",
    );
    one_more(
        "presets: { n9: { grudge: { n1: [¶n9] } } }\n",
        "presets.n9.grudge.n1[0]",
        "unknown peer \"n9\"",
        "known peers",
    );
    one_more(
        "presets: { b: { halves: {} }, a: ¶{ preset: b } }\n",
        "presets.a",
        "refers to a preset",
        "write the shape itself",
    );
    one_more(
        "presets: { a: ¶{ isolate: [n1, n2, net] } }\n",
        "presets.a",
        "cuts nothing",
        "leave a peer out",
    );
    one_more("presets: { a: ¶{ insulate: [n1] } }\n", "presets.a", "is not a shape", "{ isolate: [n1] }");
    one_more("presets: { a: ¶isolate n1 }\n", "presets.a", "is not a shape", "{ isolate: [n1] }");
    one_more(
        "presets: { ¶a b: { halves: {} } }\n",
        "presets.a b",
        "can't be the name of a preset",
        "use letters",
    );
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_text() {
    let errors = faults(
        "socket: { mode: ¶\"0666\" }\npeers:\n  n1: { addresses: [10.2.0.1/16], mac: x }\n  n1: {}\n  \
         n2: { adresses: [] }\ninterfaces: [{ nam: eth0 }]\nendpoints:\n  - name: a\n    peers: [n1, n9]\n    \
         probe: { http: { url: \"http://{address}:8080/\" }, interval: 0s }\ndeadline: 1\n",
    );
    let paths: Vec<_> = errors.iter().map(|error| (error.line.unwrap(), error.path.as_str())).collect();
    assert_eq!(
        paths,
        [
            (1, "socket.mode"),
            (3, "peers.n1.addresses[0]"),
            (3, "peers.n1.mac"),
            (4, "peers.n1"),
            (5, "peers.n2"),
            (5, "peers.n2.adresses"),
            (6, "interfaces[0].name"),
            (6, "interfaces[0].nam"),
            (9, "endpoints[0].peers[1]"),
            (10, "endpoints[0].probe.interval"),
            (11, "deadline"),
        ]
    );
    assert_eq!(
        errors[1].to_string(),
        "lab.yaml:3:21: peers.n1.addresses[0]: 10.2.0.1/16 has host bits set; write 10.2.0.0/16, or the address \
         10.2.0.1 alone"
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
