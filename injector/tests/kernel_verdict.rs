//! Verdicts of the real programs in the real kernel, by `BPF_PROG_TEST_RUN`: no interface is touched.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/packet.rs"]
mod packet;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use injector::clock::MonoNs;
use injector::clock::Span;
use injector::config::{Config, Hook, Interface, Interfaces, Peer, Ready, Socket};
use injector::datapath::{Clocks, Datapath as _, Kernel, Presence, SlotIndex};
use injector::model::{Link, PeerNames};
use injector_common::Word;
use injector_common::slot::{LOSS_ALL, MAX_SCOPES, Slot, SlotScope};

const NEXT: u32 = u32::MAX;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

fn config() -> Config {
    let names = PeerNames::new(["n1", "n2", "n3"].map(str::to_owned));
    let peers = names
        .peers()
        .map(|id| Peer {
            id,
            addresses: vec![
                format!("10.0.0.{}", id.0).parse().unwrap(),
                format!("fd00::{}", id.0).parse().unwrap(),
            ],
            prefixes: Vec::new(),
            mac: None,
        })
        .collect();
    Config {
        socket: Socket { path: "/unused".into(), group: String::new(), mode: 0o600 },
        names,
        peers,
        interfaces: Interfaces::Named(vec![Interface { name: "none".into(), netns: None, hook: Hook::Auto }]),
        endpoints: Vec::new(),
        ready: Ready {
            consecutive: 5,
            observe: Span::secs(12),
            observe_max: Span::secs(60),
            tolerate: Span::default(),
        },
        deadline: Span::secs(20),
        protect: Vec::new(),
        max_for: Span::secs(600),
        presets: std::collections::BTreeMap::new(),
    }
}

fn steady(generation: u32) -> Slot {
    Slot {
        starts_at: 0,
        ends_at: u64::MAX,
        loss: LOSS_ALL,
        flap_period: 0,
        flap_on: 0,
        generation,
        scope_count: 0,
        drop_neighbour: 0,
        pad: 0,
        scopes: [SlotScope::default(); MAX_SCOPES],
    }
}

struct Programs {
    kernel: Kernel,
    ebpf: aya::Ebpf,
}

impl Programs {
    fn load() -> Self {
        let kernel = Kernel::load(&config(), Clocks::Real).unwrap();
        let mut ebpf = kernel.object().instance(1).unwrap();
        for name in ["injector_in", "injector_out"] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap_or_else(|error| panic!("{name}: {}", injector::datapath::chain(&error)));
        }
        let program: &mut Xdp = ebpf.program_mut("injector_xdp").unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|error| panic!("xdp: {}", injector::datapath::chain(&error)));
        Self { kernel, ebpf }
    }

    fn run(&mut self, name: &str, frame: &[u8]) -> u32 {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let result = if name == "injector_xdp" {
            let program: &mut Xdp = self.ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.test_run(options)
        } else {
            let program: &mut SchedClassifier = self.ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.test_run(options)
        };
        result.unwrap().return_value
    }
}

#[test]
fn a_cut_drops_its_link_and_nothing_else() {
    let mut programs = Programs::load();
    let names = config().names;
    let link = Link { src: names.id("n1").unwrap(), dst: names.id("n2").unwrap() };
    let slot = SlotIndex(3);
    let cut = [
        packet::tcp("10.0.0.1", "10.0.0.2", 1, 2, 0x18, b"x"),
        packet::tcp("fd00::1", "fd00::2", 1, 2, 2, b""),
    ];
    let kept = [
        packet::tcp("10.0.0.2", "10.0.0.1", 1, 2, 0x18, b"x"),
        packet::tcp("10.0.0.1", "10.0.0.3", 1, 2, 0x18, b"x"),
        packet::udp("10.0.0.1", "192.0.2.1", 1, 2, b"x"),
        packet::ethernet(0x88cc, &[0; 60]),
        vec![0; 14],
    ];
    let verdicts = |programs: &mut Programs, expected: [u32; 3]| {
        for frame in &cut {
            for (name, expected) in ["injector_in", "injector_out", "injector_xdp"].into_iter().zip(expected)
            {
                assert_eq!(programs.run(name, frame), expected, "{name}");
            }
        }
        for frame in &kept {
            for (name, expected) in
                ["injector_in", "injector_out", "injector_xdp"].into_iter().zip([NEXT, NEXT, XDP_PASS])
            {
                assert_eq!(programs.run(name, frame), expected, "{name}");
            }
        }
    };
    verdicts(&mut programs, [NEXT, NEXT, XDP_PASS]);
    programs.kernel.write_slot(slot, &steady(9)).unwrap();
    programs.kernel.write_links(slot, &[link], Presence::In);
    verdicts(&mut programs, [NEXT, NEXT, XDP_PASS]);
    let cut_at = programs.kernel.gate().store(Word::new(slot.bit(), 0)).unwrap();
    verdicts(&mut programs, [SHOT, REDIRECT, XDP_DROP]);
    let heal_at = programs.kernel.gate().store(Word::new(0, slot.bit())).unwrap();
    verdicts(&mut programs, [NEXT, NEXT, XDP_PASS]);

    let stamps = programs.kernel.link_stamps(slot, 9).unwrap();
    assert_eq!(stamps.len(), 1);
    let (stamped, stamps) = stamps[0];
    assert_eq!(stamped, link);
    assert_eq!(stamps.dropped_packets, 6);
    let first_drop = MonoNs(stamps.first_drop);
    let last_drop = MonoNs(stamps.last_drop);
    assert!(cut_at.begin <= first_drop && first_drop < last_drop && last_drop <= heal_at.end);
    assert!(heal_at.begin <= MonoNs(stamps.first_packet));
    assert!(stamps.first_packet <= stamps.first_data && stamps.first_packet < stamps.first_syn);
    assert_eq!(stamps.first_synack, 0);
    programs.kernel.forget(slot).unwrap();
    assert!(programs.kernel.link_stamps(slot, 9).unwrap().is_empty());
}
