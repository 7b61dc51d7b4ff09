//! The rights of the daemon's threads. Capabilities belong to threads: each thread gives up what it does not
//! need, and none ever gets a right back. Without `exec` probes, `NoNewPrivileges` keeps what is started from
//! gaining any.
//!
//! | thread | keeps |
//! |---|---|
//! | the daemon's task, the namespaces' threads | `CAP_BPF`, `CAP_PERFMON`, `CAP_NET_ADMIN`: loading and attaching programs, maps, netlink; `CAP_NET_RAW`: the frames of the active check; and what `exec` probes and roles take |
//! | the supervisor | the same, since its threads inherit from it; `CAP_SYS_ADMIN` if the config leads to namespaces: entering them, and the names of others' programs; `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` if they are given by pid, container or path, or if the config has peers on this machine |
//! | the threads that read paths of namespaces | the same as the supervisor |
//! | the thread that scans processes of peers on this machine | the same as the supervisor |
//! | the engine's, for peers that are containers | nothing: it reads from a socket that is open to root |
//! | the lease | nothing: it stores words in shared memory |
//! | the log | nothing: it writes to a descriptor that is open |
//! | the metrics | nothing: it accepts at an address that is bound |
//! | the slot-aging thread | nothing: it waits for running programs |
//! | a thread that makes links | nothing: it computes |

use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    capability_is_in_bounding_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits,
};

use injector_core::config::{Config, Interfaces, Netns};

/// Why a thread can't give up its rights. It stops the start.
#[derive(Debug, thiserror::Error)]
#[error("capabilities can't be {what}: {source}; a security module of this host may forbid it")]
pub struct RightsError {
    what: &'static str,
    source: rustix::io::Errno,
}

fn failed(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> RightsError {
    move |source| RightsError { what, source }
}

/// The role of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The daemon's task, and what runs inside namespaces.
    Daemon,
    /// The one thread that starts the namespaces' threads.
    Supervisor,
}

/// Whether the daemon starts programs of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commands {
    /// The config has no commands: a program that is started all the same gets no rights of root's.
    None,
    /// `exec` probes and roles: theirs are what they would have in a shell.
    Some,
}

/// The rights that a config needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    daemon: CapabilitySet,
    supervisor: CapabilitySet,
    commands: Commands,
}

/// The rights for the programs, their maps and their hooks; and for packet sockets.
const BASE: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW);

impl Rights {
    /// The rights that the daemon needs once its maps are made.
    pub fn of(config: &Config) -> Self {
        let mut daemon = BASE;
        let mut commands = Commands::None;
        let probes = config.endpoints.iter().filter_map(|endpoint| endpoint.probe.kind.command());
        let roles = config.roles.values().filter_map(|role| role.kind.command());
        for user in probes.chain(roles).map(|command| command.user.as_deref()) {
            commands = Commands::Some;
            daemon |= CapabilitySet::KILL;
            daemon |= match user {
                // The command runs as root: its program is found wherever root finds it.
                None | Some("root") => CapabilitySet::DAC_OVERRIDE,
                Some(_) => CapabilitySet::SETUID | CapabilitySet::SETGID,
            };
        }
        let named = match &config.interfaces {
            Interfaces::Named(interfaces) => interfaces.as_slice(),
            Interfaces::Auto => &[],
        };
        let netns = named.iter().map(|interface| &interface.netns);
        let netns = netns.chain(config.endpoints.iter().map(|endpoint| &endpoint.netns));
        // The daemon compares namespaces by identity, and must read that of each name.
        let netns = netns.chain(config.peers.iter().filter_map(|peer| Some(&peer.tap.as_ref()?.netns)));
        let netns = netns.chain(config.elsewhere.iter().map(|device| &device.netns));
        let netns = netns.chain(config.roles.values().map(|role| &role.netns)).flatten();
        let mut supervisor = daemon;
        if config.interfaces == Interfaces::Auto {
            supervisor |= CapabilitySet::SYS_ADMIN;
        }
        for netns in netns {
            supervisor |= CapabilitySet::SYS_ADMIN;
            supervisor |= match netns {
                _ if netns.process().is_some() => CapabilitySet::SYS_PTRACE,
                Netns::Name(_) => CapabilitySet::empty(),
                Netns::Path(_) => CapabilitySet::DAC_READ_SEARCH,
                Netns::Pid(_) | Netns::Container(_) => CapabilitySet::SYS_PTRACE,
            };
        }
        if !config.followed().is_empty() {
            // Containers' namespaces are entered by way of their processes.
            supervisor |= CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
        }
        for netns in config.local_spaces() {
            // The scan reads others' processes and their sockets.
            supervisor |= CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
            if netns.is_some() {
                supervisor |= CapabilitySet::SYS_ADMIN;
            }
        }
        Self { daemon, supervisor, commands }
    }

