//! Probes over TLS and Unix sockets, against real servers on loopback; and what a start refuses.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, Signed};
use super::test_server::{GrpcAnswer, answer, call, endpoint, get, grpc, on_one_thread, serve};
use super::*;
use injector_core::config::{Config, Exchange, Family, Identity, PemFile, Target, Tls, Trust};
use injector_core::config::{GrpcProbe, HttpProbe, TcpProbe};
use injector_core::model::Connection;
use injector_core::sample::FailureCode;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
const HEALTH: &str = "grpc.health.v1.Health/Check";
const SERVING: GrpcAnswer =
    GrpcAnswer { body: &[0, 0, 0, 0, 2, 8, 1], status: Some("0"), delay: Duration::ZERO };

/// A server's side of TLS.
fn acceptor(signed: &Signed, clients: Option<&Authority>, protocol: &str) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(authority.pem()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&signed.cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&signed.key).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn file(path: &Path) -> PemFile {
    let mut file = PemFile::new(path);
    file.fetch(if path.extension().is_some_and(|ext| ext == "key") { "key" } else { "ca" }).unwrap();
    file
}

fn trusting(authority: &Authority) -> Tls {
    Tls { trust: Trust::Ca(file(&authority.pem())), identity: None, server_name: None }
}

fn set_tls(config: &mut Endpoint, given: Tls) {
    match &mut config.probe.kind {
        ProbeKind::Http(HttpProbe { request, .. }) => {
            request.url = request.url.written().replace("http://", "https://").as_str().into();
            request.tls = Some(given);
        }
        ProbeKind::Grpc(grpc) => grpc.tls = Some(given),
        ProbeKind::Tcp(tcp) => tcp.tls = Some(given),
        ProbeKind::Exec(_) => unreachable!(),
    }
}

/// Runs one `https` probe of a server with this certificate.
fn https(signed: &Signed, clients: Option<&Authority>, tls: Tls) -> Sample {
    let acceptor = acceptor(signed, clients, "http/1.1");
    on_one_thread(async {
        let (address, _) = serve(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, vec![(Duration::ZERO, OK)]).await;
                }
            }
        })
        .await;
        let mut config = endpoint(address, get(address));
        set_tls(&mut config, tls);
        once(EndpointId(0), &config, None).await
    })
}

fn said(sample: &Sample) -> (FailureCode, &str) {
    let failure = sample.failure.as_ref().expect("a failure");
    (failure.code, &failure.text)
}

#[test]
fn a_certificate_must_be_by_the_authority_for_the_name_and_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let good = ours.sign("good", &["127.0.0.1"]);
    assert_eq!(https(&good, None, trusting(&ours)).failure, None);

    let wrong = https(&good, None, trusting(&other));
    let by_none = "tls: the server's certificate is by no authority that is trusted (ca)";
    assert_eq!(said(&wrong), (FailureCode::Connect, by_none));
    let expired = ours.sign_expired("old", &["127.0.0.1"]);
    let sample = https(&expired, None, trusting(&ours));
    assert_eq!(said(&sample), (FailureCode::Connect, "tls: the server's certificate has expired"));
    let named = ours.sign("named", &["n1.lab"]);
    let sample = https(&named, None, trusting(&ours));
    let text = said(&sample).1;
    assert!(text.contains("is not for 127.0.0.1, but for") && text.contains("n1.lab"), "{text}");
    let by_name = Tls { server_name: Some("n1.lab".to_owned()), ..trusting(&ours) };
    assert_eq!(https(&named, None, by_name).failure, None);

    for signed in [&good, &expired, &named] {
        let any = Tls { trust: Trust::Anyone, identity: None, server_name: None };
        assert_eq!(https(signed, None, any).failure, None);
    }
}

#[test]
fn a_server_may_ask_for_a_certificate_of_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let server = ours.sign("server", &["127.0.0.1"]);
    let as_client = |signed: &Signed| {
        let identity = Identity { cert: file(&signed.cert), key: file(&signed.key) };
        Tls { identity: Some(identity), ..trusting(&ours) }
    };
    assert_eq!(https(&server, Some(&ours), as_client(&ours.sign("client", &["probe"]))).failure, None);
    let none = https(&server, Some(&ours), trusting(&ours));
    assert_eq!(
        said(&none),
        (FailureCode::Connect, "tls: the server asks for a client's certificate (cert, key)")
    );
    let strange = https(&server, Some(&ours), as_client(&other.sign("client", &["probe"])));
    assert!(said(&strange).1.contains("does not accept the client's certificate"), "{strange:?}");
}

