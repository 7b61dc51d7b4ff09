//! The way in: `init` writes a config from what is there, `doctor` says what it would do, `start` takes it, `stop` ends it.
//! Needs root.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
#[path = "support/terminal.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod terminal;

use std::path::Path;
use std::process::{Command, Output};

use injector_lab::{Lab, SWITCH, needs, until};
use live::daemon::{Daemon, warnings};
use live::traffic::{Server, ServerMode};
use serde_json::Value;
use terminal::Terminal;

const INJECTOR: &str = env!("CARGO_BIN_EXE_injector");
const PORT: u16 = 8080;

fn lab() -> Lab {
    Lab::new(3)
}

fn servers(lab: &Lab) -> Vec<Server> {
    lab.peer_names().iter().map(|peer| Server::start_at(lab, peer, PORT)).collect()
}

fn injector(words: &[&str], path: &Path) -> Output {
    Command::new(INJECTOR).args(words).arg(path).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn examined(lab: &Lab, form: &[&str], config: &str) -> (Option<i32>, String) {
    let path = lab.folder().join("doctor.yaml");
    std::fs::write(&path, config).unwrap();
    let output = injector(&[form, &["doctor", "--config"]].concat(), &path);
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    (output.status.code(), text(&output.stdout))
}

/// What the doctor says of a config. Each line that prevents something has its remedy.
fn doctor(lab: &Lab, config: &str) -> (Option<i32>, String) {
    let (code, said) = examined(lab, &[], config);
    for line in said.lines().filter(|line| line.starts_with("PREVENTS")) {
        assert!(line.contains("; "), "no remedy: {line}");
    }
    (code, said)
}

/// The same where every endpoint must answer. On a busy machine, one may take longer than the doctor waits.
fn doctor_of_answering(lab: &Lab, config: &str) -> (Option<i32>, String) {
    until("every endpoint answers", || Some(doctor(lab, config)).filter(|(_, said)| all_answer(said)))
}

fn all_answer(said: &str) -> bool {
    !said.lines().any(|line| line.starts_with("PREVENTS  endpoint "))
}

/// Every object of an answer that is something wrong, and has no remedy.
fn without_remedy(found: &Value, at: &str, all: &mut Vec<String>) {
    match found {
        Value::Object(fields) => {
            let is_wrong = fields.get("error").is_some_and(|error| !error.is_null())
                || fields.get("verdict").is_some_and(|verdict| verdict == "prevents");
            let remedy = fields.get("remedy").and_then(Value::as_str).unwrap_or_default();
            if is_wrong && remedy.is_empty() {
                all.push(format!("{at}: {found}"));
            }
            fields.iter().for_each(|(name, field)| without_remedy(field, &format!("{at}.{name}"), all));
        }
        Value::Array(items) => items.iter().for_each(|item| without_remedy(item, at, all)),
        _ => {}
    }
}

/// The same as JSON.
fn findings(lab: &Lab, config: &str) -> (Option<i32>, Value) {
    let (code, found) = examined(lab, &["--json"], config);
    let found: Value = serde_json::from_str(&found).unwrap();
    let mut bare = Vec::new();
    without_remedy(&found, "", &mut bare);
    assert!(bare.is_empty(), "{}", bare.join("\n"));
    // What no hook sees is named with what to do about it.
    for unseen in found["unseen"].as_array().unwrap() {
        assert!(unseen["found"].is_string() && unseen["remedy"].is_string(), "{unseen}");
    }
    (code, found)
}

fn endpoint(lab: &Lab, port: u16, rest: &str) -> String {
    format!(
        "{}interfaces: auto\nendpoints:\n  - {{ name: ingress, peers: [n1, n2, n3], \
         probe: {{ http: {{ url: \"http://{{address}}:{port}/\" }} }}{rest} }}\n",
        lab.peers()
    )
}

#[test]
#[needs(root)]
fn doctor_names_what_would_be_attached_and_from_where_endpoints_answer() {
    let lab = lab();
    let servers = servers(&lab);
    let client = lab.netns("client");
    let fine = endpoint(&lab, PORT, &format!(", netns: {client}"));
    let (code, said) = doctor_of_answering(&lab, &fine);
    assert_eq!(code, Some(0), "{said}");
    let (_, found) = findings(&lab, &fine);
    let targets = found["network"]["targets"].as_array().unwrap();
    for peer in ["n1", "n2", "n3"] {
        let target = targets.iter().find(|target| target["peers"] == serde_json::json!([peer]));
        let target = target.unwrap_or_else(|| panic!("nothing for {peer}: {said}"));
        assert_eq!(target["netns"], lab.netns(peer), "{target}");
        assert!(
            said.contains(&format!("ok        endpoint ingress@{peer}, from netns {client}: answers")),
            "{said}"
        );
    }
    let last = said.lines().last().unwrap();
    let next = format!("next: sudo injector start --config {}", lab.folder().join("doctor.yaml").display());
    assert!(last.starts_with("summary   nothing prevents") && last.ends_with(&next), "{said}");
    let named = until("every endpoint answers", || {
        let said = text(&injector(&["doctor"], &lab.folder().join("doctor.yaml")).stdout);
        all_answer(&said).then_some(said)
    });
    // Daemons of others come and go meanwhile, and are notes.
    let same = named.lines().last().unwrap();
    assert!(
        same.starts_with("summary   nothing prevents") && same.ends_with(&next),
        "without --config: {named}"
    );
    assert_eq!(found["endpoints"][0]["note"], Value::Null, "a client's namespace is no peer's: {found}");
    assert_eq!(found["network"]["coverage"]["covered"], 6, "{said}");
    assert!(said.contains("6 of 6 directed links would pass a hook for sure"), "{said}");
    // Nothing stays behind on the hooks.
    let left = lab.run("n1", "tc", &["filter", "show", "dev", "eth0", "ingress"]);
    assert!(!left.contains("injector"), "{left}");

    // From the daemon's own namespace no way leads there; from the client's one does.
    let (code, said) = doctor(&lab, &endpoint(&lab, PORT, ""));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("PREVENTS  endpoint ingress@n1, from the daemon's own network namespace: "),
        "{said}"
    );
    assert!(said.contains(&format!("write `netns: {client}` at the endpoint ingress")), "{said}");

    let (code, said) = doctor(&lab, &endpoint(&lab, 9, &format!(", netns: {client}, role: advisory")));
    assert_eq!(code, Some(0), "an advisory endpoint keeps nobody from anything: {said}");
    assert!(said.contains("nothing listens at that address and port: start the service"), "{said}");
    servers[1].set(ServerMode::Failing);
    let (code, found) = findings(&lab, &fine);
    assert_eq!((code, &found["endpoints"][1]["code"]), (Some(1), &"answer".into()), "{found}");
    assert!(found["endpoints"][1]["remedy"].as_str().unwrap().contains("wait until the service is healthy"));
}

