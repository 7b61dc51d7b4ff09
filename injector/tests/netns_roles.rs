//! Roles on a real daemon: asked by a command and over HTTP of a real service, at the moment of each request, and never
//! guessed.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use injector_core::api::{
    Code, Outcome, PartitionRequest, PartitionState, PartitionView, Problem, RecoveryRecord,
};
use injector_core::clock::Span;
use injector_core::model::{PeerName, Selector, Shape};
use injector_core::topology::words::{joined, parse_words};
use injector_lab::{AttachPoint, CLIENT, Lab, needs};
use live::daemon::Daemon;
use live::lab::addresses;
use live::traffic::{KINDS, assert_cut, assert_flows};

const LONG: Duration = Duration::from_mins(2);

/// Quorum services on all nodes; stopped when dropped.
struct Quorum(Vec<Child>);

impl Quorum {
    fn start(lab: &Lab) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/quorum");
        let nodes = lab.peer_names();
        let start = |node: &String| {
            let peers = nodes.iter().filter(|peer| *peer != node);
            let peers: Vec<String> = peers.map(|peer| format!("{peer}={}", addresses(peer)[0])).collect();
            let mut command = lab.command(node, &program);
            command.args(["--node", node, "--seed", "3", "--peers", &peers.join(",")]);
            command.args(["--listen", &addresses(node)[0].to_string()]);
            injector_lab::end_with_thread(&mut command);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("the quorum example is built with the tests")
        };
        Self(nodes.iter().map(start).collect())
    }
}

