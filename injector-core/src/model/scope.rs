//! A part of a link's traffic: a protocol, and ports.

use std::fmt;

use injector_common::packet::protocol;

/// The protocol of a [`Scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and `ICMPv6` (neighbour discovery excepted).
    Icmp,
    /// SCTP.
    Sctp,
    /// Any other IP protocol, by its number.
    Number(u8),
}

/// The end whose port a [`Scope`] compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortSide {
    /// Source or destination.
    #[default]
    Either,
    /// The source port only.
    Src,
    /// The destination port only.
    Dst,
}

/// The share of a link's traffic that a partition cuts: `tcp`, `tcp/5122`, `udp/7000-7010:dst`, `proto/112`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The protocol.
    pub protocol: Protocol,
    /// First and last port, both included; `None` is every port.
    pub ports: Option<(u16, u16)>,
    /// The end whose port is compared.
    pub side: PortSide,
}

/// Why a text is not a [`Scope`].
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// The protocol is none of ours.
    #[error("scope \"{0}\": unknown protocol; write tcp, udp, sctp, icmp, or a number as in proto/112")]
    Protocol(String),
    /// The number is no IP protocol's.
    #[error("scope \"{0}\": write an IP protocol's number from 1 to 255, as in proto/112")]
    Number(String),
    /// ICMP by its number.
    #[error("scope \"{0}\": ICMP has one number for each IP version; write icmp, which is both")]
    IcmpNumber(String),
    /// A header that precedes the protocol.
    #[error(
        "scope \"{0}\": this header precedes the protocol and is skipped; name the protocol behind it, as in tcp"
    )]
    Extension(String),
    /// A protocol by number has no ports.
    #[error("scope \"{0}\": a protocol by number has no ports or sides; write proto/112")]
    NumberPorts(String),
    /// The ports are not a port or a range.
    #[error(
        "scope \"{0}\": ports are one number or a rising range from 1 to 65535, as in tcp/5122 or udp/7000-7010"
    )]
    Ports(String),
    /// ICMP has no ports.
    #[error("scope \"{0}\": ICMP has no ports; write icmp")]
    IcmpPorts(String),
    /// The side is neither of the two.
    #[error("scope \"{0}\": the side after ':' is src or dst, and needs a port")]
    Side(String),
}

impl std::str::FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (head, side) = match text.split_once(':') {
            None => (text, PortSide::Either),
            Some((head, "src")) => (head, PortSide::Src),
            Some((head, "dst")) => (head, PortSide::Dst),
            Some(_) => return Err(ScopeError::Side(text.to_owned())),
        };
        let (protocol, ports) = match head.split_once('/') {
            None => (head, None),
            Some((protocol, ports)) => (protocol, Some(ports)),
        };
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "icmp" => Protocol::Icmp,
            "sctp" => Protocol::Sctp,
            "proto" => return Self::numbered(text, ports, side),
            _ => return Err(ScopeError::Protocol(text.to_owned())),
        };
        let ports = match ports {
            None => None,
            Some(_) if protocol == Protocol::Icmp => return Err(ScopeError::IcmpPorts(text.to_owned())),
            Some(ports) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                match (first.parse::<u16>(), last.parse::<u16>()) {
                    (Ok(first), Ok(last)) if 0 < first && first <= last => Some((first, last)),
                    _ => return Err(ScopeError::Ports(text.to_owned())),
                }
            }
        };
        if side != PortSide::Either && ports.is_none() {
            return Err(ScopeError::Side(text.to_owned()));
        }
        Ok(Self { protocol, ports, side })
    }
}

impl Scope {
    /// Reads what follows `proto/`. Protocols that have a name become that name, so that equal wishes are equal.
    fn numbered(text: &str, number: Option<&str>, side: PortSide) -> Result<Self, ScopeError> {
        let number = number.ok_or_else(|| ScopeError::Number(text.to_owned()))?;
        if side != PortSide::Either || number.contains('/') {
            return Err(ScopeError::NumberPorts(text.to_owned()));
        }
        let protocol = match number.parse::<u8>() {
            Ok(protocol::ICMP | protocol::ICMP6) => return Err(ScopeError::IcmpNumber(text.to_owned())),
            // Hop-by-hop options have the number 0, which is an extension; it is wrong as a number first.
            Err(_) | Ok(0) => return Err(ScopeError::Number(text.to_owned())),
            Ok(number) if protocol::is_extension(number) => {
                return Err(ScopeError::Extension(text.to_owned()));
            }
            Ok(protocol::TCP) => Protocol::Tcp,
            Ok(protocol::UDP) => Protocol::Udp,
            Ok(protocol::SCTP) => Protocol::Sctp,
            Ok(number) => Protocol::Number(number),
        };
        Ok(Self { protocol, ports: None, side })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => f.write_str("tcp"),
            Protocol::Udp => f.write_str("udp"),
            Protocol::Icmp => f.write_str("icmp"),
            Protocol::Sctp => f.write_str("sctp"),
            Protocol::Number(number) => write!(f, "proto/{number}"),
        }?;
        match self.ports {
            None => {}
            Some((first, last)) if first == last => write!(f, "/{first}")?,
            Some((first, last)) => write!(f, "/{first}-{last}")?,
        }
        match self.side {
            PortSide::Either => Ok(()),
            PortSide::Src => f.write_str(":src"),
            PortSide::Dst => f.write_str(":dst"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_round_trip() {
        for text in [
            "tcp",
            "udp",
            "icmp",
            "sctp",
            "tcp/5122",
            "udp/7000-7010",
            "tcp/80:src",
            "tcp/1-65535:dst",
            "sctp/36412:dst",
            "proto/2",
            "proto/112",
            "proto/255",
        ] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_number_with_a_name_is_that_name() {
        for (text, name) in [("proto/6", "tcp"), ("proto/17", "udp"), ("proto/132", "sctp")] {
            assert_eq!(text.parse::<Scope>().unwrap(), name.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn bad_scopes_name_the_remedy() {
        for (text, expected) in [
            ("gre", "tcp, udp, sctp, icmp, or a number"),
            ("proto", "from 1 to 255"),
            ("proto/0", "from 1 to 255"),
            ("proto/256", "from 1 to 255"),
            ("proto/vrrp", "from 1 to 255"),
            ("proto/1", "write icmp"),
            ("proto/58", "write icmp"),
            ("proto/51", "precedes the protocol"),
            ("proto/112/5", "no ports"),
            ("proto/112:src", "no ports or sides"),
            ("icmp/8", "ICMP has no ports"),
            ("tcp/0", "from 1 to 65535"),
            ("tcp/9-3", "rising range"),
            ("tcp/80:left", "src or dst"),
            ("tcp:src", "needs a port"),
        ] {
            let error = text.parse::<Scope>().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(text), "{error}");
        }
    }
}
