//! Somebody on the switch sends from very many addresses: that evicts nothing by which peers are known, cuts nobody else, and
//! what can't be known any more is told. Needs root.

#[path = "support/host_lab.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod host_lab;
#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host_lab::HostLab;
use injector_core::api::{InForce, LinkRecord, RecoveryRecord, WarningCode};
use injector_lab::{End, needs};
use live::daemon::{Daemon, isolate};

const LONG: Duration = Duration::from_mins(9);
/// More than ten times what the programs remember of claims, and fifty times what they remember of strangers.
const ADDRESSES: u64 = 200_000;
const SENT: usize = 10;
/// n1's second address, which the config does not list.
const UNLISTED: u8 = 9;

/// Where the flood comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// A port that is nobody's.
    Stranger,
    /// The port of the peer n4, where addresses are learned.
    Peer,
}

/// n1, n2, n3 and `w`, who is no peer, on a bridge; all are hidden. A tap beside them sends the flood.
struct Switch {
    lab: HostLab,
    daemon: Daemon,
    flood: File,
    n1: [u8; 6],
}

impl Switch {
    /// With what else the config says of n1.
    fn new(from: From, of_n1: &str) -> Self {
        let mut lab = HostLab::switched(&[("n1", "h1", 1), ("n2", "h2", 2), ("n3", "h3", 3), ("w", "h4", 4)]);
        lab.ip("n1", &format!("address add {}/24 dev eth0", lab.ipv4(UNLISTED)));
        let n1 = mac(&lab.mac("n1", "eth0"));
        let flood = lab.tap("h", "t0");
        // The bridge need not learn what nobody will send to.
        lab.ip("h", "link set t0 master br0 up");
        lab.run("h", "bridge", &["link", "set", "dev", "t0", "learning", "off"]);
        for node in ["n1", "n2", "n3", "w"] {
            lab.hide(node);
        }
        let peer = |host: u8, more: &str| {
            format!("n{host}: {{ addresses: [{}, \"{}\"]{more} }}", lab.ipv4(host), lab.ipv6(host))
        };
        let mut peers = vec![peer(1, of_n1), peer(2, ""), peer(3, "")];
        let mut interfaces =
            vec!["{ name: h1, peer: n1 }", "{ name: h2, peer: n2 }", "{ name: h3, peer: n3 }"];
        if from == From::Peer {
            peers.push(format!("n4: {{ addresses: [{}] }}", lab.ipv4(5)));
            interfaces.push("{ name: t0, peer: n4 }");
        }
        let daemon = lab.daemon_on(&peers.join(", "), &format!("[{}]", interfaces.join(", ")));
        let switch = Self { lab, daemon, flood, n1 };
        // Everybody is known to everybody, and n1's second address to the programs.
        for (from, to) in
            [switch.unlisted(), switch.listed(), switch.between_others(), switch.with_world()].concat()
        {
            let flows = || switch.lab.delivered_within(from, to, SENT, SENT, Duration::from_secs(1)) == SENT;
            assert!((0..5).any(|_| flows()), "{from:?} → {to:?} before the cut");
        }
        switch
    }

    fn end<'a>(&self, node: &'a str, host: u8) -> End<'a> {
        (node, self.lab.ipv4(host))
    }

    fn both_ways<'a>(a: End<'a>, b: End<'a>) -> Vec<(End<'a>, End<'a>)> {
        vec![(a, b), (b, a)]
    }

    fn unlisted(&self) -> Vec<(End<'static>, End<'static>)> {
        Self::both_ways(self.end("n1", UNLISTED), self.end("n2", 2))
    }

    fn listed(&self) -> Vec<(End<'static>, End<'static>)> {
        Self::both_ways(self.end("n1", 1), self.end("n2", 2))
    }

    fn between_others(&self) -> Vec<(End<'static>, End<'static>)> {
        Self::both_ways(self.end("n3", 3), self.end("n2", 2))
    }

    fn with_world(&self) -> Vec<(End<'static>, End<'static>)> {
        [
            Self::both_ways(self.end("n1", 1), self.end("w", 4)),
            Self::both_ways(self.end("n2", 2), self.end("w", 4)),
        ]
        .concat()
    }

    fn delivered(&self, (from, to): (End<'_>, End<'_>)) -> usize {
        self.lab.delivered_within(from, to, SENT, SENT, Duration::from_millis(300))
    }

    /// One frame from each of very many MAC addresses and IP addresses: every second one claims its address, the others are
    /// for n1.
    fn send(&self, sent: &AtomicU64, stop: &AtomicBool) {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let frame =
                if number % 2 == 0 { claim(number) } else { datagram(number, self.n1, self.lab.ipv4(1)) };
            // The queue may be full for a moment.
            while (&self.flood).write(&frame).is_err() && !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            sent.store(number, Ordering::Relaxed);
        }
    }

    /// Under the flood: the cut is one, by all of n1's addresses, and nobody else is cut. What the flood has done is shown.
    fn under_flood(&self, check: impl FnOnce()) -> RecoveryRecord {
        self.daemon.apply("p", &isolate("n1", LONG));
        let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| self.send(&sent, &stop));
            // A failed check must not leave the flood running.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                injector_lab::until("the flood has passed", || {
                    (sent.load(Ordering::Relaxed) >= ADDRESSES).then_some(())
                });
                check();
            }));
            stop.store(true, Ordering::Relaxed);
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let sent = sent.into_inner();
        println!("{sent} addresses in {:?}", begun.elapsed());
        let asked = Instant::now();
        self.daemon.heal("p");
        println!("healed within {:?}", asked.elapsed());
        let record = self.daemon.record_now("p");
        for link in &record.links {
            let (leaked, unnamed) = (link.leaked_packets, link.unnamed_packets);
            println!("{}→{}: {:?}, leaked {leaked:?}, unnamed {unnamed}", link.src, link.dst, link.in_force);
        }
        println!("{:#?}", record.warnings);
        record
    }

    fn assert_cut_and_nobody_else(&self) {
        for way in [self.unlisted(), self.listed()].concat() {
            assert_eq!(self.delivered(way), 0, "{way:?} passes the cut");
        }
        for way in [self.between_others(), self.with_world()].concat() {
            assert!((0..5).any(|_| self.delivered(way) == SENT), "{way:?} is cut");
        }
    }
}