    /// The rights that a config needs beyond these, in words: rights that were given up don't come back.
    pub fn lack(&self, needed: &Self) -> Vec<&'static str> {
        let missing = needed.supervisor.difference(self.supervisor);
        let mut lacking = Vec::new();
        for (rights, what) in [
            (CapabilitySet::SYS_ADMIN, "network namespaces"),
            (CapabilitySet::DAC_READ_SEARCH, "network namespaces by path, or peers on this machine"),
            (CapabilitySet::SYS_PTRACE, "network namespaces by pid, containers, or peers on this machine"),
            (CapabilitySet::KILL, "exec probes or roles"),
            (CapabilitySet::DAC_OVERRIDE, "exec probes or roles as root"),
            (CapabilitySet::SETUID, "exec probes or roles as another user than root"),
        ] {
            if missing.contains(rights) {
                lacking.push(what);
            }
        }
        lacking
    }

    /// Bars the way back: whatever is run from here on can't have more than the daemon. Threads inherit this, so it
    /// comes before they are started.
    pub fn bar(&self) -> Result<(), RightsError> {
        if self.commands == Commands::Some {
            return Ok(());
        }
        rustix::thread::set_no_new_privs(true).map_err(failed("fixed"))?;
        let held = capabilities(None).map_err(failed("read"))?;
        if !held.effective.contains(CapabilitySet::SETPCAP) {
            tracing::info!("without CAP_SETPCAP, programs that root runs keep the rights of this container");
            return Ok(());
        }
        let bits = capabilities_secure_bits().map_err(failed("read"))?;
        let bits = bits | CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
        set_capabilities_secure_bits(bits).map_err(failed("barred"))?;
        let kept = self.kept(Role::Supervisor, held.permitted);
        for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
            // The kernel answers with an error from the first that it does not know.
            let Ok(is_there) = capability_is_in_bounding_set(capability) else { break };
            if is_there && !kept.contains(capability) {
                remove_capability_from_bounding_set(capability).map_err(failed("barred"))?;
            }
        }
        Ok(())
    }

    /// Gives up all that the calling thread does not need.
    pub fn take(&self, role: Role) -> Result<(), RightsError> {
        let held = capabilities(None).map_err(failed("read"))?;
        keep(self.kept(role, held.permitted))
    }

    fn kept(&self, role: Role, held: CapabilitySet) -> CapabilitySet {
        let wanted = match role {
            Role::Daemon => self.daemon,
            Role::Supervisor => self.supervisor,
        };
        // Where only `CAP_SYS_ADMIN` was given, it replaces the two rights that were split off from it.
        let stand_in = CapabilitySet::BPF | CapabilitySet::PERFMON;
        let wanted = if held.contains(stand_in) { wanted } else { wanted | CapabilitySet::SYS_ADMIN };
        wanted & held
    }
}

/// Whether the calling thread may make a `bpf` filesystem and enter namespaces.
pub fn may_make_filesystems() -> bool {
    capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// The capabilities that a start can't do without and the calling thread lacks, by their names.
pub fn lacking_for_a_start() -> Vec<&'static str> {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |held| held.effective);
    let all = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
    ];
    // `CAP_SYS_ADMIN` includes the rights that were split off from it.
    let is_held = |capability| held.contains(capability) || held.contains(CapabilitySet::SYS_ADMIN);
    all.into_iter()
        .filter(|(capability, _)| match *capability {
            CapabilitySet::NET_ADMIN => !held.contains(CapabilitySet::NET_ADMIN),
            other => !is_held(other),
        })
        .map(|(_, name)| name)
        .collect()
}

