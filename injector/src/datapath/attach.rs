//! Attaching the programs to one interface, from inside its namespace.

use std::net::IpAddr;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcAttachType, qdisc_add_clsact};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, Xdp, XdpMode};
use netlink_packet_route::link::LinkLayerType;

use super::{DatapathError, chain};
use crate::config::{Hook, Interface};
use crate::netlink::{self, LinkFacts};
use crate::netns::{NetnsError, Worker};

const INGRESS: &str = "injector_in";
const EGRESS: &str = "injector_out";
const XDP: &str = "injector_xdp";

/// Which hooks are in force on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// TCX, both ways.
    Tcx,
    /// Filters of the clsact qdisc, both ways.
    Clsact,
    /// XDP in the driver, and TCX or clsact egress.
    XdpNative(Tc),
    /// XDP in the stack, and TCX or clsact egress.
    XdpGeneric(Tc),
}

/// The two kinds of TC hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tc {
    /// A `bpf_link`, since kernel 6.6.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl std::fmt::Display for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::XdpNative(Tc::Tcx) => "xdp-native+tcx",
            Self::XdpNative(Tc::Clsact) => "xdp-native+clsact",
            Self::XdpGeneric(Tc::Tcx) => "xdp-generic+tcx",
            Self::XdpGeneric(Tc::Clsact) => "xdp-generic+clsact",
        })
    }
}

/// Our programs on one interface. Detached when dropped, in its namespace.
pub struct Attachment {
    /// The interface as configured.
    pub interface: Interface,
    /// Its id in the programs.
    pub id: u32,
    /// What the kernel said of it when it was attached.
    pub facts: LinkFacts,
    /// The interface's own addresses: the peers that live behind it.
    pub addresses: Vec<IpAddr>,
    /// The hooks in force.
    pub hooks: Hooks,
    /// Why these.
    pub why: String,
    worker: Worker,
    /// The instance of the programs; its links end with it.
    ebpf: Option<Ebpf>,
    ours: Vec<u32>,
    xdp: Option<FdLink>,
}

/// The name of an interface with its namespace, for people.
pub fn shown(interface: &Interface) -> String {
    match &interface.netns {
        None => interface.name.clone(),
        Some(netns) => format!("{} in netns {netns}", interface.name),
    }
}

impl Attachment {
    /// Loads an instance of the programs and attaches it.
    pub async fn attach(
        ebpf: Ebpf,
        id: u32,
        interface: &Interface,
        worker: &Worker,
    ) -> Result<Self, DatapathError> {
        let wanted = interface.clone();
        let attached = worker.run(move || attach_here(ebpf, wanted)).await?;
        let refuse = |reason| DatapathError::Attach { interface: shown(interface), reason };
        let done = attached.map_err(refuse)?;
        Ok(Self {
            interface: interface.clone(),
            id,
            facts: done.facts,
            addresses: done.addresses,
            hooks: done.hooks,
            why: done.why,
            worker: worker.clone(),
            ebpf: Some(done.ebpf),
            ours: done.ours,
            xdp: done.held,
        })
    }

    /// Programs of others on the same TCX hooks, and whether any of them runs before ours.
    pub async fn others(&self) -> Result<Others, NetnsError> {
        let name = self.interface.name.clone();
        let ours = self.ours.clone();
        let hooks = self.hooks;
        self.worker.run(move || async move { others_here(&name, &ours, hooks) }).await
    }

    /// Detaches; errors are those of a namespace that is gone, with which the attachment went.
    pub async fn detach(mut self) {
        drop(self.xdp.take());
        if let Some(ebpf) = self.ebpf.take() {
            let _ = self.worker.run(move || async move { drop(ebpf) }).await;
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(ebpf) = self.ebpf.take() {
            // clsact filters are removed by netlink, which must speak to the interface's own namespace.
            let _ = self.worker.spawn(move || async move { drop(ebpf) });
        }
    }
}

/// Who else is on an interface's hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Names and ids, in the order of execution, with the direction.
    pub programs: Vec<String>,
    /// Those that run before ours.
    pub ahead: Vec<String>,
}

