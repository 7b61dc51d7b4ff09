//! Checks this host, lists other programs on its hooks, finds what crashed daemons left behind, and names what it can't see.
//!
//! Works without a daemon, and beside one.

mod check;
mod endpoints;
mod metrics;
mod network;

use injector_core::config::shown;
use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use crate::datapath::{
    Clocks, HookQuery, Kernel, Leftover, Life, Loaded, OwnPrograms, Owner, Sweep, chain, clsact_refusal,
    command_line, has_tcx, ids, loaded, names, states, sweep, xdp_owner,
};
use crate::netlink::filters::Side;
use crate::netlink::{self, LinkFacts};
use crate::netns::{Identity, Listed, Workers};
use crate::probe::role;
use crate::rights;
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Hook, Interface, Interfaces, Netns};
use injector_core::containers::ContainerStates;

pub use check::{Check, CheckResult, Remark};
pub use endpoints::EndpointCheck;
pub use network::Network;

/// The programs on one interface's hooks.
#[derive(Clone, Debug, Serialize)]
pub struct Hooked {
    /// The interface.
    pub interface: String,
    /// Why it can't be attached to; `null` if nothing speaks against it.
    pub error: Option<String>,
    /// The remedy; `null` if nothing is needed.
    pub remedy: Option<&'static str>,
    /// Programs on its TCX and clsact hooks, in the order of execution.
    pub programs: Vec<String>,
    /// The program that holds XDP.
    pub xdp: Option<String>,
}

/// Whether a role of the config can be asked for here. It is not asked.
#[derive(Clone, Debug, Serialize)]
pub struct RoleCheck {
    /// The role.
    pub role: String,
    /// Why it can't be asked for; `null` if nothing speaks against it.
    pub error: Option<String>,
    /// The remedy; `null` if nothing is needed.
    pub remedy: Option<&'static str>,
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// The host.
    pub checks: Vec<Check>,
    /// The config's interfaces; empty without a config, or with `interfaces: auto`.
    pub interfaces: Vec<Hooked>,
    /// The interfaces that a start with the config would attach to, and what they cover; `null` without a
    /// config.
    pub network: Option<Network>,
    /// The config's endpoints, each asked once; empty without a config.
    pub endpoints: Vec<EndpointCheck>,
    /// That the secrets of the config can't be fetched, so that no endpoint was asked; `null` if they can.
    pub secrets: Option<Remark>,
    /// The config's roles.
    pub roles: Vec<RoleCheck>,
    /// Daemons whose programs are loaded, and whether they may cut now.
    pub daemons: Vec<String>,
    /// What it means that several of them live; `null` where at most one does.
    pub beside: Option<String>,
    /// Filters of other daemons, the living ones too, and what was done about them.
    pub leftovers: Vec<Remark>,
    /// Traffic that eBPF on these hooks does not see, and checks that could not be made.
    pub unseen: Vec<Remark>,
}

impl Findings {
    /// Whether something keeps the daemon from its work.
    pub fn prevents(&self) -> bool {
        self.checks.iter().any(|check| check.verdict == CheckResult::Prevents)
            || self.interfaces.iter().any(|hooked| hooked.error.is_some())
            || self.roles.iter().any(|role| role.error.is_some())
            || self.network.as_ref().is_some_and(Network::prevents)
            || self.endpoints.iter().any(EndpointCheck::prevents)
            || self.secrets.is_some()
    }
}

/// The facts from outside that a config needs, or why they can't be obtained.
pub struct Outside {
    /// Why the secrets can't be fetched; `None` if they can.
    pub secrets: Option<String>,
    /// The engine's answer about the containers.
    pub containers: Result<ContainerStates, String>,
    /// Why some of them make the daemon refuse to start; `None` if none does.
    pub refused: Option<String>,
}

