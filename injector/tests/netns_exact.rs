//! Exactness: all links of a partition heal at one instant, and the stamps are near the packets.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use injector_core::api::{HealedBy, PartitionRequest, RecoveryRecord, VerdictOptions};
use injector_core::clock::{MonoNs, Span};
use injector_core::model::{Selector, Shape};
use injector_lab::needs;
use live::daemon::{Daemon, links};
use live::lab::{AttachPoint, Lab, addresses};
use rustix::thread::{CpuSet, sched_setaffinity};

const NODES: u8 = 3;
const PEERS_PER_NODE: u8 = 6;
const PORT: u16 = 9_000;

fn alias(node: u8, number: u8) -> IpAddr {
    Ipv4Addr::new(10, 99, node, number).into()
}

fn peers_of(node: u8) -> impl Iterator<Item = (String, IpAddr)> {
    (1..=PEERS_PER_NODE).map(move |number| (format!("n{node}-{number}"), alias(node, number)))
}

/// Sends on every link from one node in turn, a small burst at a time.
fn send_round(node: u8, sockets: &[UdpSocket], stop: &AtomicBool) {
    let others = (1..=NODES).filter(|other| *other != node);
    let to: Vec<SocketAddr> =
        others.flat_map(|other| peers_of(other).map(|(_, address)| (address, PORT).into())).collect();
    let pairs: Vec<(&UdpSocket, SocketAddr)> =
        sockets.iter().flat_map(|socket| to.iter().map(move |to| (socket, *to))).collect();
    for (at, (socket, to)) in pairs.iter().cycle().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A full queue is of no interest here.
        let _ = socket.send_to(b"packet", *to);
        if at % 12 == 11 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

/// The last drop and the first packet of all links together, each link having both.
fn bracket(record: &RecoveryRecord) -> (MonoNs, MonoNs) {
    let heal = record.heal.unwrap();
    let mut bracket = (MonoNs(0), MonoNs(u64::MAX));
    for link in &record.links {
        let (Some(last), Some(first)) = (link.last_drop_ns, link.first_packet_ns) else {
            panic!("no traffic on a link: {link:?}");
        };
        // The verdict of a first packet begins after the store that let it through, and the stamp comes later still.
        assert!(first >= heal.begin_ns, "{link:?} passed before the heal of {heal:?}");
        bracket = (bracket.0.max(last), bracket.1.min(first));
    }
    bracket
}

/// 216 links with traffic on each around a heal: their brackets [last drop, first packet] share an instant.
#[test]
#[needs(root, alone)]
fn all_links_heal_at_one_instant() {
    let lab = Lab::new(NODES);
    let mut config = "peers:\n".to_owned();
    for node in 1..=NODES {
        for (name, address) in peers_of(node) {
            lab.ip(&format!("n{node}"), &format!("address add {address}/16 dev eth0"));
            writeln!(config, "  {name}: {{ addresses: [{address}] }}").unwrap();
        }
    }
    config += "interfaces:\n";
    for node in lab.peer_names() {
        config += &lab.interface(&node, AttachPoint::OwnNic, "auto");
    }
    let daemon = Daemon::start(&config);
    let groups =
        (1..=NODES).map(|node| peers_of(node).map(|(name, _)| Selector::Name(name)).collect()).collect();
    let request =
        |life| PartitionRequest { for_: Some(Span(life)), ..PartitionRequest::new(Shape::Split(groups)) };
    let sockets: Vec<Vec<UdpSocket>> = (1..=NODES)
        .map(|node| {
            let bind = || peers_of(node).map(|(_, at)| UdpSocket::bind((at, PORT)).unwrap()).collect();
            lab.within(&format!("n{node}"), bind)
        })
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (node, sockets) in (1..).zip(&sockets) {
            let stop = &stop;
            scope.spawn(move || send_round(node, sockets, stop));
        }
        // The senders end with this, also by a panic.
        let _stopper = Stopper(&stop);
        std::thread::sleep(Duration::from_millis(200));
        // Several peers share each namespace, and none has a port of its own for frames to groups.
        let by_deadline = PartitionRequest {
            verdict: VerdictOptions { allow_uncovered: true, ..VerdictOptions::default() },
            ..request(Duration::from_millis(400))
        };
        let by_request = PartitionRequest { for_: Some(Span::secs(60)), ..by_deadline.clone() };
        for round in 0..3 {
            let name = format!("deadline-{round}");
            let ends_at = daemon.apply(&name, &by_deadline).ends_at_ns.unwrap();
            std::thread::sleep(ends_at.saturating_since(MonoNs::now()) + Duration::from_millis(300));
            let record = daemon.record_now(&name);
            assert_eq!((record.healed_by, record.links.len()), (Some(HealedBy::Deadline), 216));
            let (last, first) = bracket(&record);
            // One read of the clock decides and stamps: every link changes at this very nanosecond.
            assert!(last < ends_at && ends_at <= first, "{last:?}, {ends_at:?}, {first:?}");
        }
        let mut exact = 0;
        for round in 0..5 {
            let name = format!("request-{round}");
            daemon.apply(&name, &by_request);
            std::thread::sleep(Duration::from_millis(250));
            let heal = daemon.heal(&name);
            std::thread::sleep(Duration::from_millis(250));
            let (last, first) = bracket(&daemon.record_now(&name));
            let after_end = last.saturating_since(heal.at.end_ns);
            let overlap = last.saturating_since(first);
            println!(
                "heal within {:?}; last drop {after_end:?} after its end, {overlap:?} after the first packet",
                heal.at.end_ns.saturating_since(heal.at.begin_ns)
            );
            // A verdict that began before the store may stamp after it: by its own length, or by a moment in which
            // this machine's CPU was taken away.
            assert!(after_end < Duration::from_millis(20), "dropped {after_end:?} after the heal");
            exact += u32::from(after_end.is_zero() && overlap.is_zero());
        }
        assert!(
            exact >= 3,
            "only {exact} of 5 heals had an instant common to all links in the stamped interval"
        );
    });
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The gap in which the generator may have hidden an instant.
const GAP: Duration = Duration::from_micros(20);
/// The bound on the distance from the stamped heal to the first packet.
const NEAR: Duration = Duration::from_micros(50);

