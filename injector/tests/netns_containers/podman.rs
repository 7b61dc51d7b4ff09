//! Podman with storage, networks and API of its own, in a namespace of the test's. Its containers serve HTTP.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use injector_lab::{Lab, Process, until};
use rustix::process::Signal;

use crate::located::{Located, archive, web_server};

/// The namespace that is Podman's host, with the bridges of its networks.
pub const HOST: &str = "h";
/// Where Debian has what makes Podman's networks.
const NETAVARK: &str = "/usr/lib/podman/netavark";
/// The config of its engine. Locks are files of its own: those in shared memory have one name for all engines of a machine, and one of two
/// that begin at once fails. What Podman would raise takes a right that some machines do not give.
const CONFIG: &str = r#"
[engine]
lock_type = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=2000:2000"]
"#;

pub struct Podman {
    service: Option<Process>,
    pub lab: Lab,
}

impl Podman {
    /// Starts one, with its API on a socket; `None` if this machine can't, which is logged as a skip of the test.
    pub fn up(test: &str) -> Option<Self> {
        if !Path::new(NETAVARK).exists() {
            injector_lab::skip(test, "there is no netavark; `cargo xtask test` installs it with podman");
            return None;
        }
        let mut lab = Lab::builder("p").up().unwrap();
        lab.add(HOST);
        let mut podman = Self { service: None, lab };
        std::fs::write(podman.config(), CONFIG).unwrap();
        podman.import("web", &web_server(podman.lab.folder()));
        let network = "network create --disable-dns --subnet 10.77.77.0/24 net";
        podman.ok(network);
        let tried = podman.podman(&run("try", "--network net", SERVE));
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr).trim().replace('\n', "; ");
            injector_lab::skip(test, &format!("podman can't run a container here: {why}"));
            return None;
        }
        podman.ok("rm --force --time 0 try");
        podman.serve();
        Some(podman)
    }

    /// Makes an image of a folder: no registry is asked.
    #[track_caller]
    pub fn import(&self, name: &str, tree: &Path) {
        self.ok(&format!("import {} {name}", archive(tree).display()));
    }

    /// Its engine's config.
    pub fn config(&self) -> PathBuf {
        self.lab.folder().join("containers.conf")
    }

    /// Its API's socket.
    pub fn socket(&self) -> PathBuf {
        self.lab.folder().join("podman.sock")
    }

    /// Starts its API.
    pub fn serve(&mut self) {
        let (socket, log) = (self.socket(), self.lab.folder().join("podman.log"));
        let mut command = self.command();
        command.args(["system", "service", "--time", "0", &format!("unix://{}", socket.display())]);
        let started = self.lab.within(HOST, || Process::start("podman", &mut command, &log));
        self.service = Some(started.unwrap());
        until("podman's API is there", || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop));
    }

    /// Stops its API, as far as it can be connected to: nothing is answered.
    ///
    /// It may hold locks of the engine then, so no command of Podman may be run afterwards: [`Podman::locate`] asks before.
    pub fn freeze(&self) {
        self.service.as_ref().unwrap().signal(Signal::STOP);
    }

    /// Ends its API; the containers run on.
    pub fn stop_serving(&mut self) {
        self.service = None;
        let _ = std::fs::remove_file(self.socket());
    }

    /// Podman with the options by which it finds all that is its own.
    pub fn command(&self) -> Command {
        // Not by `ip netns exec`, which hides the cgroups.
        let mut command = Command::new("podman");
        let of = |name: &str| self.lab.folder().join(name);
        for (option, folder) in [
            ("--root", "storage"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
            ("--network-config-dir", "networks"),
        ] {
            command.arg(option).arg(of(folder));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        // crun refuses some machines' cgroups.
        command.args(["--runtime", "runc", "--log-level", "error"]);
        command.env("CONTAINERS_CONF", self.config());
        command
    }

    /// Runs Podman; words are separated by blanks.
    pub fn podman(&self, words: &str) -> Output {
        let podman = self.command();
        let mut limited = Command::new("timeout");
        limited
            .args(["--foreground", "--kill-after=5", "60"])
            .arg(podman.get_program())
            .args(podman.get_args())
            .env("CONTAINERS_CONF", self.config());
        self.lab.within(HOST, || limited.args(words.split_whitespace()).output().unwrap())
    }

    /// The same, which must succeed; what it printed.
    #[track_caller]
    pub fn ok(&self, words: &str) -> String {
        let output = self.podman(words);
        assert!(output.status.success(), "podman {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts a container that serves.
    #[track_caller]
    pub fn start(&self, name: &str, options: &str) -> String {
        self.ok(&run(name, options, SERVE))
    }

    /// The first process of a container.
    pub fn pid(&self, name: &str) -> u32 {
        self.ok(&format!("inspect --format {{{{.State.Pid}}}} {name}")).parse().unwrap()
    }

    /// A container's address.
    pub fn address(&self, name: &str) -> IpAddr {
        let of_net = "{{.NetworkSettings.Networks.net.IPAddress}}";
        self.ok(&format!("inspect --format {of_net} {name}")).parse().unwrap()
    }

    /// Where containers are now: what follows asks the engine nothing.
    pub fn locate(&self, names: &[&str]) -> Located {
        let container = |name: &&str| ((*name).to_owned(), (self.pid(name), self.address(name)));
        Located(names.iter().map(container).collect())
    }

    /// Whether a container gets an answer from another one.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        self.locate(&[from, to]).reaches(from, to)
    }

    /// Asserts which of three containers reach each other: those on the same side, both ways.
    #[track_caller]
    pub fn assert_sides(&self, sides: &[&[&str]]) {
        self.locate(&sides.concat()).assert_sides(sides);
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.service = None;
        // One that shares another's namespace goes first, which `--all` does not see to.
        let mut left = String::new();
        for _ in 0..3 {
            let _ = self.podman("rm --all --force --time 0");
            left = String::from_utf8_lossy(&self.podman("ps --all --quiet").stdout).trim().replace('\n', " ");
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            eprintln!("containers stay behind: {left}");
        }
        let _ = self.podman("network rm --force net");
    }
}

/// What Podman would raise takes a right that some machines do not give.
pub const LIMITS: &str = "--ulimit nofile=1024:1024 --ulimit nproc=2000:2000";

/// The words that start a container.
pub fn run(name: &str, options: &str, program: &str) -> String {
    format!("run --detach --name {name} {LIMITS} {options} web {program}")
}

/// The command of a container.
pub const SERVE: &str = "/busybox httpd -f -p 8080 -h /www";
