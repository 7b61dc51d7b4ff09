//! A cut must look like a cut cable to the sender: the injector against a bridge port that is switched off.

injector_lab::group!(kernels);

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
#[path = "netns_local/talker.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod talker;

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use injector_core::clock::MonoNs;
use injector_lab::needs;
use live::daemon::{Daemon, isolate};
use live::lab::{AttachPoint, Lab, SWITCH, addresses};
use talker::Talker;

const CUT: Duration = Duration::from_secs(15);
/// The ladder's next retransmission comes about 12 s after the heal.
const RECOVERY: Duration = Duration::from_secs(25);
const BEAT: Duration = Duration::from_millis(100);
/// The retransmission timeout, in microseconds, of a connection whose answers come at once: 200 ms and a little.
const SETTLED_RTO: u32 = 220_000;

/// How the cable is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// The truth: the port in the middle is switched off.
    PortOff,
    /// The injector on the sender's own interface.
    OwnNic,
    /// The injector in the middle.
    BridgePort,
    /// The injector between two processes on one address.
    Loopback,
}

/// Where the sender and the receiver are.
struct Fixture {
    lab: Lab,
    /// The sender's namespace.
    from: &'static str,
    to: IpAddr,
    /// Who echoes at port 7000 and has port 9000 of UDP.
    _receiver: Receiver,
}

enum Receiver {
    /// Threads of this process.
    Threads { _datagrams: UdpSocket },
    /// A process of its own, since a process is one peer.
    Process { _talker: Talker },
}

impl Fixture {
    fn new(method: Method) -> Self {
        if method == Method::Loopback {
            let mut lab = Lab::builder("f").up().unwrap();
            lab.add("m");
            let talker = Talker::start(&lab, "m", &["127.0.0.1:7000", "127.0.0.1:9000"]);
            let to = IpAddr::from([127, 0, 0, 1]);
            return Self { lab, from: "m", to, _receiver: Receiver::Process { _talker: talker } };
        }
        let lab = Lab::new(2);
        let to = addresses("n2")[0];
        let listener = lab.within("n2", || TcpListener::bind((to, 7_000)).unwrap());
        let datagrams = lab.within("n2", || UdpSocket::bind((to, 9_000)).unwrap());
        std::thread::spawn(move || {
            let Ok((mut echo, _)) = listener.accept() else { return };
            let mut buffer = [0; 4096];
            while let Ok(length) = echo.read(&mut buffer) {
                if length == 0 || echo.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        });
        Self { lab, from: "n1", to, _receiver: Receiver::Threads { _datagrams: datagrams } }
    }
}

/// What the sender saw.
#[derive(Debug)]
struct Seen {
    backoff: u8,
    rto: Duration,
    retransmissions: u32,
    error: Option<std::io::Error>,
    heal_to_echo: Duration,
    datagram_errors: Vec<String>,
    connect: Option<std::io::Error>,
}

enum Cutter {
    Port(String),
    Daemon(Box<Daemon>),
}

impl Cutter {
    fn new(method: Method, lab: &Lab) -> Self {
        let place = match method {
            Method::PortOff => return Self::Port(lab.netns(SWITCH)),
            Method::OwnNic => AttachPoint::OwnNic,
            Method::BridgePort => AttachPoint::BridgePort,
            Method::Loopback => {
                let netns = lab.netns("m");
                return Self::Daemon(Box::new(Daemon::start(&format!(
                    "peers:\n  n1: {{ pid: {}, netns: {netns} }}\n  n2: {{ listens: [7000, 9000], netns: {netns} }}\n\
                     interfaces: auto\n",
                    std::process::id()
                ))));
            }
        };
        // Only one interface: that of the sender's cable.
        let config = lab.config(place, "auto");
        let (peers, _) = config.split_once("interfaces:").unwrap();
        let config = format!("{peers}interfaces:\n{}", lab.interface("n1", place, "auto"));
        Self::Daemon(Box::new(Daemon::start(&config)))
    }

    fn cut(&self) {
        match self {
            Self::Port(switch) => port(switch, "0"),
            Self::Daemon(daemon) => {
                daemon.apply("p", &isolate("n1", CUT * 10));
            }
        }
    }

    fn heal(&self) {
        match self {
            Self::Port(switch) => port(switch, "3"),
            Self::Daemon(daemon) => {
                daemon.heal("p");
            }
        }
    }
}

/// 0 is disabled, 3 forwarding.
fn port(switch: &str, state: &str) {
    let words = ["-n", switch, "link", "set", "dev", "p-n1", "state", state];
    assert!(Command::new("bridge").args(words).status().unwrap().success());
}

fn info(stream: &TcpStream) -> libc::tcp_info {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, and any bytes are a `tcp_info`.
    unsafe {
        let answer = libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        info.assume_init()
    }
}

/// A non-blocking socket on its way to a port.
fn start_connecting(to: SocketAddr) -> OwnedFd {
    let SocketAddr::V4(to) = to else { panic!("IPv4 here") };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: a new descriptor that nobody else has, and an address as long as given.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        let fd = OwnedFd::from_raw_fd(fd);
        let length = size_of_val(&address) as libc::socklen_t;
        assert_eq!(libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length), -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EINPROGRESS));
        fd
    }
}

