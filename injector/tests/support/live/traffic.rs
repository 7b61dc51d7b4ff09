//! Traffic between namespaces: single attempts, dense streams, a small HTTP server.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use injector_core::clock::MonoNs;
use injector_lab::keep_all;

use super::lab::{Lab, addresses};

/// How long traffic that should pass is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long traffic that should not pass is waited for.
const DOUBT: Duration = Duration::from_millis(250);

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One datagram, one way.
    Udp,
    /// A connection, and a byte there and back.
    Tcp,
    /// An echo and its answer.
    Icmp,
}

/// All of them.
pub const KINDS: [Kind; 3] = [Kind::Udp, Kind::Tcp, Kind::Icmp];

/// Asserts that each kind gets from one node to another, over IPv4 and IPv6.
pub fn assert_flows(lab: &Lab, kinds: &[Kind], from: &str, to: &str) {
    for address in addresses(to) {
        for kind in kinds {
            assert!(
                reaches(lab, *kind, from, to, address, PATIENCE),
                "{kind:?} {from}→{to} ({address}) is cut"
            );
        }
    }
}

/// Asserts that none does.
pub fn assert_cut(lab: &Lab, kinds: &[Kind], from: &str, to: &str) {
    for address in addresses(to) {
        for kind in kinds {
            assert!(
                !reaches(lab, *kind, from, to, address, DOUBT),
                "{kind:?} {from}→{to} ({address}) passes"
            );
        }
    }
}

/// Whether it gets there in time.
pub fn reaches(lab: &Lab, kind: Kind, from: &str, to: &str, address: IpAddr, patience: Duration) -> bool {
    match kind {
        Kind::Udp => udp_reaches(lab, from, to, SocketAddr::new(address, 0), patience),
        Kind::Tcp => tcp_reaches(lab, from, to, SocketAddr::new(address, 0), patience),
        Kind::Icmp => icmp_reaches(lab, from, address, patience),
    }
}

/// A socket on a port that another one may have had before: what another thread starts has that one open until it is another
/// program.
fn bound<T>(bind: impl Fn() -> io::Result<T>) -> T {
    injector_lab::until("the port is free", || match bind() {
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        bound => Some(bound.unwrap()),
    })
}

/// Port 0 is any.
pub fn udp_reaches(lab: &Lab, from: &str, to: &str, at: SocketAddr, patience: Duration) -> bool {
    let receiver = lab.within(to, || bound(|| UdpSocket::bind(at)));
    let sender = lab.within(from, || UdpSocket::bind((unspecified(at.ip()), 0)).unwrap());
    let at = receiver.local_addr().unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let end = Instant::now() + patience;
    let mut buffer = [0; 64];
    while Instant::now() < end {
        sender.send_to(b"udp", at).unwrap();
        if receiver.recv(&mut buffer).is_ok() {
            return true;
        }
    }
    false
}

/// Port 0 is any.
pub fn tcp_reaches(lab: &Lab, from: &str, to: &str, at: SocketAddr, patience: Duration) -> bool {
    let listener = lab.within(to, || bound(|| TcpListener::bind(at)));
    let at = listener.local_addr().unwrap();
    let Ok(mut stream) = lab.within(from, || TcpStream::connect_timeout(&at, patience)) else {
        return false;
    };
    let (mut accepted, _) = listener.accept().unwrap();
    let mut byte = [7];
    for stream in [&stream, &accepted] {
        stream.set_read_timeout(Some(patience)).unwrap();
    }
    stream.write_all(&byte).unwrap();
    accepted.read_exact(&mut byte).is_ok()
        && accepted.write_all(&byte).is_ok()
        && stream.read_exact(&mut byte).is_ok()
}

fn icmp_reaches(lab: &Lab, from: &str, to: IpAddr, patience: Duration) -> bool {
    let (family, protocol, request, answer) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8, 0),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129),
    };
    let socket = lab.within(from, || {
        // SAFETY: a new descriptor that nobody else has; the type's `send_to` and `recv` suit any datagram socket.
        unsafe {
            let fd = libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            UdpSocket::from_raw_fd(fd)
        }
    });
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let identity = rand::random::<u16>().to_be_bytes();
    let mut echo = [request, 0, 0, 0, identity[0], identity[1], 0, 1];
    if to.is_ipv4() {
        // (The kernel fills it in for ICMPv6.)
        let sum: u32 = echo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let header = if to.is_ipv4() { 20 } else { 0 };
    let end = Instant::now() + patience;
    let mut buffer = [0; 256];
    while Instant::now() < end {
        socket.send_to(&echo, (to, 0)).unwrap();
        while let Ok(length) = socket.recv(&mut buffer) {
            let heard = &buffer[header.min(length)..length];
            if heard.len() >= 6 && heard[0] == answer && heard[4..6] == identity {
                return true;
            }
        }
    }
    false
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { [0; 4].into() } else { [0; 16].into() }
}

