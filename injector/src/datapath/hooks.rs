//! Putting the programs of one instance on the hooks of an interface: TCX, clsact, XDP.

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, ProgramError, Xdp, XdpMode};

use super::clsact::Clsact;
use super::foreign::has_tcx;
use super::instances::Instance;
use super::object::{EGRESS, INGRESS, XDP, classifier};
use super::{chain, local};
use crate::fault;
use crate::netlink::LinkFacts;
use injector_core::config::{Hook, Interface};

/// The hooks that are in force on an interface.
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

/// How many interfaces of one namespace are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceCount {
    /// A few.
    Few,
    /// So many interfaces that the kernel would take too long over TCX: it waits for an RCU grace period,
    /// tens of milliseconds, in each attachment and detachment.
    Many(usize),
}

/// An instance with its links to one interface.
pub(super) struct HookedInstance {
    pub instance: Instance,
    links: Vec<SchedClassifierLink>,
    xdp: Option<FdLink>,
    clsact: Option<Clsact>,
    /// The interface's id, and its index.
    pub entered: Option<(u32, u32)>,
}

impl HookedInstance {
    pub fn new(instance: Instance) -> Self {
        Self { instance, links: Vec::new(), xdp: None, clsact: None, entered: None }
    }

    /// Takes the links off, in the reverse order.
    pub fn release(mut self) -> Instance {
        fault::here("detach/xdp");
        drop(self.xdp.take());
        while let Some(link) = self.links.pop() {
            fault::here("detach/link");
            drop(link);
        }
        drop(self.clsact.take());
        if let Some((id, index)) = self.entered.take() {
            self.instance.leave(index, id);
        }
        self.instance
    }
}

/// Attaches an instance by the config's hook; `why` that one, and which programs are ours.
pub(super) fn hook_up(
    held: &mut HookedInstance,
    interface: &Interface,
    facts: &LinkFacts,
    crowd: InterfaceCount,
    ours: &mut Vec<u32>,
) -> Result<(Hooks, Vec<String>), String> {
    let mut why = Vec::new();
    let wants_xdp = interface.hook == Hook::Xdp && facts.xdp.is_none();
    let instance = held.instance.clone();
    let mut programs = instance.programs();
    let mut tc = match (interface.hook, crowd) {
        (Hook::Clsact, _) => Tc::Clsact,
        (Hook::Auto, InterfaceCount::Many(count)) => {
            why.push(format!(
                "auto: clsact, since {count} interfaces of this namespace are attached to and the kernel takes tens of milliseconds for each of them on TCX; `hook: tc` takes TCX all the same"
            ));
            Tc::Clsact
        }
        _ => Tc::Tcx,
    };
    let directions = match interface.hook {
        Hook::Local => &[(local::EGRESS, TcAttachType::Egress)][..],
        _ if wants_xdp => &[(EGRESS, TcAttachType::Egress)],
        _ => &[(INGRESS, TcAttachType::Ingress), (EGRESS, TcAttachType::Egress)],
    };
    for (program_name, direction) in directions {
        let program = classifier(&mut programs, program_name)?;
        // The program is not loaded yet, if XDP was meant to have its part.
        if program.fd().is_err() {
            program.load().map_err(|error| format!("program {program_name}: {}", chain(&error)))?;
        }
        if let Ok(info) = program.info() {
            instance.note(info.id());
            ours.push(info.id());
        }
        if tc == Tc::Tcx {
            // First: a program ahead of ours that answers "ok" would bypass us.
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            fault::at("attach/tcx").map_err(|error| format!("TCX: {error}"))?;
            match program.attach_with_options(&facts.name, *direction, options) {
                Ok(link) => {
                    held.links.push(program.take_link(link).map_err(|error| chain(&error))?);
                }
                Err(error) if !has_tcx() => {
                    tracing::debug!(interface = facts.name, error = chain(&error), "no TCX");
                    why.push("no TCX on this kernel (Linux 6.6 brought it): clsact is used".to_owned());
                    tc = Tc::Clsact;
                }
                Err(error) => return Err(format!("TCX: {}", chain(&error))),
            }
        }
    }
    if tc == Tc::Clsact {
        let names: Vec<&'static str> = directions.iter().map(|(name, _)| *name).collect();
        held.clsact = Some(Clsact::attach(&mut programs, interface, facts.index, &names)?);
    }
    // Last: XDP that comes and goes is reported as news of the interface, which a failure after it would cause again.
    let xdp = if wants_xdp { Some(attach_xdp(held, &mut programs, facts, &mut why, ours)?) } else { None };
    let hooks = match (xdp, tc) {
        (None, Tc::Tcx) => Hooks::Tcx,
        (None, Tc::Clsact) => Hooks::Clsact,
        (Some(XdpMode::Driver), tc) => Hooks::XdpNative(tc),
        (Some(_), tc) => Hooks::XdpGeneric(tc),
    };
    if why.is_empty() && (wants_xdp || interface.hook != Hook::Xdp) {
        why.push(match interface.hook {
            Hook::Auto => "auto: TC costs nothing that can be measured and sees GSO packets whole".to_owned(),
            Hook::Tc | Hook::Clsact | Hook::Xdp => "as configured".to_owned(),
            Hook::Local => "for peers on this machine, which are distinguished by their sockets".to_owned(),
        });
    }
    Ok((hooks, why))
}

/// XDP ingress: in the driver, else in the stack.
fn attach_xdp(
    held: &mut HookedInstance,
    programs: &mut Ebpf,
    facts: &LinkFacts,
    why: &mut Vec<String>,
    ours: &mut Vec<u32>,
) -> Result<XdpMode, String> {
    let program: &mut Xdp = programs
        .program_mut(XDP)
        .ok_or_else(|| format!("the eBPF object has no program {XDP}"))?
        .try_into()
        .map_err(|error: ProgramError| chain(&error))?;
    if program.fd().is_err() {
        program.load().map_err(|error| format!("program {XDP}: {}", chain(&error)))?;
    }
    if let Ok(info) = program.info() {
        held.instance.note(info.id());
        ours.push(info.id());
    }
    fault::at("attach/xdp").map_err(|error| format!("XDP: {error}"))?;
    let (mode, link) = match program.attach_to_if_index(facts.index, XdpMode::Driver) {
        Ok(link) => {
            why.push("as configured: the driver runs XDP".to_owned());
            (XdpMode::Driver, link)
        }
        Err(native) => {
            let link = program
                .attach_to_if_index(facts.index, XdpMode::Skb)
                .map_err(|error| format!("XDP: {}", chain(&error)))?;
            why.push(format!(
                "as configured, but in the stack: the driver does not take the XDP program ({})",
                chain(&native)
            ));
            (XdpMode::Skb, link)
        }
    };
    fault::here("attach/xdp-link");
    let link = program.take_link(link).map_err(|error| chain(&error))?;
    // aya falls back to netlink in silence; such an attachment would outlive a killed daemon.
    held.xdp = Some(link.try_into().map_err(
        |_| "this kernel has no bpf_link for XDP, and without it a killed daemon would leave its program; use hook: tc",
    )?);
    Ok(mode)
}
