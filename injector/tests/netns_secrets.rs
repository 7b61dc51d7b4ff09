//! Secrets of probes are sent, and shown and stored nowhere. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::ops::Deref as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use injector_lab::Launch;
use injector_lab::http::{self, Request};
use injector_lab::{attempt, needs};
use rustix::process::Signal;
use support::{Daemon, Lab, until};

/// What must not be found anywhere; each is in another place of the config.
const SECRETS: [&str; 7] = [
    "in-the-environment-8301",
    "in-a-file-8302",
    "a-literal-header-8303",
    "in-the-query-8304",
    "in-the-body-8305",
    "an-argument-8306",
    "of-the-command-8307",
];

fn launch(lab: &Lab, heard: &Path) -> Launch {
    let mut launch = support::launch(lab, "lab", &config_of(lab, heard));
    launch.command().env("INJECTOR_LOG", "trace");
    launch
}

/// What the command line says, on both outputs.
fn said(daemon: &Daemon, words: &str) -> String {
    let output = daemon.deref().cli().run(words.split_whitespace());
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn get(daemon: &Daemon, path: &str) -> String {
    http::over_unix(daemon.socket(), &Request::get(path)).unwrap().1
}

/// A server that answers everything well, and keeps what it was asked last.
fn serve(lab: &Lab) -> Arc<Mutex<String>> {
    let listener = lab.within("n1", || TcpListener::bind((lab.ipv4(1), 8080)).unwrap());
    let last = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&last);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = vec![0; 4096];
            let mut length = 0;
            while let Ok(read @ 1..) = stream.read(&mut request[length..]) {
                length += read;
                if request[..length].ends_with(SECRETS[4].as_bytes()) {
                    break;
                }
            }
            *kept.lock().unwrap() = String::from_utf8_lossy(&request[..length]).into_owned();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    last
}

fn config_of(lab: &Lab, heard: &Path) -> String {
    let base = lab.folder();
    std::fs::write(base.join("token"), format!("{}\n", SECRETS[1])).unwrap();
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    let http = format!(
        "{{ url: \"http://{{address}}:8080/x?key={}\", method: POST, headers: {{ authorization: \"Bearer \
         ${{env:PROBE_TOKEN}}\", x-file: \"${{file:{}}}\", x-literal: {} }}, body: \"{}\", expect: {{ status: 200 }} }}",
        SECRETS[3],
        base.join("token").display(),
        SECRETS[2],
        SECRETS[4]
    );
    let exec = format!(
        "{{ command: [sh, -c, \"env > {0}.new && mv {0}.new {0}\", {1}], user: nobody, env: {{ TOKEN: \
         \"${{env:COMMAND_TOKEN}}\" }} }}",
        heard.display(),
        SECRETS[5]
    );
    format!(
        "{}interfaces: [{{ name: eth0, netns: {n1} }}, {{ name: eth0, netns: {n2} }}]\nready: {{ consecutive: 2, \
         observe: 300ms, observe_max: 1s }}\nendpoints:\n  - {{ name: web, peers: [n1], netns: {n2}, probe: {{ http: \
         {http} }} }}\n  - {{ name: check, role: advisory, probe: {{ exec: {exec}, interval: 200ms }} }}\n",
        lab.peers()
    )
}

fn assert_no_secret(what: &str, text: &str) {
    for secret in SECRETS {
        if let Some(at) = text.find(secret) {
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            panic!("{what} shows {secret}: {}", &text[line..(at + secret.len())]);
        }
    }
}

