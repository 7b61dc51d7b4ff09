//! Destination NAT: to which addresses the rules of a namespace send packets on. The rules of nftables are read, and those
//! that `iptables-nft` writes, which the kernel keeps as nftables with the targets of xtables inside.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nft_message::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_TABLE, GET_CHAIN, HOOK_NUMBER, NEW_CHAIN, SUBSYSTEM, is_absent,
};
use super::raw::{RawSocket, attribute, attributes, text, u32_at};

/// How many rules of a namespace are read at most: Kubernetes writes thousands.
const MOST_RULES: usize = 10_000;

pub(super) const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
pub(super) const DELETE_RULE: u16 = SUBSYSTEM | 8;

const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const CHAIN_TYPE: u16 = 7;
const PREROUTING: u32 = 0;

const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_FIRST: u16 = 3;
const NAT_LAST: u16 = 4;
const DESTINATION: u32 = 1;

const TARGET_NAME: u16 = 1;
const TARGET_REVISION: u16 = 2;
const TARGET_INFO: u16 = 3;
/// Of the flags of a range: it has addresses.
const MAP_ADDRESSES: u32 = 1;

/// Where the rules of a namespace send packets that arrive there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// The rules that give packets another destination address.
    pub rules: Vec<Dnat>,
    /// Why there may be others.
    pub unread: Option<String>,
}

/// A rule that gives packets another destination address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnat {
    /// Its chain, as `ip nat PREROUTING`.
    pub chain: String,
    /// Which address.
    pub to: Target,
}

/// The destination that a rule gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One of these addresses: the first and the last.
    Range(IpAddr, IpAddr),
    /// One that the rule looks up in a map, or computes.
    Computed,
}

/// The rules of the calling thread's namespace; none where the kernel has no nftables.
pub fn read() -> Nat {
    match try_read() {
        Ok(nat) => nat,
        Err(error) if is_absent(&error) => Nat::default(),
        Err(error) => Nat { rules: Vec::new(), unread: Some(error.to_string()) },
    }
}

fn try_read() -> io::Result<Nat> {
    let dump = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    let mut chains = Chains::default();
    let socket = RawSocket::open(libc::NETLINK_NETFILTER)?;
    // All families, version 0, no resource.
    socket.send(GET_CHAIN, dump, &[0; 4])?;
    socket.receive(|kind, body| {
        if kind == NEW_CHAIN {
            chains.take(body);
        }
    })?;
    let mut nat = Nat::default();
    let mut left = MOST_RULES;
    for (family, table) in &chains.tables {
        let mut question = vec![*family, 0, 0, 0];
        question.extend(attribute(RULE_TABLE, &[table.as_bytes(), &[0]].concat()));
        socket.send(GET_RULE, dump, &question)?;
        let mut is_cut_short = false;
        socket.receive_while(|kind, body| {
            if kind == NEW_RULE {
                if left == 0 {
                    is_cut_short = true;
                    return false;
                }
                left -= 1;
                nat.rules.extend(dnat(body).and_then(|rule| chains.shown(rule)));
            }
            true
        })?;
        if is_cut_short {
            nat.unread = Some(format!("there are more than {MOST_RULES} rules"));
            break;
        }
    }
    Ok(nat)
}

/// Whether a message about a rule is of one that gives packets another destination address.
pub(super) fn translates(body: &[u8]) -> bool {
    dnat(body).is_some()
}

/// The chains of a namespace, as far as they matter to packets that arrive there. Packets that its own processes send pass
/// other ones (`output`), and are translated before they leave.
#[derive(Debug, Default)]
struct Chains {
    /// The tables that have a chain of NAT for packets that arrive. The chains that it calls are in the same table.
    tables: BTreeSet<(u8, String)>,
    /// The chains that the kernel calls for other packets.
    others: BTreeSet<(u8, String, String)>,
}

impl Chains {
    /// Takes in a chain.
    fn take(&mut self, body: &[u8]) {
        let (Some(family), Some(chain)) = (body.first().copied(), body.get(4..)) else { return };
        let (Some(table), Some(name)) = (find(chain, CHAIN_TABLE), find(chain, CHAIN_NAME)) else { return };
        let Some(hook) = find(chain, CHAIN_HOOK).and_then(|hook| number(hook, HOOK_NUMBER)) else { return };
        let is_nat = find(chain, CHAIN_TYPE).is_some_and(|kind| text(kind) == "nat");
        if !matches!(family, INET | IPV4 | IPV6) {
            return;
        }
        if is_nat && hook == PREROUTING {
            self.tables.insert((family, text(table)));
        } else {
            self.others.insert((family, text(table), text(name)));
        }
    }

    /// The rule, unless no arriving packet can reach it. For a chain that is called by other chains alone, the callers are not
    /// checked.
    fn shown(&self, rule: Rule) -> Option<Dnat> {
        let Rule { family, table, chain, to } = rule;
        let at = (family, table, chain);
        if self.others.contains(&at) {
            return None;
        }
        let (_, table, chain) = at;
        let family = match family {
            INET => "inet",
            IPV4 => "ip",
            _ => "ip6",
        };
        Some(Dnat { chain: format!("{family} {table} {chain}"), to })
    }
}

