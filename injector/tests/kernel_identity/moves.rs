//! Addresses and MAC addresses that a peer had and someone else has now: no one else's frame is dropped for it, and what is
//! still the peer's is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cases::{Case, Expected, N1, N2, N3, case};
use crate::frames::{
    DRAWN, VIRTUAL, arp, arp_reply, mac, multicast, neighbour_advertisement, one, solicitation, udp,
};
use crate::path::Step::{From, To};
use crate::path::{OPAQUE, PLAIN, ROUTER, Setup, UPLINK, isolate};
use injector_core::identity::Traits;

/// A host that is no peer, behind the uplink.
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
/// Addresses that the config does not list.
const X: &str = "2001:db8::99";
const X4: &str = "192.0.2.9";
/// The listed address of n1 in IPv6.
const N1_V6: &str = "fd00::1";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// n2 is a guest that is not seen inside; n1 is cut off.
fn guest() -> Setup {
    Setup::of(isolate(1)).knows(2, OPAQUE)
}

/// The guest claimed both addresses.
fn claimed() -> Setup {
    guest().before(solicitation(mac(2), "::", X), From(2)).before(arp(mac(2), X4, N3), From(2))
}

/// All cases, numbered as they come.
pub fn cases() -> Vec<Case> {
    let groups = [
        claims(),
        contests(),
        ages(),
        macs(),
        held(),
        shared_with_a_router(),
        listed(),
        private(),
        through_one_nic(),
    ];
    let mut all: Vec<Case> = groups.into_iter().flatten().collect();
    for (number, case) in (1..).zip(&mut all) {
        case.number = number;
    }
    all
}

fn claims() -> Vec<Case> {
    use Expected::{Drop, Pass};
    let later = || claimed().wait(10 * SECOND);
    let own = || one(2, X, 1, N1_V6);
    let out = [From(2), To(1)];
    vec![
        case(0, "a guest from an address that it claimed→n1", Drop, later(), own(), &out),
        case(0, "n1→that address", Drop, later(), one(1, N1_V6, 2, X), &[From(1), To(2)]),
        case(0, "its multicast, copy at n1", Drop, later(), multicast(mac(2), X), &out),
        case(
            0,
            "a host has the address now, without a word; the host→n1",
            Pass,
            later(),
            udp(HOST, X, mac(1), N1_V6),
            &[From(UPLINK), To(1)],
        ),
        case(0, "the same in IPv4", Pass, later(), udp(HOST, X4, mac(1), N1), &[From(UPLINK), To(1)]),
        case(0, "the same, the uplink not hooked", Pass, later(), udp(HOST, X, mac(1), N1_V6), &[To(1)]),
        case(0, "n1→the host", Pass, later(), udp(mac(1), N1_V6, HOST, X), &[From(1), To(UPLINK)]),
        case(
            0,
            "multicast of the host, copy at n1",
            Pass,
            later(),
            multicast(HOST, X),
            &[From(UPLINK), To(1)],
        ),
        case(
            0,
            "n1 asks for the address, copy at the host",
            Pass,
            later(),
            solicitation(mac(1), N1_V6, X),
            &[From(1), To(UPLINK)],
        ),
        case(0, "its copy at the guest", Drop, later(), solicitation(mac(1), N1_V6, X), &[From(1), To(2)]),
    ]
}

