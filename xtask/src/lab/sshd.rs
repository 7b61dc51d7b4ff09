//! Reaching guests by ssh: a real sshd in each, and an `ssh` on the host that knows the lab's keys and the way in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use injector_lab::{CLIENT, Lab};

use super::common::write_script;
use crate::command::{find_program, run};
use crate::vm::image::quoted;
use crate::vm::initramfs::Initramfs;

/// The port on which guests listen, and which the config of the daemons in them protects.
pub(super) const PORT: u16 = 22;

/// The config of a guest's sshd. Its keys come with the file system.
const CONFIGURATION: &str = "HostKey /etc/ssh/host\nAuthorizedKeysFile /etc/ssh/user.pub\nPidFile none\nUsePAM no\n\
    UseDNS no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
    SetEnv PATH=/usr/sbin:/usr/bin:/sbin:/bin\n";

/// The lines of a guest's first script that start it.
pub(super) const START: &str = "echo 'sshd:x:65533:65534::/run/sshd:/bin/false' >>/etc/passwd\n\
    mkdir -p /run/sshd /run/injector /etc/injector\n\
    /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config </dev/null >/dev/console 2>&1 &\n";

/// The folder of a lab's keys.
fn keys(lab: &Lab) -> PathBuf {
    lab.folder().join("keys")
}

/// The folder on the host with an `ssh` for the guests.
pub(super) fn folder(lab: &Lab) -> PathBuf {
    lab.folder().join("bin")
}

/// A guest as `--host` takes it.
pub(super) fn host(lab: &Lab, peer: &str) -> String {
    format!("ssh://root@{}", lab.addresses(peer)[0])
}

/// The connection that the calls to a guest share: an emulated processor takes a second for the keys of each new one.
fn shared(lab: &Lab, peer: &str) -> PathBuf {
    lab.folder().join(format!("ssh-{}", lab.addresses(peer)[0]))
}

/// Makes the keys and the host's `ssh`, before the guests are packed.
pub(super) fn prepare(lab: &Lab) -> Result<()> {
    let (keys, folder) = (keys(lab), folder(lab));
    for made in [&keys, &folder] {
        fs::create_dir(made).with_context(|| format!("creating {}", made.display()))?;
    }
    for key in ["host", "user"] {
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(keys.join(key)))?;
    }
    let ssh = find_program("ssh").context("set-up has run, but there is no ssh")?;
    let script = format!(
        "#!/bin/sh\nexec ip netns exec {client} {ssh} -F none -i {key} -S {shared}/ssh-%h \
         -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \"$@\"\n",
        client = lab.netns(CLIENT),
        ssh = quoted(&ssh.to_string_lossy()),
        key = quoted(&keys.join("user").to_string_lossy()),
        shared = lab.folder().display(),
    );
    write_script(&folder.join("ssh"), &script)
}

/// Adds sshd to a guest's file system, with the lab's keys.
pub(super) fn pack<W: Write>(system: &mut Initramfs<W>, lab: &Lab) -> Result<()> {
    let server = injector_lab::program("sshd").context("set-up has run, but there is no sshd")?;
    system.program(Path::new("/usr/sbin/sshd"), &server)?;
    // From 9.8 on, OpenSSH's server is three programs, which one package has.
    for part in ["sshd-session", "sshd-auth"] {
        let found = server.with_file_name("../lib/openssh").join(part);
        if found.exists() {
            system.program(&Path::new("/usr/lib/openssh").join(part), &found)?;
        }
    }
    for (name, mode) in [("host", 0o600), ("user.pub", 0o644)] {
        let key = keys(lab).join(name);
        let bytes = fs::read(&key).with_context(|| format!("reading {}", key.display()))?;
        system.file(&Path::new("/etc/ssh").join(name), &bytes, mode)?;
    }
    system.file(Path::new("/etc/ssh/sshd_config"), CONFIGURATION.as_bytes(), 0o644)?;
    system.file(Path::new("/etc/shadow"), b"root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n", 0o600)
}

/// Opens the connection to a guest that all calls share; it ends with the lab.
pub(super) fn connect(lab: &mut Lab, peer: &str) -> Result<()> {
    let destination = format!("root@{}", lab.addresses(peer)[0]);
    let mut command = Command::new(folder(lab).join("ssh"));
    command.args(["-o", "ControlMaster=yes", "-o", "ConnectTimeout=30", "-N", &destination]);
    lab.start(&format!("ssh-{peer}"), &mut command)?;
    let socket = shared(lab, peer);
    let connected = |_: &Lab| if socket.exists() { Ok(()) } else { Err("ssh has not connected") };
    Ok(lab.wait_until("a connection by ssh", Duration::from_mins(1), connected)?)
}

/// Writes a file in a guest.
pub(super) fn write(lab: &Lab, peer: &str, path: &str, text: &str) -> Result<()> {
    let mut command = command(lab, peer, &format!("cat >{}", quoted(path)));
    command.stdin(Stdio::piped());
    let mut child = command.spawn().context("starting ssh")?;
    let written = child.stdin.take().map(|mut input| input.write_all(text.as_bytes()));
    let status = child.wait().context("waiting for ssh")?;
    if !status.success() || !matches!(written, Some(Ok(()))) {
        bail!("writing {path} in {peer} by ssh failed ({status})");
    }
    Ok(())
}

/// A command of the shell in a guest.
pub(super) fn command(lab: &Lab, peer: &str, words: &str) -> Command {
    let mut command = Command::new(folder(lab).join("ssh"));
    command.args(["-T", &format!("root@{}", lab.addresses(peer)[0]), words]);
    command
}
