//! NAT: to which addresses a namespace sends packets on, and which sources it replaces. The rules of nftables are read, and those
//! that `iptables-nft` writes, which the kernel keeps as nftables with the targets of xtables inside.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::nat_elsewhere::{self, Elsewhere};
use super::nft_message::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_TABLE, GET_CHAIN, HOOK_NUMBER, NEW_CHAIN, SUBSYSTEM, find, number,
    unchanged,
};
pub use super::nft_rule::Target;
use super::nft_rule::{BRIDGE, INET, IPV4, IPV6, NETDEV, Rule, Step, Verdict};
use super::nft_walk::{Chain, family};
use super::raw::{RawSocket, attribute, text};

/// How many rules of a namespace are read at most: Kubernetes writes thousands.
const MOST_RULES: usize = 10_000;
/// How many rules of tables without NAT are read at most: they are not kept.
const MOST_OTHERS: usize = 100_000;

pub(super) const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
pub(super) const DELETE_RULE: u16 = SUBSYSTEM | 8;

const CHAIN_TYPE: u16 = 7;
const PREROUTING: u32 = 0;
const POSTROUTING: u32 = 4;

const RULE_TABLE: u16 = 1;

/// The rules by which a namespace changes the addresses of packets that it passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// The rules that give packets another destination address.
    pub rules: Vec<Dnat>,
    /// The chains in which packets that leave may get another source address; none, if no rule there does.
    pub senders: Vec<Chain>,
    /// A rule that writes other addresses into packets without NAT, in whichever table: its place.
    pub rewriter: Option<String>,
    /// Why there may be other rules.
    pub unread: Option<String>,
    /// Whether that is since they changed all the time: read again, they may be known.
    pub is_changing: bool,
}

/// A rule that gives packets another destination address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnat {
    /// Where it is, as `chain ip nat PREROUTING of nftables`.
    pub name: String,
    /// The new address.
    pub to: Target,
    /// The rule's conditions; `None` where they are not known.
    pub rule: Option<Rule>,
}

/// The rules of the calling thread's namespace.
pub fn read() -> Nat {
    let mut nat = match nftables() {
        Ok(nat) => nat,
        Err(error) => Nat {
            unread: Some(format!("nftables: {error}")),
            is_changing: error.kind() == io::ErrorKind::Interrupted,
            ..Nat::default()
        },
    };
    let Elsewhere { servers, unread } = nat_elsewhere::read();
    nat.rules.extend(servers.into_iter().map(|server| Dnat {
        name: "a service of IPVS".to_owned(),
        to: Target::Range(server, server),
        rule: None,
    }));
    for why in &unread {
        nat.lacks(why);
    }
    nat
}

impl Nat {
    /// Takes in why there may be other rules.
    fn lacks(&mut self, why: &str) {
        self.unread =
            Some(self.unread.take().map_or_else(|| why.to_owned(), |before| format!("{before}; {why}")));
    }
}

/// The rules of nftables; none where the kernel has no nftables.
fn nftables() -> io::Result<Nat> {
    Ok(unchanged(rules)?.unwrap_or_default())
}

fn rules(socket: &RawSocket) -> io::Result<Nat> {
    // All families, version 0, no resource.
    let mut chains = socket.dump(GET_CHAIN, &[0; 4], |chains: &mut Chains, kind, body| {
        if kind == NEW_CHAIN {
            chains.take(body);
        }
    })?;
    let mut nat = Nat::default();
    let mut left = MOST_RULES;
    for table in chains.tables.clone() {
        let mut is_cut_short = false;
        // The rules are parsed later: the longer the list takes, the likelier it changes meanwhile.
        let rules = rules_of(socket, &table, |rules: &mut Vec<Vec<u8>>, body| {
            is_cut_short = rules.len() == left;
            rules.extend((!is_cut_short).then(|| body.to_vec()));
            !is_cut_short
        })?;
        left -= rules.len();
        for rule in rules.iter().filter_map(|rule| Rule::read(rule)) {
            nat.rewriter = nat.rewriter.or_else(|| rewriter(&rule));
            chains.sort(rule, &mut nat.rules);
        }
        if is_cut_short {
            nat.lacks(&format!("there are more than {MOST_RULES} rules of nftables"));
            break;
        }
    }
    let mut left = MOST_OTHERS;
    // Once a list is left, the socket is in the middle of it.
    let others = chains.hooked.difference(&chains.tables).take_while(|_| nat.unread.is_none());
    for table in others.cloned().collect::<Vec<_>>() {
        let found = rules_of(socket, &table, |found: &mut Option<String>, body| {
            left = left.saturating_sub(1);
            *found = Rule::read(body).as_ref().and_then(rewriter);
            found.is_none() && left > 0
        })?;
        nat.rewriter = nat.rewriter.or(found);
        if nat.rewriter.is_some() {
            break;
        }
        if left == 0 {
            nat.lacks(&format!("there are more than {MOST_OTHERS} rules of nftables without NAT"));
            break;
        }
    }
    nat.senders = chains.senders();
    Ok(nat)
}

