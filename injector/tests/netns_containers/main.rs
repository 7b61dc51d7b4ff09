//! Peers that are containers of Podman or Docker: found over its API, cut apart, and followed. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod docker;
mod image;
mod located;
mod podman;
mod release;
#[path = "../support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::path::Path;
use std::time::Duration;

use docker::Docker;
use injector_lab::http::{Request, over_unix};
use injector_lab::needs;
use podman::{HOST, Podman, SERVE, run};
use rustix::process::Signal;
use serde_json::Value;
use support::{Daemon, until};

/// A config of these containers, each with an endpoint.
fn config(podman: &Podman, containers: &[&str]) -> String {
    config_of(&podman.socket(), containers)
}

fn config_of(engine: &Path, containers: &[&str]) -> String {
    let peers: Vec<String> =
        containers.iter().map(|name| format!("{name}: {{ container: {name} }}")).collect();
    let peers = peers.join(", ");
    format!(
        "engine: {}\npeers: {{ {peers} }}\ninterfaces: auto\nendpoints:\n  - name: web\n    peers: [{}]\n    \
         probe: {{ http: {{ url: \"http://{{address}}:8080/\" }}, interval: 20ms, timeout: 500ms }}\n    \
         wire: {{ port: 8080, success: http }}\nready: {{ consecutive: 3, observe: 500ms }}\n",
        engine.display(),
        containers.join(", ")
    )
}

fn daemon(podman: &Podman, containers: &[&str]) -> Daemon {
    podman.lab.within(HOST, || Daemon::start(&podman.lab, "lab", &config(podman, containers)))
}

/// Three containers on one network.
fn three(test: &str) -> Option<Podman> {
    let podman = Podman::up(test)?;
    for name in ["a", "b", "c"] {
        podman.start(name, "--network net");
    }
    Some(podman)
}

/// The record of a partition as it is now.
fn record(daemon: &Daemon, name: &str, wait: &str) -> Value {
    let path = format!("/v1/partitions/{name}/recovery?wait={wait}");
    let (status, answer) = over_unix(daemon.socket(), &Request::get(&path)).unwrap();
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn link<'a>(record: &'a Value, src: &str, dst: &str) -> &'a Value {
    let mut links = record["links"].as_array().unwrap().iter();
    links.find(|link| link["src"] == src && link["dst"] == dst).unwrap_or_else(|| panic!("{record:#}"))
}

/// What the timeline says of containers, and of the engine.
fn reported(daemon: &Daemon) -> Vec<String> {
    let events = daemon.timeline();
    let of_interfaces = events.iter().filter(|event| event["kind"] == "interface");
    let texts = of_interfaces.map(|event| {
        format!("{}: {}", event["interface"].as_str().unwrap(), event["what"].as_str().unwrap())
    });
    texts.filter(|text| text.starts_with("container")).collect()
}

fn wait_told(daemon: &Daemon, what: &str) {
    until(what, || reported(daemon).iter().any(|text| text.contains(what)).then_some(()));
}

/// Waits until an endpoint is served, where it is now.
fn wait_healthy(daemon: &Daemon, endpoint: &str) {
    until(endpoint, || {
        let status = daemon.cli("status");
        let endpoints = status["endpoints"].as_array().unwrap();
        let it = endpoints.iter().find(|found| found["name"] == endpoint).unwrap();
        (it["healthy"] == true).then_some(())
    });
}

#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn three_containers_are_cut_apart_and_healed() {
    let Some(podman) = three("three_containers_are_cut_apart_and_healed") else { return };
    let daemon = daemon(&podman, &["a", "b", "c"]);
    let all: &[&[&str]] = &[&["a", "b", "c"]];
    podman.assert_sides(all);
    for endpoint in ["web@a", "web@b", "web@c"] {
        wait_healthy(&daemon, endpoint);
    }
    let peers = daemon.cli("peers");
    assert_eq!(peers["a"]["home"], "network namespace container a", "{peers:#}");
    let held = peers["a"]["names"].as_array().unwrap().iter();
    let held: Vec<&Value> = held.filter(|name| name["source"] == "held").map(|name| &name["name"]).collect();
    assert_eq!(held, [&podman.address("a").to_string()], "{peers:#}");
    assert_eq!(daemon.cli("status")["coverage"]["covered"], 6);

    daemon.cli("partition isolate a --name p --for 60s");
    podman.assert_sides(&[&["a"], &["b", "c"]]);
    daemon.heal_by_hand("p");
    podman.assert_sides(all);
    let record = record(&daemon, "p", "30s");
    for (src, dst) in [("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")] {
        let link = link(&record, src, dst);
        assert_eq!((&link["proved"], &link["in_force"]), (&true.into(), &"yes".into()), "{link:#}");
        assert!(link["uncovered"].as_array().unwrap().is_empty(), "{link:#}");
    }
    assert_eq!(record["outcome"], "recovered", "{record:#}");
    let ingress =
        record["endpoints"].as_array().unwrap().iter().find(|found| found["name"] == "web@a").unwrap();
    assert!(ingress["first_response_ns"].is_number(), "the programs see its responses: {ingress:#}");
    assert_eq!(reported(&daemon), Vec::<String>::new());
}