fn contests() -> Vec<Case> {
    use Expected::{Drop, Foreign, Pass};
    let out = [From(2), To(1)];
    let own = || one(2, X, 1, N1_V6);
    let own4 = || one(2, X4, 1, N1);
    let later = || claimed().wait(10 * SECOND);
    let mut all = Vec::new();
    // If anyone else claims it, it is nobody's.
    for (what, frame) in [
        ("asks", solicitation(HOST, X, N1_V6)),
        ("is about to take it", solicitation(HOST, "::", X)),
        ("advertises it", neighbour_advertisement(HOST, X, true)),
    ] {
        for (at, step) in [("", From(UPLINK)), (", seen at n1", To(1)), (", seen at the guest", To(2))] {
            let what = format!("a host {what}{at}; the guest→n1").leak();
            all.push(case(0, what, Foreign, later().before(frame.clone(), step), own(), &out));
        }
    }
    all.push(case(
        0,
        "a host announces it by ARP; the guest→n1",
        Foreign,
        later().before(arp(HOST, X4, X4), From(UPLINK)),
        own4(),
        &out,
    ));
    all.push(case(
        0,
        "another peer that is seen inside announces it; the guest→n1",
        Foreign,
        later().before(arp(mac(3), X4, X4), From(3)),
        own4(),
        &out,
    ));
    // What a proxy sends says nothing, and neither does the guest's own frame on its way.
    for (what, frame, step) in [
        ("a proxy answers for it", neighbour_advertisement(HOST, X, false), From(UPLINK)),
        ("its own question passes n1's port", solicitation(mac(2), X, N1_V6), To(1)),
        ("its own question passes the uplink", solicitation(mac(2), X, N1_V6), To(UPLINK)),
        ("its own question comes back by the uplink", solicitation(mac(2), X, N1_V6), From(UPLINK)),
    ] {
        let setup = later().before(solicitation(mac(2), X, N1_V6), From(2)).before(frame, step);
        all.push(case(0, what, Drop, setup, own(), &out));
    }
    let proxied = later().before(arp_reply(HOST, X4, mac(1), N1), From(UPLINK));
    all.push(case(0, "a proxy answers for it by ARP", Drop, proxied, own4(), &out));
    // The guest takes it back.
    let taken_back = |after| {
        later().before(arp(HOST, X4, X4), From(UPLINK)).wait(after).before(arp(mac(2), X4, X4), From(2))
    };
    all.push(case(0, "claimed back in a minute", Foreign, taken_back(30 * SECOND), own4(), &out));
    all.push(case(0, "claimed back later", Drop, taken_back(2 * MINUTE), own4(), &out));
    // A virtual router's address and MAC move together.
    let virtual_router = guest()
        .before(arp(VIRTUAL, X4, X4), From(2))
        .since(udp(VIRTUAL, X4, mac(3), N3), From(2))
        .wait(3 * SECOND)
        .since(arp(VIRTUAL, X4, X4), From(UPLINK));
    all.push(case(
        0,
        "a virtual router moved to a host; n1→its address",
        Pass,
        virtual_router.clone(),
        udp(mac(1), N1, VIRTUAL, X4),
        &[From(1), To(UPLINK)],
    ));
    all.push(case(
        0,
        "its address→n1",
        Pass,
        virtual_router,
        udp(VIRTUAL, X4, mac(1), N1),
        &[From(UPLINK), To(1)],
    ));
    all
}

fn ages() -> Vec<Case> {
    use Expected::{Drop, Foreign, Pass};
    let out = [From(2), To(1)];
    let own = || one(2, X, 1, N1_V6);
    let used = |setup: Setup| setup.since(one(2, X, 3, "fd00::3"), From(2)).wait(9 * MINUTE);
    vec![
        case(0, "claimed 9 minutes ago", Drop, claimed().wait(9 * MINUTE), own(), &out),
        case(0, "claimed 11 minutes ago", Foreign, claimed().wait(11 * MINUTE), own(), &out),
        case(
            0,
            "claimed again since",
            Drop,
            claimed().wait(9 * MINUTE).before(solicitation(mac(2), X, N1_V6), From(2)).wait(9 * MINUTE),
            own(),
            &out,
        ),
        case(0, "used since", Drop, used(used(claimed().wait(9 * MINUTE))), own(), &out),
        case(
            0,
            "used since by a router, which may send it for another",
            Pass,
            used(claimed().knows(2, ROUTER).wait(9 * MINUTE)),
            own(),
            &out,
        ),
        case(
            0,
            "held by a NIC that is seen, for long",
            Drop,
            Setup::of(isolate(1)).holds(2, X).wait(60 * MINUTE),
            own(),
            &out,
        ),
    ]
}

