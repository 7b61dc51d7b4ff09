//! Attaching the programs to one interface, from inside its namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, Xdp, XdpMode};
use futures_util::future::join_all;
use netlink_packet_route::link::LinkLayerType;

use super::foreign::{HookQuery, Names, has_tcx, program_shown};
use super::instances::Instance;
use super::local;
use super::object::{EGRESS, INGRESS, XDP};
use super::{DatapathError, chain};
use crate::fault;
use crate::netlink::filters::{Filter, NewFilter, Qdisc, Side, Tc as TcSocket};
use crate::netlink::{self, LinkFacts};
use crate::netns::{Identity, Worker};
use injector_core::clock::MonoNs;
use injector_core::config::{Hook, Interface, shown};

/// The priority of our clsact filters: before all others.
const PRIORITY: u16 = 1;
/// The handle of our clsact filter where the qdisc was there before us. Handles outlive a daemon, and say so.
const FOUND_QDISC: u32 = 0x1a01;
/// The handle of our clsact filter where we made the qdisc: it goes with the last filter.
pub(super) const MADE_QDISC: u32 = 0x1a02;

/// How long attaching or detaching may take, and
const PATIENCE: Duration = Duration::from_secs(5);
/// how much longer for each interface: of TCX the kernel takes tens of milliseconds, and more on a busy host.
const EACH: Duration = Duration::from_millis(500);

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
    /// The hooks in force,
    pub hooks: Hooks,
    /// and since when: what was read before says nothing of them.
    pub since: MonoNs,
    /// The program that holds XDP where we were to have it.
    pub xdp_holder: Option<u32>,
    why: Vec<String>,
    worker: Worker,
    /// The programs, and what holds them to the interface; `None` once released.
    held: Option<Held>,
    ours: Vec<u32>,
}

/// An interface that is to be attached to.
pub struct Wanted {
    /// Its id in the programs.
    pub id: u32,
    /// The programs.
    pub instance: Instance,
    /// The interface as configured.
    pub interface: Interface,
    /// How many there are beside it.
    pub crowd: InterfaceCount,
}

/// How many interfaces of one namespace are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceCount {
    /// A few.
    Few,
    /// So many that the kernel would take too long over TCX: it waits for an RCU grace period, tens of milliseconds, in
    /// each attachment and detachment.
    Many(usize),
}

/// A refused attachment: nothing was changed, and the instance can be tried again.
pub struct Refused {
    /// The instance; `None` if the namespace's thread ended with it.
    pub instance: Option<Instance>,
    /// What is wrong.
    pub error: DatapathError,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

/// An instance with its links to one interface.
struct Held {
    instance: Instance,
    links: Vec<SchedClassifierLink>,
    xdp: Option<FdLink>,
    clsact: Option<Clsact>,
    /// The interface's id, and its index.
    entered: Option<(u32, u32)>,
}

/// Our filters on an interface's clsact qdisc; taken off when dropped, if that is in their namespace.
struct Clsact {
    netns: Option<Identity>,
    index: u32,
    filters: Vec<Filter>,
    qdisc: Qdisc,
}

impl Drop for Clsact {
    fn drop(&mut self) {
        // The same index is another interface elsewhere.
        if self.netns.is_none() || self.netns != Identity::of_thread() {
            return;
        }
        fault::here("detach/clsact");
        let removed = TcSocket::open().and_then(|tc| tc.remove_all(self.index, &self.filters, self.qdisc));
        // An interface that is gone took them along.
        if let Err(error) = removed {
            tracing::debug!(index = self.index, %error, "the clsact filters had gone before");
        }
    }
}

impl Held {
    fn new(instance: Instance) -> Self {
        Self { instance, links: Vec::new(), xdp: None, clsact: None, entered: None }
    }

