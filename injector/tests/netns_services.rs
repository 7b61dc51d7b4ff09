//! Probes of real services: over TLS to rustls and OpenSSL, Redis by its own protocol, Unix sockets, host names.

injector_lab::group!(timed);

#[path = "support/authority.rs"]
mod authority;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
#[path = "support/web_server.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod web_server;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use authority::{Authority, Signed};
use injector_core::api::{EndpointAnswer, Outcome, RecoveryRecord};
use injector_lab::{needs, until};
use live::daemon::{Daemon, isolate};
use live::lab::{AttachPoint, Lab, addresses, ipv4, ipv6};
use web_server::WebServer;

/// Handshakes of programs that are not optimised take milliseconds each: the intervals leave the machine time to breathe.
const READY: &str = "ready: { consecutive: 3, observe: 500ms, observe_max: 10s }\ndeadline: 20s\n";

/// An endpoint on n1 that is probed from n2.
fn endpoint(lab: &Lab, name: &str, probe: &str, more: &str) -> String {
    format!("  - {{ name: {name}, peers: [n1], netns: {}, probe: {probe}{more} }}\n", lab.netns("n2"))
}

/// Cuts n1 off until its probes have timed out, heals, and takes the final record.
fn cut_and_healed(daemon: &Daemon, hold: Duration) -> RecoveryRecord {
    daemon.wait_healthy();
    daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    std::thread::sleep(hold);
    daemon.heal("p");
    daemon.record("p")
}

/// Each endpoint was out during the cut, and its first success came after the heal.
fn assert_measured(record: &RecoveryRecord) {
    assert_eq!(record.outcome, Some(Outcome::Recovered), "{record:#?}");
    let heal = record.heal.unwrap();
    for endpoint in &record.endpoints {
        assert_eq!((endpoint.healthy_before, endpoint.impaired), (Some(true), Some(true)), "{endpoint:#?}");
        assert!(endpoint.first_ok_ns.unwrap() >= heal.begin_ns, "{endpoint:#?}");
        assert!(endpoint.outage.as_ref().unwrap().unseen, "the cut lies on the probes' way: {endpoint:#?}");
    }
}

#[test]
#[needs(root)]
fn https_and_grpc_over_tls_are_cut_and_measured() {
    let lab = Lab::new(2);
    let ours = Authority::new(lab.folder(), "ours");
    let address = ipv4(1).to_string();
    let signed = ours.sign("n1", &[&address, "n1.lab", &ipv6(1).to_string()]);
    let listen = |port: u16| lab.within("n1", || TcpListener::bind(("::", port)).unwrap());
    let _server = WebServer::start(listen(8443), &signed);
    let ca = ours.pem().display().to_string();
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    config += "endpoints:\n";
    let expect = "expect: { status: [200, 204], json: { pointer: /status, equals: ok } }";
    for (name, connection, more) in [
        ("web", "fresh", ", wire: { port: 8443, success: payload }"),
        ("web6", "fresh", ", family: ipv6"),
        ("webpool", "pooled", ""),
    ] {
        let http = format!("{{ url: \"https://{{address}}:8443/health\", tls: {{ ca: {ca} }}, {expect} }}");
        let probe = format!("{{ http: {http}, interval: 100ms, timeout: 1s, connection: {connection} }}");
        config += &endpoint(&lab, name, &probe, more);
    }
    for (name, connection) in [("rpc", "fresh"), ("rpcpool", "pooled")] {
        let grpc = format!("{{ target: \"{{address}}:8443\", tls: {{ ca: {ca}, server_name: n1.lab }} }}");
        let probe = format!("{{ grpc: {grpc}, interval: 100ms, timeout: 1s, connection: {connection} }}");
        config += &endpoint(&lab, name, &probe, "");
    }
    config += READY;
    let daemon = Daemon::start(&config);
    let record = cut_and_healed(&daemon, Duration::from_millis(1_500));
    assert_eq!(record.endpoints.len(), 5);
    assert_measured(&record);
    let went: Vec<_> = record.endpoints.iter().map(|endpoint| endpoint.address.unwrap()).collect();
    assert_eq!(went, [ipv4(1), ipv6(1), ipv4(1), ipv4(1), ipv4(1)]);
    let web = &record.endpoints[0];
    // The programs see the server's first record, which is of the handshake; the answer is inside TLS.
    assert!(web.first_response_ns.unwrap() <= web.first_ok_ns.unwrap(), "{web:#?}");
    let status = serde_json::to_string(&daemon.status()).unwrap();
    let shown = format!("http GET https://{address}:8443/health, TLS with ca {ca}, expects 200 or 204");
    assert!(status.contains(&shown), "{status}");
    assert!(status.contains(&format!("https://{}:8443/health", ipv6(1))), "{status}");
}

