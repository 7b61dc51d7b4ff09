//! Whether a packet meets a rule that replaces its source: the chains of NAT, followed rule by rule. Pure.

use std::net::IpAddr;

use super::nft_rule::{
    BRIDGE, Comparison, INET, IPV4, IPV6, Loaded, NETDEV, REGISTERS, Rule, Step, Target, Verdict,
};

/// How many chains deep a walk goes: the kernel allows 16.
const DEEPEST: usize = 16;

/// A packet, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The sender,
    pub from: Option<IpAddr>,
    /// to where,
    pub to: IpAddr,
    /// by which interface it comes,
    pub enters: Option<Interface<'a>>,
    /// and by which it leaves.
    pub leaves: Option<Interface<'a>>,
}

/// An interface that a packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its index,
    pub index: u32,
    /// and its name.
    pub name: &'a str,
}

/// Whether something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chance {
    /// Never.
    Never,
    /// That depends on parts of a rule that are not read.
    Perhaps,
    /// For sure.
    Surely,
}

/// A chain of NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The family of its table,
    pub family: u8,
    /// the table,
    pub table: String,
    /// and its name.
    pub name: String,
    /// Whether the kernel calls it for packets that leave.
    pub is_called: bool,
    /// Its rules.
    pub rules: Vec<Vec<Step>>,
}

/// A rule that gives a packet another source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnatMatch {
    /// Whether the packet meets it.
    pub chance: Chance,
    /// Its chain.
    pub chain: String,
    /// The source that it gives.
    pub target: Target,
}

/// The rule that replaces a packet's source: the one that it meets most surely.
pub fn source(chains: &[Chain], packet: &Packet<'_>) -> Option<SnatMatch> {
    let mut walk = Walk { chains, packet, snat: None };
    for chain in chains.iter().filter(|chain| chain.is_called) {
        walk.pass(chain, Chance::Surely, 0);
    }
    walk.snat
}

/// The family of a rule's table, for people.
pub fn family(family: u8) -> &'static str {
    match family {
        INET => "inet",
        IPV4 => "ip",
        BRIDGE => "bridge",
        NETDEV => "netdev",
        _ => "ip6",
    }
}

struct Walk<'a> {
    chains: &'a [Chain],
    packet: &'a Packet<'a>,
    snat: Option<SnatMatch>,
}

impl Walk<'_> {
    /// Passes a chain: whether the packet comes back from it.
    fn pass(&mut self, chain: &Chain, called: Chance, depth: usize) -> Chance {
        if depth > DEEPEST || !is_of(chain.family, self.packet) {
            return called;
        }
        let mut here = called;
        let mut back = Chance::Never;
        for steps in &chain.rules {
            let (found, end) = run(steps, self.packet);
            let chance = found.min(here);
            if chance == Chance::Never {
                continue;
            }
            // Where the rest of the chain is still met, if the rule ends it.
            let rest = if found == Chance::Surely { Chance::Never } else { here.min(Chance::Perhaps) };
            match end {
                None => {}
                Some(Step::Source(target) | Step::Destination(target)) => {
                    self.record(chance, chain, *target);
                    here = rest;
                }
                Some(Step::Verdict(Verdict::End)) => here = rest,
                Some(Step::Verdict(Verdict::Return)) => {
                    back = back.max(chance);
                    here = rest;
                }
                Some(Step::Verdict(Verdict::Jump(to))) => {
                    let after = self.call(chain, to, chance, depth);
                    here = after.max(rest);
                }
                Some(Step::Verdict(Verdict::Goto(to))) => {
                    back = back.max(self.call(chain, to, chance, depth));
                    here = rest;
                }
                Some(_) => here = here.min(Chance::Perhaps),
            }
            if here == Chance::Never {
                break;
            }
        }
        back.max(here)
    }

    fn call(&mut self, from: &Chain, to: &str, chance: Chance, depth: usize) -> Chance {
        let is_it =
            |chain: &&Chain| chain.family == from.family && chain.table == from.table && chain.name == to;
        match self.chains.iter().find(is_it) {
            Some(chain) => self.pass(chain, chance, depth + 1),
            // The chain has no rules.
            None => chance,
        }
    }

    fn record(&mut self, chance: Chance, chain: &Chain, target: Target) {
        if self.snat.as_ref().is_none_or(|snat| snat.chance < chance) {
            let chain = format!("{} {} {}", family(chain.family), chain.table, chain.name);
            self.snat = Some(SnatMatch { chance, chain, target });
        }
    }
}

fn is_of(family: u8, packet: &Packet<'_>) -> bool {
    match family {
        IPV4 => packet.to.is_ipv4(),
        IPV6 => packet.to.is_ipv6(),
        _ => true,
    }
}

