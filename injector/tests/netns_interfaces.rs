//! Interfaces that come, go and are shared, with the real daemon in namespaces of this test. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(kernels);

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::process::Command;

use injector_lab::needs;
use support::kernel::{has_tcx, tc};
use support::{Daemon, Lab, add_foreign_filter, filters, ip, ok, ours, qdiscs, run, until, warnings};

/// How many datagrams the loss is measured with.
const SENT: usize = 6000;

fn named(lab: &Lab, nodes: usize, interfaces: &str) -> String {
    let interfaces = (1..=nodes).fold(interfaces.to_owned(), |text, node| {
        text.replace(&format!("@n{node}"), &lab.netns(&format!("n{node}")))
    });
    let interfaces = interfaces.replace("@s", &lab.netns("sw"));
    format!("{}interfaces: [{interfaces}]\nready: {{ observe: 500ms }}\n", lab.peers())
}

#[test]
#[needs(root)]
fn an_interface_that_comes_back_is_attached_again_and_cuts() {
    let lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &named(&lab, 2, "{ name: eth0, netns: @n1 }"));
    let n1 = lab.netns("n1");
    assert!(lab.reaches_soon(1, 2));
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));

    ip(&format!("-n {n1} link delete eth0"));
    let gone = daemon.wait_hook(&n1, "eth0", None);
    assert!(gone["why"].as_str().unwrap().contains("no interface of this name"), "{gone}");
    let made = injector_core::clock::MonoNs::now();
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", Some(tc()));
    let attached = daemon.attached_at();
    let took = attached.saturating_since(made);
    // The promise is 100 ms from the notification on an idle host; this one need not be idle, and `ip` takes its time.
    println!("attached {took:?} after `ip link add` was started");
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    assert!(!lab.reaches(1, 2), "the cut holds on the new interface");
    assert!(!lab.reaches(2, 1));

    // An interface that is renamed is followed by its index.
    ip(&format!("-n {n1} link set eth0 down"));
    ip(&format!("-n {n1} link set eth0 name old0"));
    ip(&format!("-n {n1} link set old0 up"));
    let why = || daemon.wait_hook(&n1, "eth0", Some(tc()))["why"].as_str().unwrap().to_owned();
    until("its new name is known", || why().contains("its name is old0 now").then_some(()));
    assert!(!lab.reaches(1, 2));
    ip(&format!("-n {n1} link set old0 down"));
    ip(&format!("-n {n1} link set old0 name eth0"));
    ip(&format!("-n {n1} link set eth0 up"));
    until("its old name is known", || (!why().contains("old0")).then_some(()));
    assert!(!lab.reaches(1, 2));

    let timeline =
        ok(env!("CARGO_BIN_EXE_injector"), &format!("--socket {} timeline", daemon.socket().display()));
    assert!(timeline.contains(&format!("attached: {}", tc())) && timeline.contains("lost: "), "{timeline}");
    let healed = daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2), "{healed}");
    let record = daemon.cli("wait p --timeout 20s");
    assert_eq!(record["outcome"], "harness_failed", "{record}");
    assert!(record["links"][0]["uncovered"][0]["until_ns"].is_number(), "{record}");
}

#[test]
#[needs(root)]
fn the_other_ends_hook_covers_a_link_meanwhile() {
    let lab = Lab::switched(2);
    let interfaces = "{ name: eth0, netns: @n1 }, { name: eth0, netns: @n2 }";
    let daemon = Daemon::start(&lab, "d", &named(&lab, 2, interfaces));
    let n1 = lab.netns("n1");
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    ip(&format!("-n {n1} link delete eth0"));
    daemon.wait_hook(&n1, "eth0", None);
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", Some(tc()));
    daemon.cli("heal p");
    let record = daemon.cli("wait p --timeout 20s");
    for link in record["links"].as_array().unwrap() {
        assert_eq!(link["uncovered"], serde_json::json!([]), "{record}");
    }
}

