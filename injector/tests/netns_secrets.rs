//! Secrets of probes are sent, and shown and stored nowhere. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use support::{Lab, is_root, until};

/// What must not be found anywhere; each stands in another place of the config.
const SECRETS: [&str; 7] = [
    "in-the-environment-8301",
    "in-a-file-8302",
    "a-literal-header-8303",
    "in-the-query-8304",
    "in-the-body-8305",
    "an-argument-8306",
    "of-the-command-8307",
];

struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    config: PathBuf,
}

impl Daemon {
    fn command(lab: &Lab) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command
            .args(["start", "--config"])
            .arg(lab.directory.path().join("lab.yaml"))
            .arg("--socket")
            .arg(lab.directory.path().join("d.sock"))
            .env("INJECTOR_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn start(lab: &Lab) -> Self {
        let base = lab.directory.path();
        let (socket, log, config) = (base.join("d.sock"), base.join("log"), base.join("lab.yaml"));
        let mut command = Self::command(lab);
        command.env("PROBE_TOKEN", SECRETS[0]).env("COMMAND_TOKEN", SECRETS[6]);
        let mut child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        until("the daemon serves", || {
            assert!(child.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(&log).unwrap());
            UnixStream::connect(&socket).ok()
        });
        Self { child, socket, log, config }
    }

    fn cli(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command.arg("--socket").arg(&self.socket).args(words.split_whitespace());
        command.output().unwrap()
    }

    /// What the command line says, on both outputs.
    fn said(&self, words: &str) -> String {
        let output = self.cli(words);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A server that answers everything well, and keeps what it was asked last.
fn serve(lab: &Lab) -> Arc<Mutex<String>> {
    let listener = lab.within("n1", || TcpListener::bind((lab.address(1).as_str(), 8080)).unwrap());
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
    let base = lab.directory.path();
    std::fs::write(base.join("token"), format!("{}\n", SECRETS[1])).unwrap();
    let (n1, n2) = (lab.name("n1"), lab.name("n2"));
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
        lab.peers(2)
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
fn secrets_are_sent_and_shown_and_stored_nowhere() {
    if !is_root() {
        return;
    }
    let lab = Lab::switched(2);
    let base = lab.directory.path().to_owned();
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755)).unwrap();
    let public = base.join("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::set_permissions(&public, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let heard = public.join("environment");
    std::fs::write(base.join("lab.yaml"), config_of(&lab, &heard)).unwrap();
    let asked = serve(&lab);
    let daemon = Daemon::start(&lab);
    until("both are healthy", || {
        let status: serde_json::Value = serde_json::from_slice(&daemon.cli("--json status").stdout).unwrap();
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
    let said = daemon
        .said(&format!("measure isolate n1 --hold 300ms --trials 1 --deadline 20s --out {}", run.display()));
    assert!(run.join("summary.json").exists(), "{said}");
    assert_eq!(std::fs::metadata(&run).unwrap().permissions().mode() & 0o777, 0o700);
    let page = base.join("page.html");
    let report = daemon.said(&format!("report {} --html {}", run.display(), page.display()));
    // A refusal of a config names places, not values.
    let good = std::fs::read_to_string(&daemon.config).unwrap();
    std::fs::write(&daemon.config, good.replace(SECRETS[2], &format!("\"{}\\u0007\"", SECRETS[2]))).unwrap();
    kill_process(Pid::from_child(&daemon.child), Signal::HUP).unwrap();
    let timeline = until("the config is refused", || {
        let timeline = daemon.said("--json timeline");
        timeline.contains("value of a header").then_some(timeline)
    });
    let shown = [
        ("measure", said),
        ("the report", report),
        ("the timeline", timeline),
        ("status", daemon.said("status") + &daemon.said("--json status") + &daemon.get("/v1/status")),
        ("peers", daemon.said("--json peers")),
        ("a probe", daemon.said("probe") + &daemon.said("--json probe")),
        ("partitions", daemon.get("/v1/partitions")),
        ("metrics", daemon.get("/metrics")),
        ("check", daemon.said(&format!("check --config {}", daemon.config.display()))),
        ("the page", std::fs::read_to_string(&page).unwrap()),
        ("the log", std::fs::read_to_string(&daemon.log).unwrap()),
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
    // What is shown still tells two stimuli apart.
    let campaign = std::fs::read_to_string(run.join("campaign.json")).unwrap();
    assert!(campaign.contains("authorization: …") && campaign.contains(" #"), "{campaign}");
}

#[test]
fn a_secret_that_is_not_there_stops_the_start_and_is_named() {
    if !is_root() {
        return;
    }
    let lab = Lab::switched(2);
    std::fs::write(lab.directory.path().join("lab.yaml"), config_of(&lab, Path::new("/dev/null"))).unwrap();
    std::fs::remove_file(lab.directory.path().join("token")).unwrap();
    let output = Daemon::command(&lab).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for part in ["PROBE_TOKEN is not in", "COMMAND_TOKEN is not in", "token can't be read", "web@n1"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // Whoever checks a config need not have its secrets.
    let config = lab.directory.path().join("lab.yaml");
    let check = Command::new(env!("CARGO_BIN_EXE_injector")).args(["check", "--config"]).arg(config).output();
    assert!(check.unwrap().status.success());
}
