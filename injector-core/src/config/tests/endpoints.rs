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
                request: HttpRequest {
                    url: "http://{address}:8080/{seq}".into(),
                    method: "POST".to_owned(),
                    headers: BTreeMap::from([("content-type".to_owned(), "application/json".into())]),
                    body: Some("{seq} {peer}".into()),
                    unix: None,
                    tls: None,
                },
                expect: HttpExpect {
                    status: 201.into(),
                    body_contains: Some("ok".into()),
                    json: Some(JsonValue { pointer: "/status".to_owned(), equals: "ok".to_owned() }),
                },
            },
            options: ProbeOptions {
                interval: Span::millis(20),
                timeout: Span::secs(2),
                connection: Connection::Pooled,
            },
        }
    );
    let grpc = |method: &str, message: &[u8]| ProbeKind::Grpc {
        target: Target::Host("{address}:5122".to_owned()),
        tls: None,
        method: method.to_owned(),
        message: message.to_vec(),
    };
    assert_eq!(config.endpoints[2].probe.kind, grpc("a.B/C", &[0x0a, 0x01]));
    assert_eq!(config.endpoints[3].probe.kind, grpc("grpc.health.v1.Health/Check", &[]));
    assert_eq!(config.endpoints[3].probe.options.interval, Span::millis(10));
    let exchange = Exchange { send: "PING\r\n".into(), expect: "+PONG".into() };
    assert_eq!(
        config.endpoints[4].probe.kind,
        ProbeKind::Tcp {
            target: Target::Host("{address}:1".to_owned()),
            tls: None,
            exchange: Some(exchange)
        }
    );
    let prefix = WireSuccess::Prefix(b"+PONG".to_vec());
    assert_eq!(config.endpoints[4].wire, Some(Wire { port: 1, success: prefix }));
    let script = &config.endpoints[5];
    assert_eq!((script.peer, script.address, script.probe.options.interval), (None, None, Span::secs(1)));
    assert_eq!(
        (script.probe.options.timeout, script.probe.options.connection),
        (Span::secs(1), Connection::Fresh)
    );
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
        ("expect: { status: ¶2XX }", ".expect.status", "\"2XX\" is not a status", "a class such as 2xx"),
        ("expect: { status: ¶[] }", ".expect.status", "the list of statuses is empty", "from 200 to 599"),
        ("expect: { status: [200, ¶700] }", ".expect.status[1]", "700 is not in range", "from 200 to 599"),
        ("expect: { status: [2xx, ¶2xx] }", ".expect.status[1]", "given twice", "keep one"),
        (
            "expect: { status: [204, 304], json: ¶{ pointer: /a, equals: b } }",
            ".expect.json",
            "of status 204 or 304 has no body",
            "leave json out",
        ),
        (
            "expect: { json: { pointer: ¶status, equals: ok } }",
            ".expect.json.pointer",
            "not a JSON pointer",
            "begins with /",
        ),
        (
            "expect: { json: ¶{ pointer: /status } }",
            ".expect.json.equals",
            "\"equals\" is missing",
            "equals: ok",
        ),
        ("expect: { json: ¶{ equals: ok } }", ".expect.json.pointer", "\"pointer\" is missing", "/status"),
        (
            "expect: { json: { pointer: /a, equals: ¶[] } }",
            ".expect.json.equals",
            "neither a text nor",
            "the value",
        ),
        ("unix: ¶app.sock", ".unix", "is a relative path", "absolute path"),
        ("¶tls: {}", ".tls", "nothing is encrypted", "https://"),
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
        ("target: ¶\"db_{seq}:1\"", ".target", "changes with {seq}", "host and port"),
        ("target: ¶\"unix:run/x\"", ".target", "\"run/x\" is a relative path", "absolute path"),
    ] {
        one_probe(&format!("{{ grpc: {{ {grpc} }} }}"), &format!(".grpc{path}"), what, remedy);
    }
}

