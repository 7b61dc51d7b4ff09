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
            kind: ProbeKind::Http(HttpProbe {
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
            }),
            options: ProbeOptions {
                interval: Span::millis(20),
                timeout: Span::secs(2),
                connection: Connection::Pooled,
            },
        }
    );
    let grpc = |method: &str, message: &[u8]| {
        ProbeKind::Grpc(GrpcProbe {
            target: Target::Host("{address}:5122".to_owned()),
            tls: None,
            method: method.to_owned(),
            message: message.to_vec(),
        })
    };
    assert_eq!(config.endpoints[2].probe.kind, grpc("a.B/C", &[0x0a, 0x01]));
    assert_eq!(config.endpoints[3].probe.kind, grpc("grpc.health.v1.Health/Check", &[]));
    assert_eq!(config.endpoints[3].probe.options.interval, Span::millis(10));
    let exchange = Exchange { send: "PING\r\n".into(), expect: "+PONG".into() };
    assert_eq!(
        config.endpoints[4].probe.kind,
        ProbeKind::Tcp(TcpProbe {
            target: Target::Host("{address}:1".to_owned()),
            tls: None,
            exchange: Some(exchange)
        })
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
fn tls_has_its_trust_and_its_name() {
    let probe = |probe: &str| {
        let text = format!("{BASE}endpoints: [{{ name: e, peers: [n1, n2], probe: {probe} }}]\n");
        parse(&text).endpoints.remove(0).probe.kind
    };
    let tls_of = |kind: ProbeKind| kind.tls().cloned();
    let host = Tls { trust: Trust::Host, identity: None, server_name: None };
    assert_eq!(tls_of(probe("{ http: { url: \"https://{address}/\" } }")), Some(host.clone()));
    assert_eq!(tls_of(probe("{ http: { url: \"http://{address}/\" } }")), None);
    assert_eq!(tls_of(probe("{ grpc: { target: \"{address}:1\" } }")), None);
    assert_eq!(tls_of(probe("{ tcp: { target: \"{address}:1\", tls: {} } }")), Some(host));
    let given = "{ grpc: { target: \"unix:/run/{peer}.sock\", tls: { ca: /ca.pem, cert: /c.pem, key: /k.pem, \
                 server_name: \"fd00::1\" } } }";
    let ProbeKind::Grpc(GrpcProbe { target, tls, .. }) = probe(given) else { panic!() };
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
    resolved.probe.kind = ProbeKind::Tcp(TcpProbe {
        target: Target::Host("{address}:1".to_owned()),
        tls: None,
        exchange: None,
    });
    assert_eq!(resolved.destination(Some("n1")), Some([10, 0, 0, 1].into()));
}

#[test]
fn an_endpoint_has_the_address_of_its_family() {
    let http = "probe: { http: { url: \"http://{address}/\" } }, wire: { port: 80, success: http }";
    let config = parse(&format!("{BASE}endpoints: [{{ name: a, peers: [n2], family: ipv6, {http} }}]\n"));
    assert_eq!(config.endpoints[0].address, Some("fd00::2".parse().unwrap()));
}

#[test]
fn payload_is_seen_in_tls() {
    for probe in ["http: { url: \"https://{address}/\" }", "grpc: { target: \"{address}:443\", tls: {} }"] {
        parse(&format!(
            "{BASE}endpoints: [{{ name: a, peers: [n1], probe: {{ {probe} }}, wire: {{ port: 443, success: payload }} }}]\n"
        ));
    }
}

#[test]
fn an_ipv6_address_is_put_in_brackets() {
    parse(
        "peers: { n1: { addresses: [\"fd00::1\"] } }\ninterfaces: auto\nendpoints:\n\
         - { name: a, peers: [n1], probe: { http: { url: \"http://{address}:8080/{seq}?{peer}\" } } }\n\
         - { name: b, peers: [n1], probe: { tcp: { target: \"{address}:8080\" } } }\n\
         - { name: c, peers: [n1], probe: { tcp: { target: \"[{address}]:8080\" } } }\n\
         - { name: d, probe: { tcp: { target: \"localhost:8080\" } } }\n\
         - { name: e, probe: { http: { url: \"http://localhost/\" } } }\n",
    );
}