/// Docker has the same API; its answers differ in what is left out, and in when its events come.
#[test]
#[needs(root, program = "dockerd", program = "busybox", program = "runc", minutes = 1)]
fn containers_of_docker_are_cut_apart_and_followed() {
    let Some(docker) = Docker::up("containers_of_docker_are_cut_apart_and_followed") else { return };
    let names = ["da", "db", "dc"];
    for name in names {
        docker.start(name);
    }
    let config = config_of(&docker.socket(), &names);
    let daemon = docker.lab.within(HOST, || Daemon::start(&docker.lab, "lab", &config));
    for name in names {
        wait_healthy(&daemon, &format!("web@{name}"));
    }
    docker.assert_sides(&[&names]);
    assert_eq!(daemon.cli("status")["coverage"]["covered"], 6);
    daemon.cli("partition isolate da --name p --for 120s");
    docker.assert_sides(&[&["da"], &["db", "dc"]]);
    let before = docker.located("da").0;
    docker.restart("da");
    let after = docker.located("da").0;
    assert_ne!(after, before);
    wait_told(&daemon, &format!("container da: it runs as process {after}"));
    until("it is covered again", || {
        let record = record(&daemon, "p", "0s");
        let gaps = link(&record, "da", "db")["uncovered"].as_array().unwrap().clone();
        (!gaps.is_empty() && gaps.iter().all(|gap| gap["until_ns"].is_number())).then_some(())
    });
    docker.assert_sides(&[&["da"], &["db", "dc"]]);
    daemon.heal_by_hand("p");
    docker.assert_sides(&[&names]);
    wait_healthy(&daemon, "web@da");
}

/// The container has other processes, another namespace and another address then.
#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn a_container_that_restarts_during_a_partition_is_followed() {
    let Some(podman) = three("a_container_that_restarts_during_a_partition_is_followed") else { return };
    let daemon = daemon(&podman, &["a", "b", "c"]);
    let before = (podman.pid("a"), podman.address("a"));
    daemon.cli("partition isolate a --name p --for 120s");
    podman.assert_sides(&[&["a"], &["b", "c"]]);
    podman.ok("restart --time 0 a");
    assert_ne!((podman.pid("a"), podman.address("a")), before);
    wait_told(&daemon, &format!("container a: it runs as process {}", podman.pid("a")));
    // What was not covered has an end: it is covered again.
    until("it is covered again", || {
        let record = record(&daemon, "p", "0s");
        let gaps = link(&record, "a", "b")["uncovered"].as_array().unwrap().clone();
        (!gaps.is_empty() && gaps.iter().all(|gap| gap["until_ns"].is_number())).then_some(())
    });
    podman.assert_sides(&[&["a"], &["b", "c"]]);
    daemon.heal_by_hand("p");
    podman.assert_sides(&[&["a", "b", "c"]]);
    wait_healthy(&daemon, "web@a");
    let record = record(&daemon, "p", "30s");
    let cut = record["cut"]["begin_ns"].as_u64().unwrap();
    for (src, dst) in [("a", "b"), ("b", "a")] {
        let link = link(&record, src, dst);
        let gaps = link["uncovered"].as_array().unwrap();
        assert!(
            gaps.iter().all(|gap| gap["interface"].as_str().unwrap().contains("container a")),
            "{link:#}"
        );
        let times =
            gaps.iter().map(|gap| (gap["from_ns"].as_u64().unwrap(), gap["until_ns"].as_u64().unwrap()));
        let times: Vec<(u64, u64)> = times.collect();
        assert!(times.iter().all(|(from, until)| cut < *from && from < until), "{link:#}");
        let all: u64 = times.iter().map(|(from, until)| until - from).sum();
        eprintln!("{src}→{dst} was not covered for {} ms", all / 1_000_000);
        assert_ne!(link["in_force"], "yes", "{link:#}");
    }
    let untouched = link(&record, "c", "a");
    assert_eq!(untouched["coverage"]["state"], "not", "{untouched:#}");
}

