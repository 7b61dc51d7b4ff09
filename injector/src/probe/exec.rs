//! The `exec` probe: a command's exit code.

use std::error::Error;
use std::ffi::{CString, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setgid, setgroups, setuid};
use rustix::process::{Resource, setrlimit};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

use super::failure::{Failure, root_cause};
use super::fill::Values;
use super::starter::{self, Asker};
use crate::descriptors;
use injector_client::process_group::Group;
use injector_core::clock::Span;
use injector_core::config::ExecCommand;

/// The command of an endpoint or a role.
pub(super) struct Exec {
    asker: Asker,
    command: ExecCommand,
}

/// How long a command may take from its start on, and when that is over.
#[derive(Clone, Copy)]
struct Limit {
    span: Span,
    end: Instant,
}

impl Limit {
    fn from_now(span: Span) -> Self {
        Self { span, end: Instant::now() + span.0 }
    }

    async fn bound<T>(self, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout_at(self.end, step).await.unwrap_or(Err(Failure::Timeout(self.span)))
    }
}

/// The search path for commands if the daemon itself has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The search path for commands.
fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| PATH.into())
}

/// The user and the groups that the command runs as.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Exec {
    pub(super) fn new(asker: Asker, command: ExecCommand) -> Self {
        Self { asker, command }
    }

    /// Runs the command to its end, for so long at most.
    pub(super) async fn probe(&self, values: &Values<'_>, timeout: Span) -> Result<(), Failure> {
        let limit = Limit::from_now(timeout);
        let group = self.start(self.command(values, Stdio::null())?, limit).await?;
        limit.bound(self.end(group)).await
    }

    /// Runs the command to its end, for so long at most; answers its output, of at most `most` bytes.
    pub(super) async fn output(
        &self,
        values: &Values<'_>,
        timeout: Span,
        most: usize,
    ) -> Result<Vec<u8>, Failure> {
        let limit = Limit::from_now(timeout);
        let group = self.start(self.command(values, Stdio::piped())?, limit).await?;
        limit.bound(self.printed(group, most)).await
    }

    async fn printed(&self, mut group: Group, most: usize) -> Result<Vec<u8>, Failure> {
        let mut output = Vec::new();
        if let Some(stdout) = group.stdout() {
            let read = stdout.take(most as u64 + 1).read_to_end(&mut output).await;
            read.map_err(|error| self.not_run(&error))?;
        }
        if output.len() > most {
            return Err(Failure::TooMuch(most / 1024));
        }
        self.end(group).await.map(|()| output)
    }

    /// The obstacle to starting the command, as far as it is seen without starting it.
    pub(super) fn obstacle(&self) -> Option<Failure> {
        let user = self.command.user.as_ref();
        if let Some(failure) = user.and_then(|user| identity(self.program(), user).err()) {
            return Some(failure);
        }
        let program = self.command.command.first()?;
        let is_program = |path: &Path| {
            let found = std::fs::metadata(path);
            found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        let is_there = if program.contains('/') {
            is_program(Path::new(program))
        } else {
            std::env::split_paths(&path()).any(|folder| is_program(&folder.join(program)))
        };
        let reason = || "it is not there, or can't be executed".to_owned();
        (!is_there).then(|| Failure::Run { program: program.clone(), reason: reason() })
    }

    async fn end(&self, group: Group) -> Result<(), Failure> {
        let status = group.wait().await.map_err(|error| self.not_run(&error))?;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => Err(Failure::Exit(code)),
            (None, signal) => Err(Failure::Signal(signal.unwrap_or_default())),
        }
    }

    async fn start(&self, mut command: Command, limit: Limit) -> Result<Group, Failure> {
        let (program, user) = (self.program().to_owned(), self.command.user.clone());
        let make = move || -> Result<Group, Failure> {
            if let Some(user) = user {
                become_user(&mut command, identity(&program, &user)?);
            }
            Group::spawn(command).map_err(|error| not_run(&program, &error))
        };
        let started = starter::start(&self.asker, limit.end, make).await;
        let unstarted =
            |why| Failure::Unstarted { program: self.program().to_owned(), within: limit.span, why };
        started.map_err(unstarted)?
    }

    fn command(&self, values: &Values<'_>, output: Stdio) -> Result<Command, Failure> {
        let mut words = self.command.command.iter().map(|word| values.fill(word));
        let program =
            words.next().ok_or(Failure::Request { what: "command", reason: "it is empty".to_owned() })?;
        let mut command = Command::new(program);
        // The daemon's environment is root's, and may hold secrets of other probes.
        command
            .args(words)
            .env_clear()
            .env("PATH", path())
            .envs(self.command.env.iter().map(|(name, text)| (name, text.fill(|part| values.fill(part)))))
            .env("PEER", values.peer())
            .env("ADDRESS", values.address())
            .env("SEQ", values.seq.to_string())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null());
        if let Some(limit) = descriptors::inherited() {
            // SAFETY: one system call between fork and exec, with numbers alone.
            unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Nofile, limit)?)) };
        }
        Ok(command)
    }

    fn program(&self) -> &str {
        self.command.command.first().map_or("", String::as_str)
    }

    fn not_run(&self, error: &(dyn Error + 'static)) -> Failure {
        not_run(self.program(), error)
    }
}

fn become_user(command: &mut Command, identity: Identity) {
    if identity.uid == geteuid() {
        return;
    }
    let become_user = move || {
        setgroups(&identity.groups)?;
        setgid(identity.gid)?;
        setuid(identity.uid)?;
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes three system calls; it neither allocates nor takes locks
    // (an errno becomes an io::Error without a heap).
    unsafe { command.pre_exec(become_user) };
}

fn identity(program: &str, name: &str) -> Result<Identity, Failure> {
    let user = User::from_name(name)
        // glibc gives this error where there is no list of users at all.
        .or_else(|error| if error == Errno::ENOENT { Ok(None) } else { Err(error) })
        .map_err(|error| not_run(program, &error))?
        .ok_or_else(|| Failure::NoUser(name.to_owned()))?;
    let c_name = CString::new(name).map_err(|_| Failure::NoUser(name.to_owned()))?;
    let groups = getgrouplist(&c_name, user.gid).map_err(|error| not_run(program, &error))?;
    Ok(Identity { uid: user.uid, gid: user.gid, groups })
}

fn not_run(program: &str, error: &(dyn Error + 'static)) -> Failure {
    Failure::Run { program: program.to_owned(), reason: root_cause(error) }
}