#[test]
fn texts_tls_and_commands_of_probes_are_checked() {
    one_probe("{ tcp: ¶{} }", ".tcp.target", "\"target\" is missing", "host and port");
    for (tcp, path, what, remedy) in [
        ("¶send: \"PING\\r\\n\"", ".send", "nobody looks at the answer", "expect: \"+PONG\""),
        ("¶expect: \"+PONG\"", ".expect", "nothing is asked", "send: \"\" for a server that speaks first"),
        ("send: x, expect: ¶\"\"", ".expect", "empty", "begins with"),
        ("send: ¶1, expect: x", ".send", "the number 1", "in quotes"),
        ("send: \"{seq}\", expect: ¶\"${envv:T}\"", ".expect", "names no source of secrets", "${env:NAME}"),
    ] {
        let probe = format!("{{ tcp: {{ target: \"localhost:1\", {tcp} }} }}");
        one_probe(&probe, &format!(".tcp{path}"), what, remedy);
    }
    for (tls, path, what, remedy) in [
        ("ca: ¶ca.pem", ".ca", "the path \"ca.pem\" is relative", "absolute path of a PEM file"),
        ("ca: ¶\"-----BEGIN CERTIFICATE-----\"", ".ca", "the PEM itself is written here", "absolute path"),
        ("¶cert: /a.pem", ".cert", "key is missing", "key: /etc/lab/client.key"),
        ("¶key: /a.key", ".key", "cert is missing", "cert: /etc/lab/client.pem"),
        ("insecure: ¶1", ".insecure", "true or false", "leave insecure out"),
        ("insecure: true, ¶ca: /a.pem", ".ca", "is not checked, and ca has no effect", "keep one"),
        ("server_name: ¶\"a:443\"", ".server_name", "neither a host name nor an address", "without a port"),
        ("¶verify: false", ".verify", "unknown key \"verify\"", "ca, cert, key, insecure, server_name"),
    ] {
        let probe = format!("{{ grpc: {{ target: \"localhost:1\", tls: {{ {tls} }} }} }}");
        one_probe(&probe, &format!(".grpc.tls{path}"), what, remedy);
    }
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
fn tls_has_its_trust_and_its_name() {
    let probe = |probe: &str| {
        let text = format!("{BASE}endpoints: [{{ name: e, peers: [n1, n2], probe: {probe} }}]\n");
        parse(&text).endpoints.remove(0).probe.kind
    };
    let tls_of = |kind: ProbeKind| match kind {
        ProbeKind::Http { request, .. } => request.tls,
        ProbeKind::Grpc { tls, .. } | ProbeKind::Tcp { tls, .. } => tls,
        ProbeKind::Exec { .. } => None,
    };
    let host = Tls { trust: Trust::Host, identity: None, server_name: None };
    assert_eq!(tls_of(probe("{ http: { url: \"https://{address}/\" } }")), Some(host.clone()));
    assert_eq!(tls_of(probe("{ http: { url: \"http://{address}/\" } }")), None);
    assert_eq!(tls_of(probe("{ grpc: { target: \"{address}:1\" } }")), None);
    assert_eq!(tls_of(probe("{ tcp: { target: \"{address}:1\", tls: {} } }")), Some(host));
    let given = "{ grpc: { target: \"unix:/run/{peer}.sock\", tls: { ca: /ca.pem, cert: /c.pem, key: /k.pem, \
                 server_name: \"fd00::1\" } } }";
    let ProbeKind::Grpc { target, tls, .. } = probe(given) else { panic!() };
    assert_eq!(target, Target::Unix("/run/{peer}.sock".to_owned()));
    let identity = Identity { cert: PemFile::new("/c.pem"), key: PemFile::new("/k.pem") };
    assert_eq!(
        tls,
        Some(Tls {
            trust: Trust::Ca(PemFile::new("/ca.pem")),
            identity: Some(identity),
            server_name: Some("fd00::1".to_owned())
        })
    );
    let any = tls_of(probe("{ http: { url: \"https://{address}/\", tls: { insecure: true } } }")).unwrap();
    assert_eq!(any.trust, Trust::Anyone);
}

#[test]
fn names_are_left_to_the_start() {
    let mut config = parse(&format!(
        "{BASE}endpoints:\n- {{ name: a, peers: [n1, n2], probe: {{ http: {{ url: \"https://{{peer}}.lab:1/\" }} }} }}\n- {{ \
         name: b, probe: {{ tcp: {{ target: \"db:1\" }} }}, family: ipv6 }}\n- {{ name: c, peers: [n1], probe: {{ http: \
         {{ url: \"http://db/\", unix: /run/app.sock }} }} }}\nroles: {{ leader: {{ http: {{ url: \
         \"http://{{peer}}.lab/\", peers: [n1, n2], pointer: /a, equals: b }} }} }}\n"
    ));
    let wanted: Vec<_> = config
        .host_names()
        .map(|(path, family, names, _)| (path, family, names.into_iter().collect::<Vec<_>>().join(" ")))
        .collect();
    let wanted: Vec<_> =
        wanted.iter().map(|(path, family, names)| (path.as_str(), *family, names.as_str())).collect();
    assert_eq!(
        wanted,
        [
            ("endpoints: a", None, "n1.lab"),
            ("endpoints: a", None, "n2.lab"),
            ("endpoints: b", Some(Family::Ipv6), "db"),
            ("endpoints: c", None, ""),
            ("roles.leader", None, "n1.lab n2.lab"),
        ]
    );
    let goes = |at: usize| config.endpoints[at].destination(Some("n1"));
    assert_eq!((goes(0), goes(3)), (None, None), "not resolved yet, and a Unix socket");
    let mut resolved = config.endpoints[0].clone();
    resolved.hosts.insert("n1.lab".to_owned(), [10, 0, 0, 9].into());
    assert_eq!(resolved.destination(Some("n1")), Some([10, 0, 0, 9].into()));
    resolved.probe.kind =
        ProbeKind::Tcp { target: Target::Host("{address}:1".to_owned()), tls: None, exchange: None };
    assert_eq!(resolved.destination(Some("n1")), Some([10, 0, 0, 1].into()));
}

#[test]
fn an_endpoint_has_the_address_of_its_family() {
    let http = "probe: { http: { url: \"http://{address}/\" } }, wire: { port: 80, success: http }";
    let config = parse(&format!("{BASE}endpoints: [{{ name: a, peers: [n2], family: ipv6, {http} }}]\n"));
    assert_eq!(config.endpoints[0].address, Some("fd00::2".parse().unwrap()));
    for (family, what, remedy) in [
        ("ipv6", "peer \"n1\" has no single address of ipv6", "add one to peers.n1.addresses"),
        ("ip6", "unknown family \"ip6\"", "ipv4 or ipv6"),
    ] {
        let text = format!("endpoints: [{{ name: a, peers: [n1], family: ¶{family}, {http} }}]\n");
        one_more(&text, "endpoints[0].family", what, remedy);
    }
}

#[test]
fn the_programs_read_no_tls() {
    for (probe, success) in [
        ("http: { url: \"https://{address}/\" }", "http"),
        ("grpc: { target: \"{address}:443\", tls: {} }", "grpc"),
    ] {
        one_more(
            &format!(
                "endpoints: [{{ name: a, peers: [n1], probe: {{ {probe} }}, wire: ¶{{ port: 443, success: {success} }} }}]\n"
            ),
            "endpoints[0].wire",
            "speaks TLS, in which the programs can't read a response",
            "leave wire out",
        );
        parse(&format!(
            "{BASE}endpoints: [{{ name: a, peers: [n1], probe: {{ {probe} }}, wire: {{ port: 443, success: payload }} }}]\n"
        ));
    }
}

#[test]
fn urls_and_placeholders_are_tried_with_every_peer() {
    for (url, what) in [
        ("{address}:8080/", "is not a URL"),
        ("/health", "has no scheme"),
        ("ftp://{address}/", "has the scheme ftp"),
        ("HTTPS://{address}/", "has a scheme in capitals"),
        ("http:///x", "is not a URL"),
        ("http://[{address}]/", "has a host [10.0.0.1] that is not an IPv6 address"),
        ("http://{address}:99999/", "has a port that is not from 1"),
        ("http://-db.example:8080/", "has the host -db.example, which is neither an address nor a host name"),
        ("http://db..example:8080/", "has the host db..example, which is neither"),
        ("http://10.0.0.256:8080/", "has the host 10.0.0.256, which is neither"),
        ("http://db{seq}:8080/", "the host changes with {seq}"),
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
            &format!("{place} is replaced by a peer, and no peers are named"),
            "peers: [n1]",
        );
    }
}