/// Whether a rule's conditions let a packet to its last step, and that step, if it decides something.
fn run<'a>(steps: &'a [Step], packet: &Packet<'_>) -> (Chance, Option<&'a Step>) {
    let mut registers: [Option<u8>; REGISTERS] = [None; REGISTERS];
    let mut chance = Chance::Surely;
    for step in steps {
        match step {
            Step::Load { to, what } => {
                let value = loaded(*what, packet);
                let length = value.len().max(16);
                for (at, register) in registers.iter_mut().skip(*to).take(length).enumerate() {
                    *register = value.get(at).copied().flatten();
                }
            }
            Step::Mask { from, to, mask, xor } => {
                for (at, (mask, xor)) in mask.iter().zip(xor).enumerate() {
                    let byte = registers.get(from + at).copied().flatten();
                    if let Some(register) = registers.get_mut(to + at) {
                        // The bits of an unknown byte that the mask takes out are known.
                        *register = if *mask == 0 { Some(*xor) } else { byte.map(|byte| byte & mask ^ xor) };
                    }
                }
            }
            Step::Compare { from, how, value } => {
                let held: Option<Vec<u8>> =
                    registers.get(*from..from + value.len()).and_then(|held| held.iter().copied().collect());
                match held.map(|held| holds(&held, *how, value)) {
                    Some(false) => return (Chance::Never, None),
                    Some(true) => {}
                    None => chance = Chance::Perhaps,
                }
            }
            Step::Doubt | Step::Rewrite => {
                chance = Chance::Perhaps;
                registers = [None; REGISTERS];
            }
            Step::Verdict(_) | Step::Destination(_) | Step::Source(_) => return (chance, Some(step)),
        }
    }
    (chance, None)
}

/// Whether a packet may match a rule.
pub fn matches(rule: &Rule, packet: &Packet<'_>) -> Chance {
    if is_of(rule.family, packet) { run(&rule.steps, packet).0 } else { Chance::Never }
}

fn holds(held: &[u8], how: Comparison, value: &[u8]) -> bool {
    match how {
        Comparison::Same => held == value,
        Comparison::Other => held != value,
        Comparison::Less => held < value,
        Comparison::AtMost => held <= value,
        Comparison::More => held > value,
        Comparison::AtLeast => held >= value,
    }
}

/// The bytes that are loaded; those that are not known are `None`.
fn loaded(what: Loaded, packet: &Packet<'_>) -> Vec<Option<u8>> {
    let known = |bytes: &[u8]| bytes.iter().copied().map(Some).collect();
    let index = |of: Option<Interface<'_>>| of.map_or_else(Vec::new, |of| known(&of.index.to_ne_bytes()));
    let name = |of: Option<Interface<'_>>| {
        let Some(of) = of else { return Vec::new() };
        let mut padded = of.name.as_bytes().to_vec();
        padded.resize(16, 0);
        known(&padded)
    };
    match what {
        Loaded::Header { at, length } => header(packet).into_iter().skip(at).take(length).collect(),
        Loaded::Family => known(&[if packet.to.is_ipv4() { IPV4 } else { IPV6 }]),
        Loaded::NameIn => name(packet.enters),
        Loaded::NameOut => name(packet.leaves),
        Loaded::IndexIn => index(packet.enters),
        Loaded::IndexOut => index(packet.leaves),
        Loaded::Unread => Vec::new(),
    }
}