/// Why a connecting socket has failed; `None` while it is on its way.
fn connect_error(fd: OwnedFd) -> Option<std::io::Error> {
    let stream = TcpStream::from(fd);
    let error = stream.take_error().unwrap();
    assert!(error.is_some() || stream.peer_addr().is_err(), "it has connected");
    error
}

fn datagrams(fixture: &Fixture, ask_for_errors: bool) -> UdpSocket {
    let socket = fixture.lab.within(fixture.from, || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect((fixture.to, 9_000)).unwrap();
    let on: libc::c_int = i32::from(ask_for_errors);
    // SAFETY: a number is read from where it lives.
    let set = unsafe {
        let size = size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_IP, libc::IP_RECVERR, (&raw const on).cast(), size)
    };
    assert_eq!(set, 0);
    socket
}

/// Lives through one cut on a connection from n1 to n2 that sends 50 bytes ten times a second.
fn live_through(method: Method) -> Seen {
    let fixture = Fixture::new(method);
    let Fixture { lab, from, to, .. } = &fixture;
    let to = *to;
    let cutter = Cutter::new(method, lab);
    let mut stream = lab.within(from, || TcpStream::connect((to, 7_000)).unwrap());
    stream.set_nodelay(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    let udp = [false, true].map(|ask_for_errors| datagrams(&fixture, ask_for_errors));
    let mut error = None;
    let mut datagram_errors = Vec::new();
    let echoed = |stream: &mut TcpStream, error: &mut Option<std::io::Error>| {
        let mut heard = false;
        loop {
            match stream.read(&mut [0; 4096]) {
                Ok(0) => return heard,
                Ok(_) => heard = true,
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return heard,
                Err(fault) => {
                    error.get_or_insert(fault);
                    return heard;
                }
            }
        }
    };
    let beat = |stream: &mut TcpStream, error: &mut Option<std::io::Error>, said: &mut Vec<String>| {
        if let Err(fault) = stream.write_all(&[b'x'; 50]) {
            error.get_or_insert(fault);
        }
        for socket in &udp {
            if let Err(fault) = socket.send(b"datagram") {
                said.push(fault.to_string());
            }
        }
        std::thread::sleep(BEAT);
    };
    // Long enough for the round trip time to be known, and its variance to shrink.
    let begun = Instant::now();
    let mut beats = 0;
    while beats < 20 || info(&stream).tcpi_rto > SETTLED_RTO && begun.elapsed() < RECOVERY {
        beat(&mut stream, &mut error, &mut datagram_errors);
        echoed(&mut stream, &mut error);
        beats += 1;
    }
    let before = info(&stream);
    cutter.cut();
    let cut = Instant::now();
    echoed(&mut stream, &mut error);
    let connecting = lab.within(from, || start_connecting((to, 7_000).into()));
    let mut heard_in_cut = false;
    while cut.elapsed() < CUT {
        beat(&mut stream, &mut error, &mut datagram_errors);
        // What was on its way at the cut may still come in its first moments.
        heard_in_cut |= echoed(&mut stream, &mut error) && cut.elapsed() > Duration::from_secs(1);
    }
    assert!(!heard_in_cut, "{method:?} does not cut");
    let during = info(&stream);
    let connect = connect_error(connecting);
    cutter.heal();
    let healed = MonoNs::now();
    let end = Instant::now() + RECOVERY;
    while Instant::now() < end && error.is_none() && !echoed(&mut stream, &mut error) {
        std::thread::sleep(Duration::from_millis(1));
    }
    Seen {
        backoff: during.tcpi_backoff,
        rto: Duration::from_micros(during.tcpi_rto.into()),
        retransmissions: during.tcpi_total_retrans - before.tcpi_total_retrans,
        error,
        heal_to_echo: MonoNs::now().saturating_since(healed),
        datagram_errors,
        connect,
    }
}

#[test]
#[needs(root, quiet, minutes = 1, example = "talker")]
fn a_cut_looks_like_a_cut_cable_to_its_sender() {
    let methods = [Method::PortOff, Method::OwnNic, Method::BridgePort, Method::Loopback];
    let seen = std::thread::scope(|scope| {
        let threads = methods.map(|method| scope.spawn(move || live_through(method)));
        threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    for (method, seen) in methods.iter().zip(&seen) {
        println!("{method:?}: {seen:?}");
    }
    let truth = &seen[0];
    assert!(truth.backoff >= 4 && truth.retransmissions >= 4, "the port was not off: {truth:?}");
    for (method, seen) in methods.iter().zip(&seen) {
        assert!(seen.error.is_none(), "{method:?}: {seen:?}");
        assert!(seen.connect.is_none(), "{method:?}: {seen:?}");
        assert!(seen.datagram_errors.is_empty(), "{method:?}: {seen:?}");
        assert_eq!(seen.backoff, truth.backoff, "{method:?}: {seen:?}, the truth: {truth:?}");
        let off = seen.rto.abs_diff(truth.rto);
        assert!(off * 10 <= truth.rto, "{method:?}: {seen:?}, the truth: {truth:?}");
        assert!(seen.retransmissions.abs_diff(truth.retransmissions) <= 1, "{method:?}: {seen:?}, {truth:?}");
        let (short, long) =
            (seen.heal_to_echo.min(truth.heal_to_echo), seen.heal_to_echo.max(truth.heal_to_echo));
        assert!(long < short * 2 + Duration::from_secs(1), "{method:?}: {seen:?}, the truth: {truth:?}");
    }
}
