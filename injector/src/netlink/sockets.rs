//! The TCP sockets of a namespace, by `sock_diag`: what a stuck connection is waiting for, and what listens.

use std::mem::offset_of;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1,
    TCP_LAST_ACK, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT,
};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// A TCP socket with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its own address.
    pub local: (IpAddr, u16),
    /// Its peer's.
    pub remote: (IpAddr, u16),
    /// The name of its state.
    pub state: &'static str,
    /// Its retransmission time-out.
    pub rto: Duration,
    /// How often that was doubled.
    pub backoff: u8,
    /// Retransmissions of what is unacknowledged now.
    pub retransmits: u8,
    /// Bytes of payload that it has received and acknowledged.
    pub received: u64,
}

/// States in which a socket can wait for its peer; the many in `TIME_WAIT` are left in the kernel.
const STATES: [(u8, &str); 7] = [
    (TCP_ESTABLISHED, "established"),
    (TCP_SYN_SENT, "syn-sent"),
    (TCP_SYN_RECV, "syn-recv"),
    (TCP_FIN_WAIT1, "fin-wait-1"),
    (TCP_CLOSE_WAIT, "close-wait"),
    (TCP_LAST_ACK, "last-ack"),
    (TCP_CLOSING, "closing"),
];

/// The offset of `tcpi_bytes_received` in the kernel's `tcp_info` (Linux 4.1); libc's ends before it.
const BYTES_RECEIVED: usize = 128;

/// The sockets of the calling thread's namespace, of both IP versions.
pub fn tcp() -> std::io::Result<Vec<TcpSocket>> {
    let states = STATES.iter().fold(0, |mask, (state, _)| mask | 1 << state);
    both(states, &ExtensionFlags::INFO, read)
}

/// A TCP socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListeningSocket {
    /// The number of its inode.
    pub inode: u32,
    /// Its address, which may be the unspecified one,
    pub address: IpAddr,
    /// and port.
    pub port: u16,
}

/// The TCP sockets of the calling thread's namespace that listen.
pub fn listening() -> std::io::Result<Vec<ListeningSocket>> {
    both(1 << TCP_LISTEN, &ExtensionFlags::empty(), |response| {
        let id = &response.header.socket_id;
        Some(ListeningSocket {
            inode: response.header.inode,
            address: unmapped(id.source_address),
            port: id.source_port,
        })
    })
}

/// Sockets of both IP versions.
fn both<T>(
    states: u32,
    extensions: &ExtensionFlags,
    read: impl Fn(&InetResponse) -> Option<T>,
) -> std::io::Result<Vec<T>> {
    let request = |family, socket_id| InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: extensions.clone(),
        states: StateFlags::from_bits_truncate(states),
        socket_id,
    };
    let mut found = dump(request(AF_INET, SocketId::new_v4()), &read)?;
    found.extend(dump(request(AF_INET6, SocketId::new_v6()), &read)?);
    Ok(found)
}

fn dump<T>(request: InetRequest, read: &impl Fn(&InetResponse) -> Option<T>) -> std::io::Result<Vec<T>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut found = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(std::io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    found.extend(read(&response));
                }
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn read(response: &InetResponse) -> Option<TcpSocket> {
    let info = response.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => Some(info.as_slice()),
        _ => None,
    })?;
    let header = &response.header;
    let byte = |at: usize| info.get(at).copied();
    let rto = offset_of!(libc::tcp_info, tcpi_rto);
    let rto = u32::from_ne_bytes(info.get(rto..rto + 4)?.try_into().ok()?);
    let received = info.get(BYTES_RECEIVED..BYTES_RECEIVED + 8)?.try_into().ok()?;
    let id = &header.socket_id;
    Some(TcpSocket {
        local: (unmapped(id.source_address), id.source_port),
        remote: (unmapped(id.destination_address), id.destination_port),
        state: STATES.iter().find(|(state, _)| *state == header.state).map_or("other", |(_, name)| name),
        rto: Duration::from_micros(u64::from(rto)),
        backoff: byte(offset_of!(libc::tcp_info, tcpi_backoff))?,
        retransmits: byte(offset_of!(libc::tcp_info, tcpi_retransmits))?,
        received: u64::from_ne_bytes(received),
    })
}

/// An IPv4 peer of an IPv6 socket, as IPv4.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_this_process_is_found_from_both_ends() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut server, b"seven..").unwrap();
        let mut read = [0; 7];
        std::io::Read::read_exact(&mut &client, &mut read).unwrap();
        let at = |address: std::net::SocketAddr| (address.ip(), address.port());
        let (local, remote) = (at(client.local_addr().unwrap()), at(client.peer_addr().unwrap()));
        let found = tcp().unwrap();
        for (local, remote, received) in [(local, remote, 7), (remote, local, 0)] {
            let socket =
                found.iter().find(|socket| socket.local == local && socket.remote == remote).unwrap();
            assert_eq!((socket.state, socket.backoff, socket.retransmits), ("established", 0, 0));
            assert_eq!(socket.received, received);
            assert!(socket.rto >= Duration::from_millis(1));
        }
    }
}
