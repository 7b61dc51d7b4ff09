//! Who sent a frame, who receives it, was it cut: the cases of the identity contract, by the real programs at every hook
//! on a frame's way. No interface is touched. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod cases;
mod flooded;
mod forms;
mod frames;
mod matrix;
mod moves;
mod path;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use cases::{Case, Expected, Setting, cases};
use frames::{arp, mac, one};
use injector_lab::needs;
use path::{HookPath, OPAQUE, Outcome, SIDES, Setup, Step, UPLINK, isolate};
use support::programs::config;

/// Interfaces that are hooked: one a peer, the uplink, and a second one of n1.
const INTERFACES: [u32; 5] = [1, 2, 3, UPLINK, 5];

/// A config of three peers, with whatever else n3 has.
fn path(n3: &str) -> HookPath {
    let text = format!(
        r#"
peers:
  n1: {{ addresses: [10.0.0.1, 10.0.0.100, "fd00::1"] }}
  n2: {{ addresses: [10.0.0.2, "fd00::2", 10.2.0.0/16] }}
  n3: {{ addresses: [10.0.0.3, "fd00::3"]{n3} }}
"#
    );
    HookPath::of(config(&text), &INTERFACES)
}

#[test]
#[needs(root)]
fn the_cases_of_the_contract() {
    let mut paths = BTreeMap::new();
    let mut wrong = Vec::new();
    let all = cases();
    let numbers: Vec<_> = {
        let mut numbers: Vec<_> = all.iter().map(|case| case.number).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers, (1..=45).collect::<Vec<_>>());
    for case in &all {
        let path = paths.entry(case.setting == Setting::SureMac).or_insert_with(|| {
            path(if case.setting == Setting::SureMac { ", mac: \"02:00:00:00:00:03\"" } else { "" })
        });
        wrong.extend(tried(path, case));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A guest that claims more addresses than are remembered displaces those of other guests, and none that a NIC is seen to hold.
#[test]
#[needs(root)]
fn claims_of_a_guest_displace_no_address_that_a_nic_holds() {
    const X: &str = "2001:db8::99";
    let mut path = path("");
    for side in SIDES {
        let mut setup = Setup::of(isolate(1)).hooked(&[1, 3]).knows(3, OPAQUE).holds(2, X);
        for number in 0..20_000_u32 {
            let [_, _, high, low] = number.to_be_bytes();
            setup = setup.before(arp(mac(3), &format!("172.16.{high}.{low}"), "10.0.0.1"), Step::From(3));
        }
        // Nothing but the address says whose it is.
        let outcome = path.send(side, &setup, &[(one(2, X, 1, "fd00::1"), vec![Step::To(1)])]);
        assert!(outcome.is_dropped, "{}: {outcome:?}", side.name);
    }
}

#[test]
#[needs(root)]
fn what_others_took_over_is_not_cut() {
    let mut path = path("");
    let wrong: Vec<String> = moves::cases().iter().flat_map(|case| tried(&mut path, case)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
#[needs(root)]
fn every_form_of_a_frame_is_cut_as_the_plain_one_is() {
    let mut path = path("");
    let wrong: Vec<String> = forms::cases().iter().flat_map(|case| tried(&mut path, case)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whatever becomes of a frame that a switch floods to a port that it is not for, it proves, counts and stamps nothing.
#[test]
#[needs(root)]
fn what_is_flooded_to_a_port_is_not_counted_there() {
    let mut path = path("");
    let mut wrong = Vec::new();
    for flooded::Flooded { what, setup, frame, path: steps, counts } in flooded::cases() {
        for side in SIDES {
            let outcome = path.send(side, &setup, &[(frame.clone(), steps.clone())]);
            let evidence = outcome.counted + outcome.leaked + outcome.unnamed;
            if (evidence > 0) != counts {
                wrong.push(format!("{what} at {}: {outcome:?}", side.name));
            }
            let firsts = path.firsts(side, &setup, &frame, &steps);
            let is_on_the_link = outcome.is_dropped;
            if firsts != usize::from(counts && is_on_the_link) {
                wrong.push(format!("{what} at {}: {firsts} first packets", side.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Sends a case's frames past the hooks of every side; what is not as it is expected.
fn tried(path: &mut HookPath, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    for side in SIDES {
        let outcome = path.send(side, &case.setup, &case.legs);
        println!("{:2} {:?} {}: {outcome:?} {}", case.number, case.expected, side.name, case.what);
        if !is_wanted(case.expected, outcome) {
            wrong.push(format!(
                "{} at {}: {:?}, not {outcome:?}: {}",
                case.number, side.name, case.expected, case.what
            ));
        }
    }
    wrong
}

fn is_wanted(expected: Expected, outcome: Outcome) -> bool {
    let Outcome { is_dropped, leaked, foreign, unnamed, .. } = outcome;
    match expected {
        Expected::Drop | Expected::Innocent => is_dropped && leaked == 0,
        Expected::Pass => !is_dropped && (leaked, foreign) == (0, 0),
        Expected::Leaked => !is_dropped && leaked > 0,
        Expected::Foreign => !is_dropped && foreign > 0,
        Expected::Unnamed => !is_dropped && unnamed > 0,
    }
}

/// The page with the matrix.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/identity-matrix.md");

/// What is above the matrix.
const HEAD: &str = "# Which frames a cut drops

Each kind of frame in each shape, at the hooks on its way, beside a switch port that is off. For shapes of links that is an
access list between two ports of one switch. There are three peers, n1 to n3, each behind a port of its own, whose addresses
the config lists, whose namespaces are seen and which forward for nobody. *Both ends*: every peer's port is hooked. *Sender's
port*, *receiver's port*: only that one is. The two ends of a veth, TC and XDP all do the same. `isolate` cuts a peer off from
the other peers and not from the world, unless the shape names it.

The test `kernel_identity` compares this page with what the programs do in the kernel. This generates it again:

```
INJECTOR_MATRIX=$PWD/docs/identity-matrix.md cargo test --package injector --test kernel_identity the_matrix
```

";

#[test]
#[needs(root)]
fn the_matrix_is_as_the_page_has_it() {
    let made = format!("{HEAD}{}", matrix::matrix(&mut path("")));
    if let Some(path) = std::env::var_os("INJECTOR_MATRIX") {
        std::fs::write(path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(PAGE).unwrap();
    assert!(
        stored == made,
        "docs/identity-matrix.md is not what the programs do; it says how to generate it again"
    );
}