#[test]
#[needs(root)]
fn a_namespace_made_again_under_its_name_is_entered_again() {
    let mut lab = Lab::switched(2);
    let daemon = Daemon::start(&lab, "d", &named(&lab, 2, "{ name: eth0, netns: @n1 }"));
    daemon.cli("partition isolate n1 --name p --for 60s");
    let n1 = lab.netns("n1");
    lab.delete("n1");
    let gone = daemon.wait_hook(&n1, "eth0", None);
    assert!(gone["why"].as_str().unwrap().contains("namespace is gone"), "{gone}");
    // The daemon does not keep the namespace alive: the switch's end of the pair goes with it.
    let switch = lab.netns("sw");
    until("the pair is gone", || {
        (!run("ip", &format!("-n {switch} link show p-n1")).status.success()).then_some(())
    });
    lab.add("n1");
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", Some(tc()));
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

#[test]
#[needs(root)]
fn auto_finds_the_nodes_own_interfaces() {
    let lab = Lab::switched(3);
    let config = format!("{}interfaces: auto\n", lab.peers());
    let daemon = Daemon::start(&lab, "d", &config);
    for node in 1..=3 {
        let netns = lab.netns(&format!("n{node}"));
        let found = daemon.attachment(&netns, "eth0");
        assert_eq!(found["hook"], tc());
        let why = found["why"].as_str().unwrap();
        assert!(why.contains(&format!("found for n{node}: {} is its own address", lab.ipv4(node))), "{why}");
    }
    assert_eq!(daemon.cli("status")["attachments"].as_array().unwrap().len(), 3);
    drop(daemon);

    let nowhere = "peers: { n1: { addresses: [203.0.113.77] } }\ninterfaces: auto\n";
    let (code, said) = Daemon::refusal(&lab, "nowhere", nowhere);
    assert_eq!(code, 2);
    assert!(
        said.contains("found none of the peers' addresses") && said.contains("name the interfaces"),
        "{said}"
    );
}

#[test]
#[needs(root)]
fn loss_on_a_path_through_two_hooks_is_rolled_once() {
    let lab = Lab::switched(2);
    // Both at the switch: the learned addresses and the pairs' other ends show which of them is whose.
    let daemon =
        Daemon::start(&lab, "d", &named(&lab, 2, "{ name: p-n1, netns: @s }, { name: p-n2, netns: @s }"));
    assert!(lab.reaches_soon(1, 2));
    let view = daemon.cli("partition isolate n1 --name p --for 60s --loss 30%");
    assert!(warnings(&view).is_empty(), "{view}");
    let got = lab.delivered_between(1, 2, SENT);
    // Five standard deviations of a binomial of 6000 are 178; rolled twice, 49% would come through.
    assert!((4200 - 178..=4200 + 178).contains(&got), "{got} of {SENT} came through");
    drop(daemon);

    // Nothing shows where peers live that are nowhere.
    let elsewhere = "peers: { a: { addresses: [203.0.113.1] }, b: { addresses: [203.0.113.2] } }\n";
    let config = format!("{elsewhere}interfaces: [{{ name: p-n1, netns: {} }}]\n", lab.netns("sw"));
    let daemon = Daemon::start(&lab, "e", &config);
    let view = daemon.cli("partition isolate a --name p --for 60s --loss 30% --allow-uncovered");
    let warnings = view["warnings"].as_array().unwrap();
    let is_of_loss =
        |warning: &serde_json::Value| warning["text"].as_str().unwrap().contains("no interface is known");
    assert!(warnings.iter().any(is_of_loss), "{view}");
}

#[test]
#[needs(root)]
fn what_a_killed_daemon_left_is_removed_and_nothing_else() {
    let lab = Lab::switched(2);
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    // Someone else's qdisc and filter on n2, before any of ours.
    ok("tc", &format!("-n {n2} qdisc add dev eth0 clsact"));
    add_foreign_filter(&n2, "eth0", "ingress");
    let config = |node: &str| named(&lab, 2, &format!("{{ name: eth0, netns: @{node}, hook: clsact }}"));

    let alive = Daemon::start(&lab, "alive", &config("n2"));
    let killed = Daemon::start(&lab, "killed", &config("n1"));
    assert_eq!(killed.attachment(&n1, "eth0")["hook"], "clsact");
    assert_eq!(ours(&filters(&n1, "eth0")), 2);
    killed.kill();
    assert_eq!(ours(&filters(&n1, "eth0")), 2, "a filter outlives its daemon");

    // A daemon with another hook finds them: no filter of any kind remains, nor the qdisc that the dead one made.
    let next = Daemon::start(&lab, "next", &named(&lab, 2, "{ name: eth0, netns: @n1, hook: tc }"));
    assert_eq!(next.attachment(&n1, "eth0")["hook"], tc());
    if has_tcx() {
        assert_eq!(filters(&n1, "eth0"), "", "{}", next.log());
        assert!(!qdiscs(&n1, "eth0").contains("clsact"));
    } else {
        assert_eq!(ours(&filters(&n1, "eth0")), 2, "its own, not the dead one's: {}", next.log());
    }
    until("its log says so", || next.log().contains("which is gone; removed").then_some(()));

    // A third one on the namespace of the living one touches neither its filters nor the stranger's.
    let (code, said) = Daemon::refusal(&lab, "third", &config("n2"));
    assert_eq!(code, 2);
    assert!(said.contains("another injector holds"), "{said}");
    let left = filters(&n2, "eth0");
    assert_eq!(ours(&left), 2, "{left}");
    assert!(left.contains("bytecode"), "{left}");
    until("the living one shows the stranger's", || {
        let others = alive.cli("status")["attachments"][0]["others"].to_string();
        others.contains("ingress filter bpf").then_some(())
    });
    alive.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));

    // A killed one on a qdisc of others leaves the qdisc, also after the sweep.
    alive.kill();
    let after = Daemon::start(&lab, "after", &config("n2"));
    assert_eq!(ours(&filters(&n2, "eth0")), 2, "its own, not the dead one's");
    after.stop();
    let left = filters(&n2, "eth0");
    assert!(left.contains("bytecode") && !left.contains("injector_"), "{left}");
    assert!(qdiscs(&n2, "eth0").contains("clsact"));
}