#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn a_container_is_followed_under_another_name_and_when_it_is_made_anew() {
    let test = "a_container_is_followed_under_another_name_and_when_it_is_made_anew";
    let Some(podman) = three(test) else { return };
    let daemon = daemon(&podman, &["a", "b", "c"]);
    podman.ok("rename a other");
    wait_told(&daemon, "container a: its name is other now; it is still followed");
    daemon.cli("partition isolate a --name p --for 60s");
    podman.assert_sides(&[&["other"], &["b", "c"]]);
    // As `docker compose up` does it: another container takes the name.
    podman.start("a", "--network net");
    podman.ok("rm --force --time 0 other");
    wait_told(&daemon, &format!("runs as process {} ", podman.pid("a")));
    until("it is cut", || (!podman.reaches("b", "a") && !podman.reaches("a", "b")).then_some(()));
    podman.assert_sides(&[&["a"], &["b", "c"]]);
    daemon.heal_by_hand("p");
    podman.assert_sides(&[&["a", "b", "c"]]);
    wait_healthy(&daemon, "web@a");
    // It ran before the engine reported it, and nothing named its frames.
    let record = record(&daemon, "p", "30s");
    for (src, dst) in [("a", "b"), ("b", "a"), ("a", "c")] {
        let link = link(&record, src, dst);
        assert!(!link["uncovered"].as_array().unwrap().is_empty(), "{link:#}");
        assert_ne!(link["in_force"], "yes", "{link:#}");
    }
}

#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn an_engine_that_ends_and_comes_back_is_asked_again() {
    let Some(mut podman) = three("an_engine_that_ends_and_comes_back_is_asked_again") else { return };
    let daemon = daemon(&podman, &["a", "b", "c"]);
    podman.stop_serving();
    wait_told(&daemon, "container engine: ");
    podman.ok("restart --time 0 b");
    // Nobody says where it is: its links are not covered, and say so.
    until("b is away", || (daemon.cli("peers")["b"]["home"] == Value::Null).then_some(()));
    let coverage = daemon.cli("status")["coverage"].clone();
    assert_eq!((&coverage["covered"], &coverage["not"]), (&2.into(), &4.into()), "{coverage:#}");
    podman.serve();
    wait_told(&daemon, "answers again");
    wait_told(&daemon, "container b: it runs as process");
    until("b is found", || (daemon.cli("status")["coverage"]["covered"] == 6).then_some(()));
    daemon.cli("partition isolate b --name p --for 60s");
    podman.assert_sides(&[&["b"], &["a", "c"]]);
    daemon.heal_by_hand("p");
}

/// It is asked beside the daemon's task, and not forever.
#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn an_engine_that_does_not_answer_holds_up_no_command() {
    let Some(podman) = three("an_engine_that_does_not_answer_holds_up_no_command") else { return };
    let daemon = daemon(&podman, &["a", "b"]);
    let containers = podman.locate(&["a", "b"]);
    podman.freeze();
    // The reload has the engine asked, for three seconds.
    daemon.signal(Signal::HUP);
    daemon.cli("partition isolate a --name p --for 60s");
    containers.assert_sides(&[&["a"], &["b"]]);
    daemon.heals_within(Duration::from_secs(1), "p");
    until("the reload is refused", || {
        let events = daemon.timeline();
        let refused = |event: &Value| {
            event["kind"] == "config" && event["what"].as_str().unwrap().contains("does not answer within 3s")
        };
        events.iter().any(refused).then_some(())
    });
    let (code, said) =
        podman.lab.within(HOST, || Daemon::refusal(&podman.lab, "late", &config(&podman, &["a", "b"])));
    assert!(code != 0 && said.contains("peers.a.container: the container engine at"), "{said}");
}