fn macs() -> Vec<Case> {
    use Expected::{Drop, Pass};
    let local = |src, dst| udp(src, "fe80::99", dst, "fe80::1");
    let learned = |mac| guest().since(local(mac, super::frames::mac(3)), From(2));
    let to_it = |mac| udp(super::frames::mac(1), "fe80::1", mac, "fe80::99");
    let elsewhere = [From(1), To(UPLINK)];
    let doubled = || learned(DRAWN).sees_twice(DRAWN).sees(mac(1), 1);
    vec![
        case(
            0,
            "a host is seen to have the guest's MAC too; link-local, the host→n1",
            Pass,
            doubled(),
            local(DRAWN, mac(1)),
            &[From(UPLINK), To(1)],
        ),
        case(0, "the same, n1→the host", Pass, doubled(), to_it(DRAWN), &elsewhere),
        case(0, "the same, the guest→n1", Drop, doubled(), local(DRAWN, mac(1)), &[From(2), To(1)]),
        case(0, "the same, n1→the guest", Drop, doubled(), to_it(DRAWN), &[From(1), To(2)]),
        case(
            0,
            "the same, an address that names nobody, the host→n1",
            Pass,
            Setup { traits: [1, 2, 3].map(|peer| (peer, PLAIN)).into(), ..doubled() },
            udp(DRAWN, X, mac(1), N1_V6),
            &[From(UPLINK), To(1)],
        ),
        case(
            0,
            "DAD from a MAC that the guest drew just now, copy at n1",
            Drop,
            guest(),
            solicitation(DRAWN, "::", X),
            &[From(2), To(1)],
        ),
        case(
            0,
            "the MAC moved to a host 3 s ago; link-local, the host→n1",
            Pass,
            learned(VIRTUAL).wait(3 * SECOND),
            local(VIRTUAL, mac(1)),
            &[From(UPLINK), To(1)],
        ),
        case(
            0,
            "the same, the uplink not hooked",
            Pass,
            learned(VIRTUAL).wait(3 * SECOND),
            local(VIRTUAL, mac(1)),
            &[To(1)],
        ),
        case(
            0,
            "multicast of the host, copy at n1",
            Pass,
            learned(VIRTUAL).wait(3 * SECOND),
            multicast(VIRTUAL, "fe80::99"),
            &[From(UPLINK), To(1)],
        ),
        case(0, "n1→the guest's MAC", Drop, learned(DRAWN).wait(3 * SECOND), to_it(DRAWN), &elsewhere),
        case(
            0,
            "n1→the MAC, which a host sent from since",
            Pass,
            learned(VIRTUAL).wait(3 * SECOND).since(local(VIRTUAL, mac(3)), To(3)),
            to_it(VIRTUAL),
            &elsewhere,
        ),
        case(
            0,
            "n1→the MAC, which was not seen for long",
            Pass,
            learned(VIRTUAL).wait(31 * SECOND),
            to_it(VIRTUAL),
            &elsewhere,
        ),
        case(
            0,
            "the guest's own frame passed other hooks since",
            Drop,
            learned(DRAWN).since(local(DRAWN, mac(3)), To(UPLINK)).since(local(DRAWN, mac(3)), To(3)),
            to_it(DRAWN),
            &elsewhere,
        ),
        case(
            0,
            "the guest sends from it again",
            Drop,
            learned(VIRTUAL)
                .wait(3 * SECOND)
                .since(local(VIRTUAL, mac(3)), To(3))
                .wait(SECOND)
                .since(local(VIRTUAL, mac(3)), From(2)),
            to_it(VIRTUAL),
            &elsewhere,
        ),
    ]
}

/// n1 is cut off and has a device of a virtual router, so it is not known to forward for nobody. The NIC holds `X4`.
fn router() -> Setup {
    let known = Traits { is_plain: false, ..PLAIN };
    Setup::of(isolate(1)).knows(1, known).holds(1, X4).since(arp(VIRTUAL, X4, X4), From(1)).wait(3 * SECOND)
}

