//! Attaching the programs to one interface, from inside its namespace.

use std::net::IpAddr;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLinkId, TcAttachOptions, TcAttachType, TcHandle, qdisc_add_clsact,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, Xdp, XdpMode};
use netlink_packet_route::link::LinkLayerType;

use super::foreign::{HookQuery, Names, has_tcx, program_shown};
use super::{DatapathError, chain};
use crate::netlink::filters::Tc as TcSocket;
use crate::netlink::{self, LinkFacts};
use crate::netns::Worker;
use injector_core::config::{Hook, Interface, shown};

pub(super) const INGRESS: &str = "injector_in";
pub(super) const EGRESS: &str = "injector_out";
pub(super) const XDP: &str = "injector_xdp";

/// The priority of our clsact filters: before all others.
const PRIORITY: u16 = 1;
/// The handle of our clsact filter where the qdisc was there before us. Handles outlive a daemon, and say so.
const FOUND_QDISC: u32 = 0x1a01;
/// The handle of our clsact filter where we made the qdisc: it goes with the last filter.
pub(super) const MADE_QDISC: u32 = 0x1a02;

/// How long detaching may take.
const RELEASE: Duration = Duration::from_secs(5);

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
    /// What the kernel said of it when it was attached.
    pub facts: LinkFacts,
    /// The interface's own addresses at that time.
    pub addresses: Vec<IpAddr>,
    /// The hooks in force.
    pub hooks: Hooks,
    /// The program that holds XDP where we were to have it.
    pub xdp_holder: Option<u32>,
    why: Vec<String>,
    worker: Worker,
    /// The instance of the programs, and what holds them to the interface; `None` once released.
    held: Option<Held>,
    ours: Vec<u32>,
}

/// A refused attachment: nothing was changed, and the instance can be tried again.
pub struct Refused {
    /// The instance; `None` if the namespace's thread ended with it.
    pub ebpf: Option<Ebpf>,
    /// What is wrong.
    pub error: DatapathError,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

/// An instance with its links.
struct Held {
    ebpf: Ebpf,
    links: Vec<(&'static str, SchedClassifierLinkId)>,
    xdp: Option<FdLink>,
    /// The interface whose clsact qdisc we made.
    made_qdisc: Option<u32>,
}

impl Held {
    /// Takes the links off, in the reverse order, and goes on past those that went with their interface.
    fn release(mut self) -> Ebpf {
        drop(self.xdp.take());
        for (name, link) in std::mem::take(&mut self.links).into_iter().rev() {
            let released = classifier(&mut self.ebpf, name)
                .and_then(|program| program.detach(link).map_err(|error| chain(&error)));
            if let Err(error) = released {
                tracing::debug!(name, error, "a link had gone before");
            }
        }
        if let Some(index) = self.made_qdisc {
            // Not if others have moved in meanwhile. An interface that is gone took its qdisc along.
            let removed = TcSocket::open()
                .and_then(|tc| if tc.has_filters(index)? { Ok(()) } else { tc.remove_clsact(index) });
            if let Err(error) = removed {
                tracing::debug!(index, %error, "the clsact qdisc stays, or had gone before");
            }
        }
        self.ebpf
    }
}

impl Attachment {
    /// Attaches an instance of the programs.
    pub async fn attach(ebpf: Ebpf, interface: &Interface, worker: &Worker) -> Result<Self, Refused> {
        let wanted = interface.clone();
        let attached = match worker.run(move || attach_here(ebpf, wanted)).await {
            Ok(attached) => attached,
            Err(error) => return Err(Refused { ebpf: None, error: error.into() }),
        };
        match attached {
            Ok(done) => Ok(Self {
                interface: interface.clone(),
                facts: done.facts,
                addresses: done.addresses,
                hooks: done.hooks,
                why: done.why,
                xdp_holder: done.xdp_holder,
                worker: worker.clone(),
                held: Some(done.held),
                ours: done.ours,
            }),
            Err((ebpf, reason)) => Err(Refused {
                ebpf: Some(ebpf),
                error: DatapathError::Attach { interface: shown(interface), reason },
            }),
        }
    }

    /// Why these hooks.
    pub fn why(&self, names: &Names) -> String {
        let taken = self
            .xdp_holder
            .map(|id| format!("XDP is taken by {}: TC is used instead", program_shown(id, names)));
        taken.into_iter().chain(self.why.iter().cloned()).collect::<Vec<_>>().join("; ")
    }

    /// What to look at to learn who is on its hooks.
    pub fn hooked(&self) -> HookQuery {
        HookQuery {
            index: self.facts.index,
            ours: self.ours.clone(),
            is_xdp: matches!(self.hooks, Hooks::XdpNative(_) | Hooks::XdpGeneric(_)),
        }
    }

    /// Detaches, and gives the instance back for another attachment; `None` if the namespace's thread has ended, or
    /// does not come to it.
    pub async fn release(mut self) -> Option<Ebpf> {
        let held = self.held.take()?;
        let released = self.worker.run_within(RELEASE, move || async move { held.release() }).await;
        if let Err(error) = &released {
            tracing::warn!(interface = shown(&self.interface), %error, "not known to be detached");
        }
        released.ok()
    }

