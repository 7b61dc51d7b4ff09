//! One command for several hosts: four network namespaces, each with a node, a daemon and a real sshd. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../netns_docs/hosts.rs"]
mod hosts;
#[path = "../netns_docs/page.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod page;
#[path = "../netns_jepsen/sshd.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod sshd;
#[path = "../support/stopped_process.rs"]
mod stopped_process;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hosts::Hosts;
use injector_lab::http::{Request, body, over_unix};
use injector_lab::{CLIENT, keep_all, needs, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stopped_process::StoppedProcess;

const PAGE: &str = "docs/recipes/hosts.md";
/// The nodes, each on a host of its own.
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// The hosts, and the machine that commands them.
struct Client {
    hosts: Hosts,
}

impl Client {
    /// `None` where there is no sshd, which is logged as a skip of the test.
    fn up(test: &str) -> Option<Self> {
        if let Some(why) = sshd::why_not() {
            injector_lab::skip(test, &why);
            return None;
        }
        let client = Self { hosts: Hosts::up(PAGE) };
        let programs = client.programs();
        fs::create_dir_all(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_injector"), programs.join("injector")).unwrap();
        client.write_ssh(&client.hosts.ssh());
        Some(client)
    }

    fn write_ssh(&self, script: &str) {
        injector_lab::write_program(&self.programs().join("ssh"), &format!("#!/bin/sh\n{script}\n"));
    }

    /// What comes back from a host takes so long from now on; what is sent there does not.
    fn slow_down(&self, node: &str, seconds: f32) {
        let ssh = self.hosts.ssh();
        let ssh = ssh.strip_prefix("exec ").unwrap();
        let late = format!(
            "$|=1; while (sysread STDIN, $b, 65536) {{ select undef, undef, undef, {seconds}; print $b }}"
        );
        self.write_ssh(&format!(
            "case \"$*\" in *root@{node}*) {ssh} | perl -e '{late}' ;; *) exec {ssh} ;; esac"
        ));
    }

    fn programs(&self) -> std::path::PathBuf {
        self.hosts.lab.folder().join("bin")
    }

    /// The command line with some of the hosts.
    fn command(&self, nodes: &[&str], words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.programs().display()));
        command.env_remove("INJECTOR_SOCKET").env_remove("INJECTOR_HOST");
        for node in nodes {
            command.arg("--host").arg(format!("ssh://root@{node}"));
        }
        command.args(words.split_whitespace()).stdin(Stdio::null());
        command
    }

    fn run(&self, nodes: &[&str], words: &str) -> (i32, String, String) {
        let begun = Instant::now();
        let mut command = self.command(nodes, words);
        let Output { status, stdout, stderr } = self.hosts.lab.within(CLIENT, || command.output().unwrap());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (said, errors) = (text(stdout), text(stderr));
        println!("{words}: {status} after {:.1?}\n{said}{errors}", begun.elapsed());
        (status.code().unwrap(), said, errors)
    }

    /// The JSON of a command that must succeed.
    fn json(&self, nodes: &[&str], words: &str) -> Value {
        let (code, said, errors) = self.run(nodes, &format!("--json {words}"));
        assert_eq!(code, 0, "{words}: {errors}");
        serde_json::from_str(&said).unwrap()
    }

    /// What a host's own daemon answers.
    fn get(&self, node: &str, path: &str) -> Value {
        let (_, rest) = over_unix(self.hosts.socket(node), &Request::get(path)).unwrap();
        serde_json::from_str(body(&rest)).unwrap()
    }

    /// The states of a name's partitions on a host.
    fn states(&self, node: &str, name: &str) -> Vec<String> {
        let partitions = self.get(node, "/v1/partitions");
        let named = partitions.as_array().unwrap().iter().filter(|view| view["name"] == name);
        named.map(|view| view["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether a host has a partition of this name that is prepared, or in force now or later.
    fn holds(&self, node: &str, name: &str) -> bool {
        let held = |state: &String| ["prepared", "scheduled", "active"].contains(&state.as_str());
        self.states(node, name).iter().any(held)
    }

    fn nothing_is_held(&self, nodes: &[&str], name: &str) {
        for node in nodes {
            until(&format!("{node} holds no {name}"), || (!self.holds(node, name)).then_some(()));
        }
        assert!(self.hosts.lab.reaches_soon(1, 3) && self.hosts.lab.reaches_soon(4, 2), "nothing is cut");
    }

    fn pid(&self, node: &str) -> Pid {
        let pid = self.get(node, "/v1/status")["pid"].as_i64().unwrap();
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }
}

fn ns(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

#[test]
#[needs(root, example = "quorum", minutes = 1)]
fn a_shape_is_cut_on_all_hosts_at_one_instant_and_healed_on_all() {
    let Some(client) = Client::up("a_shape_is_cut_on_all_hosts_at_one_instant_and_healed_on_all") else {
        return;
    };
    let lab = &client.hosts.lab;
    assert!(lab.reaches_soon(1, 3));
    let cut = client.json(&NODES, "partition split n1,n2 n3,n4 --name p --for 60s");
    assert!(!lab.reaches(1, 3) && !lab.reaches(4, 2) && lab.reaches(1, 2) && lab.reaches(3, 4));
    assert_eq!((ns(&cut["links"]), cut["seed"].is_null()), (8, true));
    let spread = ns(&cut["spread_ns"]);
    assert!((1..250_000_000).contains(&spread), "{spread}");
    let mut begins = Vec::new();
    for (host, node) in cut["hosts"].as_array().unwrap().iter().zip(NODES) {
        assert_eq!(host["host"], format!("ssh://root@{node}"));
        let view = &host["partition"];
        assert_eq!(view["links"].as_array().unwrap().len(), 4, "{view}");
        assert_eq!(view["request"]["owner"], "none", "it outlives the command: {view}");
        begins.push(ns(&view["effective"]["begin_ns"]));
        // All clocks are one kernel's: what is measured as an offset is the measurement's own error.
        let (ahead, bound) =
            (host["begin"]["wall_ahead_ns"].as_i64().unwrap(), ns(&host["begin"]["bound_ns"]));
        // Each side reads its two clocks one after the other, and may be held up in between.
        let held_up = 20_000_000;
        assert!(ahead.unsigned_abs() <= bound + held_up, "{node}: {ahead} ns ahead, bound {bound}");
        assert_eq!(client.states(node, "p"), ["active"]);
    }
    let apart = begins.iter().max().unwrap() - begins.iter().min().unwrap();
    println!("the begins are {apart} ns apart, and {spread} ns were allowed for");
    assert!(apart <= spread, "{apart} {spread}");

    // The same words again are another partition of that name: refused, and the first stays.
    let (code, _, errors) = client.run(&NODES, "partition split n1,n2 n3,n4 --name p --for 60s");
    assert!(code == 64 && errors.contains("\"p\" is live, with another request"), "{errors}");
    assert!(!lab.reaches(1, 3) && NODES.iter().all(|node| client.states(node, "p") == ["active"]));

    let (code, said, _) = client.run(&NODES, "status");
    assert_eq!(code, 0);
    assert!(NODES.iter().all(|node| said.contains(&format!("== ssh://root@{node}\n"))), "{said}");
    let (code, said, _) = client.run(&NODES, "--json mark here");
    let hosts: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(code == 0 && hosts.len() == 4 && hosts[2]["host"] == "ssh://root@n3", "{said}");
    assert_eq!(hosts[2]["answer"]["text"], "here");
    for words in ["peers", "timeline", "probe"] {
        let (code, said, _) = client.run(&["n1", "n2"], words);
        // The cut is in the way of no probe: each daemon asks its own node, which answers.
        assert!((code == 0 || words == "probe") && said.contains("== ssh://root@n2\n"), "{words}: {said}");
    }

    let (code, said, _) = client.run(&NODES, "heal p");
    assert!(code == 0 && said.matches("p: healed").count() == 4, "{said}");
    assert!(lab.reaches_soon(1, 3));
    let (code, _, _) = client.run(&NODES, "heal p");
    assert_eq!(code, 0, "a second heal tells of the first");
    let (code, _, errors) = client.run(&NODES, "heal ghost");
    assert!(code == 64 && errors.matches("no partition \"ghost\" is known").count() == 4, "{errors}");
    let (code, said, errors) = client.run(&NODES, "wait p");
    assert!(said.matches("== ssh://").count() == 4 && code <= 2, "{said}{errors}");
}

#[test]
#[needs(root, example = "quorum", minutes = 1)]
fn hosts_draw_the_same_and_each_packet_of_a_loss_is_rolled_once() {
    let Some(client) = Client::up("hosts_draw_the_same_and_each_packet_of_a_loss_is_rolled_once") else {
        return;
    };
    let lab = &client.hosts.lab;
    // n4 has nothing to do with what is drawn: other shares than "all of it" are made too.
    let would = client.json(&NODES, "partition random-node --among n1,n2 --seed 5 --dry-run");
    assert_eq!((would["seed"].as_u64(), would["begins"].is_null()), (Some(5), true));
    assert!(lab.reaches(1, 3), "a dry run cuts nothing");
    let cut =
        client.json(&NODES, "partition random-node --among n1,n2 --seed 5 --name drawn --for 60s --at +15s");
    assert_eq!(cut["resolved"], would["resolved"]);
    let states = NODES.map(|node| client.states(node, "drawn"));
    assert!(states.iter().all(|states| states == &["scheduled"]), "{states:?}");
    for host in cut["hosts"].as_array().unwrap() {
        assert_eq!(host["partition"]["resolved"], cut["resolved"], "{host}");
    }
    assert_eq!(client.run(&NODES, "heal --all").0, 0);

    // Without a seed each run draws one, the same for all hosts.
    let cut = client.json(&NODES, "partition random-halves --name halves --for 60s");
    let hosts = cut["hosts"].as_array().unwrap();
    assert!(
        cut["seed"].is_u64() && hosts.iter().all(|host| host["partition"]["resolved"] == cut["resolved"])
    );
    assert_eq!(client.run(&NODES, "heal halves").0, 0);
    assert!(lab.reaches_soon(1, 2) && lab.reaches_soon(1, 3));

    let cut = client.json(&NODES, "partition between n1 n2 --loss 50% --name lossy --for 60s");
    let hosts = cut["hosts"].as_array().unwrap();
    let links: Vec<String> = hosts
        .iter()
        .flat_map(|host| host["partition"]["links"].as_array().cloned().unwrap_or_default())
        .map(|link| format!("{}→{}", link["src"].as_str().unwrap(), link["dst"].as_str().unwrap()))
        .collect();
    assert_eq!(links, ["n1→n2", "n2→n1"], "each link is on one host, that of its source");
    assert!(hosts[2]["partition"].is_null() && hosts[3]["partition"].is_null());
    let arrived = datagrams(&client, 1000);
    println!("{arrived} of 1000 datagrams arrived through a loss of 50 %");
    // Five standard deviations; rolled at both ends it would be 250.
    assert!((420..=580).contains(&arrived), "{arrived}");
    let (code, said, errors) = client.run(&NODES, "heal lossy");
    assert!(code == 0 && said.matches("lossy: healed").count() == 2, "{said}");
    assert!(errors.contains("ssh://root@n3: no partition \"lossy\" is known"), "{errors}");
}

/// How many of some datagrams from n1 reach n2.
fn datagrams(client: &Client, count: usize) -> usize {
    let lab = &client.hosts.lab;
    let to = (lab.ipv4(2), 9000);
    let receiver = lab.within("n2", || UdpSocket::bind(to).unwrap());
    let sender = lab.within("n1", || UdpSocket::bind((lab.ipv4(1), 0)).unwrap());
    // They wait in it until they are counted.
    keep_all(&receiver);
    for _ in 0..count {
        sender.send_to(b"x", to).unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    std::iter::from_fn(|| receiver.recv(&mut [0; 16]).ok()).count()
}

#[test]
#[needs(root, example = "quorum", minutes = 1)]
fn where_one_host_refuses_or_is_down_no_host_cuts() {
    let Some(client) = Client::up("where_one_host_refuses_or_is_down_no_host_cuts") else { return };
    let split = "partition split n1,n2 n3,n4 --name p --for 60s";

    // The name is in use on n3, for something that cuts nobody here.
    let (code, _, _) = client.run(&["n3"], "partition between n3 n4 --scope tcp/9 --name p --for 60s");
    assert_eq!(code, 0);
    let (code, _, errors) = client.run(&NODES, split);
    assert!(
        code == 64 && errors.contains("ssh://root@n3: ") && errors.contains("is live, with another request")
    );
    assert!(errors.contains("it was taken back on ssh://root@n1, ssh://root@n2, ssh://root@n4"), "{errors}");
    assert_eq!(client.states("n3", "p"), ["active"], "it is somebody else's");
    client.nothing_is_held(&["n1", "n2", "n4"], "p");
    let (_, _, errors) = client.run(&NODES, &format!("--json {split}"));
    let error: Value = serde_json::from_str(&errors).unwrap();
    assert_eq!(error["hosts"][0]["problem"]["code"], "name-taken", "{error}");
    assert_eq!((error["exit"].as_i64(), error["taken_back"].as_array().map(Vec::len)), (Some(64), Some(3)));
    client.run(&["n3"], "heal p");

    // Links whose hosts are not asked.
    let (code, _, errors) = client.run(&["n1", "n2"], "partition split n1,n3 n2,n4 --name q");
    assert!(
        code == 64
            && errors.contains("2 links of the shape have an end on none of these hosts: n3→n4, n4→n3")
    );
    let (code, _, errors) = client.run(&["n1", "n2"], "partition links n3:n4 --name q");
    assert!(code == 64 && errors.matches("has an end here").count() == 2, "{errors}");
    // A start that has gone by, and one that is too near.
    let (code, _, errors) =
        client.run(&NODES, "partition split n1,n2 n3,n4 --name q --at 2026-01-01T00:00:00Z");
    assert!(code == 64 && errors.contains("in the past"), "{errors}");
    let (code, _, errors) = client.run(&NODES, "partition split n1,n2 n3,n4 --name q --at +1day");
    assert!(code == 64 && errors.contains("max_for"), "{errors}");
    client.nothing_is_held(&NODES, "q");

    // Interrupted between the confirmation and the cut.
    let mut command = client.command(&NODES, "partition split n1,n2 n3,n4 --name r --for 60s");
    let child = client.hosts.lab.within(CLIENT, || command.stderr(Stdio::piped()).spawn().unwrap());
    until("n4 is enabled", || (client.states("n4", "r") == ["scheduled"]).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(130) && errors.contains("nothing is cut on any host"), "{errors}");
    client.nothing_is_held(&NODES, "r");

    // A daemon that is down.
    let stopped = Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["stop", "--socket"])
        .arg(client.hosts.socket("n4"))
        .output();
    assert!(stopped.unwrap().status.success());
    let (code, _, errors) = client.run(&NODES, split);
    assert!(code == 69 && errors.contains("ssh://root@n4: "), "{errors}");
    assert!(errors.contains("nothing was cut on any host"), "{errors}");
    client.nothing_is_held(&["n1", "n2", "n3"], "p");
    let (code, said, errors) = client.run(&NODES, "status");
    assert!(
        code == 69 && said.contains("== ssh://root@n3") && errors.contains("ssh://root@n4: "),
        "{errors}"
    );
}

#[test]
#[needs(root, example = "quorum", program = "perl", minutes = 2)]
fn a_host_that_hangs_keeps_no_other_cut() {
    let Some(client) = Client::up("a_host_that_hangs_keeps_no_other_cut") else { return };
    let split = "partition split n1,n2 n3,n4 --name p --for 120s";
    client.json(&NODES, split);
    assert!(!client.hosts.lab.reaches(1, 3));
    let hung = StoppedProcess::stop(client.hosts.sshd("n4"));
    let mut command = client.command(&NODES, "heal p");
    let begun = Instant::now();
    let child = client
        .hosts
        .lab
        .within(CLIENT, || command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    until("the others are healed", || {
        ["n1", "n2", "n3"].iter().all(|node| !client.holds(node, "p")).then_some(())
    });
    let others = begun.elapsed();
    let output = child.wait_with_output().unwrap();
    let all = begun.elapsed();
    println!("the others were healed after {others:.1?}, n4 was given up after {all:.1?}");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code() == Some(69) && errors.contains("ssh://root@n4: "), "{errors}");
    assert_eq!(said.matches("p: healed").count(), 3, "{said}");
    assert!(others < all && all < Duration::from_secs(20), "{others:?} {all:?}");

    let begun = Instant::now();
    let (code, _, errors) = client.run(&NODES, "partition split n1,n2 n3,n4 --name q --for 60s");
    assert!(code == 69 && errors.contains("ssh://root@n4: "), "{errors}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(hung);
    client.run(&["n4"], "heal p");
    client.nothing_is_held(&NODES, "q");

    // A daemon that stops answering once it has prepared. It is enabled only when n2 has answered too.
    client.slow_down("n2", 0.4);
    let pid = client.pid("n4");
    let mut command = client.command(&NODES, "partition split n1,n2 n3,n4 --name r --for 60s");
    let begun = Instant::now();
    let child = client.hosts.lab.within(CLIENT, || command.stderr(Stdio::piped()).spawn().unwrap());
    until("n4 is prepared", || (!client.states("n4", "r").is_empty()).then_some(()));
    let hung = StoppedProcess::stop(pid);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("given up after {:.1?}: {errors}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(40));
    assert!(output.status.code() == Some(69) && errors.contains("ssh://root@n4: "), "{errors}");
    client.nothing_is_held(&["n1", "n2", "n3"], "r");
    drop(hung);
    client.nothing_is_held(&NODES, "r");
}

/// The way back from n2 is 400 ms longer than the way there: the worst that an offset can be measured by.
#[test]
#[needs(root, example = "quorum", program = "perl", minutes = 1)]
fn a_slow_way_is_in_the_bound_and_what_is_not_confirmed_is_taken_back() {
    let test = "a_slow_way_is_in_the_bound_and_what_is_not_confirmed_is_taken_back";
    let Some(client) = Client::up(test) else { return };
    client.slow_down("n2", 0.4);
    let cut = client.json(&NODES, "partition split n1,n2 n3,n4 --name p --for 60s");
    let hosts = cut["hosts"].as_array().unwrap();
    let begins: Vec<u64> = hosts.iter().map(|host| ns(&host["partition"]["effective"]["begin_ns"])).collect();
    let apart = begins.iter().max().unwrap() - begins.iter().min().unwrap();
    let spread = ns(&cut["spread_ns"]);
    println!(
        "the begins are {:?} apart, and {:?} were allowed for",
        Duration::from_nanos(apart),
        Duration::from_nanos(spread)
    );
    assert!(apart > 100_000_000 && apart <= spread, "{apart} {spread}");
    assert!(
        ns(&hosts[1]["begin"]["bound_ns"]) >= 200_000_000 && ns(&hosts[0]["begin"]["bound_ns"]) < 100_000_000
    );
    client.run(&NODES, "heal p");

    // The client is killed while n2 has not answered yet: what is prepared ends with its connections.
    let mut command = client.command(&NODES, "partition split n1,n2 n3,n4 --name k --for 60s --at +20s");
    let mut child = client.hosts.lab.within(CLIENT, || command.spawn().unwrap());
    until("n4 is prepared", || (client.states("n4", "k") == ["prepared"]).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    client.nothing_is_held(&NODES, "k");
    let healed = &client.get("n4", "/v1/partitions/k")["healed"];
    assert_eq!(healed["healed_by"], "disconnect", "{healed}");

    // n4's daemon stops answering when it has prepared: the others wait for n2 then, and are enabled without it.
    let pid = client.pid("n4");
    let mut command = client.command(&NODES, "partition split n1,n2 n3,n4 --name q --for 60s --at +8s");
    let begun = Instant::now();
    let child = client.hosts.lab.within(CLIENT, || command.stderr(Stdio::piped()).spawn().unwrap());
    until("n4 is prepared", || (client.states("n4", "q") == ["prepared"]).then_some(()));
    let hung = StoppedProcess::stop(pid);
    until("n1 is enabled", || (client.states("n1", "q") == ["scheduled"]).then_some(()));
    until("n1 is taken back", || (!client.holds("n1", "q")).then_some(()));
    let taken_back = begun.elapsed();
    assert!(client.get("n1", "/v1/partitions/q")["healed"]["healed_by"] == "request");
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    println!(
        "n1 was taken back after {taken_back:.1?}, the command ended after {:.1?}: {errors}",
        begun.elapsed()
    );
    assert!(taken_back < Duration::from_secs(8), "it was before the cut began");
    assert!(
        output.status.code() == Some(69) && errors.contains("the cut had to be confirmed before it begins"),
        "{errors}"
    );
    assert!(errors.contains("taken back on ssh://root@n1, ssh://root@n2, ssh://root@n3"), "{errors}");
    assert!(errors.contains("but ssh://root@n4 may cut until its `--for` ends"), "{errors}");
    drop(hung);
    client.nothing_is_held(&NODES, "q");
}

#[test]
#[needs(root, example = "quorum")]
fn what_works_with_one_host_alone_is_refused() {
    let Some(client) = Client::up("what_works_with_one_host_alone_is_refused") else { return };
    for (words, says) in [
        ("with isolate n1 -- true", "with runs its command under a partition of one daemon"),
        ("measure isolate n1 --trials 1 --out o", "measure makes trials on one daemon"),
        ("top", "top watches one daemon"),
        ("timeline --follow", "timeline --follow follows one daemon"),
        ("status --watch", "status --watch shows one daemon"),
        ("start --config c", "start works on the host where it is run"),
        ("stop", "stop works on the host where it is run"),
        ("init", "init works on the host where it is run"),
        ("doctor", "doctor works on the host where it is run"),
    ] {
        let (code, said, errors) = client.run(&["n1", "n2"], words);
        assert!(code == 64 && said.is_empty() && errors.contains(says), "{words}: {errors}");
    }
    let (code, _, errors) = client.run(&["n1", "n1"], "status");
    assert!(code == 64 && errors.contains("ssh://root@n1 is named twice"), "{errors}");
    // The environment names several too; before and behind the command counts as one list.
    let mut command = client.command(&[], "peers");
    command.env("INJECTOR_HOST", "ssh://root@n1,ssh://root@n2");
    let output = client.hosts.lab.within(CLIENT, || command.output().unwrap());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("== ssh://root@n2"), "{output:?}");
    let (code, said, errors) = client.run(&["n1"], "peers --host ssh://root@n2");
    let refused = code == 64 && errors.contains("--host");
    assert!(
        refused || said.contains("== ssh://root@n1") && said.contains("== ssh://root@n2"),
        "{said}{errors}"
    );
}