/// n1 is cut off, and its bridge for containers has an address that a host may have, too.
fn private() -> Vec<Case> {
    use Expected::{Drop, Pass};
    const BRIDGE: &str = "172.17.0.1";
    let keeps = || Setup::of(isolate(1)).keeps(1, BRIDGE).sees(mac(1), 1);
    let (to_host, from_host) = (|| udp(mac(2), N2, HOST, BRIDGE), || udp(HOST, BRIDGE, mac(2), N2));
    vec![
        case(0, "n2→a host that has an address of n1's bridge", Pass, keeps(), to_host(), &[From(2)]),
        case(0, "the same, by the uplink", Pass, keeps(), to_host(), &[From(2), To(UPLINK)]),
        case(0, "the host→n2", Pass, keeps(), from_host(), &[To(2)]),
        case(0, "n2→n1's bridge", Drop, keeps(), one(2, N2, 1, BRIDGE), &[From(2)]),
        case(0, "the same, at n1", Drop, keeps(), one(2, N2, 1, BRIDGE), &[To(1)]),
        case(0, "n1 from its bridge→n2", Drop, keeps(), one(1, BRIDGE, 2, N2), &[From(1)]),
        case(0, "the same, at n2", Drop, keeps(), one(1, BRIDGE, 2, N2), &[To(2)]),
        case(0, "n2→n1's bridge by a router, at n1", Drop, keeps(), udp(HOST, N2, mac(1), BRIDGE), &[To(1)]),
    ]
}

/// n1 is cut off. It has one NIC, and its host forwards: a client that no route shows reaches n2 through it.
fn through_one_nic() -> Vec<Case> {
    use Expected::{Drop, Foreign, Pass};
    const CLIENT: &str = "10.0.0.77";
    let may = Traits { may_forward: true, ..PLAIN };
    let known = move |traits| Setup::of(isolate(1)).knows(1, traits).sees(mac(1), 1);
    let in_ = || udp(HOST, CLIENT, mac(1), N2);
    let out = || one(1, CLIENT, 2, N2);
    vec![
        case(0, "a client→n2, on its way to n1", Pass, known(may), in_(), &[To(1)]),
        case(0, "the same, on its way from n1", Foreign, known(may).since(in_(), To(1)), out(), &[From(1)]),
        case(0, "the same, at n2", Pass, known(may).since(in_(), To(1)), out(), &[To(2)]),
        case(0, "n1 itself, from an address that nothing shows", Drop, known(may), out(), &[From(1)]),
        case(
            0,
            "the same, after a frame for someone else that a switch flooded",
            Drop,
            known(may).since(udp(HOST, CLIENT, mac(2), N2), To(1)),
            out(),
            &[From(1)],
        ),
        case(
            0,
            "the same, after one for n1 itself",
            Drop,
            known(may).since(udp(HOST, CLIENT, mac(1), N1), To(1)),
            out(),
            &[From(1)],
        ),
        case(
            0,
            "the same, where its host forwards nothing",
            Drop,
            known(PLAIN).since(in_(), To(1)),
            out(),
            &[From(1)],
        ),
        case(
            0,
            "n1→n2 all the same",
            Drop,
            known(may).since(in_(), To(1)),
            one(1, N1, 2, N2),
            &[From(1), To(2)],
        ),
    ]
}