#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn what_can_be_no_peer_is_refused_with_its_place_and_a_remedy() {
    let test = "what_can_be_no_peer_is_refused_with_its_place_and_a_remedy";
    let Some(mut podman) = Podman::up(test) else { return };
    let id = podman.start("a", "--network net");
    podman.start("inhost", "--network host");
    podman.start("alone", "--network none");
    podman.ok(&run("mate", "--network container:a", "/busybox sleep 600"));
    podman.ok(&format!("create --name idle --network net web {SERVE}"));
    let head = format!("engine: {}\ninterfaces: auto\n", podman.socket().display());
    let mut refusals = 0;
    let mut refused = |peers: &str, head: &str, parts: &[&str]| {
        refusals += 1;
        let (code, said) = podman.lab.within(HOST, || {
            Daemon::refusal(&podman.lab, &format!("bad{refusals}"), &format!("{head}peers: {{ {peers} }}\n"))
        });
        assert_ne!(code, 0);
        for part in parts {
            assert!(said.contains(part), "{peers}: {said}");
        }
    };
    let gone = "engine: /nowhere/engine.sock\ninterfaces: auto\n";
    refused(
        "x: { container: a }",
        gone,
        &[
            "peers.x.container: no container engine answers: /nowhere/engine.sock: No such file or directory",
            "name its socket, as in: engine: /run/podman/podman.sock",
        ],
    );
    refused(
        "x: { container: nobody }",
        &head,
        &["peers.x.container: there is no container nobody; the engine has a, alone, idle, inhost, mate"],
    );
    refused(
        "x: { container: idle }",
        &head,
        &["peers.x.container: container idle does not run (its state: created); start it first"],
    );
    refused(
        "x: { container: inhost }",
        &head,
        &["peers.x.container: container inhost has the host's network", "listens: [2379]", "docs/local.md"],
    );
    refused(
        "x: { container: alone }",
        &head,
        &["peers.x.container: container alone has no network (--network none); run it on a network"],
    );
    refused(
        &format!("x: {{ container: a }}, y: {{ container: {id} }}"),
        &head,
        &[
            "peers.y.container: container a is another peer's too, at peers.x.container; a container is one peer",
        ],
    );
    refused(
        "x: { container: a }, y: { container: mate }",
        &head,
        &[
            "peers.y: container mate shares the network namespace of x",
            "y: { listens: [2379], netns: { container: mate } }",
        ],
    );
    // Every fault at once.
    refused(
        "x: { container: nobody }, y: { container: alone }",
        &head,
        &["peers.x.container", "peers.y.container"],
    );
    podman.stop_serving();
}

/// A reload that names a container that is not there changes nothing.
#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn a_reload_that_names_no_container_changes_nothing() {
    let Some(podman) = three("a_reload_that_names_no_container_changes_nothing") else { return };
    let daemon = daemon(&podman, &["a", "b"]);
    let file = podman.lab.folder().join("lab.yaml");
    let configs = || -> Vec<String> {
        let events = daemon.timeline();
        let configs = events.iter().filter(|event| event["kind"] == "config");
        configs.map(|event| format!("{} {}", event["outcome"], event["what"])).collect()
    };
    for (containers, what) in [
        (&["a", "nobody"][..], "there is no container nobody"),
        (&["a", "b"], "it says what is in force"),
        (&["a", "b", "c"], "3 peers"),
    ] {
        std::fs::write(&file, config(&podman, containers)).unwrap();
        daemon.signal(Signal::HUP);
        until(what, || configs().last().filter(|last| last.contains(what)).map(drop));
    }
    assert_eq!(daemon.cli("status")["coverage"]["covered"], 6);
    daemon.cli("partition isolate c --name p --for 60s");
    podman.assert_sides(&[&["c"], &["a", "b"]]);
    daemon.heal_by_hand("p");
}

/// Each container with a label is a peer; one that comes later is one after a reload.
#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn containers_are_selected_by_a_label() {
    let Some(podman) = Podman::up("containers_are_selected_by_a_label") else { return };
    for name in ["a", "b"] {
        podman.start(name, "--network net --label app=shop");
    }
    podman.start("c", "--network net --label app=other");
    let config = format!(
        "engine: {}\ncontainers: {{ label: app=shop }}\ninterfaces: auto\n",
        podman.socket().display()
    );
    let daemon = podman.lab.within(HOST, || Daemon::start(&podman.lab, "lab", &config));
    let peers = || -> Vec<String> { daemon.cli("peers").as_object().unwrap().keys().cloned().collect() };
    assert_eq!(peers(), ["a", "b"]);
    daemon.cli("partition isolate a --name p --for 60s");
    podman.assert_sides(&[&["b", "c"]]);
    assert!(!podman.reaches("a", "b"));
    // On a busy machine an answer may take longer than one attempt waits.
    until("c is no peer", || podman.reaches("a", "c").then_some(()));
    daemon.heal_by_hand("p");
    until("the record is final", || daemon.cli("wait p --timeout 30s").is_object().then_some(()));
    podman.start("d", "--network net --label app=shop");
    daemon.signal(Signal::HUP);
    until("d is a peer", || (peers() == ["a", "b", "d"]).then_some(()));
}