    /// Takes the links off, in the reverse order.
    fn release(mut self) -> Instance {
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

impl Attachment {
    /// Attaches to some interfaces of one namespace, in its thread and in their order.
    pub async fn attach(wanted: Vec<Wanted>, worker: &Worker) -> Vec<Result<Self, Refused>> {
        let interfaces: Vec<Interface> = wanted.iter().map(|wanted| wanted.interface.clone()).collect();
        let patience = PATIENCE + EACH * u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        let attached = match worker.run_within(patience, move || attach_here(wanted)).await {
            Ok(attached) => attached,
            Err(error) => {
                let error = error.to_string();
                let refused = |interface: &Interface| {
                    let error = DatapathError::Attach { interface: shown(interface), reason: error.clone() };
                    Err(Refused { instance: None, error })
                };
                return interfaces.iter().map(refused).collect();
            }
        };
        let done = |(interface, attached): (Interface, Result<Done, (Instance, String)>)| match attached {
            Ok(done) => Ok(Self {
                interface,
                facts: done.facts,
                addresses: done.addresses,
                hooks: done.hooks,
                since: done.since,
                why: done.why,
                xdp_holder: done.xdp_holder,
                worker: worker.clone(),
                held: Some(done.held),
                ours: done.ours,
            }),
            Err((instance, reason)) => Err(Refused {
                instance: Some(instance),
                error: DatapathError::Attach { interface: shown(&interface), reason },
            }),
        };
        interfaces.into_iter().zip(attached).map(done).collect()
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
            sides: match self.interface.hook {
                Hook::Local => &[Side::Egress],
                _ => &Side::ALL,
            },
            is_xdp: matches!(self.hooks, Hooks::XdpNative(_) | Hooks::XdpGeneric(_)),
        }
    }

    /// Detaches in its namespace's thread, and hands the instance on from there; `None` if the thread ends before.
    pub fn release_to(mut self, take: impl FnOnce(Option<Instance>) + Send + 'static) {
        let mut answer = ReportOnce(Some(take));
        let Some(held) = self.held.take() else { return };
        // A thread that has ended drops the answer, which shows it.
        let _ = self.worker.spawn_awaited(move || async move { answer.report(Some(held.release())) });
    }

    /// Detaches some, those of one namespace in their reverse order; the instances, in the given order: `None` for those
    /// whose namespace's thread has ended, or is not free.
    pub async fn release(attachments: Vec<Self>) -> Vec<Option<Instance>> {
        let mut groups: Vec<(Worker, Vec<(usize, Held)>)> = Vec::new();
        let mut instances: Vec<Option<Instance>> = attachments.iter().map(|_| None).collect();
        for (at, mut attachment) in attachments.into_iter().enumerate() {
            let Some(held) = attachment.held.take() else { continue };
            let identity = attachment.worker.identity();
            match groups.iter_mut().find(|(worker, _)| worker.identity() == identity) {
                Some((_, group)) => group.push((at, held)),
                None => groups.push((attachment.worker.clone(), vec![(at, held)])),
            }
        }
        let released = groups.into_iter().map(|(worker, group)| async move {
            let patience = PATIENCE + EACH * u32::try_from(group.len()).unwrap_or(u32::MAX);
            let release = move || async move {
                let reversed = group.into_iter().rev();
                reversed.map(|(at, held)| (at, held.release())).collect::<Vec<_>>()
            };
            worker.run_within(patience, release).await
        });
        for released in join_all(released).await {
            match released {
                Ok(released) => {
                    for (at, instance) in released {
                        instances[at] = Some(instance);
                    }
                }
                Err(error) => tracing::warn!(%error, "interfaces are not known to be detached"),
            }
        }
        instances
    }
}

/// What is reported about an instance, once: also if the thread that was to report it ends before.
struct ReportOnce<F: FnOnce(Option<Instance>)>(Option<F>);

impl<F: FnOnce(Option<Instance>)> ReportOnce<F> {
    fn report(&mut self, instance: Option<Instance>) {
        if let Some(take) = self.0.take() {
            take(instance);
        }
    }
}

impl<F: FnOnce(Option<Instance>)> Drop for ReportOnce<F> {
    fn drop(&mut self) {
        self.report(None);
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
    since: MonoNs,
    why: Vec<String>,
    xdp_holder: Option<u32>,
    ours: Vec<u32>,
}

/// Attaches; where that fails, the links that were made are taken off again, and the instance comes back.
async fn attach_here(wanted: Vec<Wanted>) -> Vec<Result<Done, (Instance, String)>> {
    let many = if wanted.len() > 1 { Some(look_at_all().await) } else { None };
    let mut attached = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let found = match &many {
            None => look(&wanted.interface.name).await,
            Some(Ok(seen)) => seen.of(&wanted.interface.name),
            Some(Err(error)) => Err(error.clone()),
        };
        attached.push(match found {
            Ok((facts, addresses)) => attach_one(wanted, facts, addresses),
            Err(reason) => Err((wanted.instance, reason)),
        });
        // Others wait for this thread too.
        tokio::task::yield_now().await;
    }
    attached
}

fn attach_one(wanted: Wanted, facts: LinkFacts, addresses: Vec<IpAddr>) -> Result<Done, (Instance, String)> {
    let Wanted { id, instance, interface, crowd } = wanted;
    let mut held = Held::new(instance);
    let mut ours = Vec::new();
    let hooked = held.instance.enter(facts.index, id).and_then(|()| {
        held.entered = Some((id, facts.index));
        hook_up(&mut held, &interface, &facts, crowd, &mut ours)
    });
    match hooked {
        Ok((hooks, why)) => {
            let xdp_holder = facts.xdp.filter(|_| interface.hook == Hook::Xdp);
            Ok(Done { held, facts, addresses, hooks, since: MonoNs::now(), why, xdp_holder, ours })
        }
        Err(reason) => Err((held.release(), reason)),
    }
}

/// All interfaces of a namespace with their addresses: one look for many.
struct Seen {
    links: BTreeMap<String, LinkFacts>,
    addresses: BTreeMap<u32, Vec<IpAddr>>,
}

impl Seen {
    fn of(&self, name: &str) -> Result<(LinkFacts, Vec<IpAddr>), String> {
        fault::at("attach/look").map_err(|error| error.to_string())?;
        let facts = self.links.get(name).ok_or(NO_INTERFACE)?.clone();
        refuse_other_layers(&facts)?;
        let addresses = self.addresses.get(&facts.index).cloned().unwrap_or_default();
        Ok((facts, addresses))
    }
}

async fn look_at_all() -> Result<Seen, String> {
    let handle = netlink::connect().map_err(|error| format!("no netlink socket: {error}"))?;
    let links = netlink::links(&handle).await.map_err(|error| format!("netlink: {error}"))?;
    let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for (index, address) in netlink::addresses(&handle).await.map_err(|error| format!("netlink: {error}"))? {
        addresses.entry(index).or_default().push(address);
    }
    Ok(Seen { links: links.into_iter().map(|link| (link.name.clone(), link)).collect(), addresses })
}

const NO_INTERFACE: &str = "there is no such interface; see `ip link` in that namespace";

fn refuse_other_layers(facts: &LinkFacts) -> Result<(), String> {
    // Frames on a loopback device have an Ethernet header too; whether it may be attached to at all, the start says.
    if matches!(facts.layer, LinkLayerType::Ether | LinkLayerType::Loopback) {
        return Ok(());
    }
    Err(format!(
        "its frames do not begin with an Ethernet header (its link layer is {:?}, as of tun and WireGuard devices); attach to the Ethernet device that carries its traffic",
        facts.layer
    ))
}

/// The interface's facts and addresses, if it can be attached to at all.
pub async fn look(name: &str) -> Result<(LinkFacts, Vec<IpAddr>), String> {
    let handle = fault::at("attach/look")
        .and_then(|()| netlink::connect())
        .map_err(|error| format!("no netlink socket: {error}"))?;
    let facts = netlink::find(&handle, name)
        .await
        .map_err(|error| format!("netlink: {error}"))?
        .ok_or(NO_INTERFACE)?;
    refuse_other_layers(&facts)?;
    let addresses = netlink::addresses(&handle).await.map_err(|error| format!("netlink: {error}"))?;
    let own = addresses.into_iter().filter(|(index, _)| *index == facts.index).map(|(_, address)| address);
    let own = own.collect();
    Ok((facts, own))
}

fn hook_up(
    held: &mut Held,
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
        // Not loaded yet, if XDP was meant to have its part.
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
        held.clsact = Some(attach_clsact(&mut programs, facts.index, &names)?);
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

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    program.try_into().map_err(|error: ProgramError| chain(&error))
}

/// Filters of the clsact qdisc, which is made with them where there is none; another's serves as well.
fn attach_clsact(ebpf: &mut Ebpf, index: u32, names: &[&'static str]) -> Result<Clsact, String> {
    let failed = |error: std::io::Error| format!("clsact: {error}");
    fault::at("attach/clsact").map_err(failed)?;
    let tc = TcSocket::open().map_err(failed)?;
    let qdisc = if tc.has_clsact(index).map_err(failed)? { Qdisc::Found } else { Qdisc::Made };
    let handle = if qdisc == Qdisc::Made { MADE_QDISC } else { FOUND_QDISC };
    let mut programs = Vec::new();
    for name in names {
        let program = classifier(ebpf, name)?;
        let id = program.info().map_err(|error| chain(&error))?.id();
        let fd = program.fd().map_err(|error| chain(&error))?;
        let fd = fd.try_clone().map_err(failed)?;
        programs.push((if *name == INGRESS { Side::Ingress } else { Side::Egress }, *name, id, fd));
    }
    let filters: Vec<NewFilter<'_>> = programs
        .iter()
        .map(|(side, name, id, fd)| NewFilter {
            side: *side,
            priority: PRIORITY,
            handle,
            program: fd.as_fd(),
            id: *id,
            name,
        })
        .collect();
    tc.add(index, qdisc, &filters).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            "another injector holds its clsact hook; stop that one, or see `injector doctor`".to_owned()
        }
        _ => failed(error),
    })?;
    Ok(Clsact {
        netns: Identity::of_thread(),
        index,
        filters: filters.iter().map(NewFilter::made).collect(),
        qdisc,
    })
}

/// XDP ingress: in the driver, else in the stack.
fn attach_xdp(
    held: &mut Held,
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
