//! Hosts with a node and a daemon each, which are reached by ssh: namespaces with real sshds.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use injector_lab::{CLIENT, Lab, PATIENCE, Quorum};

use rustix::process::Pid;

use crate::page;
use crate::sshd::{self, Sshd};

/// As many as docs/recipes/hosts.md splits.
const COUNT: u8 = 4;
/// What addresses in pages begin with.
pub const NETWORK: &str = "10.0.0.";

/// The hosts. They end with this value.
pub struct Hosts {
    sshd: Sshd,
    /// Where the daemons' sockets are.
    sockets: Vec<PathBuf>,
    pub lab: Lab,
}

impl Hosts {
    /// Starts them, each with the page's config as far as it is another host's.
    pub fn up(page: &str) -> Self {
        let mut lab = Lab::builder("docs").peers(COUNT).client().up().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples").join("quorum");
        let quorum = Quorum { program: &program, seed: 1, faults: &[], join: 0, listen: 2 };
        quorum.start(&mut lab).unwrap();
        lab.wait_until("the nodes agree who leads", PATIENCE, |lab| Quorum::agree(lab, CLIENT)).unwrap();
        let (_, shown) = page::files(page).remove(0);
        let mut hosts = Self { sshd: Sshd::new(), sockets: Vec::new(), lab };
        for host in hosts.lab.peer_names() {
            hosts.start(&host, &shown);
        }
        hosts
    }

    /// Starts a host's daemon and sshd.
    fn start(&mut self, host: &str, shown: &str) {
        let socket = self.lab.folder().join(format!("run-{host}/injector.sock"));
        let config = self.lab.folder().join(format!("{host}.yaml"));
        let network = self.lab.ipv4(1).to_string();
        let text =
            shown.replace(NETWORK, network.strip_suffix('1').unwrap()).replace("[n1]", &format!("[{host}]"));
        fs::write(&config, format!("{text}ready: {{ consecutive: 3, observe: 1s }}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        command.args(["start", "--detach", "--config"]).arg(&config).arg("--socket").arg(&socket);
        let output = self.lab.within(host, || command.output().unwrap());
        assert!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
        self.sockets.push(socket.clone());
        let waited = Command::new(env!("CARGO_BIN_EXE_injector"))
            .args(["wait", "--healthy", "--socket"])
            .arg(&socket)
            .status();
        assert!(waited.unwrap().success(), "{host} is not healthy");
        self.sshd.start(&self.lab, host, &socket);
    }

    /// The socket of a host's daemon.
    pub fn socket(&self, host: &str) -> &Path {
        let at = self.lab.peer_names().iter().position(|name| name == host).unwrap();
        &self.sockets[at]
    }

    /// The process of a host's sshd.
    pub fn sshd(&self, host: &str) -> Pid {
        let at = self.lab.peer_names().iter().position(|name| name == host).unwrap();
        self.sshd.pid(at)
    }

    /// A script that runs ssh, to which the hosts' names say where they are.
    pub fn ssh(&self) -> String {
        ssh(&self.lab, &self.sshd)
    }
}

/// A script that runs ssh, to which peers' names say where their sshds are.
pub fn ssh(lab: &Lab, sshd: &Sshd) -> String {
    let mut names = String::new();
    for host in lab.peer_names() {
        let address = lab.addresses(&host)[0];
        writeln!(names, "Host {host}\n  HostName {address}\n  Port {}", sshd::PORT).unwrap();
    }
    let file = lab.folder().join("ssh_config");
    fs::write(&file, names).unwrap();
    format!("exec {}/ssh -F {} \"$@\"", sshd.programs().display(), file.display())
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for socket in &self.sockets {
            let mut stop = Command::new(env!("CARGO_BIN_EXE_injector"));
            match stop.args(["stop", "--socket"]).arg(socket).output() {
                Ok(output) if output.status.success() => {}
                other => eprintln!("a daemon continues: {other:?}"),
            }
        }
    }
}