#[test]
#[needs(root)]
fn secrets_are_sent_and_shown_and_stored_nowhere() {
    let lab = Lab::switched(2);
    let base = lab.folder().to_owned();
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755)).unwrap();
    let public = base.join("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::set_permissions(&public, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let heard = public.join("environment");
    let asked = serve(&lab);
    let mut launch = launch(&lab, &heard);
    launch.command().env("PROBE_TOKEN", SECRETS[0]).env("COMMAND_TOKEN", SECRETS[6]);
    let daemon = Daemon::launched(launch);
    let config = base.join("lab.yaml");
    until("both are healthy", || {
        let status = daemon.cli("status");
        let endpoints = status["endpoints"].as_array().unwrap().clone();
        endpoints.iter().all(|endpoint| endpoint["healthy"] == true).then_some(())
    });
    // All of it is sent.
    let request = asked.lock().unwrap().clone();
    for part in [
        format!("authorization: Bearer {}\r\n", SECRETS[0]),
        format!("x-file: {}\r\n", SECRETS[1]),
        format!("x-literal: {}\r\n", SECRETS[2]),
        format!("POST /x?key={} ", SECRETS[3]),
        SECRETS[4].to_owned(),
    ] {
        assert!(request.contains(&part), "{part:?} is not in {request}");
    }
    // The command has what the config names, and nothing else of the daemon's.
    let environment = std::fs::read_to_string(&heard).unwrap();
    assert!(environment.contains(&format!("TOKEN={}\n", SECRETS[6])), "{environment}");
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    for name in &names {
        let known = ["PATH", "PEER", "ADDRESS", "SEQ", "TOKEN", "PWD", "SHLVL", "_", "OLDPWD"];
        assert!(known.contains(name), "{name} of root's environment is in {environment}");
    }

    let run = base.join("run");
    let measured = said(
        &daemon,
        &format!("measure isolate n1 --hold 300ms --trials 1 --deadline 20s --out {}", run.display()),
    );
    assert!(run.join("summary.json").exists(), "{measured}");
    assert_eq!(std::fs::metadata(&run).unwrap().permissions().mode() & 0o777, 0o700);
    let page = base.join("page.html");
    let report = said(&daemon, &format!("report {} --html {}", run.display(), page.display()));
    // A refusal of a config names places, not values.
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.replace(SECRETS[2], &format!("\"{}\\u0007\"", SECRETS[2]))).unwrap();
    daemon.signal(Signal::HUP);
    let timeline = until("the config is refused", || {
        let timeline = said(&daemon, "--json timeline");
        timeline.contains("value of a header").then_some(timeline)
    });
    let shown = [
        ("measure", measured),
        ("the report", report),
        ("the timeline", timeline),
        ("status", said(&daemon, "status") + &said(&daemon, "--json status") + &get(&daemon, "/v1/status")),
        ("peers", said(&daemon, "--json peers")),
        ("a probe", said(&daemon, "probe") + &said(&daemon, "--json probe")),
        ("partitions", get(&daemon, "/v1/partitions")),
        ("metrics", get(&daemon, "/metrics")),
        ("check", said(&daemon, &format!("check --config {}", config.display()))),
        ("the page", std::fs::read_to_string(&page).unwrap()),
        ("the log", daemon.log()),
    ];
    for (what, text) in &shown {
        assert!(!text.is_empty(), "{what} says nothing");
        assert_no_secret(what, text);
    }
    let mut files = 0;
    for entry in std::fs::read_dir(&run).unwrap() {
        let path = entry.unwrap().path();
        assert_no_secret(
            &path.display().to_string(),
            &String::from_utf8_lossy(&std::fs::read(&path).unwrap()),
        );
        files += 1;
    }
    assert!(files >= 4, "{files} files in the run directory");
    // What is shown still distinguishes two stimuli.
    let campaign = std::fs::read_to_string(run.join("campaign.json")).unwrap();
    assert!(campaign.contains("authorization: …") && campaign.contains(" #"), "{campaign}");
    attempt(
        "who may read anything that the daemon shows or stores",
        "looks for seven secrets of probes in status, events, metrics, the trace log, reports and the run directory",
        "none is there; the run directory has mode 0700",
    );
    attempt(
        "the command of an `exec` probe, as `nobody`",
        "reads its environment",
        "it has what the config names, and nothing else of root's",
    );
}

#[test]
#[needs(root)]
fn a_secret_that_is_not_there_stops_the_start_and_is_named() {
    let lab = Lab::switched(2);
    let launch = launch(&lab, Path::new("/dev/null"));
    std::fs::remove_file(lab.folder().join("token")).unwrap();
    let (status, said) = launch.run_to_end();
    assert_eq!(status.code(), Some(64), "{said}");
    for part in ["PROBE_TOKEN is not in", "COMMAND_TOKEN is not in", "token can't be read", "endpoints: web"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // Anyone who checks a config need not have its secrets.
    let config = lab.folder().join("lab.yaml");
    let check = Command::new(env!("CARGO_BIN_EXE_injector")).args(["check", "--config"]).arg(config).output();
    assert!(check.unwrap().status.success());
    attempt(
        "root",
        "starts the daemon without an environment variable or file that the config refers to",
        "exit 64 with the name of each; `check` needs none of them",
    );
}
