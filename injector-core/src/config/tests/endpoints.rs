use super::*;

#[test]
fn endpoints_have_an_instance_for_each_peer() {
    let config = parse(FULL);
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
                url: "http://{address}:8080/{seq}".into(),
                method: "POST".to_owned(),
                headers: BTreeMap::from([("content-type".to_owned(), "application/json".into())]),
                body: Some("{seq} {peer}".into()),
                status: Some(201),
                body_contains: Some("ok".into()),
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
}

#[test]
fn endpoints_are_checked() {
    let http = "probe: { http: { url: \"http://{address}:80/\" } }";
    let endpoint = |text: &str, path: &str, what: &str, remedy: &str| {
        let text = text.replace("HTTP", http);
        one_more(&format!("endpoints: {text}\n"), path, what, remedy);
    };
    endpoint(
        "[{ name: a, peers: [n1], HTTP, wire: { port: 80, success: http } }, { name: b, peers: [n1], HTTP, wire: ¶{ \
         port: 80, success: payload } }]",
        "endpoints[1].wire",
        "endpoint \"a@n1\" takes something else as a success from port 80 there",
        "give both the same success",
    );
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
        "[{ name: a, probe: { tcp: { target: \"localhost:1\" } }, ¶wire: { port: 1, success: http } }]",
        "endpoints[0].wire",
        "no address that a response could come from",
        "leave wire out",
    );
}

#[test]
fn probes_are_checked() {
    let ok = "http: { url: \"http://{address}/\" }";
    one_probe("¶{}", "", "the probe has no kind", "http, grpc, tcp or exec");
    one_probe(
        &format!("{{ {ok}, ¶tcp: {{ target: \"localhost:1\" }} }}"),
        ".tcp",
        "two kinds",
        "another endpoint",
    );
    for (rest, path, what, remedy) in [
        ("interval: ¶0s", ".interval", "too short", "at least 1ms"),
        ("timeout: ¶0s", ".timeout", "too short", "at least 1ms"),
        ("timeout: ¶1m", ".timeout", "leaves 6000 probes under way", "at most 1000"),
        ("connection: ¶kept", ".connection", "unknown connection", "fresh or pooled"),
    ] {
        one_probe(&format!("{{ {ok}, {rest} }}"), path, what, remedy);
    }
    one_probe(
        "{ tcp: { target: \"localhost:1\" }, connection: ¶pooled }",
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
        (
            "expect: { status: 204, body_contains: ¶ok }",
            ".expect.body_contains",
            "of status 204 has no body",
            "leave",
        ),
        (
            "method: HEAD, expect: { body_contains: ¶ok }",
            ".expect.body_contains",
            "to HEAD has no body",
            "leave",
        ),
        ("expect: { body_contains: ¶\"\" }", ".expect.body_contains", "empty", "in quotes"),
    ] {
        let probe = format!("{{ http: {{ url: \"http://{{address}}/\", {rest} }} }}");
        one_probe(&probe, &format!(".http{path}"), what, remedy);
    }
    for (grpc, path, what, remedy) in [
        (
            "target: \"localhost:1\", method: ¶Check",
            ".method",
            "is not a gRPC method",
            "package.Service/Method",
        ),
        (
            "target: \"localhost:1\", method: ¶/a.B/C",
            ".method",
            "is not a gRPC method",
            "without a leading slash",
        ),
        ("target: \"localhost:1\", message: ¶\"%\"", ".message", "is not base64", "with padding"),
        ("target: ¶\"{address}\"", ".target", "has no port", "host and port"),
        ("target: ¶\"http://x:1\"", ".target", "\"http://x:1\" is not a host with a port", "host and port"),
        ("target: ¶\"localhost:0\"", ".target", "has a port that is not from 1", "host and port"),
        ("target: ¶\"db:1\"", ".target", "names are not resolved", "host and port"),
        ("target: ¶\"unix:/run/x\"", ".target", "is not a host with a port", "host and port"),
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
        ("{address}:8080/", "is not a URL"),
        ("/health", "has no scheme"),
        ("https://{address}/", "has the scheme https"),
        ("http:///x", "is not a URL"),
        ("http://[{address}]/", "has a host [10.0.0.1] that is not an IPv6 address"),
        ("http://{address}:99999/", "has a port that is not from 1"),
        ("http://db.example:8080/", "has the host name db.example, and names are not resolved"),
        ("http://{peer}:8080/", "has the host name n1, and names are not resolved"),
        ("http://10.0.0.256:8080/", "has the host name 10.0.0.256"),
        ("http://0.0.0.0:8080/", "is not an address that can be sent to"),
        ("http://[::]:8080/", "is not an address that can be sent to"),
        ("http://224.0.0.1:8080/", "is a multicast address"),
        ("http://[ff02::1]:8080/", "is a multicast address"),
        ("http://255.255.255.255/", "is the broadcast address"),
        ("http://[fe80::1]:8080/", "is link-local"),
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
         - { name: b, peers: [n1], probe: { tcp: { target: \"{address}:8080\" } } }\n\
         - { name: c, peers: [n1], probe: { tcp: { target: \"[{address}]:8080\" } } }\n\
         - { name: d, probe: { tcp: { target: \"localhost:8080\" } } }\n\
         - { name: e, probe: { http: { url: \"http://localhost/\" } } }\n",
    );
    one_more(
        "endpoints:\n- { name: a, peers: [n1, net], probe: { tcp: { target: ¶\"{address}:1\" } } }\n",
        "endpoints[0].probe.tcp.target",
        "{address} needs a single address, and peer \"net\" has none",
        "add one to peers.net.addresses",
    );
    for (probe, path, place) in [
        ("tcp: { target: ¶\"{address}:1\" }", "tcp.target", "{address}"),
        ("http: { url: \"http://localhost/\", body: ¶\"{peer}\" }", "http.body", "{peer}"),
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