impl Drop for Quorum {
    fn drop(&mut self) {
        for node in &mut self.0 {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// A folder that every user may read.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn asked(shape: &str) -> PartitionRequest {
    let words: Vec<String> = shape.split(' ').map(str::to_owned).collect();
    PartitionRequest { for_: Some(Span(LONG)), ..PartitionRequest::new(parse_words(&words).unwrap()) }
}

fn refused(daemon: &Daemon, shape: &str) -> Problem {
    let problem = daemon.try_apply("p", &asked(shape)).unwrap_err();
    let is_healed = |view: &PartitionView| view.state == PartitionState::Watched;
    assert!(daemon.status().partitions.iter().all(is_healed), "something was cut");
    problem
}

/// Waits until a shape with roles resolves as expected. A cluster answers as soon as it has a quorum, and some of its
/// nodes may not hear the leader of all three yet.
fn wait_resolved(daemon: &Daemon, shape: &str, expected: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let said = daemon.dry_run("p", &asked(shape)).map(|view| view.resolved.to_string());
        match said {
            Ok(resolved) if resolved == expected => return,
            other => assert!(Instant::now() < end, "{shape} does not become {expected}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn had(view: &PartitionView, role: &str) -> String {
    joined(&view.roles[role], " ")
}

fn config(lab: &Lab, roles: &str) -> String {
    format!("{}roles:\n{roles}", lab.config(AttachPoint::OwnNic, "auto"))
}

/// The endpoints of the quorum service, seen from the client.
fn endpoints(lab: &Lab) -> String {
    format!(
        "endpoints:\n  - {{ name: ingress, peers: [n1, n2, n3], netns: {}, probe: {{ http: {{ url: \
         \"http://{{address}}:8080/\" }}, interval: 20ms, timeout: 1s }} }}\nready: {{ consecutive: 3, observe: 500ms, \
         observe_max: 10s }}\n",
        lab.netns(CLIENT)
    )
}

#[test]
#[needs(root)]
fn a_commands_answer_is_cut_and_asked_for_again_each_time() {
    let (lab, folder) = (Lab::new(3), folder());
    let (leader, count) = (folder.path().join("leader"), folder.path().join("count"));
    fs::write(&leader, "n2\n").unwrap();
    let script = format!("echo x >> {}; cat {}", count.display(), leader.display());
    let daemon = Daemon::start(&config(&lab, &format!("  leader: {{ exec: [sh, -c, \"{script}\"] }}\n")));
    assert_flows(&lab, &KINDS, "n2", "n1");

    let request = asked("isolate @leader");
    let view = daemon.apply("p", &request);
    assert_eq!(view.request.shape, Shape::Isolate(vec![Selector::Role("leader".to_owned())]));
    assert_eq!(view.resolved.to_string(), "isolate n2");
    assert_eq!(had(&view, "leader"), "n2");
    assert_cut(&lab, &KINDS, "n2", "n1");
    assert_cut(&lab, &KINDS, "n3", "n2");
    assert_flows(&lab, &KINDS, "n1", "n3");

    // The same request is answered from what was cut: nobody is asked again.
    fs::write(&leader, "n3, 10.99.0.1").unwrap();
    assert_eq!(daemon.apply("p", &request).generation, view.generation);
    // Nor for those who only look.
    daemon.status();
    daemon.cli(&["peers"]);
    daemon.cli(&["status"]);
    assert_eq!(fs::read_to_string(&count).unwrap(), "x\n");

    daemon.heal("p");
    assert_flows(&lab, &KINDS, "n2", "n1");
    let record = daemon.record_now("p");
    assert_eq!(record.shape.asked.to_string(), "isolate @leader");
    assert_eq!(record.shape.words(), "isolate n2 (@leader = n2)");
    assert_eq!(record.shape.roles["leader"], [PeerName::from("n2")]);
    let said = String::from_utf8(daemon.cli(&["wait", "p", "--timeout", "1ms"]).stdout).unwrap();
    assert!(said.contains("shape    isolate n2 (@leader = n2)"), "{said}");
    assert!(said.contains("traffic  all, both ways"), "{said}");

    let view = daemon.apply("p", &request);
    assert_eq!(view.resolved.to_string(), "isolate n1 n3");
    assert_cut(&lab, &KINDS, "n1", "n2");
    assert_flows(&lab, &KINDS, "n1", "n3");
    daemon.heal("p");
    assert_eq!(fs::read_to_string(&count).unwrap(), "x\nx\n");
}

#[test]
#[needs(root)]
fn a_command_runs_as_its_user_with_nothing_but_its_own_environment() {
    let (lab, folder) = (Lab::new(2), folder());
    fs::write(folder.path().join("token"), "of-the-role-91\n").unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let seen = open.join("seen");
    let role = format!(
        "  leader: {{ exec: {{ command: [sh, -c, \"(id -un; env) > {} && echo n1\"], user: nobody, env: {{ TOKEN: \
         \"${{file:{}}}\" }} }}, netns: {} }}\n",
        seen.display(),
        folder.path().join("token").display(),
        lab.netns(CLIENT)
    );
    let daemon = Daemon::start(&config(&lab, &role));
    let dry = daemon.cli(&["partition", "isolate", "@leader", "--dry-run"]);
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(
        said.contains("would cut: isolate n1 (@leader = n1)"),
        "{said}{}",
        String::from_utf8_lossy(&dry.stderr)
    );
    let seen = fs::read_to_string(&seen).unwrap();
    assert!(seen.starts_with("nobody\n") && seen.contains("TOKEN=of-the-role-91\n"), "{seen}");
    for line in seen.lines().skip(1) {
        let name = line.split('=').next().unwrap();
        assert!(
            ["PATH", "TOKEN", "PEER", "ADDRESS", "SEQ", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name),
            "{line}"
        );
    }
    for text in [daemon.log(), said, String::from_utf8(daemon.cli(&["--json", "status"]).stdout).unwrap()] {
        assert!(!text.contains("of-the-role-91"), "{text}");
    }
}

#[test]
#[needs(root, example = "quorum")]
fn a_service_says_who_leads_and_who_follows() {
    let lab = Lab::new(3);
    let _quorum = Quorum::start(&lab);
    let netns = lab.netns(CLIENT);
    let roles = format!(
        "  leader: {{ http: {{ url: \"http://{{address}}:8080/\", pointer: /leader }}, netns: {netns} }}\n  \
         followers: {{ http: {{ url: \"http://{{address}}:8080/\", pointer: /state, equals: follower }}, netns: {netns} }}\n  \
         own: {{ http: {{ url: \"http://{{address}}:8080/\", pointer: /leader, same_as: /node }}, netns: {netns} }}\n  \
         far: {{ http: {{ url: \"http://10.99.0.1:8080/\", pointer: /leader }} }}\n"
    );
    let daemon = Daemon::start(&format!("{}{}", config(&lab, &roles), endpoints(&lab)));
    wait_resolved(&daemon, "between @leader @followers", "between n1 n2,n3");
    let view = daemon.apply("p", &asked("between @leader @followers"));
    assert_eq!(view.resolved.to_string(), "between n1 n2,n3");
    assert_eq!((had(&view, "leader"), had(&view, "followers")), ("n1".to_owned(), "n2 n3".to_owned()));
    assert_cut(&lab, &KINDS, "n1", "n2");
    assert_flows(&lab, &KINDS, "n2", "n3");
    assert_flows(&lab, &KINDS, CLIENT, "n1");

    // The service elects another leader, and the old one has none: it answers 503, and nobody guesses.
    let elected = Instant::now() + Duration::from_secs(20);
    let problem = loop {
        match daemon.try_apply("q", &asked("links @leader:n2")) {
            Err(problem) if problem.detail.contains("503") => break problem,
            Ok(_) => drop(daemon.heal("q")),
            Err(_) => {}
        }
        assert!(Instant::now() < elected, "n1 still has a quorum");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(problem.code, Code::RoleUnresolved);
    assert!(problem.detail.contains("role @leader can't be resolved: n1: status 503"), "{problem}");
    daemon.heal("p");
    wait_resolved(&daemon, "links @own:n2", "links n1:n2");

    assert_eq!(daemon.apply("p", &asked("links @own:n2")).resolved.to_string(), "links n1:n2");
    daemon.heal("p");
    // From the daemon's own namespace nothing leads there.
    let problem = refused(&daemon, "isolate @far");
    assert!(problem.detail.contains("role @far can't be resolved"), "{problem}");
}

#[test]
#[needs(root)]
fn a_role_without_a_clear_answer_cuts_nothing_and_holds_up_nobody() {
    let (lab, folder) = (Lab::new(3), folder());
    let alive = folder.path().join("alive");
    let roles = [
        ("fails", "[sh, -c, \"echo n1; exit 3\"]".to_owned()),
        ("missing", "[/no/such/program]".to_owned()),
        ("unknown", "[echo, \"n1 n9\"]".to_owned()),
        ("silent", "[\"true\"]".to_owned()),
        ("endless", "[yes, n1]".to_owned()),
        ("binary", "[head, -c, \"100\", /bin/true]".to_owned()),
        ("n2", "[echo, n2]".to_owned()),
        // What it leaves behind would print forever.
        (
            "hangs",
            format!("[sh, -c, \"(while sleep 0.05; do date +%s%N > {}; done) & wait\"]", alive.display()),
        ),
    ];
    let roles = roles.map(|(name, exec)| format!("  {name}: {{ exec: {exec}, timeout: 5s }}\n")).concat();
    let daemon = Daemon::start(&config(&lab, &roles));
    for (role, expected) in [
        ("fails", "exit code 3"),
        ("missing", "run /no/such/program: no such file or directory"),
        (
            "unknown",
            "it names \"n9\", which is neither a peer's name nor a peer's address; the peers are n1, n2, n3",
        ),
        ("silent", "it names no peer"),
        ("endless", "answer over 64 KiB"),
        ("binary", "its answer is not UTF-8"),
    ] {
        let problem = refused(&daemon, &format!("isolate @{role}"));
        assert_eq!((problem.code, problem.status), (Code::RoleUnresolved, 503), "{problem}");
        assert_eq!(problem.field.as_deref(), Some("shape"));
        assert!(problem.detail.contains(&format!("role @{role} can't be resolved: {expected}")), "{problem}");
        assert!(problem.remedy.unwrap().contains(&format!("roles.{role}")));
    }
    // A shape that can't be built from who has the role now is as good as a role without an answer.
    let problem = refused(&daemon, "between @n2 n2");
    assert_eq!(problem.code, Code::RoleUnresolved);
    assert!(
        problem.detail.contains("with @n2 = n2 the shape can't be built: peer \"n2\" is named twice"),
        "{problem}"
    );
    let problem = refused(&daemon, "isolate @boss");
    assert_eq!(problem.code, Code::UnknownRole);
    assert!(problem.remedy.unwrap().contains("known roles: binary, endless, fails, hangs"));
    // A typing error is none of the role's.
    assert_eq!(refused(&daemon, "between @n2 n7").code, Code::UnknownPeer);

    let begun = Instant::now();
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| {
            daemon.raw("PUT", "/v1/partitions/h", br#"{"shape": {"isolate": ["@hangs"]}, "for": "5s"}"#)
        });
        std::thread::sleep(Duration::from_millis(200));
        // Others are answered meanwhile, and may cut, for which hooks may have to be waited for.
        let other = Instant::now();
        let view = daemon.apply("q", &asked("isolate n3"));
        assert_eq!(view.resolved.to_string(), "isolate n3");
        daemon.heal("q");
        daemon.status();
        assert!(other.elapsed() < Duration::from_millis(2500), "{:?}", other.elapsed());
        assert!(!hanging.is_finished(), "{:?} after it was asked for", begun.elapsed());
        let (status, answer) = hanging.join().unwrap();
        assert_eq!((status, answer["code"].as_str()), (503, Some("role-unresolved")), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains("timeout after 5s"), "{answer}");
    });
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    // Nothing that the command started is left.
    let last = |path: &PathBuf| fs::read_to_string(path).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let then = last(&alive);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(last(&alive), then, "the command's child still runs");
    // A client that gives up leaves nothing behind either.
    let output = daemon.cli(&["partition", "isolate", "@fails", "--name", "x"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[needs(root)]
fn a_service_that_answers_nonsense_is_no_answer() {
    let (lab, folder) = (Lab::new(2), folder());
    for (name, content) in [
        ("text", "n1".to_owned()),
        ("empty", "{}".to_owned()),
        ("other", "{\"leader\": \"n9\"}".to_owned()),
        ("right", "{\"leader\": \"10.99.0.2:2380\"}".to_owned()),
        ("large", format!("{{\"leader\": \"{}\"}}", "n".repeat(3_000_000))),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let mut server = lab.command("n1", "python3");
    server
        .args(["-m", "http.server", "8082", "--directory"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    injector_lab::end_with_thread(&mut server);
    let _server = Quorum(vec![server.spawn().unwrap()]);
    let role = |name: &str| {
        format!(
            "  {name}: {{ http: {{ url: \"http://10.99.0.1:8082/{name}\", pointer: /leader }}, netns: {} }}\n",
            lab.netns(CLIENT)
        )
    };
    let roles = ["text", "empty", "other", "right", "large", "absent"].map(role).concat();
    let daemon = Daemon::start(&config(&lab, &roles));
    let end = Instant::now() + Duration::from_secs(20);
    let view = loop {
        match daemon.try_apply("p", &asked("isolate @right")) {
            Ok(view) => break view,
            Err(problem) => assert!(Instant::now() < end, "{problem}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!((view.resolved.to_string(), had(&view, "right")), ("isolate n2".to_owned(), "n2".to_owned()));
    daemon.heal("p");
    for (role, expected) in [
        ("text", "its answer is not JSON"),
        ("empty", "its answer has nothing at /leader"),
        ("other", "it names \"n9\""),
        ("large", "answer over 64 KiB"),
        ("absent", "status 404, expected 2xx"),
    ] {
        let problem = refused(&daemon, &format!("isolate @{role}"));
        assert!(problem.detail.contains(&format!("role @{role} can't be resolved: {expected}")), "{problem}");
    }
}

/// A trial asks again, its answer is a stratum, and a trial without an answer has its reason.
#[test]
#[needs(root, example = "quorum")]
fn a_campaign_asks_for_each_trial() {
    let (lab, folder) = (Lab::new(3), folder());
    let _quorum = Quorum::start(&lab);
    let leader = folder.path().join("leader");
    let roles = format!("  leader: {{ exec: [cat, {}] }}\n", leader.display());
    let daemon = Daemon::start(&format!("{}{}", config(&lab, &roles), endpoints(&lab)));
    daemon.wait_healthy();
    let hook = folder.path().join("hook");
    // n2, n3, nobody, n2, n3
    fs::write(
        &hook,
        format!(
            "case $INJECTOR_TRIAL in 0|3) echo n2 > {0};; 2) rm {0};; *) echo n3 > {0};; esac",
            leader.display()
        ),
    )
    .unwrap();
    let run = folder.path().join("run");
    let words = "measure isolate @leader --hold 2s --trials 5 --deadline 20s --cooldown 100ms --no-gate --quiet --out";
    let mut words: Vec<&str> = words.split(' ').collect();
    let before = format!("sh {}", hook.display());
    words.extend([run.to_str().unwrap(), "--before-trial", before.as_str()]);
    let output = daemon.cli(&words);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");

    let trials = fs::read_to_string(run.join("trials.jsonl")).unwrap();
    let records: Vec<RecoveryRecord> =
        trials.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shapes: Vec<String> = records.iter().map(|record| record.shape.words()).collect();
    assert_eq!(
        shapes,
        [
            "isolate n2 (@leader = n2)",
            "isolate n3 (@leader = n3)",
            "isolate @leader (not resolved)",
            "isolate n2 (@leader = n2)",
            "isolate n3 (@leader = n3)"
        ],
        "{said}"
    );
    let lost = &records[2];
    assert_eq!((lost.outcome, lost.is_final, lost.cut), (Some(Outcome::HarnessFailed), true, None));
    let reason = lost.outcome_reason.as_deref().unwrap();
    assert!(reason.starts_with("role @leader can't be resolved: exit code 1"), "{reason}");
    for record in records.iter().filter(|record| record.trial != Some(2)) {
        assert_eq!(record.outcome, Some(Outcome::Recovered), "{record:?}");
    }

    let summary: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(
        (summary["outcomes"]["recovered"].as_u64(), summary["outcomes"]["harness_failed"].as_u64()),
        (Some(4), Some(1))
    );
    let by = |key: &str| {
        let rows = summary[key].as_array().unwrap().iter();
        rows.map(|row| (row["shape"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(by("by_role"), [("@leader = n2".to_owned(), 2), ("@leader = n3".to_owned(), 2)]);
    let cuts = by("by_resolved");
    assert!(cuts.contains(&("isolate n2 (@leader = n2)".to_owned(), 2)), "{cuts:?}");
    assert_eq!(by("by_shape"), [("isolate @leader".to_owned(), 4)]);
    let report = String::from_utf8(daemon.cli(&["report", run.to_str().unwrap()]).stdout).unwrap();
    assert!(report.contains("isolate n3 (@leader = n3)"), "{report}");
    // A run is compared with itself stratum by stratum, the role's among them.
    let compared = daemon.cli(&["compare", run.to_str().unwrap(), run.to_str().unwrap()]);
    let said = String::from_utf8(compared.stdout).unwrap();
    assert!(said.contains("@leader = n2"), "{said}");
}

#[test]
#[needs(root)]
fn a_config_with_roles_is_validated_without_asking() {
    let folder = folder();
    let (path, touched) = (folder.path().join("lab.yaml"), folder.path().join("touched"));
    let write = |roles: &str| {
        let text = format!(
            "peers: {{ n1: {{ addresses: [10.0.0.1] }}, n2: {{ addresses: [10.0.0.2] }} }}\ninterfaces: auto\nroles: {{ {roles} }}\n"
        );
        fs::write(&path, text).unwrap();
    };
    let run = |command: &str| {
        let mut injector = Command::new(env!("CARGO_BIN_EXE_injector"));
        let output = injector.args([command, "--config"]).arg(&path).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    write(&format!("leader: {{ exec: [touch, {}] }}", touched.display()));
    let (code, said) = run("check");
    assert!(code == Some(0) && said.contains("1 role"), "{said}");
    let (_, said) = run("doctor");
    assert!(said.contains("role @leader: can be asked for"), "{said}");
    write(
        "leader: { exec: { command: [/no/such], user: nobody } }, other: { exec: { command: [\"true\"], user: nosuchuser } }, far: { exec: [\"true\"], netns: no-such-netns }",
    );
    let (code, said) = run("doctor");
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "PREVENTS  role @leader: run /no/such: it is not there, or can't be executed",
        "PREVENTS  role @other: no user \"nosuchuser\" on this host",
        "PREVENTS  role @far: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    write("leader: { http: { url: \"http://n1/\", pointer: leader } }");
    let (code, said) = run("check");
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("is not a JSON pointer; write a JSON pointer that begins with /"), "{said}");
    assert!(!touched.exists(), "a role was asked");
}