#[test]
fn what_is_no_tls_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let sample = on_one_thread(async {
        let (address, _) = serve(|mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        })
        .await;
        let mut config = endpoint(address, get(address));
        set_tls(&mut config, trusting(&ours));
        once(EndpointId(0), &config, None).await
    });
    assert_eq!(said(&sample), (FailureCode::Connect, "tls: the server does not speak TLS"));
}

#[test]
fn grpc_and_pools_work_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let server = ours.sign("server", &["127.0.0.1"]);
    for (protocol, connection, handshakes) in [
        ("h2", Connection::Fresh, 3),
        ("h2", Connection::Pooled, 1),
        ("http/1.1", Connection::Fresh, 3),
        ("http/1.1", Connection::Pooled, 1),
    ] {
        let acceptor = acceptor(&server, None, protocol);
        let whole = Rc::new(Cell::new(0));
        let counted = Rc::clone(&whole);
        on_one_thread(async {
            let (address, _) = serve(move |stream| {
                let (acceptor, counted) = (acceptor.clone(), Rc::clone(&counted));
                async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
                    let kind = stream.get_ref().1.handshake_kind();
                    assert_eq!(kind, Some(rustls::HandshakeKind::Full), "no session is resumed");
                    counted.set(counted.get() + 1);
                    if protocol == "h2" {
                        grpc(stream, SERVING).await;
                    } else {
                        answer(stream, vec![(Duration::ZERO, OK)]).await;
                    }
                }
            })
            .await;
            let kind = if protocol == "h2" { call(address, HEALTH) } else { get(address) };
            let mut config = endpoint(address, kind);
            set_tls(&mut config, trusting(&ours));
            config.probe.options.connection = connection;
            let prober = Prober::new(EndpointId(0), &config, None);
            for _ in 0..3 {
                assert_eq!(prober.sample(MonoNs::now()).await.failure, None, "{protocol} {connection}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert_eq!(whole.get(), handshakes, "{protocol} {connection}");
    }
}

/// Runs one `tcp` probe of a server that answers so.
fn exchange(said: &'static [u8], send: &str, expect: &str) -> Option<String> {
    on_one_thread(async {
        let speaks_first = send.is_empty();
        let (address, _) = serve(move |mut stream| async move {
            if !speaks_first {
                let _ = stream.read(&mut [0; 8192]).await;
            }
            let half = said.len() / 2;
            let _ = stream.write_all(&said[..half]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = stream.write_all(&said[half..]).await;
        })
        .await;
        let (mut send, expect) = (injector_core::config::Text::read(send).unwrap(), expect.into());
        send.fetch().unwrap();
        let exchange = Some(Exchange { send, expect });
        let target = Target::Host(format!("{{address}}:{}", address.port()));
        let config = endpoint(address, ProbeKind::Tcp(TcpProbe { target, tls: None, exchange }));
        once(EndpointId(0), &config, None).await.failure.map(|failure| failure.text.to_string())
    })
}

#[test]
fn an_answer_begins_as_expected() {
    assert_eq!(exchange(b"+PONG\r\n", "PING\r\n", "+PONG"), None);
    assert_eq!(exchange(b"220 mail ESMTP\r\n", "", "220 "), None);
    let loading = exchange(b"-LOADING Redis is loading the dataset in memory\r\n", "PING\r\n", "+PONG");
    let text = loading.unwrap();
    assert!(
        text.starts_with("answer \"-LOADING Redis is ") && text.ends_with("expected \"+PONG\""),
        "{text}"
    );
    assert_eq!(exchange(b"+PO", "PING\r\n", "+PONG").unwrap(), "answer \"+PO\", expected \"+PONG\"");
    let none = exchange(b"", "PING\r\n", "+PONG");
    assert_eq!(none.unwrap(), "connection closed without an answer, expected \"+PONG\"");
    // An answer may repeat what was sent, and has a secret here.
    let hidden = exchange(b"-ERR unknown command 'x'\r\n", "${env:PATH}", "+OK").unwrap();
    assert_eq!(hidden, "another answer, expected \"+OK\"");
}

#[test]
fn unix_sockets_are_probed_by_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    on_one_thread(async {
        let path = folder.path().join("n1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::task::spawn_local(async move {
            for turn in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(async move {
                    if turn == 1 {
                        grpc(stream, SERVING).await;
                    } else {
                        answer(stream, vec![(Duration::ZERO, OK)]).await;
                    }
                });
            }
        });
        let nowhere = "192.0.2.1:80".parse().unwrap();
        let template = folder.path().join("{peer}.sock").display().to_string();
        let mut http = get(nowhere);
        if let ProbeKind::Http(HttpProbe { request, .. }) = &mut http {
            request.unix = Some(template.clone());
        }
        let target = || Target::Unix(template.clone());
        let grpc = ProbeKind::Grpc(GrpcProbe {
            target: target(),
            tls: None,
            method: HEALTH.to_owned(),
            message: Vec::new(),
        });
        let exchange = Exchange { send: "GET / HTTP/1.1\r\n\r\n".into(), expect: "HTTP/1.1 200 OK".into() };
        let tcp = ProbeKind::Tcp(TcpProbe { target: target(), tls: None, exchange: Some(exchange) });
        for kind in [http, grpc, tcp] {
            let sample = once(EndpointId(0), &endpoint(nowhere, kind), Some("n1")).await;
            assert_eq!((sample.failure, sample.source), (None, None), "no packet of it passes an interface");
        }
    });
}