/// What is asked inside a node keeps answering while the node is cut off.
#[test]
#[needs(root)]
fn doctor_notes_endpoints_that_are_asked_inside_a_peer() {
    let lab = lab();
    let _servers = servers(&lab);
    let (code, said) =
        doctor_of_answering(&lab, &endpoint(&lab, PORT, &format!(", netns: {}", lab.netns("n1"))));
    assert_eq!(code, Some(0), "{said}");
    let own = "note      endpoint ingress@n1: it is asked from n1's own network namespace, where n1 still answers itself";
    let other =
        "note      endpoint ingress@n2: it is asked from the network namespace of n1: while n1 is cut off";
    assert!(said.contains(own) && said.contains(other), "{said}");
    assert!(said.contains("write `netns` with a client's namespace"), "{said}");
}

/// The bridge of the lab has learned who is behind which of its ports.
#[test]
#[needs(root)]
fn doctor_notes_a_virtual_machine_that_is_behind_another_interface() {
    let lab = lab();
    let servers = servers(&lab);
    let client = lab.netns("client");
    let placed = |ports: [&str; 3]| {
        let peers = lab.peer_names().into_iter().zip(1..).zip(ports).map(|((name, host), port)| {
            let interface = format!("{{ name: {port}, netns: {} }}", lab.netns(SWITCH));
            let peer = lab.peer(&name, host);
            format!("  {}, vm: {{ interface: {interface} }} }}\n", peer.trim_end_matches(" }"))
        });
        let endpoints = endpoint(&lab, PORT, &format!(", netns: {client}"));
        let endpoints = endpoints.split_once("interfaces:").unwrap().1;
        format!("peers:\n{}interfaces:{endpoints}", peers.collect::<String>())
    };
    // The endpoints are asked, and so the bridge learns the peers' MAC addresses.
    let (_, said) = doctor(&lab, &placed(["p-n1", "p-n2", "p-n3"]));
    let (code, again) = doctor(&lab, &placed(["p-n1", "p-n2", "p-n3"]));
    assert!(!again.contains(".vm: "), "each is where the config says: {said}{again}");
    assert_eq!(code, Some(0), "{again}");
    let (_, said) = doctor(&lab, &placed(["p-n2", "p-n1", "p-n3"]));
    let switch = lab.netns(SWITCH);
    let swapped =
        format!("note      peers.n1.vm: n1 was seen behind p-n1 in netns {switch}, not behind p-n2");
    assert!(said.contains(&swapped) && said.contains("note      peers.n2.vm: "), "{said}");
    assert!(!said.contains("peers.n3.vm: "), "{said}");
    drop(servers);
}

