//! `GET /v1/openapi.json` and the daemon say the same: schemathesis tries every call against a running daemon, and every
//! kind of event on its stream is one of the schema's.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::collections::BTreeSet;
use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use injector_core::api::{ConfigOutcome, EventKind};
use injector_lab::http::{self, Request};
use injector_lab::{CLIENT, needs, skip, until};
use live::daemon::{Daemon, isolate};
use live::lab::{AttachPoint, Lab};
use live::traffic::{Server, Stream};
use rustix::process::Signal;
use serde_json::{Value, json};

/// How many requests schemathesis makes up for each call, at most.
const EXAMPLES: &str = "25";
/// The same random numbers each time: anyone who sees a failure can see it again.
const SEED: &str = "1";

/// What is well formed is accepted, but where it names peers that are not there, and where a whole number is written `207.0`:
/// that is an integer of JSON Schema, and none of the daemon's. A stream that continues would have no end.
const CONFIG: &str = "\
[[operations]]
include-path = \"/v1/events\"
parameters = { follow = \"false\" }

[[operations]]
include-path = \"/v1/partitions/{name}/recovery\"
parameters = { wait = \"0s\" }

[[operations]]
include-path = \"/v1/partitions/{name}\"
include-method = \"PUT\"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = \"/v1/partitions/{name}/prepare\"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = \"/v1/partitions/{name}/enable\"
checks.positive_data_acceptance.enabled = false
";

/// How many requests it generated, all answered as they should be; what it said, if one was not.
fn schemathesis(lab: &Lab, program: &Path, folder: &Path, arguments: &[&str]) -> Result<u64, String> {
    std::fs::write(folder.join("schemathesis.toml"), CONFIG).unwrap();
    let mut command = lab.command(CLIENT, program.join("bin/python"));
    command.current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_COLOR", "1");
    command.args(["-m", "schemathesis.cli", "run", "--seed", SEED, "--request-timeout", "20"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure"]);
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let counted = said
        .lines()
        .find_map(|line| line.trim().split_once(" generated, "))
        .unwrap_or_else(|| panic!("{said}"));
    assert_eq!(counted.1, format!("{} passed", counted.0), "{said}");
    Ok(counted.0.parse().unwrap())
}

fn start(lab: &Lab, server: &Server) -> Daemon {
    let config = format!(
        "{}endpoints: [{{ name: ingress, peers: [n1], netns: {}, probe: {{ http: {{ url: \
         \"http://{{address}}:{}/\" }}, interval: 20ms, timeout: 500ms }} }}]\n\
         ready: {{ consecutive: 3, observe: 200ms, observe_max: 1s }}\ndeadline: 1s\n",
        lab.config(AttachPoint::OwnNic, "auto"),
        lab.netns("n2"),
        server.port()
    );
    let daemon = Daemon::start(&config);
    daemon.wait_healthy();
    daemon
}

/// Hands on what comes by TCP inside a namespace to a Unix socket: schemathesis speaks TCP alone. Its threads end with their
/// connections.
fn relay(lab: &Lab, socket: PathBuf) -> u16 {
    let listener = lab.within(CLIENT, || TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(daemon) = UnixStream::connect(&socket) else { return };
            std::thread::spawn(move || pass(&client, &daemon));
        }
    });
    port
}

fn pass(client: &TcpStream, daemon: &UnixStream) {
    let (mut from_client, mut to_client) = (client, client);
    let (mut from_daemon, mut to_daemon) = (daemon, daemon);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = copy(&mut from_client, &mut to_daemon);
            let _ = daemon.shutdown(Shutdown::Write);
        });
        let _ = copy(&mut from_daemon, &mut to_client);
        let _ = client.shutdown(Shutdown::Both);
    });
}

#[test]
#[needs(root, program = "python3", minutes = 2)]
fn schemathesis_finds_the_daemon_as_its_contract_says() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/schemathesis");
    if !program.join("installed").exists() {
        skip(
            "schemathesis_finds_the_daemon_as_its_contract_says",
            "needs schemathesis in target/schemathesis: cargo xtask setup python",
        );
        return;
    }
    let lab = Lab::new(3);
    let server = Server::start(&lab, "n1");
    let daemon = start(&lab, &server);
    let port = relay(&lab, daemon.socket().to_owned());
    let url = format!("http://127.0.0.1:{port}");
    let contract = format!("{url}/v1/openapi.json");
    let tried = schemathesis(&lab, &program, daemon.folder(), &[&contract, "--max-examples", EXAMPLES]);
    let tried = tried.unwrap_or_else(|said| panic!("{said}"));
    assert!(tried > 500, "{tried}");
    // It sees a status that a contract does not have, and a field.
    let (_, rest) = http::over_unix(daemon.socket(), &Request::get("/v1/openapi.json")).unwrap();
    let whole: Value = serde_json::from_str(http::body(&rest)).unwrap();
    let file = daemon.folder().join("doctored.json");
    for (what, says) in [
        ("/paths/~1v1~1marks/post/responses/400", "Undocumented status code"),
        ("/components/schemas/Status/properties/pid/type", "GET /v1/status"),
    ] {
        let mut doctored = whole.clone();
        let (at, last) = what.rsplit_once('/').unwrap();
        let members = doctored.pointer_mut(at).unwrap().as_object_mut().unwrap();
        members.remove(last).unwrap();
        if last == "type" {
            members.insert(last.to_owned(), json!("string"));
        }
        std::fs::write(&file, doctored.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let only = ["--include-path-regex", "^/v1/(marks|status)$", "--max-examples", "5"];
        let found =
            schemathesis(&lab, &program, daemon.folder(), &[&[file, "--url", &url], &only[..]].concat());
        assert!(found.as_ref().is_err_and(|said| said.contains(says)), "{what}: {found:?}");
    }
    daemon.status();
}

