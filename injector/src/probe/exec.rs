//! The `exec` probe: a command's exit code.

use std::error::Error;
use std::ffi::CString;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, User, geteuid, getgrouplist, setgid, setgroups, setuid};
use tokio::process::{Child, Command};

use super::failure::{Failure, root_cause};
use super::fill::Values;

/// One endpoint's command.
pub(super) struct Exec {
    command: Vec<String>,
    user: Option<String>,
}

/// Whom the command runs as.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// A running command and everything it started in its process group; killed together if the probe is dropped.
struct Group {
    child: Child,
    /// `None` once the child was reaped, when its number may belong to others.
    leader: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // It may have exited meanwhile: nothing is left to kill then.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Exec {
    pub(super) fn new(command: Vec<String>, user: Option<String>) -> Self {
        Self { command, user }
    }

    pub(super) async fn probe(&self, values: &Values<'_>) -> Result<(), Failure> {
        let mut group = self.start(values)?;
        let status = group.child.wait().await;
        group.leader = None;
        let status = status.map_err(|error| self.not_run(&error))?;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => Err(Failure::Exit(code)),
            (None, signal) => Err(Failure::Signal(signal.unwrap_or_default())),
        }
    }

    fn start(&self, values: &Values<'_>) -> Result<Group, Failure> {
        let mut words = self.command.iter().map(|word| values.fill(word));
        let program =
            words.next().ok_or(Failure::Request { what: "command", reason: "it is empty".to_owned() })?;
        let mut command = Command::new(program);
        command
            .args(words)
            .env("PEER", values.peer())
            .env("ADDRESS", values.address())
            .env("SEQ", values.seq.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(user) = &self.user {
            let identity = self.identity(user)?;
            if identity.uid != geteuid() {
                let become_user = move || {
                    setgroups(&identity.groups)?;
                    setgid(identity.gid)?;
                    setuid(identity.uid)?;
                    Ok(())
                };
                // SAFETY: the closure runs between fork and exec and makes three system calls; it neither
                // allocates nor takes locks (an errno becomes an io::Error without a heap).
                unsafe { command.pre_exec(become_user) };
            }
        }
        let child = command.spawn().map_err(|error| self.not_run(&error))?;
        let leader = child.id().map(|id| Pid::from_raw(id.cast_signed()));
        Ok(Group { child, leader })
    }

    fn identity(&self, name: &str) -> Result<Identity, Failure> {
        let user = User::from_name(name)
            .map_err(|error| self.not_run(&error))?
            .ok_or_else(|| Failure::NoUser(name.to_owned()))?;
        let c_name = CString::new(name).map_err(|_| Failure::NoUser(name.to_owned()))?;
        let groups = getgrouplist(&c_name, user.gid).map_err(|error| self.not_run(&error))?;
        Ok(Identity { uid: user.uid, gid: user.gid, groups })
    }

    fn not_run(&self, error: &(dyn Error + 'static)) -> Failure {
        let program = self.command.first().cloned().unwrap_or_default();
        Failure::Run { program, reason: root_cause(error) }
    }
}