/// Lists the rules of a table, until `take` answers `false`.
fn rules_of<T: Default>(
    socket: &RawSocket,
    (family, table): &(u8, String),
    mut take: impl FnMut(&mut T, &[u8]) -> bool,
) -> io::Result<T> {
    let mut question = vec![*family, 0, 0, 0];
    question.extend(attribute(RULE_TABLE, &[table.as_bytes(), &[0]].concat()));
    socket.dump_while(GET_RULE, &question, |taken, kind, body| kind != NEW_RULE || take(taken, body))
}

/// The place of a rule that writes to addresses without NAT.
fn rewriter(rule: &Rule) -> Option<String> {
    let place = || format!("chain {} {} {} of nftables", family(rule.family), rule.table, rule.chain);
    rule.rewrites().then(place)
}

/// Whether a message about a rule is of one that gives packets another address.
pub(super) fn translates(body: &[u8]) -> bool {
    Rule::read(body).is_some_and(|rule| rule.translates())
}

/// The family, the table and the name of a chain.
type ChainKey = (u8, String, String);

/// The chains of a namespace, as far as they matter to packets that arrive there or leave. Packets that its own processes
/// send pass another one (`output`) first, and are translated before they leave.
#[derive(Debug, Default)]
struct Chains {
    /// The tables that have a chain of NAT for packets that arrive or leave. The chains that it calls are in the same table.
    tables: BTreeSet<(u8, String)>,
    /// The tables that have a chain which the kernel calls for packets, NAT's or others.
    hooked: BTreeSet<(u8, String)>,
    /// The tables of NAT for packets that arrive,
    arriving: BTreeSet<(u8, String)>,
    /// and the chains for packets that leave.
    leaving: BTreeSet<ChainKey>,
    /// The chains that the kernel calls for packets that do not arrive.
    others: BTreeSet<ChainKey>,
    /// The rules, by chain, of tables that have chains for packets that leave.
    rules: BTreeMap<ChainKey, Vec<Vec<Step>>>,
}

impl Chains {
    /// Takes in a chain.
    fn take(&mut self, body: &[u8]) {
        let (Some(family), Some(chain)) = (body.first().copied(), body.get(4..)) else { return };
        let (Some(table), Some(name)) = (find(chain, CHAIN_TABLE), find(chain, CHAIN_NAME)) else { return };
        let Some(hook) = find(chain, CHAIN_HOOK).and_then(|hook| number(hook, HOOK_NUMBER)) else { return };
        let is_nat = find(chain, CHAIN_TYPE).is_some_and(|kind| text(kind) == "nat");
        let (table, name) = (text(table), text(name));
        if matches!(family, INET | IPV4 | IPV6 | BRIDGE | NETDEV) {
            self.hooked.insert((family, table.clone()));
        }
        if !matches!(family, INET | IPV4 | IPV6) {
            return;
        }
        if is_nat && matches!(hook, PREROUTING | POSTROUTING) {
            self.tables.insert((family, table.clone()));
        }
        if is_nat && hook == PREROUTING {
            self.arriving.insert((family, table));
            return;
        }
        if is_nat && hook == POSTROUTING {
            self.leaving.insert((family, table.clone(), name.clone()));
        }
        self.others.insert((family, table, name));
    }

    /// Takes in a rule; adds it to those that give packets another destination, if it is one that packets which arrive may
    /// reach. For a chain that is called by other chains alone, the callers are not checked.
    fn sort(&mut self, rule: Rule, found: &mut Vec<Dnat>) {
        let at = (rule.family, rule.table.clone(), rule.chain.clone());
        let is_arriving = self.arriving.contains(&(at.0, at.1.clone())) && !self.others.contains(&at);
        if self.leaving.iter().any(|leaving| (leaving.0, &leaving.1) == (at.0, &at.1)) {
            self.rules.entry(at).or_default().push(rule.steps.clone());
        }
        if let Some(to) = rule.destination().filter(|_| is_arriving) {
            let name = format!("chain {} {} {} of nftables", family(rule.family), rule.table, rule.chain);
            found.push(Dnat { name, to, rule: Some(rule) });
        }
    }