fn others_here(name: &str, ours: &[u32], hooks: Hooks) -> Others {
    let mut others = Others::default();
    let directions = match hooks {
        Hooks::Tcx => &[(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")][..],
        Hooks::XdpNative(Tc::Tcx) | Hooks::XdpGeneric(Tc::Tcx) => &[(TcAttachType::Egress, "egress")],
        Hooks::Clsact | Hooks::XdpNative(Tc::Clsact) | Hooks::XdpGeneric(Tc::Clsact) => &[],
    };
    for (direction, word) in directions {
        let Ok((_, programs)) = SchedClassifier::query_tcx(name, *direction) else { continue };
        let mut before = programs.iter().any(|program| ours.contains(&program.id()));
        for program in &programs {
            if ours.contains(&program.id()) {
                before = false;
                continue;
            }
            let shown = format!("{word} {} (id {})", program.name_as_str().unwrap_or("?"), program.id());
            if before {
                others.ahead.push(shown.clone());
            }
            others.programs.push(shown);
        }
    }
    others
}

struct Done {
    ebpf: Ebpf,
    facts: LinkFacts,
    addresses: Vec<IpAddr>,
    hooks: Hooks,
    why: String,
    ours: Vec<u32>,
    /// The XDP link, taken out of its program to see what kind it is.
    held: Option<FdLink>,
}

async fn attach_here(mut ebpf: Ebpf, interface: Interface) -> Result<Done, String> {
    let name = interface.name.as_str();
    let handle = netlink::connect().map_err(|error| format!("no netlink socket: {error}"))?;
    let facts = netlink::find(&handle, name)
        .await
        .map_err(|error| format!("netlink: {error}"))?
        .ok_or("there is no such interface; see `ip link` in that namespace")?;
    if facts.layer != LinkLayerType::Ether {
        return Err(format!(
            "its frames do not begin with an Ethernet header ({:?}); attach to an Ethernet device that carries its traffic",
            facts.layer
        ));
    }
    let addresses = netlink::addresses(&handle).await.map_err(|error| format!("netlink: {error}"))?;
    let addresses = addresses
        .into_iter()
        .filter(|(index, _)| *index == facts.index)
        .map(|(_, address)| address)
        .collect();
    let mut why = Vec::new();
    let mut ours = Vec::new();
    let mut held = None;
    let xdp = match interface.hook {
        Hook::Xdp => attach_xdp(&mut ebpf, &facts, &mut why, &mut ours, &mut held)?,
        Hook::Auto | Hook::Tc | Hook::Clsact => None,
    };
    let tcx_only = |hook| matches!(hook, Hook::Auto | Hook::Tc | Hook::Xdp);
    let mut tc = if tcx_only(interface.hook) { Tc::Tcx } else { Tc::Clsact };
    let egress_only = xdp.is_some();
    let directions = if egress_only {
        &[(EGRESS, TcAttachType::Egress)][..]
    } else {
        &[(INGRESS, TcAttachType::Ingress), (EGRESS, TcAttachType::Egress)]
    };
    for (program_name, direction) in directions {
        let program = classifier(&mut ebpf, program_name)?;
        program.load().map_err(|error| format!("program {program_name}: {}", chain(&error)))?;
        if let Ok(info) = program.info() {
            ours.push(info.id());
        }
        if tc == Tc::Tcx {
            match attach_tcx(program, name, *direction) {
                Ok(()) => continue,
                Err(error) if !has_tcx() => {
                    why.push(format!("no TCX on this kernel ({})", chain(&error)));
                    tc = Tc::Clsact;
                }
                Err(error) => return Err(format!("TCX: {}", chain(&error))),
            }
        }
        attach_clsact(program, name, *direction)?;
    }
    let hooks = match (xdp, tc) {
        (None, Tc::Tcx) => Hooks::Tcx,
        (None, Tc::Clsact) => Hooks::Clsact,
        (Some(XdpMode::Driver), tc) => Hooks::XdpNative(tc),
        (Some(_), tc) => Hooks::XdpGeneric(tc),
    };
    if why.is_empty() {
        why.push(match interface.hook {
            Hook::Auto => "auto: TC costs nothing that can be measured and sees GSO packets whole".to_owned(),
            Hook::Tc | Hook::Clsact | Hook::Xdp => "as configured".to_owned(),
        });
    }
    Ok(Done { ebpf, facts, addresses, hooks, why: why.join("; "), ours, held })
}

fn has_tcx() -> bool {
    aya::util::KernelVersion::current().is_ok_and(|version| version >= aya::util::KernelVersion::new(6, 6, 0))
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().map_err(|error: ProgramError| chain(&error))
}

fn attach_tcx(
    program: &mut SchedClassifier,
    name: &str,
    direction: TcAttachType,
) -> Result<(), ProgramError> {
    // First: a program ahead of ours that answers "ok" would bypass us.
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    program.attach_with_options(name, direction, options)?;
    Ok(())
}

fn attach_clsact(program: &mut SchedClassifier, name: &str, direction: TcAttachType) -> Result<(), String> {
    // An existing qdisc, ours or another's, serves as well; it is never removed, since it may be in use.
    if let Err(error) = qdisc_add_clsact(name)
        && !already_exists(&error)
    {
        return Err(format!("no clsact qdisc: {}", chain(&error)));
    }
    let options = TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() });
    program
        .attach_with_options(name, direction, options)
        .map_err(|error| format!("clsact filter: {}", chain(&error)))?;
    Ok(())
}