#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn init_proposes_containers_by_their_names() {
    let Some(podman) = three("init_proposes_containers_by_their_names") else { return };
    let socket = podman.socket().display().to_string();
    let out = podman.lab.folder().join("found.yaml");
    let mut init = podman.lab.command(HOST, env!("CARGO_BIN_EXE_injector"));
    init.args(["init", "--yes", "--peer", "a", "--peer", "b", "--peer", "c", "--engine", &socket]);
    let output = init.arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(out).unwrap();
    for line in
        ["a: { container: a }", "b: { container: b }", "c: { container: c }", "engine: ", "port: 8080"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    let daemon = podman.lab.within(HOST, || Daemon::start(&podman.lab, "lab", &text));
    wait_healthy(&daemon, "ingress@a");
    let mut doctor = podman.lab.command(HOST, env!("CARGO_BIN_EXE_injector"));
    doctor.args(["doctor", "--config"]).arg(podman.lab.folder().join("lab.yaml"));
    let said = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    assert!(said.contains("would attach to eth0 in netns container a: for a"), "{said}");
    assert!(said.contains("6 of 6 directed links would pass a hook for sure"), "{said}");
}

/// What is wrong with one container says nothing of the others' endpoints.
#[test]
#[needs(root, program = "podman", program = "busybox", minutes = 1)]
fn doctor_asks_the_endpoints_of_containers_that_run_beside_one_that_does_not() {
    let Some(podman) = three("doctor_asks_the_endpoints_of_containers_that_run_beside_one_that_does_not")
    else {
        return;
    };
    let file = podman.lab.folder().join("lab.yaml");
    std::fs::write(&file, config(&podman, &["a", "b", "gone"])).unwrap();
    let doctor = |words: &[&str]| {
        let mut doctor = podman.lab.command(HOST, env!("CARGO_BIN_EXE_injector"));
        let output = doctor.args(words).args(["doctor", "--config"]).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // A server may take a moment.
    let found = until("the servers answer", || {
        let found: Value = serde_json::from_str(&doctor(&["--json"])).unwrap();
        let endpoints = found["endpoints"].as_array().unwrap();
        endpoints
            .iter()
            .filter(|endpoint| endpoint["endpoint"] != "web@gone")
            .all(|endpoint| endpoint["error"].is_null())
            .then_some(found)
    });
    assert!(found["network"]["error"].as_str().unwrap().contains("there is no container gone"), "{found:#}");
    let gone = found["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .find(|endpoint| endpoint["endpoint"] == "web@gone")
        .unwrap();
    assert!(gone["error"].as_str().unwrap().contains("was not asked"), "{found:#}");
    let said = doctor(&[]);
    assert!(said.contains("ok        endpoint web@a"), "{said}");
}

/// Whoever follows containers no more would take one that restarts to be where it was.
#[test]
#[needs(root, program = "podman", program = "busybox", example = "fault_injected", minutes = 1)]
fn a_daemon_that_follows_containers_no_more_ends() {
    let Some(podman) = three("a_daemon_that_follows_containers_no_more_ends") else { return };
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/fault_injected");
    let config = config(&podman, &["a", "b", "c"]);
    let mut launch = injector_lab::Launch::in_folder(program, podman.lab.folder(), "lab", &config).unwrap();
    // The first look begins the following.
    launch.command().env("INJECTOR_FAULT", "engine/look#2=panic");
    let mut daemon = podman.lab.within(HOST, || Daemon::launched(launch));
    podman.ok("restart --time 0 a");
    let status = until("the daemon ends", || daemon.ended());
    assert_eq!(status.code(), Some(2), "{}", daemon.log());
    assert!(daemon.log().contains("panicked, which is a bug"), "{}", daemon.log());
}