/// Makes all checks. Endpoints are asked, unless the secrets of the config can't be fetched.
pub async fn examine(config: Option<&Config>, outside: Outside, what: Sweep) -> Findings {
    let Outside { secrets, containers, refused } = outside;
    let mut workers = Workers::default();
    if let Ok(container_states) = &containers {
        // A container whose namespace is not known is reported when its namespace is read.
        let _ = workers.contain(container_states).await;
    }
    let mut interfaces = Vec::new();
    if let Some(Config { interfaces: Interfaces::Named(named), .. }) = config {
        for interface in named {
            interfaces.push(hooked(interface, &mut workers).await);
        }
    }
    let mut roles = Vec::new();
    for source in config.into_iter().flat_map(|config| config.roles.values()) {
        let thread = workers.of(source.netns.as_ref()).await;
        let error = role::obstacle(source).or_else(|| Some(thread.err()?.to_string()));
        let remedy = error.is_some().then_some("correct the role's source in `roles`, or make what it names");
        roles.push(RoleCheck { role: source.name.clone(), error, remedy });
    }
    let (network, endpoints) = match config {
        Some(config) => {
            let (network, mut survey) = Network::of(config, containers, refused).await;
            let mut placed = config.clone();
            placed.place(&survey.contained);
            let asked =
                if secrets.is_none() { endpoints::ask(&placed, &mut survey).await } else { Vec::new() };
            (Some(network), asked)
        }
        None => (None, Vec::new()),
    };
    let mut unseen = virtual_functions();
    let leftovers = everywhere(&mut workers, config, what, &mut unseen).await;
    unseen.push(Remark::new(
        "not checked: flows offloaded to hardware (`ethtool -k DEVICE` shows hw-tc-offload), vhost-user",
        "turn offloading off by `ethtool -K DEVICE hw-tc-offload off`, and give guests taps",
    ));
    let metrics = config.and_then(|config| config.metrics).map(metrics::check);
    Findings {
        checks: host().into_iter().chain(metrics).collect(),
        interfaces,
        network,
        endpoints,
        secrets: secrets.map(|why| {
            Remark::new(
                format!("{why}; no endpoint was asked"),
                "make what they name, or correct them in the config",
            )
        }),
        roles,
        daemons: daemons(),
        beside: beside(),
        leftovers,
        unseen,
    }
}

fn host() -> Vec<Check> {
    let check = |what, is_fine: bool, otherwise, found: String, remedy| Check {
        what,
        verdict: if is_fine { CheckResult::Fine } else { otherwise },
        found,
        remedy: (!is_fine).then_some(remedy),
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    let is_root = rustix::process::geteuid().is_root();
    let missing = rights::lacking_for_a_start();
    let may_enter = rights::may_make_filesystems();
    let tcx = has_tcx();
    let pressure = fs::read_to_string("/proc/pressure/cpu");
    let btf = fs::metadata("/sys/kernel/btf/vmlinux").is_ok();
    let programs = rehearsal();
    let is_preempted = is_realtime();
    vec![
        check(
            "kernel",
            numbers.as_slice() >= [6, 1].as_slice(),
            CheckResult::Prevents,
            release,
            "a kernel from 6.1 on is needed",
        ),
        check(
            "capabilities",
            missing.is_empty() && may_enter,
            if missing.is_empty() { CheckResult::Note } else { CheckResult::Prevents },
            if !missing.is_empty() {
                format!("missing: {}", missing.join(", "))
            } else if may_enter {
                "all held".to_owned()
            } else {
                "without CAP_SYS_ADMIN no other network namespace can be entered".to_owned()
            },
            "run it with sudo; in a container, add these capabilities",
        ),
        check(
            "programs",
            programs.is_ok(),
            CheckResult::Prevents,
            programs
                .err()
                .unwrap_or_else(|| "maps made (in a private bpf filesystem), programs accepted".to_owned()),
            if is_root {
                "the kernel needs CONFIG_BPF_SYSCALL and CONFIG_BPF_JIT, and `kernel.lockdown` must allow it"
            } else {
                "run it with sudo: only root can check this"
            },
        ),
        check(
            "tcx",
            tcx,
            CheckResult::Note,
            if tcx { "there".to_owned() } else { "not there, or not for this user".to_owned() },
            "kernels before 6.6 have none: clsact is used",
        ),
        check(
            "btf",
            btf,
            CheckResult::Note,
            if btf { "there".to_owned() } else { "no /sys/kernel/btf/vmlinux".to_owned() },
            "nothing here needs it; tools that list maps and programs show less",
        ),
        check(
            "preemption",
            !is_preempted,
            CheckResult::Prevents,
            if is_preempted {
                "PREEMPT_RT".to_owned()
            } else {
                "programs of one CPU run one by one".to_owned()
            },
            "use a kernel without PREEMPT_RT: there, programs of one CPU can interrupt each other, and would overwrite what another has in per-CPU memory",
        ),
        check(
            "pressure",
            pressure.is_ok(),
            CheckResult::Note,
            pressure.map_or_else(|error| format!("/proc/pressure: {error}"), |_| "there".to_owned()),
            "boot with psi=1: without it, records recognise a starved host only by late probes",
        ),
    ]
}

/// Whether this kernel is built with `PREEMPT_RT`.
pub fn is_realtime() -> bool {
    let reported = fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1");
    reported || rustix::system::uname().version().to_string_lossy().contains("PREEMPT_RT")
}

/// Daemons whose programs are loaded, and whether they may cut now.
fn daemons() -> Vec<String> {
    let now = MonoNs::now();
    let Ok(us) = Owner::ours() else { return Vec::new() };
    let shown = |daemon: Loaded| {
        let pid = daemon.owner.pid;
        let state = match daemon.owner.life(&us) {
            Life::Alive if is_stopped(pid) => "is stopped",
            Life::Alive => "lives",
            Life::Dead => "is gone",
            Life::Unknown => "is in another pid namespace",
        };
        let lease = if daemon.until > now {
            "its lease is in force".to_owned()
        } else {
            let since = now.saturating_since(daemon.until);
            format!("its lease ended {:.1} s ago: nothing of its is cut", since.as_secs_f64())
        };
        format!("the daemon with pid {pid} {state}; {lease}")
    };
    loaded().into_iter().map(shown).collect()
}

/// What it means that several daemons live.
fn beside() -> Option<String> {
    let us = Owner::ours().ok()?;
    let living = loaded().into_iter().filter(|daemon| daemon.owner.life(&us) == Life::Alive);
    let living: Vec<String> = living
        .map(|Loaded { owner: Owner { pid, .. }, .. }| format!("{pid} ({})", command_line(pid)))
        .collect();
    (living.len() > 1).then(|| {
        format!(
            "several daemons run: pids {}: each cuts by itself, and where two are on the same interfaces, neither heals or \
             records what the other one cuts; end those that are not needed by `injector --socket PATH stop`",
            living.join(", ")
        )
    })
}

/// Whether a process is stopped, as by SIGSTOP.
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
}

