//! What passing traffic pays: one TCP stream over a veth pair between two namespaces, with the programs on both
//! ends. Throughputs depend on who else is busy, so the ways take turns, and each round gives ratios to its own
//! run with nothing attached.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

#[path = "support/result.rs"]
mod result;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, SchedClassifier, Xdp, XdpMode};
use injector::alarm::Guard;
use injector::datapath::{Clocks, Kernel};
use injector_common::Word;
use injector_common::slot::Slot;
use injector_core::config::Config;
use injector_core::ledger::DataPlane as _;
use injector_core::model::Link;
use injector_core::plan::{Presence, SlotIndex};
use injector_lab::{Lab, Subnet};
use result::Run;

const ROUNDS: usize = 7;
/// How long a stream runs before and while it is measured.
const WARM: Duration = Duration::from_millis(150);
const SPAN: Duration = Duration::from_millis(700);
/// What is written at once, and the unit of the processor time.
const CHUNK: usize = 64 << 10;
const PORT: u16 = 7000;
/// The namespaces, each with its end of the cable.
const ENDS: [(&str, &str); 2] = [("n1", "eth0"), ("n2", "eth0")];

/// What is attached to both ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attachment {
    Nothing,
    Tcx,
    TcxArmed,
    XdpGeneric,
    XdpNative,
}

const ATTACHMENTS: [(Attachment, &str); 5] = [
    (Attachment::Nothing, "nothing attached"),
    (Attachment::Tcx, "TCX both ways, nothing armed"),
    (Attachment::TcxArmed, "TCX both ways, armed, link not cut"),
    (Attachment::XdpGeneric, "generic XDP and TCX egress, armed, link not cut"),
    (Attachment::XdpNative, "native XDP and TCX egress, armed, link not cut"),
];

/// What is known of the samples: its name, its unit and where it is found.
type Quantity = (&'static str, &'static str, fn(&Sample) -> f64);

/// One stream's result.
#[derive(Clone, Copy)]
struct Sample {
    gigabits: f64,
    /// Of this process, which sends and receives, per chunk.
    processor_us: f64,
}

fn main() {
    let mut run = Run::begin("throughput");
    let pair = Pair::new();
    let config = Config::parse(CONFIG, "bench.yaml").unwrap();
    let mut kernel = Kernel::load(&config, Clocks::Real).unwrap();
    let keeper = kernel.gate().keep(Guard::default(), |lapsed| panic!("{lapsed}")).unwrap();
    let peer = |name| config.names.id(name).unwrap();
    let slot = SlotIndex(0);
    kernel.write_slot(slot, &Slot::whole(1)).unwrap();
    kernel.write_cells(slot, &[Link { src: peer("n3"), dst: peer("n1") }.into()], Presence::In);
    let mut programs = [load(&kernel, 1), load(&kernel, 2)];
    let mut samples = vec![Vec::new(); ATTACHMENTS.len()];
    for round in 0..ROUNDS {
        for turn in 0..ATTACHMENTS.len() {
            // Another order each round: no attachment is always after the same one.
            let index = (turn + round) % ATTACHMENTS.len();
            let attachment = ATTACHMENTS[index].0;
            let armed = !matches!(attachment, Attachment::Nothing | Attachment::Tcx);
            kernel.store(if armed { Word::new(slot.bit(), 0) } else { Word::default() }).unwrap();
            let attached = pair.attach(&mut programs, attachment);
            samples[index].push(pair.stream());
            drop(attached);
        }
    }
    drop(keeper);
    let quantities: [Quantity; 2] = [
        ("throughput", "Gbit/s", |sample| sample.gigabits),
        ("processor time", "µs per 64 KiB", |sample| sample.processor_us),
    ];
    for (what, unit, value) in quantities {
        for ((_, name), of_one) in ATTACHMENTS.iter().zip(&samples) {
            run.add(format!("{what}: {name}"), unit, of_one.iter().map(value).collect());
        }
        for ((_, name), of_one) in ATTACHMENTS.iter().zip(&samples).skip(1) {
            let ratios = of_one.iter().zip(&samples[0]).map(|(with, without)| value(with) / value(without));
            run.add(format!("{what} ratio: {name}"), "to nothing attached", ratios.collect());
        }
    }
    run.end();
}

const CONFIG: &str = "
peers:
  n1: { addresses: [10.99.0.1] }
  n2: { addresses: [10.99.0.2] }
  n3: { addresses: [10.99.0.3] }
interfaces: auto
";

