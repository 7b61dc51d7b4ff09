//! The programs on the root of all cgroups: attached, asked for, and attached again where another process has
//! detached them.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use aya::Ebpf;
use aya::programs::cgroup_sock::CgroupSockLinkId;
use aya::programs::sock_ops::SockOpsLinkId;
use aya::programs::{CgroupAttachMode, Program, ProgramError};

use super::{chain, query};
use crate::fault;
use injector_core::clock::MonoNs;

/// The programs, each with the attach type that its section gives it.
const PROGRAMS: [(&str, u32); 4] =
    [("injector_sock", 2), ("injector_bind4", 12), ("injector_bind6", 13), ("injector_connect", 3)];

/// The programs while they are held to the root of all cgroups.
pub(super) struct CgroupHooks {
    cgroup: Arc<OwnedFd>,
    held: Vec<Held>,
    /// The instant from which all of them are attached.
    since: MonoNs,
}

/// A program with its link.
struct Held {
    name: &'static str,
    /// `None` where the program could not be attached again.
    link: Option<LinkId>,
}

enum LinkId {
    Sock(CgroupSockLinkId),
    Ops(SockOpsLinkId),
}

/// A program that the kernel refuses.
pub(super) struct RefusedProgram {
    pub name: &'static str,
    pub why: String,
}

/// Asks whether the programs are attached. The answer may wait for whoever makes or removes cgroups.
#[derive(Clone, Debug)]
pub struct CgroupQuery {
    cgroup: Arc<OwnedFd>,
    /// The names, attach types and ids.
    programs: Arc<[(&'static str, u32, u32)]>,
}

/// The programs on the root of all cgroups, after those that were missing were attached again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reattached {
    /// The programs that were missing.
    pub missing: Vec<&'static str>,
    /// The instant from which all programs are attached, or why they are not.
    pub since: Result<MonoNs, String>,
}

impl CgroupHooks {
    /// Attaches the programs.
    ///
    /// # Errors
    /// The kernel refuses a program.
    pub fn attach(programs: &mut Ebpf, cgroup: OwnedFd) -> Result<(Self, CgroupQuery), RefusedProgram> {
        let cgroup = Arc::new(cgroup);
        let (mut held, mut asked) = (Vec::new(), Vec::new());
        for (name, attach_type) in PROGRAMS {
            let attached = fault::at("local/attach").map_err(|error| error.to_string());
            let attached = attached.and_then(|()| load(programs, name));
            let attached = attached.and_then(|id| Ok((id, attach(programs, name, &cgroup)?)));
            let (id, link) = attached.map_err(|why| RefusedProgram { name, why })?;
            asked.push((name, attach_type, id));
            held.push(Held { name, link: Some(link) });
        }
        let query = CgroupQuery { cgroup: Arc::clone(&cgroup), programs: asked.into() };
        Ok((Self { cgroup, held, since: MonoNs::now() }, query))
    }

    /// Attaches the programs again that are missing.
    pub fn reattach(&mut self, programs: &mut Ebpf, query: &CgroupQuery) -> Reattached {
        let missing = match query.missing() {
            Ok(missing) => missing,
            Err(error) => return Reattached { missing: Vec::new(), since: Err(unread(&error)) },
        };
        let mut since = Ok(());
        for held in self.held.iter_mut().filter(|held| missing.contains(&held.name)) {
            let attached = fault::at("local/reattach").map_err(|error| error.to_string());
            let attached = attached.and_then(|()| held.reattach(programs, &self.cgroup));
            since =
                since.and(attached.map_err(|why| format!("{} can't be attached again: {why}", held.name)));
        }
        if since.is_ok() && !missing.is_empty() {
            self.since = MonoNs::now();
        }
        Reattached { missing, since: since.map(|()| self.since) }
    }
}

impl Held {
    fn reattach(&mut self, programs: &mut Ebpf, cgroup: &OwnedFd) -> Result<(), String> {
        // The link is on no cgroup any more, or another process has put a program of its own in its place.
        if let Some(link) = self.link.take()
            && let Err(error) = detach(programs, self.name, link)
        {
            tracing::debug!(program = self.name, error, "the link that another process changed stays open");
        }
        self.link = Some(attach(programs, self.name, cgroup)?);
        Ok(())
    }
}

impl CgroupQuery {
    /// Reads which programs are missing on the root of all cgroups.
    ///
    /// # Errors
    /// The kernel does not say what is attached.
    pub fn missing(&self) -> io::Result<Vec<&'static str>> {
        let mut missing = Vec::new();
        for (name, attach_type, id) in self.programs.iter() {
            let attached = query::attached(self.cgroup.as_raw_fd().cast_unsigned(), *attach_type)?;
            if !attached.ids.contains(id) {
                missing.push(*name);
            }
        }
        Ok(missing)
    }
}

fn unread(error: &io::Error) -> String {
    format!("the programs on the root of all cgroups can't be read: {error}")
}

fn program<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, String> {
    programs.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))
}

/// Loads a program, and returns its id.
fn load(programs: &mut Ebpf, name: &str) -> Result<u32, String> {
    let program = program(programs, name)?;
    let loaded = match program {
        Program::CgroupSock(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => return Err(no_cgroup_program(name)),
    };
    loaded.and_then(|()| program.info()).map(|info| info.id()).map_err(|error| chain(&error))
}

fn attach(programs: &mut Ebpf, name: &str, cgroup: &OwnedFd) -> Result<LinkId, String> {
    // A link is always one of many, whatever others have there; the mode is for attachments that are none.
    let mode = CgroupAttachMode::Single;
    let attached = match program(programs, name)? {
        Program::CgroupSock(program) => program.attach(cgroup, mode).map(LinkId::Sock),
        Program::SockOps(program) => program.attach(cgroup, mode).map(LinkId::Ops),
        _ => return Err(no_cgroup_program(name)),
    };
    attached.map_err(|error| chain(&error))
}

fn detach(programs: &mut Ebpf, name: &str, link: LinkId) -> Result<(), String> {
    let detached: Result<(), ProgramError> = match (program(programs, name)?, link) {
        (Program::CgroupSock(program), LinkId::Sock(link)) => program.detach(link),
        (Program::SockOps(program), LinkId::Ops(link)) => program.detach(link),
        _ => return Err(no_cgroup_program(name)),
    };
    detached.map_err(|error| chain(&error))
}

fn no_cgroup_program(name: &str) -> String {
    format!("{name} is no program for a cgroup")
}
