use std::net::IpAddr;

use super::*;
use crate::model::Nothing;

/// Five lines that are right, for tests to add to.
const BASE: &str = "\
peers:
  n1: { addresses: [10.0.0.1] }
  n2: { addresses: [10.0.0.2, \"fd00::2\"] }
  net: { addresses: [10.2.0.0/16] }
interfaces: auto
";

/// What is wrong with a text in which `¶` stands before the place of the first fault.
fn faults(marked: &str) -> Vec<ConfigError> {
    let before = marked.split_once('¶').expect("a mark").0;
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    let errors = Config::parse(&marked.replacen('¶', "", 1), "lab.yaml").expect_err(marked).0;
    let first = &errors[0];
    assert_eq!((first.line, first.column), (Some(line), Some(column)), "{marked}\n{first}");
    errors
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

fn parse(text: &str) -> Config {
    Config::parse(text, "lab.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = parse(BASE);
    assert_eq!(
        config.socket,
        Socket { path: "/run/injector/injector.sock".into(), group: "injector".into(), mode: 0o660 }
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
    let config = parse(
        r#"
socket: { path: /run/lab/a.sock, group: lab, mode: "0600" }
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
        expect: { status: 201, body_contains: ok }
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
  - { name: port, peers: [n1], probe: { tcp: { target: "{address}:1" } }, wire: { port: 1, success: { prefix: "+PONG" } } }
  - { name: script, probe: { exec: { command: [/bin/check, "{seq}"], user: nobody } } }
ready: { consecutive: 3, observe: 1s, observe_max: 2s, tolerate: 10ms }
deadline: 30s
protect: [tcp/22, 10.0.0.254, "fd00::fe"]
max_for: 1m
presets: { lonely: { isolate: [n1] }, half: { halves: {} } }
"#,
    );
    assert_eq!(config.socket.mode, 0o600);
    let names: Vec<_> = config.names.peers().map(|id| config.names.name(id)).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    assert_eq!(config.peers.iter().map(|peer| peer.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(config.peers[1].addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.peers[1].prefixes, ["10.2.0.0/16".parse::<IpNet>().unwrap()]);
    assert_eq!(config.peers[1].mac, Some([0x52, 0x54, 0, 0, 0, 2]));
    let interface = |netns, hook, name: &str| Interface { name: name.to_owned(), netns, hook };
    assert_eq!(
        config.interfaces,
        Interfaces::Named(vec![
            interface(None, Hook::Auto, "tap1"),
            interface(Some(Netns::Name("n1".to_owned())), Hook::Xdp, "eth0"),
            interface(Some(Netns::Path("/proc/self/ns/net".into())), Hook::Clsact, "eth0"),
            interface(Some(Netns::Pid(12)), Hook::Tc, "eth0"),
        ])
    );
    let ends: Vec<_> = config.endpoints.iter().map(|end| (end.name.as_str(), end.role)).collect();
    assert_eq!(
        ends,
        [
            ("ingress@n1", Role::Required),
            ("ingress@n2", Role::Required),
            ("meta@n1", Role::Advisory),
            ("health@n1", Role::Required),
            ("port@n1", Role::Required),
            ("script", Role::Required),
        ]
    );
    let ingress = &config.endpoints[1];
    assert_eq!((ingress.peer, ingress.address), (Some(PeerId(2)), Some("10.0.0.2".parse().unwrap())));
    assert_eq!((ingress.base.as_str(), &ingress.netns), ("ingress", &Some(Netns::Name("client".to_owned()))));
    assert_eq!(ingress.wire, Some(Wire { port: 8080, success: WireSuccess::Http }));
    assert_eq!(
        ingress.probe,
        Probe {
            kind: ProbeKind::Http {
                url: "http://{address}:8080/{seq}".to_owned(),
                method: "POST".to_owned(),
                headers: BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]),
                body: Some("{seq} {peer}".to_owned()),
                status: Some(201),
                body_contains: Some("ok".to_owned()),
            },
            interval: Span::millis(20),
            timeout: Span::secs(2),
            connection: Connection::Pooled,
        }
    );
    let grpc = |method: &str, message: &[u8]| ProbeKind::Grpc {
        target: "{address}:5122".to_owned(),
        method: method.to_owned(),
        message: message.to_vec(),
    };
    assert_eq!(config.endpoints[2].probe.kind, grpc("a.B/C", &[0x0a, 0x01]));
    assert_eq!(config.endpoints[3].probe.kind, grpc("grpc.health.v1.Health/Check", &[]));
    assert_eq!(config.endpoints[3].probe.interval, Span::millis(10));
    assert_eq!(config.endpoints[4].probe.kind, ProbeKind::Tcp { target: "{address}:1".to_owned() });
    let prefix = WireSuccess::Prefix(b"+PONG".to_vec());
    assert_eq!(config.endpoints[4].wire, Some(Wire { port: 1, success: prefix }));
    let script = &config.endpoints[5];
    assert_eq!((script.peer, script.address, script.probe.interval), (None, None, Span::secs(1)));
    assert_eq!((script.probe.timeout, script.probe.connection), (Span::secs(1), Connection::Fresh));
    assert_eq!(config.ready.tolerate, Span::millis(10));
    assert_eq!(config.protect.len(), 3);
    assert_eq!(config.protect[1], Protect::Address("10.0.0.254".parse().unwrap()));
    assert_eq!(config.presets["lonely"], Shape::Isolate(vec!["n1".to_owned()]));
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
    assert!(empty.0[0].what.contains("nothing stands where a mapping is expected"), "{empty}");
    one("¶[1]\n", "", "a list stands where a mapping is expected", "write the keys peers and interfaces");
    one("¶interfaces: auto\n", "peers", "\"peers\" is missing", "name the peers");
    one(
        "¶peers: { n1: { addresses: [10.0.0.1] } }\n",
        "interfaces",
        "\"interfaces\" is missing",
        "the word auto",
    );
}

#[test]
fn unknown_and_duplicate_keys_are_named() {
    one_more("¶deadlines: 5s\n", "deadlines", "unknown key \"deadlines\"", "known here: peers, interfaces");
    one_more(
        "socket: { ¶port: 1 }\n",
        "socket.port",
        "unknown key \"port\"",
        "known here: path, group, mode",
    );
    one_more("deadline: 1s\n¶deadline: 2s\n", "deadline", "stands here again, first on line 6", "keep one");
    one_peer(
        "{ addresses: [10.0.0.1] }\n  ¶n1: { addresses: [10.0.0.2] }",
        "peers.n1",
        "\"n1\" stands here again, first on line 3",
        "keep one",
    );
    one_peer(
        "{ addresses: [10.0.0.1], ¶macs: x }",
        "peers.n1.macs",
        "unknown key",
        "known here: addresses, mac",
    );
    one_probe(
        "{ http: { url: \"http://x/\", expect: { ¶code: 200 } } }",
        ".http.expect.code",
        "unknown key",
        "known here: status, body_contains",
    );
    one("interfaces: auto\npeers:\n  ¶1: { addresses: [10.0.0.1] }\n", "peers.1", "not a text", "in quotes");
}

#[test]
fn peers_are_checked() {
    let named = |name: &str| format!("interfaces: auto\npeers:\n  ¶{name}: {{ addresses: [10.0.0.1] }}\n");
    one(&named("world"), "peers.world", "reserved name", "another name");
    for name in ["-n1", "\"n 1\"", "\"n1,n2\"", "\"a:b\"", "a@b", "é", "\"\""] {
        let path = format!("peers.{}", name.trim_matches('"'));
        one(&named(name), &path, "can't be the name of a peer", "use letters, digits");
    }
    one("interfaces: auto\npeers: ¶{}\n", "peers", "there is no peer", "write it as");
    one(
        "interfaces: auto\npeers: ¶[n1]\n",
        "peers",
        "a list stands where a mapping is expected",
        "write it as",
    );
    one("interfaces: auto\npeers:\n  ¶n1: {}\n", "peers.n1", "neither an address nor a mac", "addresses: [");
    one("interfaces: auto\npeers:\n  ¶n1:\n", "peers.n1", "neither an address nor a mac", "addresses: [");
    one(
        "interfaces: auto\npeers:\n  ¶n1: { addresses: [] }\n",
        "peers.n1",
        "neither an address",
        "addresses: [",
    );
    one_peer("{ addresses: ¶10.0.0.1 }", "peers.n1.addresses", "a list is expected", "write a list");
    one_peer(
        "{ addresses: [¶10.0.0] }",
        "peers.n1.addresses[0]",
        "\"10.0.0\" is not an IP address",
        "10.2.0.0/16",
    );
    one_peer(
        "{ addresses: [¶10] }",
        "peers.n1.addresses[0]",
        "the number 10 stands where a text",
        "10.0.0.1",
    );
    one_peer("{ addresses: [¶10.0.0.0/33] }", "peers.n1.addresses[0]", "is not an IP address", "10.2.0.0/16");
}

#[test]
fn addresses_are_unique_and_usable() {
    one(
        "interfaces: auto\npeers:\n  n1: { addresses: [10.0.0.1] }\n  n2: { addresses: [10.0.0.2, ¶10.0.0.1/32] }\n",
        "peers.n2.addresses[1]",
        "address 10.0.0.1 is given twice, first at peers.n1.addresses[0], line 3",
        "keep one of the two",
    );
    one_peer(
        "{ addresses: [\"fd00::1\", ¶\"fd00:0::1\"] }",
        "peers.n1.addresses[1]",
        "fd00::1 is given twice",
        "keep one",
    );
    one_peer(
        "{ addresses: [10.2.0.0/16, ¶10.2.0.0/16] }",
        "peers.n1.addresses[1]",
        "prefix 10.2.0.0/16 is given twice",
        "keep one",
    );
    parse("interfaces: auto\npeers:\n  n1: { addresses: [10.2.0.0/16, 10.2.0.0/24, 10.2.0.1] }\n");
    for (address, what, remedy) in [
        ("10.2.0.1/16", "10.2.0.1/16 has host bits set", "write 10.2.0.0/16, or the address 10.2.0.1"),
        ("\"fd00::1/64\"", "fd00::1/64 has host bits set", "write fd00::/64"),
        ("0.0.0.0", "the unspecified address", "sends from"),
        ("\"::\"", "the unspecified address", "sends from"),
        ("0.0.0.0/0", "0.0.0.0/0 is everyone", "is world already"),
        ("224.0.0.1", "224.0.0.1 is multicast", "sends from"),
        ("\"ff02::1\"", "ff02::1 is multicast", "sends from"),
        ("239.0.0.0/8", "239.0.0.0/8 is multicast", "sends from"),
        ("255.255.255.255", "the broadcast address", "sends from"),
        ("\"::ffff:10.0.0.1\"", "IPv4-mapped", "write 10.0.0.1"),
    ] {
        one_peer(&format!("{{ addresses: [10.9.9.9, ¶{address}] }}"), "peers.n1.addresses[1]", what, remedy);
    }
}

#[test]
fn macs_are_unique_and_usable() {
    for (mac, what) in [
        ("\"52:54:00:00:00\"", "is not a MAC address"),
        ("\"52:54:00:00:00:02:03\"", "is not a MAC address"),
        ("\"52:54:00:00:00:2\"", "is not a MAC address"),
        ("\"+2:54:00:00:00:02\"", "is not a MAC address"),
        ("12", "the number 12 stands where a text"),
        ("\"01:00:5e:00:00:01\"", "multicast or broadcast"),
        ("\"ff:ff:ff:ff:ff:ff\"", "multicast or broadcast"),
        ("\"00:00:00:00:00:00\"", "no interface's address"),
    ] {
        let remedy =
            if what.contains("stands") || what.contains("not a") { "six bytes" } else { "own interface" };
        one_peer(&format!("{{ mac: ¶{mac} }}"), "peers.n1.mac", what, remedy);
    }
    one(
        "interfaces: auto\npeers:\n  n1: { mac: \"52:54:00:00:00:0a\" }\n  n2: { mac: ¶\"52:54:00:00:00:0A\" }\n",
        "peers.n2.mac",
        "given twice, first at peers.n1.mac, line 3",
        "keep one",
    );
}

#[test]
fn a_host_takes_1024_peers() {
    let config = |count: usize| {
        let peers =
            (0..count).map(|at| format!("  p{at}: {{ addresses: [10.1.{}.{}] }}\n", at / 250, at % 250 + 1));
        format!("interfaces: auto\npeers:\n¶{}", peers.collect::<String>().split_off(2).replace("¶", ""))
            .replace("peers:\n¶p0", "peers:\n  ¶p0")
    };
    let full = parse(&config(MAX).replace('¶', ""));
    assert_eq!(full.peers.len(), MAX);
    one(
        &config(MAX + 1),
        "peers",
        "1025 peers are configured, and one host takes 1024",
        "join them by a prefix",
    );
}

const MAX: usize = crate::model::MAX_PEERS;

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
    listed("¶all", "interfaces", "\"all\" stands where a list is expected", "the word auto");
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
    one_more("socket: { mode: ¶432 }\n", "socket.mode", "the number 432 stands where a text", "in quotes");
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
    one_more("deadline: ¶20\n", "deadline", "the number 20 stands where a text", "\"250ms\"");
    one_more("deadline: ¶soon\n", "deadline", "\"soon\" is not a duration", "\"5s\"");
    one_more("max_for: ¶0ms\n", "max_for", "too short", "at least");
    one_more("max_for: ¶1000years\n", "max_for", "1000years is too long", "at most");
}

#[test]
fn protect_and_presets_are_checked() {
    one_more("protect: [¶sctp]\n", "protect[0]", "unknown protocol", "tcp/22 or 10.0.0.254");
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
fn endpoints_are_checked() {
    let http = "probe: { http: { url: \"http://{address}:80/\" } }";
    let endpoint = |text: &str, path: &str, what: &str, remedy: &str| {
        let text = text.replace("HTTP", http);
        one_more(&format!("endpoints: {text}\n"), path, what, remedy);
    };
    endpoint("[¶{ peers: [n1], HTTP }]", "endpoints[0].name", "\"name\" is missing", "name: ingress");
    endpoint(
        "[{ name: ¶a@b, peers: [n1], HTTP }]",
        "endpoints[0].name",
        "can't be the name of an endpoint",
        "use letters",
    );
    endpoint(
        "[{ name: a, peers: [n1], HTTP }, { name: ¶a, peers: [n2], HTTP }]",
        "endpoints[1].name",
        "\"a\" is given twice, first at endpoints[0].name, line 6",
        "add its peers to the first",
    );
    endpoint(
        "[{ name: a, peers: [n1, ¶n9], HTTP }]",
        "endpoints[0].peers[1]",
        "unknown peer \"n9\"",
        "known peers: n1, n2, net",
    );
    endpoint(
        "[{ name: a, peers: [¶world], HTTP }]",
        "endpoints[0].peers[0]",
        "no endpoint runs on \"world\"",
        "leave peers out",
    );
    endpoint("[{ name: a, peers: [n1, ¶n1], HTTP }]", "endpoints[0].peers[1]", "given twice", "keep one");
    endpoint("[{ name: a, peers: ¶[], HTTP }]", "endpoints[0].peers", "is empty", "leave peers out");
    endpoint(
        "[{ name: a, role: ¶main, peers: [n1], HTTP }]",
        "endpoints[0].role",
        "unknown role",
        "required or advisory",
    );
    endpoint(
        "[¶{ name: a, peers: [n1] }]",
        "endpoints[0].probe",
        "\"probe\" is missing",
        "say how it is probed",
    );
    for (wire, path, what, remedy) in [
        ("{ port: ¶0, success: http }", ".port", "0 is not in range", "from 1 to 65535"),
        ("{ port: ¶65536, success: http }", ".port", "65536 is not in range", "from 1 to 65535"),
        ("¶{ success: http }", ".port", "\"port\" is missing", "TCP port"),
        ("¶{ port: 1 }", ".success", "\"success\" is missing", "http, grpc, payload"),
        ("{ port: 1, success: ¶https }", ".success", "unknown success", "http, grpc, payload"),
        (
            "{ port: 1, success: { prefix: ¶\"12345678901234567\" } }",
            ".success.prefix",
            "has 17 bytes",
            "first 16",
        ),
        ("{ port: 1, success: { prefix: ¶\"\" } }", ".success.prefix", "empty", "payload takes any"),
        ("{ port: 1, success: ¶{} }", ".success.prefix", "\"prefix\" is missing", "+PONG"),
    ] {
        let text = format!("[{{ name: a, peers: [n1], HTTP, wire: {wire} }}]");
        endpoint(&text, &format!("endpoints[0].wire{path}"), what, remedy);
    }
    endpoint(
        "[{ name: a, probe: { tcp: { target: \"x:1\" } }, ¶wire: { port: 1, success: http } }]",
        "endpoints[0].wire",
        "no address that a response could come from",
        "leave wire out",
    );
}

#[test]
fn probes_are_checked() {
    let ok = "http: { url: \"http://{address}/\" }";
    one_probe("¶{}", "", "the probe has no kind", "http, grpc, tcp or exec");
    one_probe(&format!("{{ {ok}, ¶tcp: {{ target: \"x:1\" }} }}"), ".tcp", "two kinds", "another endpoint");
    for (rest, path, what, remedy) in [
        ("interval: ¶0s", ".interval", "too short", "at least 1ms"),
        ("timeout: ¶0s", ".timeout", "too short", "at least 1ms"),
        ("timeout: ¶1m", ".timeout", "leaves 6000 probes under way", "at most 1000"),
        ("connection: ¶kept", ".connection", "unknown connection", "fresh or pooled"),
    ] {
        one_probe(&format!("{{ {ok}, {rest} }}"), path, what, remedy);
    }
    one_probe(
        "{ tcp: { target: \"x:1\" }, connection: ¶pooled }",
        ".connection",
        "only http and grpc",
        "leave connection out",
    );
    for (rest, path, what, remedy) in [
        ("method: ¶\"GE T\"", ".method", "not a method", "in capitals"),
        ("method: ¶get", ".method", "not a method", "in capitals"),
        ("headers: { ¶\"a b\": c }", ".headers.a b", "name of a header", "content-type"),
        ("headers: { a: ¶1 }", ".headers.a", "the number 1", "in quotes"),
        ("headers: { a: ¶\"x\\ny\" }", ".headers.a", "value of a header", "control characters"),
        ("body: ¶1", ".body", "the number 1", "in quotes"),
        ("expect: { status: ¶99 }", ".expect.status", "99 is not in range", "from 200 to 599"),
        ("expect: { body_contains: ¶\"\" }", ".expect.body_contains", "empty", "in quotes"),
    ] {
        let probe = format!("{{ http: {{ url: \"http://{{address}}/\", {rest} }} }}");
        one_probe(&probe, &format!(".http{path}"), what, remedy);
    }
    for (grpc, path, what, remedy) in [
        ("target: \"x:1\", method: ¶Check", ".method", "is not a gRPC method", "package.Service/Method"),
        ("target: \"x:1\", method: ¶/a.B/C", ".method", "is not a gRPC method", "without a leading slash"),
        ("target: \"x:1\", message: ¶\"%\"", ".message", "is not base64", "with padding"),
        ("target: ¶\"{address}\"", ".target", "has no port", "host and port"),
        ("target: ¶\"http://x:1\"", ".target", "\"http://x:1\" is not a host with a port", "host and port"),
        ("target: ¶\"x:0\"", ".target", "has no port from 1", "host and port"),
    ] {
        one_probe(&format!("{{ grpc: {{ {grpc} }} }}"), &format!(".grpc{path}"), what, remedy);
    }
    one_probe("{ tcp: ¶{} }", ".tcp.target", "\"target\" is missing", "host and port");
    one_probe("{ exec: { command: ¶[] } }", ".exec.command", "the command is empty", "program and arguments");
    one_probe(
        "{ exec: { command: ¶ls -l } }",
        ".exec.command",
        "a list is expected",
        "program and arguments",
    );
    one_probe("{ exec: { command: [ls, ¶1] } }", ".exec.command[1]", "the number 1", "list of texts");
    one_probe("{ exec: { command: [ls], user: ¶0 } }", ".exec.user", "the number 0", "user's name");
}

#[test]
fn urls_and_placeholders_are_tried_with_every_peer() {
    for (url, what) in [
        ("{address}:8080/", "has no scheme"),
        ("https://{address}/", "has the scheme https"),
        ("http:///x", "is not a URL"),
        ("http://[{address}]/", "is not a URL"),
        ("http://{address}:99999/", "is not a URL"),
        ("http://{address}:0/", "has a port that is not from 1"),
        ("http://me@{address}/", "names a user"),
        ("http://{adress}/", "unknown placeholder {adress}"),
        ("http://{address}/{seq", "unknown placeholder {seq"),
        ("http://{address}/a b", "is not a URL"),
    ] {
        let remedy =
            if what.contains("placeholder") { "known are {seq}" } else { "http://{address}:8080/health" };
        one_probe(&format!("{{ http: {{ url: ¶\"{url}\" }} }}"), ".http.url", what, remedy);
    }
    // An IPv6 address is bracketed before the URL is tried.
    parse(
        "peers: { n1: { addresses: [\"fd00::1\"] } }\ninterfaces: auto\nendpoints:\n\
         - { name: a, peers: [n1], probe: { http: { url: \"http://{address}:8080/{seq}?{peer}\" } } }\n\
         - { name: b, peers: [n1], probe: { tcp: { target: \"{address}:8080\" } } }\n",
    );
    one_more(
        "endpoints:\n- { name: a, peers: [n1, net], probe: { tcp: { target: ¶\"{address}:1\" } } }\n",
        "endpoints[0].probe.tcp.target",
        "{address} needs a single address, and peer \"net\" has none",
        "add one to peers.net.addresses",
    );
    for (probe, path, place) in [
        ("tcp: { target: ¶\"{address}:1\" }", "tcp.target", "{address}"),
        ("http: { url: \"http://x/\", body: ¶\"{peer}\" }", "http.body", "{peer}"),
        ("exec: { command: [x, ¶\"{address}\"] }", "exec.command[1]", "{address}"),
    ] {
        one_more(
            &format!("endpoints:\n- {{ name: a, probe: {{ {probe} }} }}\n"),
            &format!("endpoints[0].probe.{path}"),
            &format!("{place} stands for the endpoint's peer"),
            "peers: [n1]",
        );
    }
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
        "lab.yaml:3:20: peers.n1.addresses[0]: 10.2.0.1/16 has host bits set; write 10.2.0.0/16, or the address \
         10.2.0.1 alone"
    );
}

#[test]
fn a_file_that_can_not_be_read_says_so() {
    let error = Config::load("/nonexistent/lab.yaml").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("/nonexistent/lab.yaml: the config can't be read (No such file"), "{text}");
    assert_eq!(error.0[0].line, None);
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