/// Two namespaces with a cable between them; gone when dropped.
struct Pair(Lab);

impl Pair {
    fn new() -> Self {
        let mut lab = Lab::builder("b").subnet(Subnet::SHARED.v4_only()).up().unwrap();
        for (of, _) in ENDS {
            lab.add(of);
        }
        lab.cable(ENDS[0], ENDS[1]);
        for (host, (of, nic)) in (1..).zip(ENDS) {
            lab.give(of, nic, host);
        }
        Self(lab)
    }

    /// Runs a job in a thread inside one of them.
    fn within<T: Send>(&self, end: usize, job: impl FnOnce() -> T + Send) -> T {
        self.0.within(ENDS[end].0, job)
    }

    /// Attaches the programs to both ends; they are detached with what is answered.
    fn attach(&self, programs: &mut [Ebpf; 2], attachment: Attachment) -> Vec<Attached> {
        let [one, two] = programs;
        let mut attached = self.within(0, || attach_here(one, attachment));
        attached.extend(self.within(1, || attach_here(two, attachment)));
        attached
    }

    /// One stream from the first to the second.
    fn stream(&self) -> Sample {
        let listener = self.within(1, || TcpListener::bind((self.0.ipv4(2), PORT)).unwrap());
        // The link may have just come back: native XDP takes it down for a moment.
        let address = listener.local_addr().unwrap();
        let patience = Duration::from_secs(10);
        let mut sender = self.within(0, || TcpStream::connect_timeout(&address, patience).unwrap());
        let mut receiver = listener.accept().unwrap().0;
        let sending = std::thread::spawn(move || {
            let chunk = vec![7; CHUNK];
            loop {
                match sender.write_all(&chunk) {
                    Ok(()) => {}
                    Err(error)
                        if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
                    {
                        return;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let mut buffer = vec![0; 4 * CHUNK];
        let mut take = |span: Duration| {
            let begin = Instant::now();
            let mut bytes = 0;
            while begin.elapsed() < span {
                bytes += receiver.read(&mut buffer).unwrap();
            }
            (bytes as f64, begin.elapsed().as_secs_f64())
        };
        take(WARM);
        let before = processor_time();
        let (bytes, seconds) = take(SPAN);
        let spent = processor_time() - before;
        drop(receiver);
        sending.join().unwrap();
        Sample { gigabits: bytes * 8.0 / seconds / 1e9, processor_us: spent * 1e6 / (bytes / CHUNK as f64) }
    }
}

/// What holds a program to a hook.
enum Attached {
    Tc(#[expect(dead_code, reason = "kept until dropped")] SchedClassifierLink),
    Xdp(#[expect(dead_code, reason = "kept until dropped")] XdpLink),
}

/// An instance of the programs for one end, loaded: the verifier takes longer than a stream.
fn load(kernel: &Kernel, interface: u32) -> Ebpf {
    let mut programs = kernel.object().instance(interface).unwrap();
    for name in ["injector_in", "injector_out"] {
        classifier(&mut programs, name).load().unwrap();
    }
    xdp(&mut programs).load().unwrap();
    programs
}

fn classifier<'a>(programs: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    programs.program_mut(name).unwrap().try_into().unwrap()
}

fn xdp(programs: &mut Ebpf) -> &mut Xdp {
    programs.program_mut("injector_xdp").unwrap().try_into().unwrap()
}

fn attach_here(programs: &mut Ebpf, attachment: Attachment) -> Vec<Attached> {
    let (ingress, egress) = (("injector_in", TcAttachType::Ingress), ("injector_out", TcAttachType::Egress));
    let (hooks, mode) = match attachment {
        Attachment::Nothing => return Vec::new(),
        Attachment::Tcx | Attachment::TcxArmed => (vec![ingress, egress], None),
        Attachment::XdpGeneric => (vec![egress], Some(XdpMode::Skb)),
        Attachment::XdpNative => (vec![egress], Some(XdpMode::Driver)),
    };
    let mut attached = Vec::new();
    for (name, direction) in hooks {
        let program = classifier(programs, name);
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let link = program.attach_with_options("eth0", direction, options).unwrap();
        attached.push(Attached::Tc(program.take_link(link).unwrap()));
    }
    if let Some(mode) = mode {
        let program = xdp(programs);
        let link = program.attach("eth0", mode).unwrap();
        attached.push(Attached::Xdp(program.take_link(link).unwrap()));
    }
    attached
}

/// Seconds that this process has spent, in user space and in the kernel.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