/// A rule that gives packets another destination address, and where it is.
struct Rule {
    family: u8,
    table: String,
    chain: String,
    to: Target,
}

/// The rule of a message, if it gives packets another destination address.
fn dnat(body: &[u8]) -> Option<Rule> {
    let (family, rule) = (*body.first()?, body.get(4..)?);
    let to = target(family, find(rule, RULE_EXPRESSIONS)?)?;
    let name = |kind| Some(text(find(rule, kind)?));
    Some(Rule { family, table: name(RULE_TABLE)?, chain: name(RULE_CHAIN)?, to })
}

/// The destination that a rule gives.
fn target(family: u8, expressions: &[u8]) -> Option<Target> {
    // What the expressions so far have written to the registers, as far as it is a constant.
    let mut registers: BTreeMap<u32, &[u8]> = BTreeMap::new();
    for (_, expression) in attributes(expressions) {
        let Some(name) = find(expression, EXPRESSION_NAME).map(text) else { continue };
        let data = find(expression, EXPRESSION_DATA).unwrap_or_default();
        let found = match name.as_str() {
            "immediate" => {
                registers.extend(immediate(data));
                None
            }
            "nat" => native(data, &registers),
            "target" => xtables(family, data),
            "counter" => None,
            _ => {
                // It may write to any register.
                registers.clear();
                None
            }
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A register and the constant that an expression writes to it.
fn immediate(data: &[u8]) -> Option<(u32, &[u8])> {
    let value = find(find(data, IMMEDIATE_DATA)?, DATA_VALUE)?;
    Some((number(data, IMMEDIATE_REGISTER)?, value))
}

/// The destination of nftables' own expression: it is in registers.
fn native(data: &[u8], registers: &BTreeMap<u32, &[u8]>) -> Option<Target> {
    if number(data, NAT_TYPE)? != DESTINATION {
        return None;
    }
    // Without one it translates ports alone.
    let first = number(data, NAT_FIRST)?;
    let last = number(data, NAT_LAST).unwrap_or(first);
    let family = u8::try_from(number(data, NAT_FAMILY)?).ok()?;
    let held = |register: u32| address(family, registers.get(&register)?);
    Some(range(held(first), held(last)))
}

/// The destination of a target of xtables.
fn xtables(family: u8, data: &[u8]) -> Option<Target> {
    if text(find(data, TARGET_NAME)?) != "DNAT" {
        return None;
    }
    let info = find(data, TARGET_INFO)?;
    // Before the range of the first revision, which is of IPv4 alone, there is a count; and its addresses take 4 bytes.
    let is_first = number(data, TARGET_REVISION) == Some(0) && family == IPV4;
    let (at, length) = if is_first { (4, 4) } else { (0, 16) };
    if u32_at(info, at)? & MAP_ADDRESSES == 0 {
        return None;
    }
    let read = |at: usize| address(family, info.get(at..)?);
    Some(range(read(at + 4), read(at + 4 + length)))
}

fn range(first: Option<IpAddr>, last: Option<IpAddr>) -> Target {
    match (first, last) {
        (Some(first), Some(last)) if first <= last => Target::Range(first, last),
        _ => Target::Computed,
    }
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        IPV4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        IPV6 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// The payload of the first attribute of a type.
fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, payload)| payload)
}

/// A number in the network's byte order, as nftables has them.
fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind).and_then(|payload| u32_at(payload, 0)).map(u32::from_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn be(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    fn expression(name: &str, data: &[u8]) -> Vec<u8> {
        let name = attribute(EXPRESSION_NAME, format!("{name}\0").as_bytes());
        attribute(1, &[name, attribute(0x8000 | EXPRESSION_DATA, data)].concat())
    }

    fn constant(register: u32, value: &[u8]) -> Vec<u8> {
        let data = attribute(0x8000 | IMMEDIATE_DATA, &attribute(DATA_VALUE, value));
        expression("immediate", &[attribute(IMMEDIATE_REGISTER, &be(register)), data].concat())
    }

    fn native_nat(kind: u32, family: u8, registers: &[u32]) -> Vec<u8> {
        let mut data = [attribute(NAT_TYPE, &be(kind)), attribute(NAT_FAMILY, &be(family.into()))].concat();
        for (kind, register) in [NAT_FIRST, NAT_LAST].into_iter().zip(registers) {
            data.extend(attribute(kind, &be(*register)));
        }
        expression("nat", &data)
    }

    fn rule(family: u8, chain: &str, expressions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend(attribute(RULE_TABLE, b"t\0"));
        body.extend(attribute(RULE_CHAIN, format!("{chain}\0").as_bytes()));
        body.extend(attribute(0x8000 | RULE_EXPRESSIONS, &expressions.concat()));
        body
    }

    fn to(family: u8, expressions: &[Vec<u8>]) -> Option<Target> {
        dnat(&rule(family, "c", expressions)).map(|rule| rule.to)
    }

    fn range_of(first: &str, last: &str) -> Target {
        Target::Range(first.parse().unwrap(), last.parse().unwrap())
    }

    #[test]
    fn the_destination_is_the_constant_in_the_register() {
        let lookup = expression("lookup", &attribute(1, b"m\0"));
        let counter = expression("counter", &[]);
        let one = constant(1, &[10, 0, 0, 2]);
        let nat = native_nat(DESTINATION, IPV4, &[1, 1]);
        let of = |expressions: &[Vec<u8>]| to(INET, expressions);
        let payload = expression("payload", &[]);
        assert_eq!(
            of(&[payload, counter.clone(), one.clone(), nat.clone()]),
            Some(range_of("10.0.0.2", "10.0.0.2"))
        );
        let port = constant(2, &[0, 80]);
        assert_eq!(of(&[one.clone(), port, counter, nat.clone()]), Some(range_of("10.0.0.2", "10.0.0.2")));
        let both = [one.clone(), constant(2, &[10, 0, 0, 9]), native_nat(DESTINATION, IPV4, &[1, 2])];
        assert_eq!(of(&both), Some(range_of("10.0.0.2", "10.0.0.9")));
        assert_eq!(of(&[one.clone(), lookup, nat]), Some(Target::Computed), "from a map");
        assert_eq!(of(&[one.clone(), native_nat(0, IPV4, &[1, 1])]), None, "the source");
        assert_eq!(of(&[one, native_nat(DESTINATION, IPV4, &[])]), None, "ports alone");
        let six = "fd00::2".parse::<Ipv6Addr>().unwrap().octets();
        let six = [constant(1, &six), native_nat(DESTINATION, IPV6, &[1, 1])];
        assert_eq!(to(IPV6, &six), Some(range_of("fd00::2", "fd00::2")));
    }

    #[test]
    fn targets_of_xtables_have_a_range_of_each_revision() {
        let target = |name: &str, revision: u32, info: &[u8]| {
            let name = attribute(TARGET_NAME, format!("{name}\0").as_bytes());
            let revision = attribute(TARGET_REVISION, &be(revision));
            expression("target", &[name, revision, attribute(TARGET_INFO, info)].concat())
        };
        let number = |number: u32| number.to_ne_bytes().to_vec();
        let v4 = vec![10, 0, 0, 2];
        let first = [number(1), number(3), v4.clone(), v4.clone(), vec![0; 4]].concat();
        assert_eq!(to(IPV4, &[target("DNAT", 0, &first)]), Some(range_of("10.0.0.2", "10.0.0.2")));
        assert_eq!(to(IPV4, &[target("SNAT", 0, &first)]), None);
        let ports = [number(1), number(2), vec![0; 12]].concat();
        assert_eq!(to(IPV4, &[target("DNAT", 0, &ports)]), None, "ports alone");
        let wide = [v4, vec![0; 12]].concat();
        let later = [number(1), wide.clone(), wide, vec![0; 8]].concat();
        assert_eq!(to(IPV4, &[target("DNAT", 2, &later)]), Some(range_of("10.0.0.2", "10.0.0.2")));
        let six = "fd00::2".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        let later = [number(1), six.clone(), six, vec![0; 4]].concat();
        assert_eq!(to(IPV6, &[target("DNAT", 1, &later)]), Some(range_of("fd00::2", "fd00::2")));
    }

    #[test]
    fn rules_that_packets_from_elsewhere_never_come_to_are_left_out() {
        let chain = |name: &str, kind: &str, hook: Option<u32>| {
            let mut body = vec![IPV4, 0, 0, 0];
            body.extend(attribute(CHAIN_TABLE, b"t\0"));
            body.extend(attribute(CHAIN_NAME, format!("{name}\0").as_bytes()));
            let hook = hook.map(|hook| attribute(0x8000 | CHAIN_HOOK, &attribute(HOOK_NUMBER, &be(hook))));
            body.extend(hook.into_iter().flatten());
            body.extend(attribute(CHAIN_TYPE, format!("{kind}\0").as_bytes()));
            body
        };
        let mut chains = Chains::default();
        for body in
            [chain("own", "nat", Some(3)), chain("early", "filter", Some(0)), chain("called", "", None)]
        {
            chains.take(&body);
        }
        assert!(chains.tables.is_empty(), "none for packets that arrive");
        chains.take(&chain("pre", "nat", Some(PREROUTING)));
        assert_eq!(chains.tables, BTreeSet::from([(IPV4, "t".to_owned())]));
        let expressions = [constant(1, &[10, 0, 0, 2]), native_nat(DESTINATION, IPV4, &[1, 1])];
        let shown = |name: &str| {
            let found = chains.shown(dnat(&rule(IPV4, name, &expressions))?)?;
            Some(found.chain)
        };
        assert_eq!(shown("pre"), Some("ip t pre".to_owned()));
        assert_eq!(shown("called"), Some("ip t called".to_owned()));
        assert_eq!(shown("own"), None);
        assert!(translates(&rule(IPV4, "own", &expressions)), "it is news all the same");
        assert!(!translates(&rule(IPV4, "pre", &expressions[..1])));
    }
}