/// Gives up everything: for a thread that only touches memory.
pub fn take_none() -> Result<(), RightsError> {
    keep(CapabilitySet::empty())
}

/// [`take_none`], and so that nothing which the thread runs could have more. For a thread that is started
/// before [`Rights::bar`].
pub fn take_none_for_good() -> Result<(), RightsError> {
    let held = capabilities(None).map_err(failed("read"))?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
            // The kernel answers with an error from the first that it does not know.
            let Ok(is_there) = capability_is_in_bounding_set(capability) else { break };
            if is_there {
                remove_capability_from_bounding_set(capability).map_err(failed("barred"))?;
            }
        }
    }
    take_none()
}

fn keep(kept: CapabilitySet) -> Result<(), RightsError> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed("given up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(rest: &str) -> Rights {
        let peers = "peers: { a: { addresses: [192.0.2.1] }, b: { addresses: [192.0.2.2] } }\n";
        Rights::of(&Config::parse(&format!("{peers}{rest}\n"), "test.yaml").unwrap())
    }

    #[test]
    fn only_a_config_that_leads_to_namespaces_keeps_the_right_to_enter_them() {
        let own = rights("interfaces: [{ name: tap1 }]");
        assert_eq!((own.daemon, own.supervisor), (BASE, BASE));
        let admin = BASE | CapabilitySet::SYS_ADMIN;
        for (interfaces, supervisor) in [
            ("auto", admin),
            ("[{ name: eth0, netns: n1 }]", admin),
            ("[{ name: eth0, netns: /run/docker/netns/x }]", admin | CapabilitySet::DAC_READ_SEARCH),
            ("[{ name: eth0, netns: { pid: 7 } }]", admin | CapabilitySet::SYS_PTRACE),
        ] {
            let rights = rights(&format!("interfaces: {interfaces}"));
            assert_eq!((rights.daemon, rights.supervisor), (BASE, supervisor), "{interfaces}");
        }
        let probed = "interfaces: auto\nendpoints: [{ name: e, netns: { container: c }, probe: { tcp: { target: \"192.0.2.1:1\" } } }]";
        assert_eq!(rights(probed).supervisor, admin | CapabilitySet::SYS_PTRACE, "a container");
    }

    #[test]
    fn probes_that_run_commands_keep_what_starts_and_ends_them() {
        let with = |probe: &str| {
            rights(&format!(
                "interfaces: [{{ name: tap1 }}]\nendpoints: [{{ name: e, peers: [a], probe: {probe} }}]"
            ))
        };
        let http = with("{ http: { url: \"http://{address}/\" } }");
        assert_eq!((http.daemon, http.commands), (BASE, Commands::None));
        let named = with("{ exec: { command: [\"true\"], user: nobody } }");
        let start = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
        assert_eq!((named.daemon, named.commands), (BASE | start, Commands::Some));
    }

    #[test]
    fn what_a_config_needs_beyond_the_rights_of_another_is_named() {
        let own = rights("interfaces: [{ name: tap1 }]");
        let auto = rights("interfaces: auto");
        let by_pid = rights("interfaces: [{ name: eth0, netns: { pid: 7 } }]");
        let exec = rights(
            "interfaces: [{ name: tap1 }]\nendpoints: [{ name: e, probe: { exec: { command: [\"true\"] } } }]",
        );
        assert_eq!(own.lack(&own), Vec::<&str>::new());
        assert_eq!(auto.lack(&own), Vec::<&str>::new());
        assert_eq!(own.lack(&auto), ["network namespaces"]);
        assert_eq!(auto.lack(&by_pid), ["network namespaces by pid, containers, or peers on this machine"]);
        assert_eq!(own.lack(&exec), ["exec probes or roles", "exec probes or roles as root"]);
    }

    #[test]
    fn nothing_is_kept_that_was_not_held_and_the_old_right_stands_for_the_new_ones() {
        let own = rights("interfaces: [{ name: tap1 }]");
        let old = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::CHOWN;
        assert_eq!(own.kept(Role::Daemon, old), CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN);
        assert_eq!(own.kept(Role::Daemon, CapabilitySet::all()), BASE);
    }
}
