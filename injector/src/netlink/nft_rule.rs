//! One rule of nftables: what it asks of a packet, and what it does with those that match. What the daemon can't read
//! (sets, marks, connections, extensions of xtables) is kept as a doubt: the rule may match or not.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nft_message::{find, number};
use super::raw::{attributes, text, u32_at};

/// The family of tables for both versions of IP,
pub const INET: u8 = 1;
/// for IPv4,
pub const IPV4: u8 = 2;
/// for IPv6,
pub const IPV6: u8 = 10;
/// for frames that a bridge passes on,
pub const BRIDGE: u8 = 7;
/// and for those that a device receives or sends.
pub const NETDEV: u8 = 5;

const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_FIRST: u16 = 3;
const NAT_LAST: u16 = 4;
const SOURCE: u32 = 0;
const DESTINATION: u32 = 1;

const TARGET_NAME: u16 = 1;
const TARGET_REVISION: u16 = 2;
const TARGET_INFO: u16 = 3;
/// The flag of a range that has addresses.
const MAP_ADDRESSES: u32 = 1;

/// The base of a load that begins at the IP header.
const NETWORK_HEADER: u32 = 1;
/// How many bytes the registers are.
pub const REGISTERS: usize = 80;

/// A rule, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The family of its table,
    pub family: u8,
    /// the table,
    pub table: String,
    /// and the chain.
    pub chain: String,
    /// The steps of the rule, in their order.
    pub steps: Vec<Step>,
}

/// The steps of a rule for a packet, one after the other; a packet that does not match leaves the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Takes something of the packet into a register.
    Load {
        /// Where its bytes go.
        to: usize,
        /// The value.
        what: Loaded,
    },
    /// Takes bits out of a register.
    Mask {
        /// From where,
        from: usize,
        /// to where,
        to: usize,
        /// which bits stay,
        mask: Vec<u8>,
        /// and which are turned.
        xor: Vec<u8>,
    },
    /// Compares a register.
    Compare {
        /// Where its bytes are.
        from: usize,
        /// The comparison.
        how: Comparison,
        /// With what.
        value: Vec<u8>,
    },
    /// A step that is not read: it may match, and may write to any register.
    Doubt,
    /// Writes to the addresses in the IP header, without NAT: packets of one direction alone get others.
    Rewrite,
    /// Ends the rule.
    Verdict(Verdict),
    /// Gives the packet another destination.
    Destination(Target),
    /// Gives it another source.
    Source(Target),
}

/// The part of a packet that a rule reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// Bytes of the IP header.
    Header {
        /// The first,
        at: usize,
        /// and how many.
        length: usize,
    },
    /// The family, one byte.
    Family,
    /// The name of the interface that it comes by, padded to 16 bytes,
    NameIn,
    /// or by which it leaves.
    NameOut,
    /// The index of the interface that it comes by,
    IndexIn,
    /// or by which it leaves.
    IndexOut,
    /// Something else.
    Unread,
}

/// How bytes are compared: as a number in the network's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The bytes are the same,
    Same,
    /// another,
    Other,
    /// less,
    Less,
    /// at most,
    AtMost,
    /// more,
    More,
    /// or at least.
    AtLeast,
}

/// The next step for a packet that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No further rule is applied to the packet: it is accepted or dropped.
    End,
    /// The packet goes to the next rule.
    Next,
    /// The packet passes a chain and comes back,
    Jump(String),
    /// or does not come back here.
    Goto(String),
    /// The packet goes back to the chain that called this one.
    Return,
}

/// The address that a rule gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A range of addresses: the first and the last.
    Range(IpAddr, IpAddr),
    /// An address that the rule takes from a map, or computes.
    Computed,
    /// An address of the namespace's own: of the interface that the packet comes by (`redirect`), or by which
    /// it leaves (`masquerade`).
    Own,
}

