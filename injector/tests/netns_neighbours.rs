//! Group frames, ARP and neighbour discovery under a cut, against a bridge port that is switched off.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use injector_lab::needs;
use live::daemon::{Daemon, isolate};
use live::lab::{AttachPoint, Lab, SWITCH, addresses};
use live::traffic::{Kind, assert_flows, udp_reaches};

const LONG: Duration = Duration::from_mins(2);
const VIP: &str = "10.99.0.100";

/// How n1 is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// The truth: its port of the bridge is switched off.
    PortOff,
    /// The injector on the peers' own interfaces.
    OwnNic,
    /// The injector on the ports of the bridge.
    BridgePort,
}

const METHODS: [Method; 3] = [Method::PortOff, Method::OwnNic, Method::BridgePort];

/// Cuts n1 off until it is dropped.
struct Cut<'a> {
    lab: &'a Lab,
    daemon: Option<Daemon>,
}

impl<'a> Cut<'a> {
    fn prepare(method: Method, lab: &'a Lab) -> Self {
        let place = match method {
            Method::PortOff => return Self { lab, daemon: None },
            Method::OwnNic => AttachPoint::OwnNic,
            Method::BridgePort => AttachPoint::BridgePort,
        };
        // The address belongs to its current holder.
        let mut config = lab.config(place, "auto");
        for node in ["n1", "n2"] {
            let line = config.lines().find(|line| line.contains(&format!("{node}: {{"))).unwrap().to_owned();
            config = config.replace(&line, &line.replace("] }", &format!("], vip: [{VIP}] }}")));
        }
        Self { lab, daemon: Some(Daemon::start(&config)) }
    }

    fn cut(&self) {
        match &self.daemon {
            Some(daemon) => drop(daemon.apply("p", &isolate("n1", LONG))),
            None => port(self.lab, "0"),
        }
    }

    fn heal(&self) {
        match &self.daemon {
            Some(daemon) => drop(daemon.heal("p")),
            None => port(self.lab, "3"),
        }
    }
}

/// Switches n1's port: 0 is disabled, 3 forwarding.
fn port(lab: &Lab, state: &str) {
    let words = ["-n", &lab.netns(SWITCH), "link", "set", "dev", "p-n1", "state", state];
    assert!(Command::new("bridge").args(words).status().unwrap().success());
}

/// A real keepalived in a node; ended when dropped.
struct Keepalived {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Keepalived {
    fn start(lab: &Lab, node: &str, priority: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "vrrp_instance v {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n  priority {priority}\n  advert_int 1\n  virtual_ipaddress {{ {VIP}/16 }}\n}}\n"
        );
        std::fs::File::create(path("conf")).unwrap().write_all(config.as_bytes()).unwrap();
        let mut command = lab.command(node, "keepalived");
        command.args(["--dont-fork", "--vrrp", "--no-syslog"]);
        command.args(["--use-file", &path("conf"), "--pid", &path("pid"), "--vrrp_pid", &path("vrrp_pid")]);
        injector_lab::end_with_thread(&mut command);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, _folder: folder }
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn holds_vip(lab: &Lab, node: &str) -> bool {
    let shown = Command::new("ip")
        .args(["-n", &lab.netns(node), "-4", "address", "show", "dev", "eth0"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&shown.stdout).contains(VIP)
}

fn wait_until(what: &str, patience: Duration, is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

/// The advertisements of VRRP are multicast: cut off, the backup takes over and the master stays, as with the port off.
#[test]
#[needs(root, program = "keepalived")]
fn keepalived_fails_over_as_with_the_port_off() {
    let seen = std::thread::scope(|scope| {
        let runs = METHODS.map(|method| {
            scope.spawn(move || {
                let lab = Lab::new(3);
                let cut = Cut::prepare(method, &lab);
                let _master = Keepalived::start(&lab, "n1", 150);
                wait_until("n1 is master", Duration::from_secs(20), || holds_vip(&lab, "n1"));
                let _backup = Keepalived::start(&lab, "n2", 100);
                std::thread::sleep(Duration::from_secs(3));
                assert!(!holds_vip(&lab, "n2"), "{method:?}: a backup before the cut");
                cut.cut();
                let taken = wait_until("n2 takes over", Duration::from_secs(20), || holds_vip(&lab, "n2"));
                assert!(holds_vip(&lab, "n1"), "{method:?}: the master stays one");
                let vip = SocketAddr::new(VIP.parse().unwrap(), 0);
                let patience = Duration::from_secs(10);
                assert!(
                    udp_reaches(&lab, "n3", "n2", vip, patience),
                    "{method:?}: cut off from the new holder"
                );
                cut.heal();
                let given =
                    wait_until("n2 gives it back", Duration::from_secs(20), || !holds_vip(&lab, "n2"));
                (method, taken, given)
            })
        });
        runs.map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    println!("{seen:?}");
    let (_, truth, _) = seen[0];
    for (method, taken, _) in &seen[1..] {
        // Three advertisements of a second, and up to one more.
        assert!(*taken < truth * 3 && *taken * 3 > truth, "{method:?} took {taken:?}, the truth {truth:?}");
    }
}

/// A neighbour entry that is idle fails under a cut, and `connect()` with it, as with the port off.
#[test]
#[needs(root)]
fn idle_neighbours_fail_as_with_the_port_off() {
    let seen = std::thread::scope(|scope| {
        let runs = METHODS.map(|method| {
            scope.spawn(move || {
                let lab = Lab::new(3);
                let cut = Cut::prepare(method, &lab);
                assert_flows(&lab, &[Kind::Udp], "n2", "n1");
                for (from, to) in [("n1", "n2"), ("n2", "n1")] {
                    for address in addresses(to) {
                        let mac = mac_of(&lab, to);
                        lab.ip(from, &format!("neighbour replace {address} lladdr {mac} nud stale dev eth0"));
                    }
                }
                cut.cut();
                let begun = Instant::now();
                let failed = addresses("n1").map(|address| {
                    let lab = &lab;
                    move || unreachable_after(lab, "n2", SocketAddr::new(address, 9), begun)
                });
                let failed = std::thread::scope(|scope| {
                    failed.map(|wait| scope.spawn(wait)).map(|wait| wait.join().unwrap())
                });
                cut.heal();
                assert_flows(&lab, &[Kind::Tcp], "n2", "n1");
                (method, failed)
            })
        });
        runs.map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    println!("{seen:?}");
    let (_, truth) = seen[0];
    for (method, failed) in &seen[1..] {
        for (failed, truth) in failed.iter().zip(truth) {
            assert!(
                *failed < truth * 2 && *failed * 2 > truth,
                "{method:?} took {failed:?}, the truth {truth:?}"
            );
        }
    }
}

fn mac_of(lab: &Lab, node: &str) -> String {
    let shown = Command::new("ip")
        .args(["-n", &lab.netns(node), "-json", "link", "show", "dev", "eth0"])
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    shown[0]["address"].as_str().unwrap().to_owned()
}

/// How long after an instant a node's `connect()` first says that the host is unreachable.
fn unreachable_after(lab: &Lab, from: &str, to: SocketAddr, begun: Instant) -> Duration {
    loop {
        let tried = lab.within(from, || TcpStream::connect_timeout(&to, Duration::from_secs(1)));
        match tried {
            Err(error) if error.raw_os_error() == Some(libc::EHOSTUNREACH) => return begun.elapsed(),
            Err(_) => {}
            Ok(_) => panic!("{to} is reached"),
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{to} never fails");
    }
}