/// What the stream has, kind by kind.
fn kinds(events: &[Value]) -> BTreeSet<&str> {
    events.iter().filter_map(|event| event["kind"].as_str()).collect()
}

fn stream(daemon: &Daemon, since: u64) -> Vec<Value> {
    let path = format!("/v1/events?follow=false&since={since}");
    let (status, rest) = http::over_unix(daemon.socket(), &Request::get(&path)).unwrap();
    assert!(status == 200 && rest.contains("application/x-ndjson"), "{rest}");
    let lines = http::body(&rest).lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[needs(root)]
fn every_event_of_a_running_daemon_is_one_of_the_contract() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let daemon = start(&lab, &server);
    let (status, rest) = http::over_unix(daemon.socket(), &Request::get("/v1/openapi.json")).unwrap();
    assert_eq!(status, 200);
    let mut contract: Value = serde_json::from_str(http::body(&rest)).unwrap();
    let of_stream = contract["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["application/x-ndjson"]
        ["schema"]
        .take();
    assert_eq!(of_stream["$ref"], "#/components/schemas/Event");
    let variants = contract["components"]["schemas"]["Event"]["oneOf"].as_array().unwrap().clone();
    let of_contract: BTreeSet<String> = variants
        .iter()
        .map(|variant| variant["properties"]["kind"]["const"].as_str().unwrap().to_owned())
        .collect();
    contract["$ref"] = of_stream["$ref"].clone();
    let schema = jsonschema::validator_for(&contract).unwrap();

    // A cut that drops and heals, a mark, an interface that goes, a config, and a lease that runs out.
    let traffic = Stream::start(&lab, "n1", "n2", Duration::from_millis(5));
    daemon.apply("p", &isolate("n1", Duration::from_mins(1)));
    std::thread::sleep(Duration::from_millis(700));
    daemon.heal("p");
    daemon.record("p");
    drop(traffic);
    assert!(daemon.cli(&["mark", "here"]).status.success());
    daemon.signal(Signal::HUP);
    until("SIGHUP has a result", || {
        let unchanged = |event: &Value| {
            serde_json::from_value::<EventKind>(event.clone())
                .is_ok_and(|kind| matches!(kind, EventKind::Config { outcome: ConfigOutcome::Unchanged, .. }))
        };
        stream(&daemon, 0).iter().any(unchanged).then_some(())
    });
    daemon.apply("q", &isolate("n1", Duration::from_mins(1)));
    daemon.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(2_600));
    daemon.signal(Signal::CONT);
    until("the lapse is reported", || kinds(&stream(&daemon, 0)).contains("lease_lapsed").then_some(()));
    lab.ip("n1", "link delete eth0");
    until("the interface is reported", || kinds(&stream(&daemon, 0)).contains("interface").then_some(()));
    let mut events = stream(&daemon, 0);
    // More marks than the history holds: its beginning is lost.
    let mark = Request { method: "POST", path: "/v1/marks", json: br#"{"text": "flood"}"# };
    for _ in 0..10_001 {
        assert_eq!(http::over_unix(daemon.socket(), &mark).unwrap().0, 200);
    }
    events.extend(stream(&daemon, 1).into_iter().take(10));

    for event in &events {
        let faults: Vec<String> = schema.iter_errors(event).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{event}: {faults:?}");
    }
    let seen: BTreeSet<String> = kinds(&events).into_iter().map(str::to_owned).collect();
    assert_eq!(seen, of_contract, "each kind of the contract is on the stream, and no other");
    // The schema refuses what is no event.
    for no_event in [
        json!({ "id": 1, "at_ns": 1, "wall": 1, "kind": "nonsense" }),
        json!({ "id": 1, "at_ns": 1, "wall": 1, "kind": "mark" }),
        json!({ "at_ns": 1, "wall": 1, "kind": "mark", "text": "x" }),
    ] {
        assert!(!schema.is_valid(&no_event), "{no_event}");
    }
}