impl Rule {
    /// Reads the rule of a message.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (family, rule) = (*body.first()?, body.get(4..)?);
        let name = |kind| Some(text(find(rule, kind)?));
        // A rule without expressions does nothing.
        let expressions = find(rule, RULE_EXPRESSIONS).unwrap_or_default();
        let steps = Expressions { family, constants: BTreeMap::new() }.steps(expressions);
        Some(Self { family, table: name(RULE_TABLE)?, chain: name(RULE_CHAIN)?, steps })
    }

    /// Where it sends packets, if it gives them another destination.
    pub fn destination(&self) -> Option<Target> {
        self.steps.iter().find_map(|step| match step {
            Step::Destination(target) => Some(*target),
            _ => None,
        })
    }

    /// The one destination address that it asks of packets.
    pub fn only_destination(&self) -> Option<IpAddr> {
        self.steps.windows(2).find_map(|pair| {
            let [Step::Load { to, what }, Step::Compare { from, how: Comparison::Same, value }] = pair else {
                return None;
            };
            let family = match (*what, value.len()) {
                _ if from != to => return None,
                (Loaded::Header { at: 16, length: 4 }, 4) => IPV4,
                (Loaded::Header { at: 24, length: 16 }, 16) => IPV6,
                _ => return None,
            };
            address(family, value)
        })
    }

    /// Whether it gives packets another address.
    pub fn translates(&self) -> bool {
        let gives = |step: &Step| matches!(step, Step::Destination(_) | Step::Source(_) | Step::Rewrite);
        self.steps.iter().any(gives)
    }

    /// Whether it writes to addresses without NAT.
    pub fn rewrites(&self) -> bool {
        self.steps.contains(&Step::Rewrite)
    }
}

/// The expressions of a rule, as they are read.
struct Expressions<'a> {
    family: u8,
    /// The constants that they have written to registers so far.
    constants: BTreeMap<u32, &'a [u8]>,
}

impl<'a> Expressions<'a> {
    fn steps(mut self, expressions: &'a [u8]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (_, expression) in attributes(expressions) {
            let name = find(expression, EXPRESSION_NAME).map(text).unwrap_or_default();
            let data = find(expression, EXPRESSION_DATA).unwrap_or_default();
            let step = self.step(&name, data);
            match &step {
                Some(Step::Load { .. } | Step::Mask { .. } | Step::Doubt) => self.constants.clear(),
                Some(Step::Verdict(Verdict::Next)) => continue,
                _ => {}
            }
            steps.extend(step);
        }
        steps
    }

    /// The step of an expression; `None` if it does not affect a packet's way.
    fn step(&mut self, name: &str, data: &'a [u8]) -> Option<Step> {
        let doubt = Some(Step::Doubt);
        match name {
            "counter" | "log" | "notrack" => None,
            "immediate" => {
                let (register, value) = (number(data, 1)?, find(data, 2)?);
                if let Some(verdict) = find(value, DATA_VERDICT) {
                    return verdict_of(verdict).map_or(doubt, |verdict| Some(Step::Verdict(verdict)));
                }
                self.constants.insert(register, find(value, DATA_VALUE)?);
                None
            }
            "payload" => Some(self.payload(data)),
            "meta" => meta(data),
            "bitwise" => mask(data).or(doubt),
            "cmp" => compare(data).or(doubt),
            "nat" => self.native(data),
            "masq" => Some(Step::Source(Target::Own)),
            "redir" => Some(Step::Destination(Target::Own)),
            "target" => self.xtables(data),
            _ => doubt,
        }
    }

    /// nftables' own translation: the address is in registers.
    fn native(&self, data: &[u8]) -> Option<Step> {
        let kind = number(data, NAT_TYPE)?;
        // Without an address the rule translates ports alone.
        let first = number(data, NAT_FIRST)?;
        let last = number(data, NAT_LAST).unwrap_or(first);
        let family = u8::try_from(number(data, NAT_FAMILY)?).ok()?;
        let held = |register: u32| address(family, self.constants.get(&register)?);
        let target = range(held(first), held(last));
        match kind {
            SOURCE => Some(Step::Source(target)),
            DESTINATION => Some(Step::Destination(target)),
            _ => None,
        }
    }

    /// Takes a part of the packet, or writes to one.
    fn payload(&self, data: &[u8]) -> Step {
        let of = |kind| number(data, kind).map(|number| number as usize);
        let header = match (number(data, 2), of(3), of(4)) {
            (Some(NETWORK_HEADER), Some(at), Some(length)) => Some((at, length)),
            _ => None,
        };
        let Some(to) = register(data, 1) else {
            let writes = header.is_some_and(|(at, length)| holds_address(self.family, at, length));
            return if writes { Step::Rewrite } else { Step::Doubt };
        };
        let what = header.map_or(Loaded::Unread, |(at, length)| Loaded::Header { at, length });
        Step::Load { to, what }
    }

    /// A target of xtables. Those that are not of NAT let the packet go on to the next rule, or end it.
    fn xtables(&self, data: &[u8]) -> Option<Step> {
        let target = text(find(data, TARGET_NAME)?);
        match target.as_str() {
            "MASQUERADE" => return Some(Step::Source(Target::Own)),
            "REDIRECT" => return Some(Step::Destination(Target::Own)),
            // The translation of prefixes of IPv6 keeps no connections.
            "DNPT" | "SNPT" => return Some(Step::Rewrite),
            "DNAT" | "SNAT" | "NETMAP" => {}
            _ => return None,
        }
        let info = find(data, TARGET_INFO)?;
        // Before the range of the first revision, which is of IPv4 alone, there is a count; and its addresses take 4 bytes.
        let is_first = number(data, TARGET_REVISION) == Some(0) && self.family == IPV4;
        let (at, length) = if is_first { (4, 4) } else { (0, 16) };
        if u32_at(info, at)? & MAP_ADDRESSES == 0 {
            return None;
        }
        let read = |at: usize| address(self.family, info.get(at..)?);
        let range = range(read(at + 4), read(at + 4 + length));
        // For a whole network, the chain says which of the two addresses is replaced.
        Some(if target == "SNAT" { Step::Source(range) } else { Step::Destination(range) })
    }
}