    /// The chains that packets which leave may pass, if a rule there replaces addresses.
    fn senders(mut self) -> Vec<Chain> {
        let mut wanted: Vec<ChainKey> = self.leaving.iter().cloned().collect();
        let mut found: Vec<Chain> = Vec::new();
        while let Some(at) = wanted.pop() {
            // Taken: each chain is there once.
            let Some(rules) = self.rules.remove(&at) else { continue };
            let called = |step: &Step| match step {
                Step::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                    Some((at.0, at.1.clone(), chain.clone()))
                }
                _ => None,
            };
            wanted.extend(rules.iter().flatten().filter_map(called));
            let is_called = self.leaving.contains(&at);
            let (family, table, name) = at;
            found.push(Chain { family, table, name, is_called, rules });
        }
        let replaces = |step: &Step| matches!(step, Step::Source(_) | Step::Destination(_));
        if !found.iter().flat_map(|chain| &chain.rules).flatten().any(replaces) {
            found.clear();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::nft_walk::{Chance, Packet, source};
    use super::*;

    const EXPRESSION_NAME: u16 = 1;
    const EXPRESSION_DATA: u16 = 2;
    const IMMEDIATE_REGISTER: u16 = 1;
    const IMMEDIATE_DATA: u16 = 2;
    const DATA_VALUE: u16 = 1;
    const NAT_TYPE: u16 = 1;
    const NAT_FAMILY: u16 = 2;
    const NAT_FIRST: u16 = 3;
    const NAT_LAST: u16 = 4;
    const SOURCE: u32 = 0;
    const DESTINATION: u32 = 1;
    const RULE_CHAIN: u16 = 2;
    const RULE_EXPRESSIONS: u16 = 4;
    const TARGET_NAME: u16 = 1;
    const TARGET_REVISION: u16 = 2;
    const TARGET_INFO: u16 = 3;

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
        Rule::read(&rule(family, "c", expressions)).unwrap().destination()
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
        assert_eq!(of(&[one.clone(), native_nat(SOURCE, IPV4, &[1, 1])]), None, "the source");
        assert_eq!(of(&[one, native_nat(DESTINATION, IPV4, &[])]), None, "ports alone");
        let six = "fd00::2".parse::<Ipv6Addr>().unwrap().octets();
        let six = [constant(1, &six), native_nat(DESTINATION, IPV6, &[1, 1])];
        assert_eq!(to(IPV6, &six), Some(range_of("fd00::2", "fd00::2")));
    }

    #[test]
    fn a_rule_that_writes_to_addresses_is_found_in_tables_of_all_families() {
        let write = |base: u32, at: u32, length: u32| {
            let data = [(2, base), (3, at), (4, length), (5, 1)];
            let data = data.map(|(kind, number)| attribute(kind, &be(number))).concat();
            vec![constant(1, &[10, 0, 0, 2]), expression("payload", &data)]
        };
        let is_found = |family: u8, (base, at, length): (u32, u32, u32)| {
            let body = rule(family, "c", &write(base, at, length));
            let found = rewriter(&Rule::read(&body).unwrap());
            assert_eq!(found.is_some(), translates(&body), "it is news");
            found.is_some()
        };
        let (source, destination, hops, transport) = ((1, 12, 4), (1, 16, 4), (1, 8, 2), (2, 0, 4));
        for family in [INET, IPV4, BRIDGE, NETDEV] {
            assert!(is_found(family, source) && is_found(family, destination), "{family}");
            assert!(!is_found(family, hops) && !is_found(family, transport), "{family}");
        }
        for family in [INET, IPV6, BRIDGE, NETDEV] {
            assert!(is_found(family, (1, 8, 16)) && is_found(family, (1, 24, 16)), "{family}");
            assert!(is_found(family, (1, 8, 8)), "a prefix");
            assert!(!is_found(family, (1, 6, 2)), "the hop limit");
        }
        let name = rewriter(&Rule::read(&rule(NETDEV, "c", &write(1, 16, 4))).unwrap());
        assert_eq!(name.as_deref(), Some("chain netdev t c of nftables"));
        let target = attribute(TARGET_NAME, b"SNPT\0");
        assert!(translates(&rule(IPV6, "c", &[expression("target", &target)])));
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
        let mut shown = |name: &str| {
            let mut found = Vec::new();
            chains.sort(Rule::read(&rule(IPV4, name, &expressions)).unwrap(), &mut found);
            found.pop().map(|rule| rule.name)
        };
        assert_eq!(shown("pre"), Some("chain ip t pre of nftables".to_owned()));
        assert_eq!(shown("called"), Some("chain ip t called of nftables".to_owned()));
        assert_eq!(shown("own"), None);
        assert!(translates(&rule(IPV4, "own", &expressions)), "it is news all the same");
        assert!(!translates(&rule(IPV4, "pre", &expressions[..1])));
        assert!(chains.senders().is_empty(), "no packet that leaves comes by");
    }

