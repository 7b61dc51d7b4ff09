//! Which kinds of devices, and which queueing disciplines, a cut works on, over each hook. Each test needs the kernel's
//! devices of its kind, and is skipped without them. `cargo xtask vm --matrix` runs these tests on other kernels and makes
//! `docs/kernel-matrix.md` from the cells that they report.

injector_lab::group!(kernels);

mod cell;
#[path = "../support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;
mod traffic;
mod wired;

use cell::{Cell, Hook};
use injector_lab::{needs, skip};
use wired::Device;

/// Tries a device with each hook, and reports each result.
fn tried(test: &str, device: Device) {
    let mut faults = Vec::new();
    let mut absent = None;
    for hook in Hook::ALL {
        let cell = cell::tried(device, hook);
        cell::report(device, hook, &cell);
        if cell.is_fault() {
            faults.push(format!("{device} over {hook}: {} ({})", cell.word(), cell.detail()));
        }
        if let Cell::NoDevice(why) = cell {
            absent = Some(why);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    if let Some(why) = absent {
        skip(test, &format!("this kernel has no {device}: {why}"));
    }
}

#[test]
#[needs(root)]
fn veth() {
    tried("veth", Device::Veth);
}

#[test]
#[needs(root)]
fn bridge_port() {
    tried("bridge_port", Device::BridgePort);
}

#[test]
#[needs(root, every_kernel)]
fn vlan() {
    tried("vlan", Device::Vlan);
}

#[test]
#[needs(root)]
fn bond() {
    tried("bond", Device::Bond);
}

#[test]
#[needs(root)]
fn macvlan() {
    tried("macvlan", Device::Macvlan);
}

#[test]
#[needs(root)]
fn ipvlan() {
    tried("ipvlan", Device::Ipvlan);
}

#[test]
#[needs(root)]
fn vrf_member() {
    tried("vrf_member", Device::VrfMember);
}

#[test]
#[needs(root)]
fn vrf() {
    tried("vrf", Device::Vrf);
}

#[test]
#[needs(root)]
fn wireguard() {
    tried("wireguard", Device::Wireguard);
}

#[test]
#[needs(root)]
fn vxlan() {
    tried("vxlan", Device::Vxlan);
}

#[test]
#[needs(root)]
fn geneve() {
    tried("geneve", Device::Geneve);
}

#[test]
#[needs(root, every_kernel)]
fn netkit() {
    tried("netkit", Device::Netkit);
}

#[test]
#[needs(root, every_kernel)]
fn fq() {
    tried("fq", Device::Fq);
}

#[test]
#[needs(root)]
fn fq_codel() {
    tried("fq_codel", Device::FqCodel);
}

#[test]
#[needs(root)]
fn netem() {
    tried("netem", Device::Netem);
}
