//! How many files the daemon may have open: raised to what a config needs, or an error that says how.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::probe::in_flight;
use injector_core::config::{Config, Interfaces};

/// Files for the API's connections, maps, namespaces, and other parts that do not grow with the config.
const BASE: u64 = 1024;
/// Files for an interface's programs, links and maps; a reload holds those of two configs for a moment.
const PER_INTERFACE: u64 = 2 * 32;
/// Files for an interface that shares its programs and maps with others of its namespace.
const PER_SHARING: u64 = 2 * 4;
/// The number of interfaces of one namespace from which on they share.
const SHARED_FROM: u64 = 16;
/// How many interfaces `auto` is given room for.
const AUTO: u64 = 1024;
/// Files for an endpoint's probes under way; all of them together have a limit.
const PER_ENDPOINT: u64 = 256;
/// The same where there are few.
const FEW_PER_ENDPOINT: u64 = 4;

/// Why a config can't be put in force.
#[derive(Debug, thiserror::Error)]
#[error(
    "{needed} open files may be needed and {limit} are allowed; set LimitNOFILE={needed} in the unit, or `ulimit -n {needed}` before the start"
)]
pub struct TooFew {
    needed: u64,
    limit: u64,
}

/// The limit that this process was started with, for the commands that it starts.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// The files that a config may take, and how many of them it can't do without.
struct Needs {
    wanted: u64,
    least: u64,
    /// Of those wanted, the ones that are not for probes.
    beside_probes: u64,
    endpoints: u64,
}

impl Needs {
    fn of(config: &Config) -> Self {
        let endpoints = config.endpoints.len() as u64;
        let mut named = 0;
        if let Interfaces::Named(interfaces) = &config.interfaces {
            let mut by_namespace = BTreeMap::<_, u64>::new();
            for interface in interfaces {
                *by_namespace.entry(&interface.netns).or_default() += 1;
            }
            let of = |count: u64| {
                if count > SHARED_FROM { PER_INTERFACE + count * PER_SHARING } else { count * PER_INTERFACE }
            };
            named = by_namespace.into_values().map(of).sum();
        }
        let room = if config.interfaces == Interfaces::Auto { AUTO * PER_INTERFACE } else { named };
        let beside_probes = BASE + room;
        let probes = (endpoints * PER_ENDPOINT).min(endpoints + in_flight::MOST as u64);
        let least = BASE / 4 + named / 2 + endpoints * FEW_PER_ENDPOINT;
        Self { wanted: beside_probes + probes, least, beside_probes, endpoints }
    }

    /// How many probes may be under way with this limit on open files.
    fn probes_within(&self, limit: u64) -> usize {
        if limit >= self.wanted {
            return in_flight::MOST;
        }
        // `auto` reserves files for a thousand interfaces: of what the config may do without, probes have half at least.
        let spare = limit.saturating_sub(self.least) / 2;
        let left = limit.saturating_sub(self.beside_probes).max(spare);
        usize::try_from(left.max(self.endpoints * FEW_PER_ENDPOINT)).unwrap_or(in_flight::MOST)
    }
}

/// Raises the limit to what a config may take, as far as this process may.
///
/// # Errors
/// The limit can't be raised even to the files that the config can't do without.
pub fn raise(config: &Config) -> Result<(), TooFew> {
    let found = getrlimit(Resource::Nofile);
    INHERITED.get_or_init(|| found);
    let needs = Needs::of(config);
    let Needs { wanted, least, .. } = needs;
    let (soft, hard) = (found.current.unwrap_or(u64::MAX), found.maximum.unwrap_or(u64::MAX));
    if soft >= wanted {
        in_flight::allow(in_flight::MOST);
        return Ok(());
    }
    let is_set = |current, maximum| {
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        setrlimit(Resource::Nofile, limit).is_ok()
    };
    // A limit above the hard one takes CAP_SYS_RESOURCE, which the start may have.
    let limit = if hard < wanted && is_set(wanted, wanted) {
        wanted
    } else if is_set(wanted.min(hard), hard) {
        wanted.min(hard)
    } else {
        soft
    };
    if limit < least {
        return Err(TooFew { needed: least, limit });
    }
    let probes = needs.probes_within(limit);
    in_flight::allow(probes);
    if limit < wanted {
        tracing::warn!(
            limit,
            wanted,
            probes,
            "open files are limited, and so are probes in flight; set LimitNOFILE={wanted} in the unit"
        );
    }
    Ok(())
}

/// The limit for commands: some close every descriptor that they may have. `None` if it was not changed.
pub fn inherited() -> Option<Rlimit> {
    INHERITED.get().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_for_interfaces_takes_no_probes_away() {
        let config = |interfaces: &str| {
            let text = format!(
                "peers:\n  n1: {{ addresses: [10.0.0.1] }}\n  n2: {{ addresses: [10.0.0.2] }}\ninterfaces: {interfaces}\nendpoints:\n  \
                 - {{ name: e, peers: [n1, n2], probe: {{ tcp: {{ target: \"{{address}}:80\" }} }} }}\n"
            );
            Needs::of(&Config::parse(&text, "test").unwrap())
        };
        let (auto, named) = (config("auto"), config("[{ name: eth0 }]"));
        assert_eq!(named.probes_within(named.wanted), in_flight::MOST);
        // Far less than `auto` would take, and enough for all probes.
        assert!(auto.probes_within(20_000) >= in_flight::MOST, "{}", auto.probes_within(20_000));
        // A usual soft limit; two endpoints with the default rate have 100 probes under way at most.
        assert!(auto.probes_within(1024) >= 300, "{}", auto.probes_within(1024));
        assert_eq!(auto.probes_within(auto.least), 2 * usize::try_from(FEW_PER_ENDPOINT).unwrap());
    }
}