/// So many links are not judged one by one, and the doctor says so.
#[test]
#[needs(root)]
fn doctor_says_that_links_between_very_many_peers_are_not_judged() {
    let lab = lab();
    let more = (1..=63).map(|host| format!("m{host}: {{ addresses: [198.51.100.{host}] }}"));
    let peers: Vec<String> = [lab.peer("n1", 1), lab.peer("n2", 2)].into_iter().chain(more).collect();
    let (_, found) = findings(&lab, &format!("peers: {{ {} }}\ninterfaces: auto\n", peers.join(", ")));
    assert!(found["network"]["coverage"].is_null(), "{found}");
    let doubts = found["network"]["doubts"].as_array().unwrap();
    let said = doubts.iter().find(|doubt| doubt["found"].as_str().unwrap().contains("more than 64 peers"));
    assert!(said.is_some_and(|doubt| doubt["remedy"].as_str().unwrap().contains("--dry-run")), "{found}");
}

#[test]
#[needs(root)]
fn doctor_names_links_without_a_hook_and_peers_that_are_nowhere() {
    let lab = lab();
    let named = |interfaces: &str| format!("{}interfaces: [{interfaces}]\n", lab.peers());
    let n1 = format!("{{ name: eth0, netns: {} }}", lab.netns("n1"));
    let (code, said) = doctor(&lab, &named(&n1));
    assert_eq!(code, Some(1), "{said}");
    // Isolating n2 is refused for n1→n2 too: frames to groups would pass.
    assert!(said.contains("PREVENTS  2 of 6 directed links would pass a hook for sure"), "{said}");
    assert!(said.contains("PREVENTS  link n1→n2 would be partly covered: multicast"), "{said}");

    let absent = format!(
        "peers: {{ {}, n2: {{ addresses: [{}], vm: {{ interface: absent7 }} }} }}\ninterfaces: auto\n",
        lab.peer("n1", 1),
        lab.ipv4(2)
    );
    let (_, found) = findings(&lab, &absent);
    let doubts = found["network"]["doubts"].to_string();
    assert!(doubts.contains("peers.n2.vm: there is no interface absent7"), "{found}");
    let line = said.lines().find(|line| line.contains("link n2→n3")).unwrap();
    assert!(line.starts_with("PREVENTS") && line.contains("not covered: ") && line.contains("; "), "{line}");
    assert!(line.contains("add"), "a remedy: {line}");

    let (code, said) = doctor(&lab, &named(&format!("{n1}, {{ name: eth7, netns: {} }}", lab.netns("n2"))));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it is not there; make it, or correct its name"), "{said}");

    // Each entry that is wrong, and each role, says what to do.
    let wrong = format!(
        "{}interfaces: [{n1}, {{ name: eth7, netns: {} }}, {{ name: eth0, netns: no-such-netns }}]\nroles: {{ leader: {{ exec: [/no/such] \
         }}, far: {{ exec: [\"true\"], netns: no-such-netns }} }}\n",
        lab.peers(),
        lab.netns("n2")
    );
    let (code, found) = findings(&lab, &wrong);
    assert_eq!(code, Some(1), "{found}");
    let errors = |of: &Value| of.as_array().unwrap().iter().filter(|one| one["error"].is_string()).count();
    assert_eq!((errors(&found["interfaces"]), errors(&found["roles"])), (2, 2), "{found}");
    let (_, said) = doctor(&lab, &wrong);
    assert!(
        said.matches("PREVENTS  interface ").count() == 2 && said.matches("PREVENTS  role ").count() == 2,
        "{said}"
    );

    let nowhere =
        "peers: { a: { addresses: [198.51.100.1] }, b: { addresses: [198.51.100.2] } }\ninterfaces: auto\n";
    let (code, found) = findings(&lab, nowhere);
    assert_eq!(code, Some(1), "{found}");
    assert!(
        found["network"]["error"].as_str().unwrap().contains("found none of the peers' addresses"),
        "{found}"
    );
    // A peer that is not up yet is a doubt, and its links are open.
    let one = format!(
        "peers: {{ {}, late: {{ addresses: [198.51.100.2] }} }}\ninterfaces: auto\n",
        lab.peer("n1", 1)
    );
    let (_, found) = findings(&lab, &one);
    let late = &found["network"]["doubts"][0];
    assert!(late["found"].as_str().unwrap().contains("did not find peer late"), "{found}");
    assert!(late["remedy"].as_str().unwrap().starts_with("correct the address"), "{found}");
    let secret = format!(
        "{}interfaces: auto\nendpoints: [{{ name: e, probe: {{ http: {{ url: \"http://10.0.0.1/\", headers: {{ a: \"${{file:/nonexistent}}\" }} }} }} }}]\n",
        lab.peers()
    );
    let (code, said) = doctor(&lab, &secret);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("PREVENTS  secrets: ") && said.contains("no endpoint was asked"), "{said}");
}