/// Addresses that are seen on a NIC of a peer, and that someone else takes.
fn held() -> Vec<Case> {
    use Expected::{Drop, Pass};
    let (to, from) = (|| udp(mac(2), N2, VIRTUAL, X4), || udp(VIRTUAL, X4, mac(2), N2));
    let taken = || router().since(arp(VIRTUAL, X4, X4), To(2)).since(arp(VIRTUAL, X4, X4), To(1));
    let later = || taken().wait(SECOND);
    let shared = |holder| Setup { held: BTreeMap::new(), ..router() }.shares(holder, X4);
    let host = [From(2), To(UPLINK)];
    let mut all = vec![
        case(0, "n2→an address that n1's NIC holds", Drop, router(), to(), &host),
        case(0, "a host announces it; n2→it at the host", Pass, later(), to(), &host),
        case(0, "n2→it at n1", Drop, later(), to(), &[From(2), To(1)]),
        case(0, "it→n2 from the host", Pass, later(), from(), &[From(UPLINK), To(2)]),
        case(0, "it→n2 from n1", Drop, later(), from(), &[From(1), To(2)]),
        case(0, "the host announces it again, copy at n2", Pass, later(), arp(VIRTUAL, X4, X4), &[To(2)]),
        case(0, "n2 asks for it, copy at the host", Pass, later(), arp(mac(2), N2, X4), &host),
        case(0, "its copy at n1", Drop, later(), arp(mac(2), N2, X4), &[From(2), To(1)]),
        case(0, "9 minutes later; n2→it at the host", Pass, later().wait(9 * MINUTE), to(), &host),
        case(
            0,
            "n1 uses a MAC of its own elsewhere; n2→it",
            Drop,
            later().sees(DRAWN, 1),
            udp(mac(2), N2, DRAWN, X4),
            &host,
        ),
        case(
            0,
            "n1's own announcement passes other ports",
            Drop,
            router().since(arp(VIRTUAL, X4, X4), From(1)).since(arp(VIRTUAL, X4, X4), To(2)).wait(SECOND),
            to(),
            &host,
        ),
        case(
            0,
            "n1 announces it from another NIC",
            Drop,
            router().sees(DRAWN, 1).since(arp(DRAWN, X4, X4), To(2)).wait(SECOND),
            to(),
            &host,
        ),
        case(
            0,
            "a proxy answers for it",
            Drop,
            router().since(arp_reply(HOST, X4, mac(2), N2), To(2)).wait(SECOND),
            to(),
            &host,
        ),
        case(
            0,
            "it is behind a peer that routes, which nobody knows and which is cut off; n2→it",
            Expected::Leaked,
            Setup { cut: isolate(3), ..later() }.knows(3, Traits { is_plain: false, ..PLAIN }),
            udp(mac(2), N2, mac(3), X4),
            &[From(2), To(3)],
        ),
        case(
            0,
            "n1's port is not hooked, and a host announces it; n2→it",
            Drop,
            router().hooked(&[2, 3]).since(arp(HOST, X4, X4), To(2)).wait(SECOND),
            to(),
            &host,
        ),
    ];
    for (holder, whose) in [(Some(1), "someone else"), (None, "another peer")] {
        for (what, expected, frame, path) in [
            ("n2→it elsewhere", Pass, to(), host),
            ("n2→it at n1", Drop, to(), [From(2), To(1)]),
            ("it→n2 from elsewhere", Pass, from(), [From(UPLINK), To(2)]),
            ("it→n2 from n1", Drop, from(), [From(1), To(2)]),
            ("n3→it at n2", Pass, udp(mac(3), N3, VIRTUAL, X4), [From(3), To(2)]),
            ("it→n3 from n2", Pass, udp(VIRTUAL, X4, mac(3), N3), [From(2), To(3)]),
        ] {
            let what = format!("{whose} is seen to hold n1's address too; {what}").leak();
            all.push(case(0, what, expected, shared(holder), frame, &path));
        }
    }
    all
}

/// n1 and n2 hold an address, and n1 is the next hop of a route.
fn shared_with_a_router() -> Vec<Case> {
    use Expected::{Drop, Leaked, Pass};
    let setup = |peer| Setup::of(isolate(peer)).knows(1, ROUTER).shares(None, X4);
    let (to, from) = (|dst| udp(mac(3), N3, mac(dst), X4), |src| udp(mac(src), X4, mac(3), N3));
    vec![
        case(0, "n3→a shared address at n1, which routes", Drop, setup(1), to(1), &[From(3), To(1)]),
        case(0, "it→n3 from n1, which may pass it on for n2", Leaked, setup(1), from(1), &[From(1), To(3)]),
        case(0, "the same, isolate n2", Pass, setup(2), from(1), &[From(1), To(3)]),
        case(0, "n3→it at n1, isolate n2", Pass, setup(2), to(1), &[From(3), To(1)]),
        case(0, "n3→it at n2", Drop, setup(2), to(2), &[From(3), To(2)]),
        case(0, "it→n3 from n2", Drop, setup(2), from(2), &[From(2), To(3)]),
        case(
            0,
            "n3→it through a router that does not hold it",
            Pass,
            Setup { cut: isolate(3), ..setup(3) }.knows(3, ROUTER),
            udp(mac(2), N2, mac(3), X4),
            &[To(3)],
        ),
    ]
}