#[test]
#[needs(root)]
fn a_daemon_that_stops_takes_its_clsact_qdisc_along_unless_others_moved_in() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config = named(&lab, 2, "{ name: eth0, netns: @n1, hook: clsact }");
    Daemon::start(&lab, "a", &config).stop();
    assert!(!qdiscs(&n1, "eth0").contains("clsact"));
    let daemon = Daemon::start(&lab, "b", &config);
    add_foreign_filter(&n1, "eth0", "egress");
    daemon.stop();
    assert!(qdiscs(&n1, "eth0").contains("clsact"));
    let left = filters(&n1, "eth0");
    assert!(left.contains("bytecode") && !left.contains("injector_"), "{left}");
}

/// The `ingress` qdisc has clsact's place. Nobody else's daemon is to blame for it.
#[test]
#[needs(root)]
fn an_ingress_qdisc_of_others_is_named_by_the_start_and_by_doctor() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    ok("tc", &format!("-n {n1} qdisc add dev eth0 ingress"));
    let config = named(&lab, 2, "{ name: eth0, netns: @n1, hook: clsact }");
    let why = "it has another's ingress qdisc, which takes the place of clsact and no filters of egress; replace that one";
    let (code, said) = Daemon::refusal(&lab, "clsact", &config);
    assert_eq!(code, 2);
    assert!(said.contains(why) && !said.contains("injector doctor"), "{said}");
    let file = lab.folder().join("ingress.yaml");
    std::fs::write(&file, config).unwrap();
    let doctor = Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["doctor", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.code() == Some(1) && said.contains(why), "{said}");
    assert!(qdiscs(&n1, "eth0").contains("ingress"));

    if has_tcx() {
        let daemon = Daemon::start(&lab, "tc", &named(&lab, 2, "{ name: eth0, netns: @n1, hook: tc }"));
        assert_eq!(daemon.attachment(&n1, "eth0")["hook"], tc());
    }
}