/// A server of OpenSSL's: it shows a page to every GET.
fn openssl(lab: &mut Lab, port: u16, signed: &Signed, more: &[&str]) {
    let mut command = lab.command("n1", "openssl");
    command.args(["s_server", "-www", "-accept", &port.to_string(), "-cert"]).arg(&signed.cert);
    command.arg("-key").arg(&signed.key).args(more);
    lab.start(&format!("openssl-{port}"), &mut command).unwrap();
    until("OpenSSL serves", || lab.within("n2", || std::net::TcpStream::connect((ipv4(1), port)).ok()));
}

fn answers(daemon: &Daemon) -> Vec<EndpointAnswer> {
    serde_json::from_slice(&daemon.cli(&["--json", "probe"]).stdout).unwrap()
}

/// The failure that an endpoint's answer has, or the empty text.
fn failure<'a>(answers: &'a [EndpointAnswer], name: &str) -> &'a str {
    let answer = answers.iter().find(|answer| answer.name == format!("{name}@n1")).unwrap();
    answer.error.as_deref().unwrap_or_default()
}

#[test]
#[needs(root, program = "openssl")]
fn what_is_wrong_with_a_certificate_is_said_of_a_server_by_openssl() {
    let mut lab = Lab::new(2);
    let (ours, other) = (Authority::new(lab.folder(), "ours"), Authority::new(lab.folder(), "other"));
    let address = ipv4(1).to_string();
    let good = ours.sign("good", &[&address]);
    let client = ours.sign("client", &["probe"]);
    let ca = ours.pem().display().to_string();
    openssl(&mut lab, 8443, &good, &["-tls1_3"]);
    openssl(&mut lab, 8444, &good, &["-tls1_2"]);
    openssl(&mut lab, 8445, &ours.sign_expired("old", &[&address]), &[]);
    openssl(&mut lab, 8446, &ours.sign("named", &["n1.lab"]), &[]);
    openssl(&mut lab, 8447, &good, &["-Verify", "1", "-verify_return_error", "-CAfile", &ca]);
    let (cert, key) = (client.cert.display(), client.key.display());
    let foreign = other.sign("client", &["probe"]);
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    config += "endpoints:\n";
    for (name, port, tls) in [
        ("tls13", 8443, format!("ca: {ca}")),
        ("tls12", 8444, format!("ca: {ca}")),
        ("wrongca", 8443, format!("ca: {}", other.pem().display())),
        ("hostca", 8443, String::new()),
        ("any", 8443, "insecure: true".to_owned()),
        ("old", 8445, format!("ca: {ca}")),
        ("oldany", 8445, "insecure: true".to_owned()),
        ("named", 8446, format!("ca: {ca}")),
        ("byname", 8446, format!("ca: {ca}, server_name: n1.lab")),
        ("asked", 8447, format!("ca: {ca}")),
        ("shown", 8447, format!("ca: {ca}, cert: {cert}, key: {key}")),
        (
            "foreign",
            8447,
            format!("ca: {ca}, cert: {}, key: {}", foreign.cert.display(), foreign.key.display()),
        ),
    ] {
        let http = format!("{{ url: \"https://{{address}}:{port}/\", tls: {{ {tls} }} }}");
        config += &endpoint(
            &lab,
            name,
            &format!("{{ http: {http}, interval: 1s, timeout: 5s }}"),
            ", role: advisory",
        );
    }
    let daemon = Daemon::start(&config);
    let answers = answers(&daemon);
    for (name, expected) in [
        ("tls13", ""),
        ("tls12", ""),
        ("any", ""),
        ("oldany", ""),
        ("byname", ""),
        ("shown", ""),
        ("wrongca", "tls: the server's certificate is by no authority that is trusted (ca)"),
        ("hostca", "tls: the server's certificate is by no authority that is trusted (ca)"),
        ("old", "tls: the server's certificate has expired"),
        ("asked", "tls: the server asks for a client's certificate (cert, key)"),
    ] {
        assert_eq!(failure(&answers, name), expected, "{name}: {answers:#?}");
    }
    assert!(failure(&answers, "named").contains("is not for"), "{answers:#?}");
    assert!(
        failure(&answers, "foreign").contains("does not accept the client's certificate"),
        "{answers:#?}"
    );

    // Keys are shown nowhere.
    let secret = std::fs::read_to_string(&client.key).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    for words in [&["--json", "status"][..], &["status"], &["--json", "peers"], &["--json", "probe"]] {
        let said = String::from_utf8(daemon.cli(words).stdout).unwrap();
        assert!(!said.is_empty() && !said.contains(secret), "{words:?}: {said}");
    }
    assert!(!daemon.log().contains(secret));
}