/// Makes the maps and has the kernel verify the programs, for two peers, without attaching anything.
fn rehearsal() -> Result<(), String> {
    let text = "peers: { a: { addresses: [192.0.2.1, \"2001:db8::1\"] }, b: { addresses: [192.0.2.2] } }\ninterfaces: auto\n";
    let config = Config::parse(text, "the doctor's own config").map_err(|error| error.to_string())?;
    let kernel = Kernel::load(&config, Clocks::Real).map_err(|error| error.to_string())?;
    kernel.object().rehearse().map_err(|error| chain(&error))
}

async fn hooked(interface: &Interface, workers: &mut Workers) -> Hooked {
    let mut hooked =
        Hooked { interface: shown(interface), error: None, remedy: None, programs: Vec::new(), xdp: None };
    let worker = match workers.of(interface.netns.as_ref()).await {
        Ok(worker) => worker,
        Err(error) => {
            hooked.error = Some(error.to_string());
            hooked.remedy = Some("make that network namespace, or correct `netns`");
            return hooked;
        }
    };
    let name = interface.name.clone();
    let is_clsact = interface.hook == Hook::Clsact || interface.hook == Hook::Auto && !has_tcx();
    let looked = worker
        .run(move || async move {
            let facts = crate::datapath::interface_facts(&name).await?.0;
            let query = HookQuery { index: facts.index, ours: Vec::new(), sides: &Side::ALL, is_xdp: false };
            let state = states(&[query], &OwnPrograms::default())
                .await
                .map_err(|error| error.to_string())?
                .pop()
                .flatten();
            let foreign = state.unwrap_or_default().foreign;
            let names = names(&ids(&foreign));
            // The holder of XDP is reported apart.
            let on_tc = foreign.iter().filter(|foreign| !foreign.is_xdp());
            let programs = on_tc.map(|foreign| foreign.shown(&names)).collect();
            let refusal = is_clsact.then(|| clsact_refusal(facts.index)).flatten();
            Ok::<_, String>((programs, xdp_owner(&facts), refusal))
        })
        .await
        .map_err(|error| error.to_string())
        .flatten();
    match looked {
        Ok((programs, xdp, refusal)) => {
            hooked.remedy = refusal.is_some().then_some("replace that qdisc, or write another `hook`");
            (hooked.programs, hooked.xdp, hooked.error) = (programs, xdp, refusal);
        }
        Err(error) => {
            hooked.error = Some(error);
            hooked.remedy = Some("correct this entry of `interfaces`, or make what it names");
        }
    }
    hooked
}

