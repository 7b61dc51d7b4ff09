//! Labs on the real kernel: traffic, what is hidden, and that nothing stays behind. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use injector_lab::http::Request;
use injector_lab::{CLIENT, Lab, Subnet, needs};

fn named() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[needs(root)]
fn peers_and_a_client_reach_each_other_until_the_lab_is_dropped() {
    let lab = Lab::builder("public").public().peers(2).client().up().unwrap();
    let (n1, folder) = (lab.netns("n1"), lab.folder().to_owned());
    assert!(lab.reaches_soon(1, 2) && lab.reaches_soon(2, 1));
    for (from, to) in lab.addresses(CLIENT).into_iter().zip(lab.addresses("n1")) {
        let got = lab.delivered((CLIENT, from), ("n1", to), 40, 40);
        assert_eq!(got, 40, "{from} → {to}");
    }
    lab.ip("n1", "link set eth0 down");
    assert!(!lab.can("n1", "link show eth7"));
    assert!(named().contains(&n1) && folder.is_dir());
    drop(lab);
    assert!(!named().contains(&n1) && !folder.exists());
}

#[test]
#[needs(root)]
fn a_panic_leaves_nothing_behind() {
    let (netns, pid) = std::thread::spawn(|| {
        let mut lab = Lab::builder("panics").public().peers(1).up().unwrap();
        let mut sleeper = lab.command("n1", "sleep");
        lab.start("sleeper", sleeper.arg("600")).unwrap();
        let left = (lab.netns("n1"), lab.processes()[0].id());
        std::panic::resume_unwind(Box::new(left));
    })
    .join()
    .map_err(|panic| *panic.downcast::<(String, u32)>().unwrap())
    .unwrap_err();
    assert!(!named().contains(&netns));
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
}

#[test]
#[needs(root)]
fn a_hidden_namespace_lives_on_and_a_deleted_one_does_not() {
    let mut lab = Lab::builder("hidden").subnet(Subnet::own()).up().unwrap();
    for of in ["a", "b"] {
        lab.add(of);
    }
    lab.cable(("a", "left"), ("b", "right"));
    lab.give("a", "left", 1);
    lab.give("b", "right", 2);
    lab.hide("b");
    assert!(!named().contains(&lab.netns("b")));
    let (from, to) = (("a", lab.ipv6(1)), ("b", lab.ipv6(2)));
    assert_eq!(lab.delivered(from, to, 3, 3), 3);
    lab.delete("a");
    injector_lab::until("its cable goes with it", || (!lab.can("b", "link show right")).then_some(()));
}

#[test]
#[needs(root)]
fn a_program_that_dies_is_named_with_its_last_words() {
    let mut lab = Lab::builder("dies").peers(1).up().unwrap();
    let mut failing = lab.command("n1", "sh");
    lab.start("failing", failing.args(["-c", "echo why; exit 3"])).unwrap();
    let asked = lab.wait_until("an answer", injector_lab::PATIENCE, |lab| {
        lab.request("n1", (lab.ipv4(1), 80), &Request::get("/")).map(drop)
    });
    let error = asked.unwrap_err().to_string();
    assert!(error.contains("failing has ended (exit status: 3)") && error.contains("why"), "{error}");
}

#[test]
#[needs(root)]
fn only_what_a_lab_starts_sees_its_names() {
    let lab = Lab::builder("private").peers(1).up().unwrap();
    let mine = lab.netns("n1");
    assert!(named().contains(&mine));
    let (other, seen) = std::thread::spawn(|| {
        let other = Lab::builder("private").peers(1).up().unwrap();
        (other.netns("n1"), named())
    })
    .join()
    .unwrap();
    assert!(!seen.contains(&mine), "{seen}");
    assert!(seen.contains(&other));
}