#[test]
#[needs(root)]
fn what_init_writes_is_checked_started_cuts_and_is_stopped() {
    let lab = lab();
    let servers = servers(&lab);
    let path = lab.folder().join("lab.yaml");
    let output = injector(&["init", "--yes", "--out"], &path);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains("3 peers, 3 endpoints") && said.contains("sudo injector doctor --config"),
        "{said}"
    );
    let written = std::fs::read_to_string(&path).unwrap();
    for peer in ["n1", "n2", "n3"] {
        let line = written.lines().find(|line| line.trim_start().starts_with(&format!("{peer}: "))).unwrap();
        for address in lab.addresses(peer) {
            assert!(line.contains(&address.to_string()), "{line}");
        }
        assert!(line.contains(&format!("# network namespace {}, eth0", lab.netns(peer))), "{line}");
    }
    let client = format!("netns: {}", lab.netns("client"));
    assert!(written.contains("url: \"http://{address}:8080/\"") && written.contains(&client), "{written}");
    let others = written.split_once("not taken for peers").unwrap().1;
    assert!(others.contains("nothing listens there: a client?"), "{written}");

    // It is never written over, not even by a name that leads there.
    let link = lab.folder().join("link.yaml");
    std::os::unix::fs::symlink("dangling.yaml", &link).unwrap();
    for there in [&path, &link] {
        let again = injector(&["init", "--yes", "--out"], there);
        assert_eq!(again.status.code(), Some(64));
        assert!(text(&again.stderr).contains("exists and is left as it is"), "{}", text(&again.stderr));
    }
    assert!(!lab.folder().join("dangling.yaml").exists());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);

    let checked = injector(&["check", "--config"], &path);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let (code, said) = doctor_of_answering(&lab, &written);
    assert_eq!(code, Some(0), "{said}");
    let mut daemon = Daemon::start(&written);
    daemon.wait_healthy();
    daemon.cli(&["partition", "isolate", "n1", "--name", "p", "--for", "60s"]);
    let cut = daemon.partition("p");
    assert_eq!(cut.links.unwrap().len(), 4);
    assert!(warnings(&cut.warnings).is_empty(), "every link is covered: {:#?}", cut.warnings);

    let stopped = daemon.cli(&["stop"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped.stderr));
    assert_eq!(
        text(&stopped.stdout),
        format!("stopped: pid {}; what it cut is healed, and its programs are detached\n", daemon.id())
    );
    assert!(daemon.ended().is_some_and(|status| status.success()));
    assert_eq!(daemon.cli(&["stop"]).status.code(), Some(69));
    drop(servers);
}