/// The place of a register's bytes: the first 16 bytes are the verdict's; there are four registers of 16
/// bytes, and the same bytes as sixteen registers of 4 bytes from the number 8 on.
fn register(data: &[u8], kind: u16) -> Option<usize> {
    let at = match number(data, kind)? as usize {
        number @ 1..=4 => number * 16,
        number @ 8..=23 => 16 + (number - 8) * 4,
        _ => return None,
    };
    Some(at)
}

/// Whether a part of the IP header has to do with addresses. In tables for both versions, the hop limit of IPv4 is where an
/// address of IPv6 begins; what is written there ends before an address of IPv4 does.
fn holds_address(family: u8, at: usize, length: usize) -> bool {
    let (first, end) = match family {
        IPV4 => (12, 20),
        IPV6 => (8, 40),
        _ => (12, 40),
    };
    at < end && at + length > first
}

fn meta(data: &[u8]) -> Option<Step> {
    // An expression without a register to write to sets something: a mark, or a priority.
    let to = register(data, 1)?;
    let what = match number(data, 2) {
        Some(4) => Loaded::IndexIn,
        Some(5) => Loaded::IndexOut,
        Some(6) => Loaded::NameIn,
        Some(7) => Loaded::NameOut,
        Some(15) => Loaded::Family,
        _ => Loaded::Unread,
    };
    Some(Step::Load { to, what })
}

fn mask(data: &[u8]) -> Option<Step> {
    // An expression without an operation, or with the first one, keeps and turns bits.
    if number(data, 6).is_some_and(|operation| operation != 0) {
        return None;
    }
    let value = |kind| Some(find(find(data, kind)?, DATA_VALUE)?.to_vec());
    Some(Step::Mask { from: register(data, 1)?, to: register(data, 2)?, mask: value(4)?, xor: value(5)? })
}

fn compare(data: &[u8]) -> Option<Step> {
    let how = match number(data, 2)? {
        0 => Comparison::Same,
        1 => Comparison::Other,
        2 => Comparison::Less,
        3 => Comparison::AtMost,
        4 => Comparison::More,
        5 => Comparison::AtLeast,
        _ => return None,
    };
    let value = find(find(data, 3)?, DATA_VALUE)?.to_vec();
    Some(Step::Compare { from: register(data, 1)?, how, value })
}

fn verdict_of(data: &[u8]) -> Option<Verdict> {
    let chain = || find(data, VERDICT_CHAIN).map(text);
    Some(match number(data, VERDICT_CODE)?.cast_signed() {
        -1 | -2 => Verdict::Next,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => Verdict::End,
    })
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
