//! Connections and other flows that NAT translates, where the kernel tracks them: neither end's socket says whose they are.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::nft_message::{find, is_absent, number};
use super::raw::{RawSocket, attribute};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;

const OPENING: u16 = 1;
const ANSWERING: u16 = 2;
const STATUS: u16 = 3;
const TIME_OUT: u16 = 7;
/// Flags of the status: packets came back,
const ANSWERED: u32 = 1 << 1;
/// the source is replaced,
const SOURCE: u32 = 1 << 4;
/// or the destination.
const DESTINATION: u32 = 1 << 5;

const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL: u16 = 1;
const FROM_PORT: u16 = 2;
const TO_PORT: u16 = 3;

/// An address and a port; 0 where the protocol has none.
pub type End = (IpAddr, u16);

/// A connection with another address or port at one end than at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The IP protocol.
    pub protocol: u8,
    /// The end that opened it,
    pub opener: End,
    /// and to where.
    pub asked: End,
    /// The end that answers,
    pub server: End,
    /// and to where.
    pub answered: End,
}

impl Flow {
    /// Its two sockets by their local and remote ends, each with the true other end of the connection: the socket's remote end
    /// is the one before or after translation.
    pub fn sockets(&self) -> [((End, End), End); 2] {
        [((self.opener, self.asked), self.server), ((self.server, self.answered), self.opener)]
    }
}

/// The state of a flow when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Whether packets have come back.
    pub is_answered: bool,
    /// After how long without a packet the kernel forgets the flow, in whole seconds. Each packet sets it anew.
    pub left: Duration,
}

/// The translated flows of the calling thread's namespace; none where the kernel tracks none.
pub fn translated() -> io::Result<BTreeMap<Flow, Tracked>> {
    let socket = match RawSocket::open(libc::NETLINK_NETFILTER) {
        Err(error) if is_absent(&error) => return Ok(BTreeMap::new()),
        socket => socket?,
    };
    let mut all = BTreeMap::new();
    for status in [SOURCE, DESTINATION] {
        // All families, version 0, no resource. Kernels before 5.15 list those of each status.
        let question = [&[0; 4], &attribute(STATUS, &status.to_be_bytes())[..]].concat();
        let found = socket.dump(GET, &question, |found: &mut Vec<(Flow, Tracked)>, kind, body| {
            if kind == NEW {
                found.extend(flow(body));
            }
        });
        match found {
            Err(error) if is_absent(&error) => {}
            found => all.extend(found?),
        }
    }
    Ok(all)
}

/// The flow of a message, if it is one that is translated.
fn flow(body: &[u8]) -> Option<(Flow, Tracked)> {
    let body = body.get(4..)?;
    let (protocol, opener, asked) = ends(find(body, OPENING)?)?;
    let (_, server, answered) = ends(find(body, ANSWERING)?)?;
    let tracked = Tracked {
        is_answered: number(body, STATUS).is_some_and(|status| status & ANSWERED != 0),
        left: Duration::from_secs(number(body, TIME_OUT).unwrap_or(0).into()),
    };
    let flow = Flow { protocol, opener, asked, server, answered };
    (opener != answered || asked != server).then_some((flow, tracked))
}

/// The protocol, the sender and the receiver of packets of one direction.
fn ends(tuple: &[u8]) -> Option<(u8, End, End)> {
    let (addresses, protocol) = (find(tuple, TUPLE_ADDRESSES)?, find(tuple, TUPLE_PROTOCOL)?);
    let kind = *find(protocol, PROTOCOL)?.first()?;
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        match find(addresses, v4) {
            Some(v4) => Some(Ipv4Addr::from(*v4.first_chunk::<4>()?).into()),
            None => Some(Ipv6Addr::from(*find(addresses, v6)?.first_chunk::<16>()?).into()),
        }
    };
    let port = |kind: u16| {
        let port = find(protocol, kind).and_then(|port| port.first_chunk());
        port.map_or(0, |port| u16::from_be_bytes(*port))
    };
    Some((kind, (address(1, 3)?, port(FROM_PORT)), (address(2, 4)?, port(TO_PORT))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(last: u8, port: u16) -> End {
        ([10, 0, 0, last].into(), port)
    }

    fn tuple(kind: u16, (from, to): (End, End), protocol: u8) -> Vec<u8> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let (first, second) = if from.0.is_ipv4() { (1, 2) } else { (3, 4) };
        let addresses = [attribute(first, &octets(from.0)), attribute(second, &octets(to.0))].concat();
        let protocol = [
            attribute(PROTOCOL, &[protocol]),
            attribute(FROM_PORT, &from.1.to_be_bytes()),
            attribute(TO_PORT, &to.1.to_be_bytes()),
        ];
        let addresses = attribute(0x8000 | TUPLE_ADDRESSES, &addresses);
        let protocol = attribute(0x8000 | TUPLE_PROTOCOL, &protocol.concat());
        attribute(0x8000 | kind, &[addresses, protocol].concat())
    }

    fn message(opening: (End, End), answering: (End, End), protocol: u8) -> Vec<u8> {
        let tuples = [tuple(OPENING, opening, protocol), tuple(ANSWERING, answering, protocol)].concat();
        [&[2, 0, 0, 0], &tuples[..]].concat()
    }

    /// The other end of a socket, if it is one of a connection's.
    fn other_end(flow: &Flow, local: End, remote: End) -> Option<End> {
        let mut sockets = flow.sockets().into_iter();
        sockets.find(|(ends, _)| *ends == (local, remote)).map(|(_, other)| other)
    }

    #[test]
    fn each_end_of_a_translated_connection_leads_to_the_other() {
        const TCP: u8 = 6;
        let (opener, asked, server, answered) = (end(1, 4000), end(9, 80), end(2, 8080), end(14, 5000));
        let (found, tracked) = flow(&message((opener, asked), (server, answered), TCP)).unwrap();
        assert_eq!(found, Flow { protocol: TCP, opener, asked, server, answered });
        assert_eq!(tracked, Tracked { is_answered: false, left: Duration::ZERO });
        assert_eq!(other_end(&found, opener, asked), Some(server));
        assert_eq!(other_end(&found, server, answered), Some(opener));
        assert_eq!(other_end(&found, asked, opener), None);
        assert_eq!(other_end(&found, opener, server), None, "by its own address it is known without this");
        assert_eq!(flow(&message((opener, server), (server, opener), TCP)), None, "not translated");
        let mut udp = message((opener, asked), (server, answered), 17);
        udp.extend(attribute(STATUS, &(ANSWERED | SOURCE).to_be_bytes()));
        udp.extend(attribute(TIME_OUT, &30_u32.to_be_bytes()));
        let (found, tracked) = flow(&udp).unwrap();
        assert_eq!(found.protocol, 17);
        assert_eq!(tracked, Tracked { is_answered: true, left: Duration::from_secs(30) });
        let six = |last: u16| -> End { ([0xfd00, 0, 0, 0, 0, 0, 0, last].into(), last) };
        let (found, _) = flow(&message((six(1), six(9)), (six(2), six(1)), TCP)).unwrap();
        assert_eq!(other_end(&found, six(1), six(9)), Some(six(2)));
    }
}