#[test]
#[needs(root)]
fn init_takes_peers_that_are_named_and_says_why_it_finds_too_few() {
    let lab = lab();
    let run =
        |words: &[&str]| Command::new(INJECTOR).args(["init", "--out", "-"]).args(words).output().unwrap();
    let output = run(&["--peer", "n1", "--peer", "n3", "--peer", "far=198.51.100.7,2001:db8::7"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let config = injector_core::config::Config::parse(&said, "init").unwrap();
    let names: Vec<&str> = config.names.peers().map(|peer| config.names.name(peer)).collect();
    assert_eq!(names, ["far", "n1", "n3"]);
    assert!(config.endpoints.is_empty() && said.contains("# endpoints:"), "nothing listens: {said}");
    // A peer that is named by an address that was found is what was found.
    let as_a = format!("a={}", lab.addresses("n1")[0]);
    let said = text(&run(&["--peer", &as_a, "--peer", "n2"]).stdout);
    assert!(
        said.contains(&format!("a: {{ addresses: [{}] }}  # network namespace", lab.addresses("n1")[0])),
        "{said}"
    );

    for (words, code, says) in [
        (&["--peer", "n9"][..], 64, "nothing of that name was found, but "),
        (&["--peer", "n1=x"], 64, "is no list of addresses"),
        (&["--peer", "n1", "--peer", "n1"], 64, "given twice"),
        (&["--peer", "n1"], 1, "and needs two; start the nodes"),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(says), "{words:?}: {}", text(&output.stderr));
    }
}

#[test]
#[needs(root)]
fn on_a_terminal_init_asks_which_are_peers_and_by_which_port() {
    let lab = lab();
    let servers = servers(&lab);
    let path = lab.folder().join("asked.yaml");
    let mut init =
        Terminal::start(Command::new(INJECTOR).args(["init", "--out"]).arg(&path).env("TERM", "xterm"));
    init.wait_for("the question", |shown| shown.contains("Which of them are peers?"));
    // Where many other namespaces were found, the first lines have left the screen.
    let written = init.written();
    assert!(written.contains("nothing listens there: a client?"), "{written}");
    init.press("n1 n9\r");
    init.wait_for("the question again", |shown| shown.contains("\"n9\" is none of them."));
    init.press("n1\r");
    init.wait_for("the question again", |shown| shown.contains("At least two are needed."));
    init.press("n1, n3\r");
    init.wait_for("the ports", |shown| shown.contains("or none [8080]: "));
    init.press("x\r");
    init.wait_for("the ports again", |shown| shown.contains("\"x\" is no port."));
    init.press("\r");
    init.wait_for("the end", |shown| shown.contains("2 peers, 2 endpoints"));
    assert!(init.end().success());
    let config = injector_core::config::Config::load(&path).unwrap();
    let names: Vec<&str> = config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(names, ["ingress@n1", "ingress@n3"]);
    assert!(std::fs::read_to_string(&path).unwrap().contains("# n2: "), "what was not chosen is a comment");
    drop(servers);
}

/// `injector start --detach` with a config and a socket of its own, in the lab's folder.
fn detached(lab: &Lab, config: &str) -> (Output, [std::path::PathBuf; 2]) {
    let [path, socket] = ["second.yaml", "second/injector.sock"].map(|name| lab.folder().join(name));
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(INJECTOR);
    command.args(["start", "--detach", "--config"]).arg(&path).arg("--socket").arg(&socket);
    let output = command.env("INJECTOR_LOG", "debug").output().unwrap();
    let log = socket.with_file_name("injector.log");
    (output, [socket, log])
}

/// The log says much before the cause, which is what one needs.
#[test]
#[needs(root)]
fn a_detached_start_that_fails_says_why_and_nothing_else() {
    let lab = lab();
    let absent = format!("{{ name: absent7, netns: {} }}", lab.netns("n1"));
    let (output, [_, log]) = detached(&lab, &format!("{}interfaces: [{absent}]\n", lab.peers()));
    assert!(!output.status.success());
    let said = text(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("injector: the daemon did not start: ") && lines[0].contains("absent7"),
        "{said}"
    );
    assert_eq!(lines.last(), Some(&&*format!("its log is {}", log.display())), "{said}");
    assert!(!said.contains("WARN") && !said.contains("INFO") && !said.contains("DEBUG"), "{said}");
    assert!(std::fs::read_to_string(log).unwrap().lines().count() > lines.len(), "the log has more");
}

/// TCX takes the programs of both, and neither daemon knows of the other's cuts.
#[test]
#[needs(root, tcx)]
fn a_second_daemon_on_the_same_interfaces_is_noted_at_its_start_and_by_doctor() {
    let lab = lab();
    let config = format!("{}interfaces: auto\n", lab.peers());
    let first = Daemon::start(&config);
    let (output, [socket, log]) = detached(&lab, &config);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let doctor = Command::new(INJECTOR).arg("doctor").output().unwrap();
    // It would outlive a test that fails.
    let stopped = Command::new(INJECTOR).args(["stop", "--socket"]).arg(&socket).output().unwrap();
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    let note = format!("another injector, with pid {} (", first.id());
    let line = said.lines().find(|line| line.contains(&note)).unwrap_or_else(|| panic!("{said}"));
    assert!(line.starts_with("injector: note: ") && line.contains("too: each cuts by itself"), "{line}");
    assert!(line.contains(&format!("eth0 in netns {}", lab.netns("n1"))), "{line}");
    assert!(std::fs::read_to_string(log).unwrap().contains(&note), "the log has it too");

    let said = text(&doctor.stdout);
    let line = said
        .lines()
        .find(|line| line.contains("several daemons run: pids "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(line.starts_with("note      ") && line.contains(&format!("{} (", first.id())), "{line}");
}