/// The IP header, whose addresses are known.
fn header(packet: &Packet<'_>) -> Vec<Option<u8>> {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let to = bytes(packet.to);
    let before = if to.len() == 4 { 12 } else { 8 };
    let mut header = vec![None; before];
    match packet.from.map(bytes) {
        Some(from) => header.extend(from.into_iter().map(Some)),
        None => header.resize(before + to.len(), None),
    }
    header.extend(to.into_iter().map(Some));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(register: usize, at: usize, bytes: &[u8], how: Comparison) -> [Step; 2] {
        let what = Loaded::Header { at, length: bytes.len() };
        [Step::Load { to: register, what }, Step::Compare { from: register, how, value: bytes.to_vec() }]
    }

    fn chain(name: &str, is_called: bool, rules: Vec<Vec<Step>>) -> Chain {
        Chain { family: IPV4, table: "nat".to_owned(), name: name.to_owned(), is_called, rules }
    }

    fn rule(conditions: &[Step], last: Step) -> Vec<Step> {
        [conditions, &[last]].concat()
    }

    fn masquerade() -> Step {
        Step::Source(Target::Own)
    }

    fn snat_chance(chains: &[Chain], from: &str, to: &str, leaves: Option<&str>) -> Chance {
        let leaves = leaves.map(|name| Interface { index: 7, name });
        let (from, to) = (Some(from.parse().unwrap()), to.parse().unwrap());
        source(chains, &Packet { from, to, enters: None, leaves }).map_or(Chance::Never, |snat| snat.chance)
    }

    /// The rules are as engines of containers write them: packets that leave the network are masqueraded.
    #[test]
    fn what_stays_in_its_network_keeps_its_source() {
        let inside = |at| net(16, at, &[10, 88], Comparison::Same);
        let not_a_group = [
            Step::Load { to: 16, what: Loaded::Header { at: 16, length: 4 } },
            Step::Mask { from: 16, to: 16, mask: vec![0xf0, 0, 0, 0], xor: vec![0; 4] },
            Step::Compare { from: 16, how: Comparison::Other, value: vec![224, 0, 0, 0] },
        ];
        let chains = [
            chain("POSTROUTING", true, vec![rule(&inside(12), Step::Verdict(Verdict::Jump("n".to_owned())))]),
            chain(
                "n",
                false,
                vec![rule(&inside(16), Step::Verdict(Verdict::End)), rule(&not_a_group, masquerade())],
            ),
        ];
        assert_eq!(snat_chance(&chains, "10.88.0.2", "10.88.0.3", None), Chance::Never);
        assert_eq!(snat_chance(&chains, "10.88.0.2", "10.89.0.3", None), Chance::Surely);
        assert_eq!(snat_chance(&chains, "10.89.0.3", "10.88.0.2", None), Chance::Never);
        assert_eq!(snat_chance(&chains, "10.88.0.2", "224.0.0.5", None), Chance::Never);
        assert_eq!(snat_chance(&chains, "fd00::2", "fd00::3", None), Chance::Never, "of the other family");
    }

    #[test]
    fn the_interface_decides_if_it_is_known() {
        let name = |how| {
            let mut value = b"docker0".to_vec();
            value.resize(16, 0);
            [Step::Load { to: 16, what: Loaded::NameOut }, Step::Compare { from: 16, how, value }]
        };
        let chains = [chain("post", true, vec![rule(&name(Comparison::Other), masquerade())])];
        let of = |leaves| snat_chance(&chains, "172.17.0.2", "172.17.0.3", leaves);
        assert_eq!(of(Some("docker0")), Chance::Never);
        assert_eq!(of(Some("eth0")), Chance::Surely);
        assert_eq!(of(None), Chance::Perhaps);
        let prefix = [
            Step::Load { to: 16, what: Loaded::NameOut },
            Step::Compare { from: 16, how: Comparison::Same, value: b"eth".to_vec() },
        ];
        let chains = [chain("post", true, vec![rule(&prefix, masquerade())])];
        assert_eq!(snat_chance(&chains, "10.0.0.1", "10.0.0.2", Some("eth4")), Chance::Surely);
        assert_eq!(snat_chance(&chains, "10.0.0.1", "10.0.0.2", Some("br0")), Chance::Never);
    }

    #[test]
    fn what_is_not_read_is_perhaps_and_so_is_all_behind_it() {
        let mark = [
            Step::Load { to: 16, what: Loaded::Unread },
            Step::Mask { from: 16, to: 16, mask: vec![0, 0, 0x40, 0], xor: vec![0; 4] },
            Step::Compare { from: 16, how: Comparison::Other, value: vec![0, 0, 0x40, 0] },
        ];
        // The rules are as Kubernetes writes them: packets without a mark return, and the rest is
        // masqueraded.
        let chains = [
            chain("post", true, vec![rule(&[], Step::Verdict(Verdict::Jump("k".to_owned())))]),
            chain("k", false, vec![rule(&mark, Step::Verdict(Verdict::Return)), rule(&[], masquerade())]),
        ];
        assert_eq!(snat_chance(&chains, "10.0.0.1", "10.0.0.2", None), Chance::Perhaps);
        let doubt = [chain("post", true, vec![rule(&[Step::Doubt], masquerade())])];
        assert_eq!(snat_chance(&doubt, "10.0.0.1", "10.0.0.2", None), Chance::Perhaps);
        let goto = |first: Vec<Step>| {
            let to = rule(&[], Step::Verdict(Verdict::Goto("e".to_owned())));
            [chain("post", true, vec![first, to, rule(&[], masquerade())]), chain("e", false, Vec::new())]
        };
        assert_eq!(
            snat_chance(&goto(Vec::new()), "10.0.0.1", "10.0.0.2", None),
            Chance::Never,
            "it does not come back"
        );
        let sure = goto(rule(&[], masquerade()));
        assert_eq!(snat_chance(&sure, "10.0.0.1", "10.0.0.2", None), Chance::Surely);
        let uncalled = [chain("own", false, vec![rule(&[], masquerade())])];
        assert_eq!(snat_chance(&uncalled, "10.0.0.1", "10.0.0.2", None), Chance::Never);
    }

    #[test]
    fn ranges_are_compared_as_numbers() {
        let load = Step::Load { to: 16, what: Loaded::Header { at: 12, length: 4 } };
        let bound = |how, last| Step::Compare { from: 16, how, value: vec![10, 0, 0, last] };
        let conditions = [load, bound(Comparison::AtLeast, 2), bound(Comparison::AtMost, 9)];
        let chains = [chain("post", true, vec![rule(&conditions, masquerade())])];
        for (from, wanted) in [
            ("10.0.0.1", Chance::Never),
            ("10.0.0.2", Chance::Surely),
            ("10.0.0.9", Chance::Surely),
            ("10.0.0.10", Chance::Never),
        ] {
            assert_eq!(snat_chance(&chains, from, "192.0.2.1", None), wanted, "{from}");
        }
    }
}