/// The result of [`prepare`] for a probe.
fn prepared(probe: &str, more: &str) -> Result<Config, String> {
    let text = format!(
        "peers: {{ n1: {{ addresses: [127.0.0.1, \"::1\"] }} }}\ninterfaces: auto\nendpoints: [{{ name: e, peers: [n1], \
         probe: {probe}{more} }}]\n"
    );
    let mut config = Config::parse(&text, "lab.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    prepare(&mut config, "lab.yaml").map(|()| config).map_err(|errors| errors.to_string())
}

#[test]
fn a_start_refuses_what_can_t_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let (a, b) = (ours.sign("a", &["a"]), ours.sign("b", &["b"]));
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let cut = std::fs::read_to_string(&a.cert).unwrap().replace("-----END CERTIFICATE-----\n", "");
    let damaged = std::fs::read_to_string(&a.cert).unwrap().replacen("MII", "MAI", 1);
    let (cert, key) = (a.cert.display(), a.key.display());
    for (tls, parts) in [
        (format!("ca: {}/none.pem", folder.path().display()), ["tls.ca", "can't be read", "a PEM file"]),
        (
            format!("ca: {}", write("text.pem", "hello")),
            ["tls.ca", "has no certificates in PEM", "name a PEM file"],
        ),
        (format!("ca: {}", folder.path().display()), ["tls.ca", "is a directory", "file"]),
        (format!("ca: {}", write("cut.pem", &cut)), ["tls.ca", "cut.pem can't be read as PEM", "again"]),
        (
            format!("ca: {}", write("damaged.pem", &damaged)),
            ["tls.ca", "damaged.pem can't be read as PEM", "again"],
        ),
        (format!("cert: {cert}, key: {cert}"), ["tls.key", "has no private key in PEM", "name a PEM file"]),
        (format!("cert: {key}, key: {key}"), ["tls.cert", "has no certificates in PEM", "name a PEM file"]),
        (
            format!("cert: {cert}, key: {}", b.key.display()),
            ["tls.key", "is not of the certificate in", "name the key of that certificate"],
        ),
    ] {
        let said = prepared(&format!("{{ grpc: {{ target: \"{{address}}:1\", tls: {{ {tls} }} }} }}"), "")
            .unwrap_err();
        for part in parts.into_iter().chain(["lab.yaml: endpoints: e, probe.grpc."]) {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        assert!(!said.contains("PRIVATE KEY-----"), "{said}");
    }
    assert!(prepared(&format!("{{ tcp: {{ target: \"{{address}}:1\", tls: {{ cert: {cert}, key: {key}, insecure: true }} }} }}"), "").is_ok());
}

#[test]
fn names_are_resolved_once_and_by_family() {
    let said = prepared("{ http: { url: \"http://no-such-name.invalid:1/\" } }", "").unwrap_err();
    // A resolver that does not answer is another way to have no such name.
    let fault =
        if said.contains("was not resolved within") { "was not resolved" } else { "can't be resolved" };
    for part in
        ["lab.yaml: endpoints: e", &format!("no-such-name.invalid {fault}"), "add the name to /etc/hosts"]
    {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    // Every host knows its own loopback by this name, whatever its resolver.
    let config = prepared("{ http: { url: \"http://ip6-localhost:1/\" } }", ", family: ipv6");
    let Ok(config) = config else {
        // Not every /etc/hosts has the name.
        let known = std::fs::read_to_string("/etc/hosts").unwrap();
        assert!(!known.contains("ip6-localhost"), "{config:?}");
        return;
    };
    let endpoint = &config.endpoints[0];
    assert_eq!(endpoint.hosts["ip6-localhost"], "::1".parse::<IpAddr>().unwrap());
    assert_eq!(
        (endpoint.family, endpoint.destination(None)),
        (Some(Family::Ipv6), Some("::1".parse().unwrap()))
    );
    let said = prepared("{ tcp: { target: \"ip6-localhost:1\" } }", ", family: ipv4");
    if let Err(said) = said {
        assert!(said.contains("has no address of ipv4"), "{said}");
    }
}
