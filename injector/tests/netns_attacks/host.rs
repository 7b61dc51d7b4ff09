//! Attacks by the daemon's surroundings: its log, its config, its commands, who reads its metrics, and the network.

use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use injector_lab::{Cli, SWITCH};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::clients::answer;
use crate::crowd::Crowd;
use crate::line::Line;
use crate::polite::cut;
use crate::scene::{Attack, Attackers, Scene, Setting};
use crate::support::{self, Lab};

pub const ATTACKS: [Attack; 6] = [
    Attack {
        name: "a log that nobody reads",
        unit: "requests logged",
        least: 20,
        prepare: |_, _| unread_log(),
    },
    Attack {
        name: "SIGHUP, and a FIFO as the config",
        unit: "signals",
        least: 10,
        prepare: |_, _| Setting { begin: Box::new(fifo_config), ..Setting::default() },
    },
    Attack {
        name: "16 readers of metrics by TCP",
        unit: "answers",
        least: 50,
        prepare: |_, _| Setting {
            config: format!("metrics: {{ listen: {LISTEN} }}\n"),
            within: Some(SWITCH),
            begin: Box::new(metrics_flood),
            ..Setting::default()
        },
    },
    Attack {
        name: "frames on cut links",
        unit: "datagrams",
        least: 1000,
        prepare: |_, _| Setting { begin: Box::new(frames), ..Setting::default() },
    },
    Attack { name: "20 interfaces that come and go", unit: "interfaces", least: 20, prepare: interfaces },
    Attack {
        name: "names below /run/netns that come and go",
        unit: "names",
        least: 20,
        prepare: |_, _| Setting { begin: Box::new(names), ..Setting::default() },
    },
];

const LISTEN: &str = "127.0.0.1:9464";

/// The log goes to a pipe that is full.
fn unread_log() -> Setting {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // It is full from the first line on, which never gets through.
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    Setting {
        arrange: Some(Box::new(move |command| {
            command.env("INJECTOR_LOG", "trace").stderr(writer);
        })),
        begin: Box::new(|scene, attackers| {
            attackers.hold(reader);
            let mut line = Line::open(scene.daemon.socket());
            attackers.repeat(move || {
                line.call("GET", "/v1/status", "");
                1
            });
        }),
        ..Setting::default()
    }
}

fn fifo_config(scene: &Scene, attackers: &mut Attackers) {
    let file = scene.lab.folder().join("d.yaml");
    std::fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let pid = Pid::from_raw(scene.daemon.pid().cast_signed()).unwrap();
    attackers.repeat(move || {
        std::thread::sleep(Duration::from_millis(20));
        kill_process(pid, Signal::HUP).is_ok().into()
    });
}

fn metrics_flood(scene: &Scene, attackers: &mut Attackers) {
    for _ in 0..16 {
        let lab = Arc::clone(&scene.lab);
        attackers.repeat(move || {
            let asked = lab.within(SWITCH, || TcpStream::connect(LISTEN)).and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(2)))?;
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: i\r\nConnection: close\r\n\r\n")?;
                answer(&mut stream)
            });
            asked.is_ok().into()
        });
    }
}

/// Probes whose command prints, a role whose command does, and who asks for that role.
pub fn endless_output(_: &Arc<Lab>, _: &mut Attackers) -> Setting {
    let command = "{ command: [sh, -c, \"yes >&2 & exec yes\"] }";
    let endpoint = |name: &str| {
        format!(
            "  - {{ name: {name}, role: advisory, probe: {{ exec: {command}, interval: 100ms, timeout: 200ms }} }}\n"
        )
    };
    Setting {
        endpoints: endpoint("a") + &endpoint("b"),
        config: format!("roles:\n  leader: {{ exec: {command}, timeout: 1s }}\n"),
        begin: Box::new(|scene, attackers| {
            let cli = Cli::new(env!("CARGO_BIN_EXE_injector"), scene.daemon.socket());
            attackers.repeat(move || {
                let words = ["partition", "isolate", "@leader", "--dry-run", "--name", "role", "--json"];
                let output = cli.run(words);
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                assert!(said.contains("64 KiB"), "the limit is not named: {said}");
                1
            });
        }),
        ..Setting::default()
    }
}

/// Datagrams both ways over a link that is cut, as many as go.
fn frames(scene: &Scene, attackers: &mut Attackers) {
    // Each knows the other one's MAC address.
    assert!(scene.lab.reaches_soon(2, 3));
    cut(scene.daemon.socket(), "held", r#"{"isolate": ["n3"]}"#);
    for (from, to) in [(2, 3), (3, 2)] {
        let lab = &scene.lab;
        let socket = lab.within(&format!("n{from}"), || UdpSocket::bind((lab.ipv4(from), 0)).unwrap());
        let to = (lab.ipv4(to), 9);
        // Nobody listens there: some sends return the ICMP error of an earlier one.
        attackers.repeat(move || (0..100).filter(|_| socket.send_to(&[0; 64], to).is_ok()).count() as u64);
    }
}

/// How many interfaces come and go at a time.
const CROWD: usize = 20;

fn interfaces(lab: &Arc<Lab>, _: &mut Attackers) -> Setting {
    let crowd = Crowd::of(lab, CROWD);
    // They must be there at the start.
    crowd.make();
    Setting {
        interfaces: crowd.entries.clone(),
        begin: Box::new(|_, attackers| {
            attackers.repeat(move || {
                crowd.remove();
                crowd.make();
                CROWD as u64
            });
        }),
        ..Setting::default()
    }
}

/// Namespaces whose names the daemon sees, with nothing in them.
fn names(_: &Scene, attackers: &mut Attackers) {
    let prefix = format!("inj{}-attack", std::process::id());
    attackers.repeat(move || {
        let names: Vec<String> = (0..10).map(|at| format!("{prefix}{at}")).collect();
        for name in &names {
            support::ip(&format!("netns add {name}"));
        }
        for name in &names {
            support::ip(&format!("netns del {name}"));
        }
        names.len() as u64
    });
}