/// Leftovers in the config's namespaces, our own and those under /run/netns.
async fn everywhere(
    workers: &mut Workers,
    config: Option<&Config>,
    what: Sweep,
    unseen: &mut Vec<Remark>,
) -> Vec<Remark> {
    const NOT_READ: &str = "run it with sudo: only root can enter every network namespace";
    let mut names: Vec<Option<Netns>> = vec![None];
    if let Some(Config { interfaces: Interfaces::Named(named), .. }) = config {
        names.extend(named.iter().map(|interface| interface.netns.clone()));
    }
    match workers.listed(&Listed::new()).await {
        Ok(listed) => names.extend(listed.into_keys().map(|name| Some(Netns::Name(name)))),
        Err(error) => unseen.push(Remark::new(format!("not checked: {error}"), NOT_READ)),
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for netns in names {
        let identity = match &netns {
            None => Identity::own(),
            Some(other) => workers.now(other).await.unwrap_or_else(|error| {
                unseen.push(Remark::new(format!("not checked: {error}"), NOT_READ));
                None
            }),
        };
        if !identity.is_some_and(|identity| seen.insert(identity)) {
            continue;
        }
        let place = netns.as_ref().map_or_else(String::new, |netns| format!("netns {netns}: "));
        let Ok(worker) = workers.of(netns.as_ref()).await else { continue };
        let swept = worker
            .run(move || async move {
                let links: Vec<LinkFacts> = netlink::links().await.map_err(|error| error.to_string())?;
                let leftovers = sweep(&links, what).map_err(|error| error.to_string())?;
                Ok::<_, String>((leftovers, xdp_sockets()))
            })
            .await
            .map_err(|error| error.to_string())
            .flatten();
        match swept {
            Ok((leftovers, sockets)) => {
                found.extend(leftovers.iter().map(|leftover| Remark {
                    found: format!("{place}{leftover}"),
                    remedy: remedy_of(leftover),
                }));
                if sockets > 0 {
                    unseen.push(Remark::new(
                        format!(
                            "{place}{sockets} AF_XDP sockets: what they send and receive passes no TC hook"
                        ),
                        "end the programs that have them while you cut, or have these use ordinary sockets",
                    ));
                }
            }
            Err(error) => unseen.push(Remark::new(format!("not checked: {place}{error}"), NOT_READ)),
        }
        workers.stop(netns.as_ref());
    }
    found
}

/// What can be done about a filter of another daemon; `None` for one that was removed, or whose daemon lives.
fn remedy_of(leftover: &Leftover) -> Option<&'static str> {
    match leftover.life {
        _ if leftover.removed => None,
        Life::Alive => None,
        Life::Dead => Some("`sudo injector doctor --clean` removes it"),
        Life::Unknown => Some("run `sudo injector doctor --clean` in the pid namespace of that daemon"),
    }
}

/// The `AF_XDP` sockets of the calling thread's namespace.
fn xdp_sockets() -> u64 {
    let protocols = fs::read_to_string("/proc/thread-self/net/protocols").unwrap_or_default();
    let sockets = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("XDP")).then(|| words.nth(1)?.parse().ok()).flatten()
    };
    protocols.lines().find_map(sockets).unwrap_or(0)
}

/// Devices whose traffic goes around the host's network stack.
fn virtual_functions() -> Vec<Remark> {
    const IN_GUESTS: &str = "give the guests taps on this host while you cut, or run the daemon inside them";
    let mut unseen = Vec::new();
    for device in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let functions = fs::read_to_string(device.path().join("device/sriov_numvfs")).unwrap_or_default();
        if functions.trim().parse().is_ok_and(|functions: u32| functions > 0) {
            let name = device.file_name().to_string_lossy().into_owned();
            let functions = functions.trim();
            unseen.push(Remark::new(
                format!("{name} has {functions} SR-IOV virtual functions: what they carry for guests passes no hook here"),
                IN_GUESTS,
            ));
        }
    }
    let groups = fs::read_dir("/dev/vfio").into_iter().flatten().flatten();
    let groups = groups.filter(|group| group.file_name() != "vfio").count();
    if groups > 0 {
        unseen.push(Remark::new(
            format!("{groups} device groups are handed to vfio: traffic of such NICs passes no hook here"),
            IN_GUESTS,
        ));
    }
    unseen
}