/// Debian's `redis-server` is this program by another name, in a package that starts no server when it is installed.
const REDIS: &str = "redis-check-rdb";

fn redis(lab: &Lab, folder: &Path, more: &[&str]) -> Command {
    let mut command = lab.command("n1", "bash");
    command.args(["-c", "exec -a redis-server \"$0\" \"$@\"", REDIS]);
    command.args(["--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir"]);
    command
        .arg(folder)
        .args(["--unixsocket"])
        .arg(folder.join("n1.sock"))
        .args(["--enable-debug-command", "yes"]);
    command.args(more);
    command
}

#[test]
#[needs(root, program = "redis-check-rdb")]
fn redis_is_asked_by_its_own_protocol() {
    let mut lab = Lab::new(2);
    let folder = lab.folder().join("redis");
    std::fs::create_dir(&folder).unwrap();
    // A data set that takes some seconds to load.
    let mut first = redis(&lab, &folder, &[]).stdout(Stdio::null()).spawn().unwrap();
    let talk = |words: &[&str]| {
        let mut command = lab.command("n2", "redis-cli");
        command.args(["-h", &ipv4(1).to_string()]).args(words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    until("Redis answers", || talk(&["ping"]).contains("PONG").then_some(()));
    assert_eq!(talk(&["debug", "populate", "4000"]).trim(), "OK");
    assert_eq!(talk(&["save"]).trim(), "OK");
    talk(&["shutdown", "nosave"]);
    first.wait().unwrap();

    let exchange = "send: \"PING\\r\\n\", expect: \"+PONG\"";
    let mut config = lab.config(AttachPoint::OwnNic, "auto");
    config += "endpoints:\n";
    let tcp =
        format!("{{ tcp: {{ target: \"{{address}}:6379\", {exchange} }}, interval: 100ms, timeout: 1s }}");
    config += &endpoint(&lab, "redis", &tcp, ", wire: { port: 6379, success: { prefix: \"+PONG\" } }");
    let unix = format!(
        "{{ tcp: {{ target: \"unix:{}/{{peer}}.sock\", {exchange} }}, interval: 100ms, timeout: 4s }}",
        folder.display()
    );
    config += &endpoint(&lab, "local", &unix, ", role: advisory");
    config += READY;
    let daemon = Daemon::start(&config);
    // It accepts connections long before it serves.
    let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    let mut command = redis(&lab, &folder, &slow);
    lab.start("redis", &mut command).unwrap();
    let loading = until("Redis is loading", || {
        let answers = answers(&daemon);
        let failure = failure(&answers, "redis").to_owned();
        // It may also be too slow for the probe.
        failure.starts_with("answer").then_some(failure)
    });
    assert!(loading.starts_with("answer \"-LOADING Redis is loading"), "{loading}");
    assert!(loading.ends_with("expected \"+PONG\""), "{loading}");
    let record = cut_and_healed(&daemon, Duration::from_millis(1_500));
    assert_eq!(record.outcome, Some(Outcome::Recovered), "{record:#?}");
    let (redis, local) = (&record.endpoints[0], &record.endpoints[1]);
    assert_eq!((redis.impaired, local.impaired), (Some(true), Some(false)), "no cut reaches a Unix socket");
    assert_eq!((redis.address, local.address), (Some(ipv4(1)), None));
    let (response, ok) = (redis.first_response_ns.unwrap(), redis.first_ok_ns.unwrap());
    assert!(response >= record.heal.unwrap().begin_ns && response <= ok, "{redis:#?}");
}

/// `/etc/hosts` of the daemon: names that no resolver has to be asked for.
fn with_hosts(lab: &Lab, hosts: &str) -> std::path::PathBuf {
    let path = lab.folder().join("hosts");
    let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let _ = write!(text, "\n{hosts}");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
#[needs(root)]
fn names_are_resolved_at_the_start_and_kept() {
    let lab = Lab::new(2);
    let hosts =
        with_hosts(&lab, &format!("{} web.lab\n{} web.lab\n", addresses("n1")[0], addresses("n1")[1]));
    let ours = Authority::new(lab.folder(), "ours");
    let signed = ours.sign("web", &["web.lab"]);
    let _server = WebServer::start(lab.within("n1", || TcpListener::bind(("::", 8443)).unwrap()), &signed);
    let http =
        format!("{{ http: {{ url: \"https://web.lab:8443/\", tls: {{ ca: {} }} }} }}", ours.pem().display());
    let mut config = lab.config(AttachPoint::OwnNic, "auto") + "endpoints:\n";
    config += &endpoint(&lab, "four", &http, ", family: ipv4");
    config += &endpoint(&lab, "six", &http, ", family: ipv6");
    let file = lab.folder().join("lab.yaml");
    let socket = lab.folder().join("run/api.sock");
    let text = format!("socket: {{ path: {}, group: root, mode: \"0600\" }}\n{config}", socket.display());
    std::fs::write(&file, &text).unwrap();
    // In a mount namespace of its own, where /etc/hosts is the test's.
    let script = lab.folder().join("start.sh");
    let bind = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /etc/hosts && exec {} \"$@\"' sh \"$@\"\n",
        hosts.display(),
        env!("CARGO_BIN_EXE_injector")
    );
    std::fs::write(&script, bind).unwrap();
    let launch = |config: &Path| {
        let mut launch =
            injector_lab::Launch::new("/bin/sh", config, socket.clone(), lab.folder().join("log"));
        let arguments: Vec<_> = launch.command().get_args().map(std::ffi::OsStr::to_owned).collect();
        let mut command = Command::new("/bin/sh");
        command.arg(&script).args(arguments);
        std::mem::swap(launch.command(), &mut command);
        launch
    };
    let mut daemon = launch(&file).start().unwrap_or_else(|error| panic!("{error}"));
    let cli = injector_lab::Cli::new(env!("CARGO_BIN_EXE_injector"), daemon.socket());
    let status = until("both are healthy", || {
        let status = cli.json("status");
        let healthy = status["endpoints"].as_array().unwrap().iter().all(|end| end["healthy"] == true);
        healthy.then_some(status)
    });
    for (at, address) in addresses("n1").iter().enumerate() {
        let endpoint = &status["endpoints"][at];
        assert_eq!(endpoint["address"], address.to_string(), "{status}");
        let stimulus = endpoint["probe"]["stimulus"].as_str().unwrap();
        assert!(stimulus.ends_with(&format!("web.lab is {address}")), "{stimulus}");
    }
    // The name goes elsewhere now; the run does not.
    std::fs::write(&hosts, "192.0.2.1 web.lab\n").unwrap();
    let answers: Vec<EndpointAnswer> = serde_json::from_value(cli.json("probe")).unwrap();
    assert!(answers.iter().all(|answer| answer.error.is_none()), "{answers:#?}");
    daemon.terminate();

    // A name that nobody knows stops the start.
    let unknown = lab.folder().join("unknown.yaml");
    std::fs::write(&unknown, text.replace("web.lab:8443", "no-such-host.invalid:8443")).unwrap();
    let (status, said) = launch(&unknown).run_to_end();
    assert_eq!(status.code(), Some(64), "{said}");
    for part in ["endpoints: four", "no-such-host.invalid can't be resolved", "/etc/hosts"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}