    /// Detaches.
    pub async fn detach(self) {
        drop(self.release().await);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            // clsact filters are removed by netlink, which must speak to the interface's own namespace.
            let _ = self.worker.spawn(move || async move { drop(held.release()) });
        }
    }
}

struct Done {
    held: Held,
    facts: LinkFacts,
    addresses: Vec<IpAddr>,
    hooks: Hooks,
    why: Vec<String>,
    xdp_holder: Option<u32>,
    ours: Vec<u32>,
}

/// Attaches; on a failure the links that were made are taken off again, and the instance comes back.
async fn attach_here(ebpf: Ebpf, interface: Interface) -> Result<Done, (Ebpf, String)> {
    let (facts, addresses) = match look(&interface.name).await {
        Ok(found) => found,
        Err(reason) => return Err((ebpf, reason)),
    };
    let mut held = Held { ebpf, links: Vec::new(), xdp: None, made_qdisc: None };
    let mut ours = Vec::new();
    match hook_up(&mut held, &interface, &facts, &mut ours) {
        Ok((hooks, why)) => {
            let xdp_holder = facts.xdp.filter(|_| interface.hook == Hook::Xdp);
            Ok(Done { held, facts, addresses, hooks, why, xdp_holder, ours })
        }
        Err(reason) => Err((held.release(), reason)),
    }
}

/// The interface's facts and addresses, if it can be attached to at all.
pub async fn look(name: &str) -> Result<(LinkFacts, Vec<IpAddr>), String> {
    let handle = netlink::connect().map_err(|error| format!("no netlink socket: {error}"))?;
    let facts = netlink::find(&handle, name)
        .await
        .map_err(|error| format!("netlink: {error}"))?
        .ok_or("there is no such interface; see `ip link` in that namespace")?;
    if facts.layer != LinkLayerType::Ether {
        return Err(format!(
            "its frames do not begin with an Ethernet header (its link layer is {:?}, as of tun and WireGuard devices); attach to the Ethernet device that carries its traffic",
            facts.layer
        ));
    }
    let addresses = netlink::addresses(&handle).await.map_err(|error| format!("netlink: {error}"))?;
    let own = addresses.into_iter().filter(|(index, _)| *index == facts.index).map(|(_, address)| address);
    let own = own.collect();
    Ok((facts, own))
}

fn hook_up(
    held: &mut Held,
    interface: &Interface,
    facts: &LinkFacts,
    ours: &mut Vec<u32>,
) -> Result<(Hooks, Vec<String>), String> {
    let mut why = Vec::new();
    let wants_xdp = interface.hook == Hook::Xdp && facts.xdp.is_none();
    let mut tc = if interface.hook == Hook::Clsact { Tc::Clsact } else { Tc::Tcx };
    let directions = if wants_xdp {
        &[(EGRESS, TcAttachType::Egress)][..]
    } else {
        &[(INGRESS, TcAttachType::Ingress), (EGRESS, TcAttachType::Egress)]
    };
    for (program_name, direction) in directions {
        let program = classifier(&mut held.ebpf, program_name)?;
        // Not loaded yet, if XDP was meant to have its part.
        if program.fd().is_err() {
            program.load().map_err(|error| format!("program {program_name}: {}", chain(&error)))?;
        }
        if let Ok(info) = program.info() {
            ours.push(info.id());
        }
        if tc == Tc::Tcx {
            // First: a program ahead of ours that answers "ok" would bypass us.
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            match program.attach_with_options(&facts.name, *direction, options) {
                Ok(link) => {
                    held.links.push((program_name, link));
                    continue;
                }
                Err(error) if !has_tcx() => {
                    tracing::debug!(interface = facts.name, error = chain(&error), "no TCX");
                    why.push("no TCX on this kernel (Linux 6.6 brought it): clsact is used".to_owned());
                    tc = Tc::Clsact;
                }
                Err(error) => return Err(format!("TCX: {}", chain(&error))),
            }
        }
        // An existing qdisc, ours or another's, serves as well.
        match qdisc_add_clsact(&facts.name) {
            Ok(()) => held.made_qdisc = Some(facts.index),
            Err(error) if already_exists(&error) => {}
            Err(error) => return Err(format!("no clsact qdisc: {}", chain(&error))),
        }
        let handle = if held.made_qdisc.is_some() { MADE_QDISC } else { FOUND_QDISC };
        let options = NlOptions { priority: PRIORITY, handle: TcHandle::from(handle), classid: None };
        let link = program
            .attach_with_options(&facts.name, *direction, TcAttachOptions::Netlink(options))
            .map_err(|error| {
                if already_exists(&error) {
                    "another injector holds its clsact hook; stop that one, or see `injector doctor`"
                        .to_owned()
                } else {
                    format!("clsact filter: {}", chain(&error))
                }
            })?;
        held.links.push((program_name, link));
    }
    // Last: XDP that comes and goes is told as news of the interface, which a failure after it would cause anew.
    let xdp = if wants_xdp { Some(attach_xdp(held, facts, &mut why, ours)?) } else { None };
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
        });
    }
    Ok((hooks, why))
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().map_err(|error: ProgramError| chain(&error))
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

/// XDP ingress: in the driver, else in the stack.
fn attach_xdp(
    held: &mut Held,
    facts: &LinkFacts,
    why: &mut Vec<String>,
    ours: &mut Vec<u32>,
) -> Result<XdpMode, String> {
    let program: &mut Xdp = held
        .ebpf
        .program_mut(XDP)
        .ok_or_else(|| format!("the eBPF object has no program {XDP}"))?
        .try_into()
        .map_err(|error: ProgramError| chain(&error))?;
    if program.fd().is_err() {
        program.load().map_err(|error| format!("program {XDP}: {}", chain(&error)))?;
    }
    if let Ok(info) = program.info() {
        ours.push(info.id());
    }
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
    let link = program.take_link(link).map_err(|error| chain(&error))?;
    // aya falls back to netlink in silence; such an attachment would outlive a killed daemon.
    held.xdp = Some(link.try_into().map_err(
        |_| "this kernel has no bpf_link for XDP, and without it a killed daemon would leave its program; use hook: tc",
    )?);
    Ok(mode)
}