    fn load(at: u32, length: u32) -> Vec<u8> {
        let data = [(1, 1), (2, 1), (3, at), (4, length)].map(|(kind, number)| attribute(kind, &be(number)));
        expression("payload", &data.concat())
    }

    fn is(value: &[u8]) -> Vec<u8> {
        let value = attribute(0x8000 | 3, &attribute(DATA_VALUE, value));
        expression("cmp", &[attribute(1, &be(1)), attribute(2, &be(0)), value].concat())
    }

    fn verdict(code: i32, chain: Option<&str>) -> Vec<u8> {
        let mut verdict = attribute(1, &code.to_be_bytes());
        verdict
            .extend(chain.map(|chain| attribute(2, format!("{chain}\0").as_bytes())).into_iter().flatten());
        let data = attribute(0x8000 | IMMEDIATE_DATA, &attribute(0x8000 | 2, &verdict));
        expression("immediate", &[attribute(IMMEDIATE_REGISTER, &be(0)), data].concat())
    }

    /// `ip saddr 10.88.0.0/16 jump n`, and there `ip daddr 10.88.0.0/16 accept` and `masquerade`.
    #[test]
    fn the_chains_of_packets_that_leave_are_followed() {
        let mut chains = Chains::default();
        let mut base = vec![IPV4, 0, 0, 0];
        base.extend(attribute(CHAIN_TABLE, b"t\0"));
        base.extend(attribute(CHAIN_NAME, b"post\0"));
        base.extend(attribute(0x8000 | CHAIN_HOOK, &attribute(HOOK_NUMBER, &be(POSTROUTING))));
        base.extend(attribute(CHAIN_TYPE, b"nat\0"));
        chains.take(&base);
        let mut found = Vec::new();
        for (name, expressions) in [
            ("post", vec![load(12, 2), is(&[10, 88]), verdict(-3, Some("n"))]),
            ("n", vec![load(16, 2), is(&[10, 88]), verdict(1, None)]),
            ("n", vec![expression("masq", &[])]),
            ("uncalled", vec![expression("masq", &[])]),
        ] {
            chains.sort(Rule::read(&rule(IPV4, name, &expressions)).unwrap(), &mut found);
        }
        assert!(found.is_empty(), "no destination");
        let senders = chains.senders();
        let names: Vec<&str> = senders.iter().map(|chain| chain.name.as_str()).collect();
        assert_eq!(names, ["post", "n"]);
        let snat = |from: &str, to: &str| {
            let (from, to) = (Some(from.parse().unwrap()), to.parse().unwrap());
            source(&senders, &Packet { from, to, enters: None, leaves: None })
        };
        let away = snat("10.88.0.2", "10.89.0.2").unwrap();
        assert_eq!((away.chance, away.chain.as_str(), away.target), (Chance::Surely, "ip t n", Target::Own));
        assert_eq!(snat("10.88.0.2", "10.88.0.3"), None);
    }

    #[test]
    fn redirections_and_translated_networks_are_destinations() {
        assert_eq!(to(INET, &[expression("redir", &[])]), Some(Target::Own));
        let target = |name: &str, info: &[u8]| {
            let name = attribute(TARGET_NAME, format!("{name}\0").as_bytes());
            let revision = attribute(TARGET_REVISION, &be(0));
            expression("target", &[name, revision, attribute(TARGET_INFO, info)].concat())
        };
        assert_eq!(to(IPV4, &[target("REDIRECT", &[0; 20])]), Some(Target::Own));
        let net =
            [1_u32.to_ne_bytes(), 1_u32.to_ne_bytes(), [10, 2, 0, 0], [10, 2, 255, 255], [0; 4]].concat();
        assert_eq!(to(IPV4, &[target("NETMAP", &net)]), Some(range_of("10.2.0.0", "10.2.255.255")));
        // `dnat ip prefix to 10.2.0.0/16` has the network's first and last address.
        let prefix = [
            constant(1, &[10, 2, 0, 0]),
            constant(2, &[10, 2, 255, 255]),
            native_nat(DESTINATION, IPV4, &[1, 2]),
        ];
        assert_eq!(to(IPV4, &prefix), Some(range_of("10.2.0.0", "10.2.255.255")));
        assert!(translates(&rule(IPV4, "c", &[target("MASQUERADE", &[0; 20])])));
        assert!(!translates(&rule(IPV4, "c", &[target("MARK", &[0; 20])])));
    }
}