/// Listed addresses, themselves or in a prefix, that another peer holds.
fn listed() -> Vec<Case> {
    use Expected::{Drop, Pass};
    let cut = |peer| Setup::of(isolate(peer)).knows(1, OPAQUE).knows(2, OPAQUE);
    let takes = |peer| cut(peer).before(arp(mac(2), N1, N1), From(2)).wait(5 * MINUTE);
    let takes_pod = |peer| cut(peer).before(arp(mac(1), "10.2.0.9", N3), From(1)).wait(5 * MINUTE);
    let holds_pod = |peer| cut(peer).moves("10.2.0.10", 1);
    let to = |dst: u8, address| one(3, N3, dst, address);
    let at = |dst: u32| [From(3), To(dst)];
    vec![
        case(0, "n2 announces n1's address, isolate n1; n3→it at n2", Pass, takes(1), to(2, N1), &at(2)),
        case(0, "the same, isolate n2", Drop, takes(2), to(2, N1), &at(2)),
        case(0, "n2 from it, isolate n1", Pass, takes(1), one(2, N1, 3, N3), &[From(2), To(3)]),
        case(0, "n2 from it, isolate n2", Drop, takes(2), one(2, N1, 3, N3), &[From(2), To(3)]),
        case(
            0,
            "the announcement has a MAC of n1's, isolate n1; n3→it at n2's port",
            Drop,
            cut(1).sees(DRAWN, 1).before(arp(DRAWN, N1, N1), From(2)),
            to(2, N1),
            &at(2),
        ),
        case(0, "n3→it at n1, which still has it", Drop, takes(1), to(1, N1), &at(1)),
        case(
            0,
            "n1 announces it too",
            Pass,
            takes(2).before(arp(mac(1), N1, N1), From(1)),
            to(1, N1),
            &at(1),
        ),
        case(
            0,
            "a host that is no peer announces n1's address",
            Drop,
            cut(1).before(arp(HOST, N1, N1), From(UPLINK)),
            to(1, N1),
            &at(1),
        ),
        case(
            0,
            "a peer that is seen inside asks from n1's address, and does not hold it",
            Drop,
            cut(1).knows(2, PLAIN).before(arp(mac(2), N1, N3), From(2)),
            to(1, N1),
            &at(1),
        ),
        case(
            0,
            "n1 claims an address of n2's prefix, isolate n2",
            Pass,
            takes_pod(2),
            to(1, "10.2.0.9"),
            &at(1),
        ),
        case(0, "the same, isolate n1", Drop, takes_pod(1), to(1, "10.2.0.9"), &at(1)),
        case(0, "n1 from it, isolate n2", Pass, takes_pod(2), one(1, "10.2.0.9", 3, N3), &[From(1), To(3)]),
        case(0, "the next address is n2's", Drop, takes_pod(2), to(2, "10.2.0.8"), &at(2)),
        case(0, "a NIC of n1 holds one, isolate n2", Pass, holds_pod(2), to(1, "10.2.0.10"), &at(1)),
        case(0, "the same, isolate n1", Drop, holds_pod(1), to(1, "10.2.0.10"), &at(1)),
        case(
            0,
            "a NIC of n1 sends from it, isolate n2",
            Pass,
            holds_pod(2),
            one(1, "10.2.0.10", 3, N3),
            &[From(1), To(3)],
        ),
    ]
}