#[test]
#[needs(root)]
fn xdp_is_native_or_generic_and_never_taken_from_others() {
    let lab = Lab::switched(2);
    let (n1, switch) = (lab.netns("n1"), lab.netns("sw"));
    let interfaces = "{ name: eth0, netns: @n1, hook: xdp }, { name: br0, netns: @s, hook: xdp }";
    let first = Daemon::start(&lab, "first", &named(&lab, 2, interfaces));
    assert_eq!(first.attachment(&n1, "eth0")["hook"], format!("xdp-native+{}", tc()));
    let generic = first.attachment(&switch, "br0");
    assert_eq!(generic["hook"], format!("xdp-generic+{}", tc()));
    assert!(generic["why"].as_str().unwrap().contains("in the stack"), "{generic}");
    assert!(lab.reaches_soon(1, 2) && lab.reaches_soon(2, 1));

    let second = Daemon::start(&lab, "second", &named(&lab, 2, "{ name: eth0, netns: @n1, hook: xdp }"));
    let taken = second.attachment(&n1, "eth0");
    assert_eq!(taken["hook"], tc());
    assert!(taken["why"].as_str().unwrap().contains("XDP is taken by program injector_xdp"), "{taken}");
    second.stop();
    assert_eq!(first.attachment(&n1, "eth0")["hook"], format!("xdp-native+{}", tc()));
    first.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2) && !lab.reaches(2, 1));
}

#[test]
#[needs(root)]
fn devices_that_can_not_be_attached_to_are_refused_by_name() {
    let lab = Lab::switched(1);
    let n1 = lab.netns("n1");
    ip(&format!("-n {n1} tuntap add dev tun7 mode tun"));
    let (code, said) = Daemon::refusal(
        &lab,
        "tun",
        &named(&lab, 1, "{ name: eth0, netns: @n1 }, { name: tun7, netns: @n1 }"),
    );
    assert_eq!(code, 2);
    assert!(said.contains("tun7") && said.contains("Ethernet header"), "{said}");
    let (_, said) = Daemon::refusal(&lab, "lo", &named(&lab, 1, "{ name: lo, netns: @n1 }"));
    assert!(said.contains("lo carries what a host sends to itself"), "{said}");
    let (_, said) = Daemon::refusal(&lab, "none", &named(&lab, 1, "{ name: eth9, netns: @n1 }"));
    assert!(said.contains("eth9") && said.contains("no such interface"), "{said}");
}

#[test]
#[needs(root)]
fn doctor_finds_and_removes_leftovers_without_a_daemon() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config = named(&lab, 2, "{ name: eth0, netns: @n1, hook: clsact }");
    let path = lab.folder().join("doctor.yaml");
    std::fs::write(&path, &config).unwrap();
    let doctor = |words: &str| {
        let output = run(
            env!("CARGO_BIN_EXE_injector"),
            &format!("--json doctor --config {} {words}", path.display()),
        );
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), found)
    };
    let mine = |found: &serde_json::Value| {
        let all = found["leftovers"].as_array().unwrap();
        all.iter()
            .map(|one| one["found"].as_str().unwrap().to_owned())
            .filter(|line| line.contains(&n1))
            .collect::<Vec<_>>()
    };
    let daemon = Daemon::start(&lab, "d", &config);
    let (code, found) = doctor("--clean");
    assert_eq!(code, 0, "{found}");
    assert!(mine(&found)[0].contains("which lives"), "{found}");
    assert!(found["interfaces"][0]["programs"].to_string().contains("injector_in"), "{found}");
    assert_eq!(ours(&filters(&n1, "eth0")), 2);

    daemon.kill();
    let (_, found) = doctor("");
    assert_eq!(mine(&found).len(), 2, "{found}");
    assert_eq!(ours(&filters(&n1, "eth0")), 2, "only looked for");
    let (_, found) = doctor("--clean");
    assert!(mine(&found)[0].contains("which is gone; removed, with the clsact qdisc"), "{found}");
    assert_eq!(filters(&n1, "eth0"), "");

    ip(&format!("-n {n1} link delete eth0"));
    let (code, found) = doctor("");
    assert_eq!(code, 1, "{found}");
    std::fs::write(&path, "peers: 7").unwrap();
    let output = run(env!("CARGO_BIN_EXE_injector"), &format!("doctor --config {}", path.display()));
    assert_eq!(output.status.code(), Some(64));
}
