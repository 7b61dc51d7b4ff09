//! A real sshd on a node, with a configuration and keys of its own.
//!
//! It runs in the node's network namespace and in a mount namespace that shows the node's daemon at the default path of
//! its socket, an account `sshd` where the machine has none, and `/run/sshd`: all as on a machine of its own.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use injector_lab::{CLIENT, Lab};
use rustix::process::Pid;

pub const PORT: u16 = 2222;
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there can be no sshd here, if so.
pub fn why_not() -> Option<String> {
    let absent = |what: &str| Some(format!("there is no {what}; `cargo xtask setup clients` installs it"));
    if injector_lab::program("sshd").is_none() {
        return absent("sshd");
    }
    let runs = |name: &str| Command::new(name).arg("-V").output().is_ok();
    ["ssh", "sudo"].iter().find(|name| !runs(name)).and_then(|name| absent(name))
}

/// The daemons of ssh; ended when dropped.
pub struct Sshd {
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl Sshd {
    /// Makes the keys.
    pub fn new() -> Self {
        let sshd = Self { folder: tempfile::tempdir().unwrap(), children: Vec::new() };
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(sshd.file(key));
            assert!(keygen.status().unwrap().success());
        }
        sshd.make_programs();
        sshd
    }

    /// A folder of programs for the search path: `injector` for the nodes, and `ssh` with the test's key for programs that start
    /// ssh by themselves.
    pub fn programs(&self) -> PathBuf {
        self.file("bin")
    }

    fn make_programs(&self) {
        let folder = self.programs();
        std::fs::create_dir(&folder).unwrap();
        symlink(env!("CARGO_BIN_EXE_injector"), folder.join("injector")).unwrap();
        let ssh = injector_lab::program("ssh").expect("there is ssh").display().to_string();
        let script = format!("#!/bin/sh\nexec {ssh} {} \"$@\"\n", self.options());
        injector_lab::write_program(&folder.join("ssh"), &script);
    }

    /// The options of ssh, besides the destination.
    fn options(&self) -> String {
        let key = self.file("user").display().to_string();
        format!(
            "-F none -i {key} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts one on a node, whose daemon has this socket.
    pub fn start(&mut self, lab: &Lab, node: &str, socket: &Path) {
        let file = |name: &str| self.file(name).display().to_string();
        let address = SocketAddr::new(lab.addresses(node)[0], PORT);
        let configuration = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             SetEnv PATH={}:/usr/sbin:/usr/bin:/sbin:/bin\n",
            file("host"),
            file("user.pub"),
            file("bin"),
        );
        std::fs::write(self.file(node), configuration).unwrap();
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
        let own = if accounts.contains("\nsshd:") {
            ""
        } else {
            "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        };
        std::fs::write(self.file("passwd"), accounts + own).unwrap();
        std::fs::write(self.file("shadow"), "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n").unwrap();
        std::fs::set_permissions(self.file("shadow"), PermissionsExt::from_mode(0o600)).unwrap();
        let mut script = "set -e; mount -t tmpfs tmpfs /run; mkdir -p /run/sshd /run/injector; ".to_owned();
        writeln!(script, "touch /run/injector/injector.sock").unwrap();
        writeln!(script, "mount --bind '{}' /run/injector/injector.sock", socket.display()).unwrap();
        for name in ["passwd", "shadow"] {
            writeln!(script, "mount --bind '{}' /etc/{name}", file(name)).unwrap();
        }
        let program = injector_lab::program("sshd").unwrap();
        writeln!(script, "exec '{}' -D -e -f '{}'", program.display(), file(node)).unwrap();
        let log = std::fs::File::create(self.file(&format!("{node}.log"))).unwrap();
        let child = lab.within(node, || {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
            injector_lab::end_with_thread(&mut command);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
        });
        self.children.push(child);
        let end = Instant::now() + PATIENCE;
        while lab.within(node, || TcpStream::connect_timeout(&address, Duration::from_millis(200))).is_err() {
            assert!(Instant::now() < end, "sshd does not listen: {}", self.log(node));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The command that runs a shell command on a node, from the client's namespace. All of them take one connection, as
    /// those of Jepsen do.
    pub fn session(&mut self, lab: &Lab, node: &str) -> Vec<String> {
        let control = self.file(&format!("{node}.control"));
        let words = format!(
            "ssh {} -p {PORT} -o ConnectTimeout=10 -o ControlPath={} root@{}",
            self.options(),
            control.display(),
            lab.addresses(node)[0],
        );
        let words: Vec<&str> = words.split(' ').collect();
        let mut command = Command::new(words[0]);
        command.args(["-o", "ControlMaster=yes", "-N"]).args(&words[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        injector_lab::end_with_thread(&mut command);
        self.children.push(lab.within(CLIENT, || command.spawn().unwrap()));
        let end = Instant::now() + PATIENCE;
        while !control.exists() {
            assert!(Instant::now() < end, "ssh does not connect: {}", self.log(node));
            std::thread::sleep(Duration::from_millis(20));
        }
        let netns = lab.netns(CLIENT);
        ["ip", "netns", "exec", &netns].iter().chain(&words).map(|word| (*word).to_owned()).collect()
    }

    /// The process of the one that was started at this place, from 0.
    pub fn pid(&self, at: usize) -> Pid {
        Pid::from_child(&self.children[at])
    }

    fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.file(&format!("{node}.log"))).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
