//! Filters of clsact, which only the namespace's thread can take off, while that is held up.

use injector_lab::needs;
use rustix::process::Signal;

use crate::stopped_thread::StoppedThread;
use crate::support::{Daemon, Lab, filters, ours, until};
use crate::terminate_beside;

/// Filters of clsact stay when the process ends, and nothing but the namespace's thread can take them off.
#[test]
#[needs(root)]
fn a_stop_that_may_leave_filters_says_so_and_the_next_start_removes_them() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config = format!("{}interfaces: [{{ name: eth0, netns: {n1}, hook: clsact }}]\n", lab.peers());
    let mut daemon = Daemon::start(&lab, "d", &config);
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    let stopped = StoppedThread::of(daemon.id(), &n1);
    let (code, log) = terminate_beside(&mut daemon, &stopped);
    assert_eq!(code, Some(2), "{log}");
    let said = format!(
        "the filters on the clsact qdiscs of eth0 in netns {n1} are not known to be removed: they do nothing"
    );
    assert!(log.contains(&said), "{log}");
    drop(stopped);
    assert!(lab.reaches_soon(1, 2), "they do nothing");
    assert_ne!(ours(&filters(&n1, "eth0")), 0);
    Daemon::start(&lab, "e", &config).stop();
    assert_eq!(filters(&n1, "eth0"), "");
}

/// Gives a daemon another config, and waits until it is in force.
fn reload(lab: &Lab, (name, daemon): (&str, &Daemon), config: &str) {
    let in_force = || {
        let events = daemon.timeline().into_iter();
        events.filter(|event| event["kind"] == "config" && event["outcome"] == "in_force").count()
    };
    let before = in_force();
    std::fs::write(lab.folder().join(format!("{name}.yaml")), config).unwrap();
    daemon.signal(Signal::HUP);
    until("the config is in force", || (in_force() > before).then_some(()));
}

/// A stop knows of filters that could not be taken off when another config, without their interface, came in force.
#[test]
#[needs(root)]
fn a_stop_names_filters_that_stayed_at_a_reload_unless_they_went_later() {
    let lab = Lab::switched(2);
    let [n1, n2] = [1, 2].map(|node| lab.netns(&format!("n{node}")));
    let [first, second] = [&n1, &n2].map(|netns| {
        format!("{}interfaces: [{{ name: eth0, netns: {netns}, hook: clsact }}]\n", lab.peers())
    });
    let mut daemon = Daemon::start(&lab, "d", &first);
    let stopped = StoppedThread::of(daemon.id(), &n1);
    reload(&lab, ("d", &daemon), &second);
    assert_ne!(ours(&filters(&n1, "eth0")), 0, "nobody could take them off");
    let (code, log) = terminate_beside(&mut daemon, &stopped);
    assert_eq!(code, Some(2), "{log}");
    let said = format!("the filters on the clsact qdiscs of eth0 in netns {n1} are not known to be removed");
    assert!(log.contains(&said), "{log}");
    drop(stopped);

    // The same interface is attached to again beside them, for the new config.
    let mut daemon = Daemon::start(&lab, "f", &first);
    let stopped = StoppedThread::of(daemon.id(), &n1);
    reload(&lab, ("f", &daemon), &format!("{first}max_for: 3m\n"));
    let (code, log) = terminate_beside(&mut daemon, &stopped);
    assert!(code == Some(2) && log.contains(&said), "{code:?}: {log}");
    drop(stopped);
    Daemon::start(&lab, "g", &first).stop();
    assert_eq!(ours(&filters(&n1, "eth0")), 0);

    let mut daemon = Daemon::start(&lab, "e", &first);
    let stopped = StoppedThread::of(daemon.id(), &n1);
    reload(&lab, ("e", &daemon), &second);
    drop(stopped);
    until("the thread takes them off", || (ours(&filters(&n1, "eth0")) == 0).then_some(()));
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
}
