//! Attaching the programs to one interface, from inside its namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use netlink_packet_route::link::LinkLayerType;

use super::DatapathError;
use super::foreign::{HookQuery, Names, program_shown};
use super::hooks::{HookedInstance, Hooks, InterfaceCount, hook_up};
use super::instances::Instance;
use crate::fault;
use crate::netlink::filters::Side;
use crate::netlink::{self, LinkFacts};
use crate::netns::Worker;
use injector_core::clock::MonoNs;
use injector_core::config::{Hook, Interface, shown};

/// How long attaching or detaching may take, and
const PATIENCE: Duration = Duration::from_secs(5);
/// how much longer for each interface: of TCX the kernel takes tens of milliseconds, and more on a busy host.
const EACH: Duration = Duration::from_millis(500);

/// Our programs on one interface. Detached when dropped, in its namespace.
pub struct Attachment {
    /// The interface as configured.
    pub interface: Interface,
    /// The kernel's facts about it when it was attached.
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
    held: Option<HookedInstance>,
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

/// A refused attachment: nothing was changed, and the instance can be tried again.
pub struct Refused {
    /// The instance; `None` if the namespace's thread ended with it.
    pub instance: Option<Instance>,
    /// Why it was refused.
    pub error: DatapathError,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
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

    /// The query that reads who is on its hooks.
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

    /// Detaches some, those of one namespace in their reverse order; the instances, in the given order: `None` for those whose
    /// namespace's thread has ended, or is not free.
    pub async fn release(attachments: Vec<Self>) -> Vec<Option<Instance>> {
        struct Group {
            worker: Worker,
            held: Vec<(usize, HookedInstance)>,
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut instances: Vec<Option<Instance>> = attachments.iter().map(|_| None).collect();
        for (at, mut attachment) in attachments.into_iter().enumerate() {
            let Some(held) = attachment.held.take() else { continue };
            let identity = attachment.worker.identity();
            let known = groups.iter().position(|group| group.worker.identity() == identity);
            let group = known.unwrap_or_else(|| {
                let worker = attachment.worker.clone();
                groups.push(Group { worker, held: Vec::new() });
                groups.len() - 1
            });
            groups[group].held.push((at, held));
        }
        let released = groups.into_iter().map(|Group { worker, held }| async move {
            let patience = PATIENCE + EACH * u32::try_from(held.len()).unwrap_or(u32::MAX);
            let release = move || async move {
                let reversed = held.into_iter().rev();
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

/// Reports an instance once: also if the thread that was to report it ends before.
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
    held: HookedInstance,
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
    let many = if wanted.len() > 1 { Some(all_interfaces().await) } else { None };
    let mut attached = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let found = match &many {
            None => interface_facts(&wanted.interface.name).await,
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
    let mut held = HookedInstance::new(instance);
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

/// All interfaces of a namespace with their addresses, from one reading that serves many attachments.
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

async fn all_interfaces() -> Result<Seen, String> {
    let links = netlink::links().await.map_err(|error| format!("netlink: {error}"))?;
    let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for (index, address) in netlink::addresses().await.map_err(|error| format!("netlink: {error}"))? {
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
pub async fn interface_facts(name: &str) -> Result<(LinkFacts, Vec<IpAddr>), String> {
    fault::at("attach/look").map_err(|error| error.to_string())?;
    let facts =
        netlink::find(name).await.map_err(|error| format!("netlink: {error}"))?.ok_or(NO_INTERFACE)?;
    refuse_other_layers(&facts)?;
    let addresses = netlink::addresses().await.map_err(|error| format!("netlink: {error}"))?;
    let own = addresses.into_iter().filter(|(index, _)| *index == facts.index).map(|(_, address)| address);
    let own = own.collect();
    Ok((facts, own))
}