/// Sends as fast as one thread can, and a few more when asked to stop; the instants before each packet.
fn generate(socket: &UdpSocket, to: SocketAddr, begun: &AtomicBool, stop: &AtomicBool) -> Vec<MonoNs> {
    const BEGUN: usize = 1_000;
    const MORE: usize = 20;
    let mut sent = Vec::with_capacity(1 << 17);
    let mut more = MORE;
    while more > 0 {
        if stop.load(Ordering::Relaxed) {
            more -= 1;
        }
        sent.push(MonoNs::now());
        let _ = socket.send_to(b"packet", to);
        if sent.len() == BEGUN {
            begun.store(true, Ordering::Relaxed);
        }
    }
    sent
}

/// The largest gap between packets that reached the hook, from the last one before `heal` to the `first` that passed.
fn gap(sent: &[MonoNs], heal: MonoNs, first: MonoNs) -> Option<Duration> {
    let from = sent.partition_point(|at| *at <= heal).checked_sub(1)?;
    let to = sent.partition_point(|at| *at <= first);
    let instants: Vec<MonoNs> = sent.get(from..to)?.iter().copied().chain([first]).collect();
    instants.windows(2).map(|pair| pair[1].saturating_since(pair[0])).max()
}

/// Keeps this thread, and what it starts, on one CPU, so that the daemon's work does not stop the generator.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // Where there is no such CPU the test continues without, and counts fewer heals.
    let _ = sched_setaffinity(None, &set);
}

/// `INJECTOR_HEALS` sets how many heals are measured; `cargo xtask test --long` measures 200.
#[test]
#[needs(root, alone)]
fn the_first_packet_comes_with_the_heal() {
    let heals: usize = match std::env::var("INJECTOR_HEALS") {
        Ok(heals) => heals.parse().unwrap(),
        Err(_) => 20,
    };
    let lab = Lab::new(2);
    pin(1);
    let daemon = Daemon::start(&lab.config(AttachPoint::OwnNic, "auto"));
    let to = SocketAddr::new(addresses("n2")[0], PORT);
    let _sink = lab.within("n2", || UdpSocket::bind(to).unwrap());
    let sender = lab.within("n1", || UdpSocket::bind("0.0.0.0:0").unwrap());
    sender.send_to(b"the neighbour is known from here on", to).unwrap();
    let mut distances = Vec::new();
    for number in 0..heals {
        let name = format!("p{number}");
        daemon.apply(&name, &links(&[("n1", "n2")], Duration::from_mins(1)));
        let (begun, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let (heal, sent) = std::thread::scope(|scope| {
            let _stopper = Stopper(&stop);
            let generator = scope.spawn(|| {
                pin(0);
                generate(&sender, to, &begun, &stop)
            });
            while !begun.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(5));
            let heal = daemon.heal(&name);
            std::thread::sleep(Duration::from_millis(5));
            stop.store(true, Ordering::Relaxed);
            (heal, generator.join().unwrap())
        });
        let link = daemon.record_now(&name).links.remove(0);
        assert!(link.dropped_packets > Some(0));
        let first = link.first_packet_ns.expect("there was traffic after the heal");
        assert!(first >= heal.at.begin_ns, "passed before the heal");
        if gap(&sent, heal.at.begin_ns, first).is_some_and(|gap| gap < GAP) {
            distances.push(first.saturating_since(heal.at.end_ns));
        }
    }
    distances.sort_unstable();
    let at = |share: f64| distances.get(((distances.len() as f64 * share).ceil() as usize).saturating_sub(1));
    println!(
        "{} of {heals} heals counted (the generator's gap was under {GAP:?}): median {:?}, p99 {:?}, longest {:?}",
        distances.len(),
        at(0.5),
        at(0.99),
        distances.last()
    );
    if distances.len() < 5 {
        println!("too few to judge: this machine is loaded");
        return;
    }
    // Under a hundred, p99 is the longest one: one heal may be an accident of this machine.
    let far = distances.iter().filter(|distance| **distance >= NEAR).count();
    let allowed = if distances.len() < 100 { 1 } else { distances.len() / 100 };
    assert!(
        far <= allowed,
        "{far} of {} first packets came over {NEAR:?} late: {distances:?}",
        distances.len()
    );
}
