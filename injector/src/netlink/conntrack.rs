//! TCP connections that NAT translates, where the kernel tracks them: neither end's socket says whose they are.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nft_message::{find, is_absent};
use super::raw::{RawSocket, attribute};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;

const OPENING: u16 = 1;
const ANSWERING: u16 = 2;
const STATUS: u16 = 3;
/// Flags of the status: the source is replaced,
const SOURCE: u32 = 1 << 4;
/// or the destination.
const DESTINATION: u32 = 1 << 5;

const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL: u16 = 1;
const FROM_PORT: u16 = 2;
const TO_PORT: u16 = 3;
const TCP: u8 = 6;

/// An address and a port.
pub type End = (IpAddr, u16);

/// A connection with another address or port at one end than at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
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

/// The translated connections of the calling thread's namespace; none where the kernel tracks none.
pub fn translated() -> io::Result<BTreeSet<Flow>> {
    let socket = match RawSocket::open(libc::NETLINK_NETFILTER) {
        Err(error) if is_absent(&error) => return Ok(BTreeSet::new()),
        socket => socket?,
    };
    let mut all = BTreeSet::new();
    for status in [SOURCE, DESTINATION] {
        // All families, version 0, no resource. Kernels before 5.15 list those of each status.
        let question = [&[0; 4], &attribute(STATUS, &status.to_be_bytes())[..]].concat();
        let found = socket.dump(GET, &question, |found: &mut Vec<Flow>, kind, body| {
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

/// The connection of a message, if it is one of TCP that is translated.
fn flow(body: &[u8]) -> Option<Flow> {
    let body = body.get(4..)?;
    let (opener, asked) = ends(find(body, OPENING)?)?;
    let (server, answered) = ends(find(body, ANSWERING)?)?;
    (opener != answered || asked != server).then_some(Flow { opener, asked, server, answered })
}

/// The sender and the receiver of packets of one direction.
fn ends(tuple: &[u8]) -> Option<(End, End)> {
    let (addresses, protocol) = (find(tuple, TUPLE_ADDRESSES)?, find(tuple, TUPLE_PROTOCOL)?);
    if find(protocol, PROTOCOL)?.first() != Some(&TCP) {
        return None;
    }
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        match find(addresses, v4) {
            Some(v4) => Some(Ipv4Addr::from(*v4.first_chunk::<4>()?).into()),
            None => Some(Ipv6Addr::from(*find(addresses, v6)?.first_chunk::<16>()?).into()),
        }
    };
    let port = |kind: u16| Some(u16::from_be_bytes(*find(protocol, kind)?.first_chunk()?));
    Some(((address(1, 3)?, port(FROM_PORT)?), (address(2, 4)?, port(TO_PORT)?)))
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
        let (opener, asked, server, answered) = (end(1, 4000), end(9, 80), end(2, 8080), end(14, 5000));
        let found = flow(&message((opener, asked), (server, answered), TCP)).unwrap();
        assert_eq!(found, Flow { opener, asked, server, answered });
        assert_eq!(other_end(&found, opener, asked), Some(server));
        assert_eq!(other_end(&found, server, answered), Some(opener));
        assert_eq!(other_end(&found, asked, opener), None);
        assert_eq!(other_end(&found, opener, server), None, "by its own address it is known without this");
        assert_eq!(flow(&message((opener, server), (server, opener), TCP)), None, "not translated");
        assert_eq!(flow(&message((opener, asked), (server, answered), 17)), None, "UDP");
        let six = |last: u16| -> End { ([0xfd00, 0, 0, 0, 0, 0, 0, last].into(), last) };
        let found = flow(&message((six(1), six(9)), (six(2), six(1)), TCP)).unwrap();
        assert_eq!(other_end(&found, six(1), six(9)), Some(six(2)));
    }
}