fn mac(shown: &str) -> [u8; 6] {
    let bytes: Vec<u8> = shown.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// The frame's beginning: the header that a tap takes, and that of Ethernet. Each number has a MAC address of its own.
fn head(number: u64, to: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = vec![0; 10];
    frame.extend(to);
    frame.extend([0x02, 0x77]);
    frame.extend(&number.to_be_bytes()[4..]);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// An address for each number, on no network of the lab.
fn address(number: u64) -> [u8; 4] {
    let [_, .., a, b, c] = number.to_be_bytes();
    [11, a, b, c]
}

/// An ARP request for an address that nobody has, from one that it claims.
fn claim(number: u64) -> Vec<u8> {
    let mut frame = head(number, [0xff; 6], 0x0806);
    let from: Vec<u8> = frame[16..22].to_vec();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(from);
    frame.extend(address(number));
    frame.extend([0; 6]);
    frame.extend([11, 255, 255, 254]);
    frame
}

/// A UDP datagram to a port where nobody listens.
fn datagram(number: u64, mac: [u8; 6], to: IpAddr) -> Vec<u8> {
    let IpAddr::V4(to) = to else { panic!("{to}") };
    let mut frame = head(number, mac, 0x0800);
    let mut ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[12..16].copy_from_slice(&address(number));
    ip[16..].copy_from_slice(&Ipv4Addr::octets(&to));
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    frame.extend(ip);
    frame.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    frame
}

/// Nothing says that the cut of a link was not in force but of one of the flood's own sender, and what is unknown is told.
fn assert_told(record: &RecoveryRecord) {
    let is_told = record.warnings.iter().any(|warning| warning.code == WarningCode::Unnamed);
    let of_sender = |link: &&LinkRecord| [&link.src, &link.dst].contains(&&"n4".to_owned());
    for link in record.links.iter().filter(|link| !of_sender(link)) {
        assert_ne!(link.in_force, Some(InForce::No), "{link:#?}");
        assert!(link.in_force == Some(InForce::Yes) || is_told, "{link:#?}: {:#?}", record.warnings);
    }
}

#[test]
#[needs(root)]
fn a_flood_of_a_stranger_on_the_switch_opens_no_cut_and_cuts_nobody_else() {
    let switch = Switch::new(From::Stranger, "");
    let record = switch.under_flood(|| switch.assert_cut_and_nobody_else());
    assert_told(&record);
}

#[test]
#[needs(root)]
fn a_flood_of_a_peer_opens_no_cut_of_others_and_cuts_nobody_else() {
    let switch = Switch::new(From::Peer, "");
    let record = switch.under_flood(|| switch.assert_cut_and_nobody_else());
    assert_told(&record);
    // Forged addresses name nobody: that its own frames passed is reported.
    let own = record.links.iter().find(|link| link.src == "n4" && link.dst == "n1").unwrap();
    assert!(own.in_force == Some(InForce::No) && own.leaked_packets > Some(0), "{own:#?}");
    let counters = switch.daemon.status().counters;
    assert!(counters["unclaimed"] > 0, "{counters:?}");
}

/// The port of a router does not name what it sends: its own addresses are known by its claims alone.
#[test]
#[needs(root)]
fn a_flood_of_a_peer_evicts_no_claim_of_a_router() {
    let switch = Switch::new(From::Peer, ", forwards: true");
    let record = switch.under_flood(|| switch.assert_cut_and_nobody_else());
    assert_told(&record);
}