fn already_exists(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(cause) = error {
        if cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::AlreadyExists)
        {
            return true;
        }
        error = cause.source();
    }
    false
}

/// XDP ingress: in the driver, else in the stack. `None` if another program holds the hook, which is named.
fn attach_xdp(
    ebpf: &mut Ebpf,
    facts: &LinkFacts,
    why: &mut Vec<String>,
    ours: &mut Vec<u32>,
    held: &mut Option<FdLink>,
) -> Result<Option<XdpMode>, String> {
    if let Some(id) = facts.xdp {
        let owner = aya::programs::loaded_programs()
            .flatten()
            .find(|program| program.id() == id)
            .and_then(|program| program.name_as_str().map(str::to_owned))
            .unwrap_or_else(|| "?".to_owned());
        why.push(format!("XDP is taken by program {owner} (id {id}): TC is used instead"));
        return Ok(None);
    }
    let program: &mut Xdp = ebpf
        .program_mut(XDP)
        .ok_or_else(|| format!("the eBPF object has no program {XDP}"))?
        .try_into()
        .map_err(|error: ProgramError| chain(&error))?;
    program.load().map_err(|error| format!("program {XDP}: {}", chain(&error)))?;
    if let Ok(info) = program.info() {
        ours.push(info.id());
    }
    for mode in [XdpMode::Driver, XdpMode::Skb] {
        match program.attach_to_if_index(facts.index, mode) {
            Ok(id) => {
                let link = program.take_link(id).map_err(|error| chain(&error))?;
                // aya falls back to netlink in silence; such an attachment would outlive a killed daemon.
                let link: FdLink = link
                    .try_into()
                    .map_err(|_| "this kernel has no bpf_link for XDP, and without it a killed daemon would leave its program; use hook: tc")?;
                *held = Some(link);
                why.push(match mode {
                    XdpMode::Driver => "as configured: the driver runs XDP".to_owned(),
                    _ => "as configured: the driver has no XDP, the stack runs it".to_owned(),
                });
                return Ok(Some(mode));
            }
            Err(error) if mode == XdpMode::Driver => {
                tracing::debug!(interface = facts.name, error = chain(&error), "no native XDP");
            }
            Err(error) => return Err(format!("XDP: {}", chain(&error))),
        }
    }
    Ok(None)
}