/// One packet of a [`Stream`].
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Just before it was handed to the kernel.
    pub at: MonoNs,
    /// When the receiver had it; `None` if it never came.
    pub received: Option<MonoNs>,
}

/// A dense UDP stream from one node to another. Stopped when dropped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<Vec<MonoNs>>>,
    receiver: Option<JoinHandle<BTreeMap<u64, MonoNs>>>,
}

impl Stream {
    /// Starts it: a packet every `gap`, or a little more.
    pub fn start(lab: &Lab, from: &str, to: &str, gap: Duration) -> Self {
        let address = addresses(to)[0];
        let receiver = lab.within(to, || UdpSocket::bind((address, 0)).unwrap());
        keep_all(&receiver);
        let sender = lab.within(from, || UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (first_sent, is_sending) = std::sync::mpsc::channel();
        let sending = std::thread::spawn(move || {
            let mut sent = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let number = sent.len() as u64;
                sent.push(MonoNs::now());
                sender.send(&number.to_le_bytes()).unwrap();
                let _ = first_sent.send(());
                std::thread::sleep(gap);
            }
            sent
        });
        let stopped = Arc::clone(&stop);
        let receiving = std::thread::spawn(move || {
            let mut heard = BTreeMap::new();
            let mut number = [0; 8];
            loop {
                let last_round = stopped.load(Ordering::Relaxed);
                match receiver.recv(&mut number) {
                    Ok(_) => drop(heard.insert(u64::from_le_bytes(number), MonoNs::now())),
                    Err(_) if last_round => return heard,
                    Err(_) => {}
                }
            }
        });
        let stream = Self { stop, sender: Some(sending), receiver: Some(receiving) };
        // Time for its neighbour to be resolved before anything is cut: what waits for that reaches no hook.
        is_sending.recv().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        stream
    }

    /// Stops it: every packet in the order of sending.
    pub fn stop(mut self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.take().unwrap().join().unwrap();
        let received = self.receiver.take().unwrap().join().unwrap();
        (0..).zip(sent).map(|(number, at)| Sent { at, received: received.get(&number).copied() }).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Packets sent from an instant on.
pub fn sent_from(packets: &[Sent], from: MonoNs) -> &[Sent] {
    &packets[packets.partition_point(|packet| packet.at < from)..]
}

/// A small HTTP server on one node that answers as it is set to.
pub struct Server {
    shared: Arc<Shared>,
    port: u16,
    address: IpAddr,
}

struct Shared {
    mode: Mutex<ServerMode>,
    changed: Condvar,
    stop: AtomicBool,
}

/// How a [`Server`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMode {
    /// 200, at once.
    Fine,
    /// 503, at once.
    Failing,
    /// 200 from an instant on, 503 before it.
    FineFrom(MonoNs),
    /// Takes the request, and answers 200 when it is fine again.
    Hanging,
}

impl Server {
    /// Starts it on a node's IPv4 address.
    pub fn start(lab: &Lab, node: &str) -> Self {
        static PORT: AtomicU16 = AtomicU16::new(8000);
        Self::start_at(lab, node, PORT.fetch_add(1, Ordering::Relaxed))
    }

    /// The same on a port of the caller's.
    pub fn start_at(lab: &Lab, node: &str, port: u16) -> Self {
        let address = lab.addresses(node)[0];
        let listener = lab.within(node, || TcpListener::bind((address, port)).unwrap());
        let shared = Arc::new(Shared {
            mode: Mutex::new(ServerMode::Fine),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let server = Self { shared: Arc::clone(&shared), port, address };
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            while !shared.stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&shared);
                        std::thread::spawn(move || serve(stream, &shared));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address and port.
    pub fn at(&self) -> SocketAddr {
        (self.address, self.port).into()
    }

    /// Changes its mode, for requests that hang too.
    pub fn set(&self, mode: ServerMode) {
        *self.shared.mode.lock().unwrap() = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.set(ServerMode::Failing);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
    let mode = shared.mode.lock().unwrap();
    let mode = *shared.changed.wait_while(mode, |mode| *mode == ServerMode::Hanging).unwrap();
    let is_fine = match mode {
        ServerMode::Fine => true,
        ServerMode::Failing | ServerMode::Hanging => false,
        ServerMode::FineFrom(instant) => MonoNs::now() >= instant,
    };
    let status = if is_fine { "200 OK" } else { "503 Service Unavailable" };
    // In one piece: the status line is looked for in one packet.
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    // The prober may have given up.
    let _ = stream.write_all(answer.as_bytes());
}
