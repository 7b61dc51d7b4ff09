//! Looks into namespaces that panic, which are made up for, or that are out of date when they come, which changes nothing. Needs
//! root.
//!
//! What panics is the example `fault_injected` (see `injector/src/fault.rs`).
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::path::Path;
use std::time::Duration;

use injector::daemon::attachment::{Changes, Cuts, EventSinks, InterfaceEvent, Interfaces, ObservedState};
use injector::datapath::{Clocks, Kernel, Names};
use injector::netlink::{self, news::News};
use injector::netns::{Worker, Workers};
use injector_core::api::WarningCode;
use injector_core::clock::MonoNs;
use injector_core::config::{Config, Netns};
use injector_core::containers::ContainerStates;
use injector_lab::{AttachPoint, Launch, needs};
use support::{Daemon, Lab, PATIENCE, until};
use tokio::sync::mpsc;

/// A daemon that panics once, the first time that it passes a step.
fn injected_at(step: &str, lab: &Lab, config: &str) -> Daemon {
    Daemon::launched(injected(step, "panic", lab, config))
}

fn injected(step: &str, kind: &str, lab: &Lab, config: &str) -> Launch {
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/fault_injected");
    let mut launch = Launch::in_folder(program, lab.folder(), "d", config).unwrap();
    launch.command().env("INJECTOR_FAULT", format!("{step}#1={kind}"));
    launch.command().env("INJECTOR_FAULT_LOG", lab.folder().join("faults"));
    launch
}

/// A daemon to which `change` happens after its survey and before it attaches.
fn changed_while_it_starts(lab: &mut Lab, config: &str, change: impl FnOnce(&mut Lab) + Send) -> Daemon {
    let launch = injected("start/found", "wait", lab, config);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until_injected(lab);
            change(lab);
            std::fs::write(lab.folder().join("faults.go"), "").unwrap();
        });
        Daemon::launched(launch)
    })
}

fn wait_until_injected(lab: &Lab) {
    until("the fault is injected", || {
        let passed = std::fs::read_to_string(lab.folder().join("faults")).unwrap_or_default();
        passed.contains(" injected\n").then_some(())
    });
}

#[test]
#[needs(root, example = "fault_injected")]
fn interfaces_are_listed_again_after_a_panic() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config = format!("{}interfaces: [{{ name: eth0, netns: {n1} }}]\n", lab.peers());
    let daemon = injected_at("links/read", &lab, &config);
    wait_until_injected(&lab);
    let before = daemon.attachment(&n1, "eth0")["hook"].clone();
    assert!(before.is_string(), "{before}");
    support::ip(&format!("-n {n1} link delete eth0"));
    daemon.wait_hook(&n1, "eth0", None);
    lab.join("n1");
    daemon.wait_hook(&n1, "eth0", before.as_str());
}

#[test]
#[needs(root, example = "fault_injected")]
fn hooks_are_read_again_after_a_panic() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let peers = lab.peers();
    let config = format!("{peers}interfaces:\n{}", lab.interface("n1", AttachPoint::OwnNic, "clsact"));
    let daemon = injected_at("hooks/ask", &lab, &config);
    wait_until_injected(&lab);
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    // From here on only the watch can notice.
    support::ok("tc", &format!("-n {n1} qdisc delete dev eth0 clsact"));
    until("the loss is noticed", || {
        daemon.log().contains("another process detached our program").then_some(())
    });
    daemon.wait_hook(&n1, "eth0", Some("clsact"));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

#[test]
#[needs(root, example = "fault_injected")]
fn a_namespace_is_attached_to_whose_cleaning_panicked() {
    let mut lab = Lab::switched(2);
    let config = format!("{}interfaces: auto\n", lab.peers());
    lab.delete("n2");
    // The kernel takes the port away a moment later; a daemon that still finds it would be on it, and not enter n2.
    until("the port is gone", || (!lab.can("sw", "link show p-n2")).then_some(()));
    let daemon = injected_at("clean/begin", &lab, &config);
    lab.add("n2");
    lab.join("n2");
    wait_until_injected(&lab);
    is_attached_and_cuts(&lab, &daemon);
}

#[test]
#[needs(root, example = "fault_injected")]
fn a_device_that_auto_has_found_and_that_is_gone_is_attached_to_when_it_is_back() {
    let mut lab = Lab::switched(2);
    let config = format!("{}interfaces: auto\n", lab.peers());
    let daemon = changed_while_it_starts(&mut lab, &config, |lab| {
        support::ip(&format!("-n {} link delete eth0", lab.netns("n2")));
    });
    lab.join("n2");
    is_attached_and_cuts(&lab, &daemon);
}

#[test]
#[needs(root, example = "fault_injected")]
fn a_namespace_that_auto_has_found_and_that_is_gone_is_attached_to_when_it_is_back() {
    let mut lab = Lab::switched(2);
    let config = format!("{}interfaces: auto\n", lab.peers());
    let daemon = changed_while_it_starts(&mut lab, &config, |lab| lab.delete("n2"));
    lab.add("n2");
    lab.join("n2");
    is_attached_and_cuts(&lab, &daemon);
}

/// The programs know a limited number of interface ids. The daemon gives those of forgotten interfaces again, and attaches to no
/// interface for which there is none.
#[test]
#[needs(root, example = "fault_injected")]
fn a_daemon_whose_interface_ids_have_run_out_follows_further_interfaces() {
    let lab = Lab::switched(2);
    let n2 = lab.netns("n2");
    let config = format!("{}interfaces: auto\n", lab.peers());
    // From the start on, four ids are left.
    let daemon = Daemon::launched(injected("interfaces/ids", "ENOSPC", &lab, &config));
    let hook = |name: &str| {
        let status = daemon.cli("status");
        let all = status["attachments"].as_array().unwrap();
        let found = all.iter().find(|found| found["interface"] == name && found["netns"] == n2.as_str())?;
        Some((found["hook"].is_string(), found["why"].as_str().unwrap_or_default().to_owned()))
    };
    let is_attached = |name: &str| hook(name).is_some_and(|(is_attached, _)| is_attached).then_some(());
    for number in 1..=6 {
        let name = format!("x{number}");
        lab.cable(("sw", &format!("s{number}")), ("n2", &name));
        until(&format!("{name} is attached to; {}", daemon.log()), || is_attached(&name));
        support::ip(&format!("-n {n2} link delete {name}"));
        until(&format!("{name} is forgotten"), || hook(&name).is_none().then_some(()));
    }
    let plug = |name: &str| lab.cable(("sw", &format!("s{name}")), ("n2", name));
    for name in ["y1", "y2"] {
        plug(name);
        until(&format!("{name} is attached to; {}", daemon.log()), || is_attached(name));
    }
    plug("y3");
    let is_refused = || hook("y3").is_some_and(|(_, why)| why.contains("as many interfaces as"));
    until("status says why y3 is not attached to", || is_refused().then_some(()));
    support::ip(&format!("-n {n2} link delete y1"));
    until("the last one is attached to", || is_attached("y3"));
    is_attached_and_cuts(&lab, &daemon);
}

#[test]
#[needs(root, example = "fault_injected")]
fn a_named_device_that_is_gone_is_refused_at_the_start() {
    let lab = Lab::switched(2);
    let n1 = lab.netns("n1");
    let config = format!("{}interfaces: [{{ name: eth1, netns: {n1} }}]\n", lab.peers());
    let (status, said) = Daemon::refusal(&lab, "d", &config);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("eth1") && said.contains("there is no such interface"), "{said}");
}

/// Waits until n2 is attached to, and cuts it off.
fn is_attached_and_cuts(lab: &Lab, daemon: &Daemon) {
    let n2 = lab.netns("n2");
    until("n2 is attached to", || {
        let status = daemon.cli("status");
        let mut found = status["attachments"].as_array().unwrap().iter();
        found.any(|found| found["netns"] == n2.as_str() && found["hook"].is_string()).then_some(())
    });
    daemon.cli("partition isolate n2 --name p --for 60s --allow-uncovered");
    assert!(!lab.reaches(1, 2));
    daemon.cli("heal p");
    assert!(lab.reaches_soon(1, 2));
}

/// The interface of n1 as the daemon has it, without the daemon's task: this test hands the events on.
struct Alone {
    config: Config,
    kernel: Kernel,
    interfaces: Interfaces,
    hooks_found: mpsc::UnboundedReceiver<InterfaceEvent>,
    events: mpsc::UnboundedReceiver<InterfaceEvent>,
    /// The thread in the namespace of n1.
    worker: Worker,
}

fn netns(lab: &Lab) -> Netns {
    Netns::Name(lab.netns("n1"))
}

impl Alone {
    /// Attaches to it.
    async fn start(lab: &Lab, mut workers: Workers) -> Self {
        let text = format!("{}interfaces: [{{ name: eth0, netns: {} }}]\n", lab.peers(), lab.netns("n1"));
        let config = Config::parse(&text, "lab.yaml").unwrap();
        let mut kernel = Kernel::load(&config, Clocks::Real).unwrap();
        let worker = workers.of(Some(&netns(lab))).await.unwrap();
        let (sinks, hooks_found, events) = EventSinks::new();
        let observed = ObservedState { local: None, containers: ContainerStates::default() };
        let started = Interfaces::start(&config, &mut kernel, workers, Names::new(), sinks, observed);
        let interfaces = Box::pin(started).await.unwrap();
        let alone = Self { config, kernel, interfaces, hooks_found, events, worker };
        assert_eq!(alone.interfaces.attached(), 1);
        alone
    }

    async fn next(&mut self) -> InterfaceEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time").unwrap()
    }

    /// Reads the hooks that are unread since an instant, as a command that came then waits for it.
    async fn read_hooks_since(&mut self, since: MonoNs) {
        self.interfaces.ask_for_hooks_since(since);
        let found = tokio::time::timeout(PATIENCE, self.hooks_found.recv()).await.expect("an answer in time");
        self.handle(found.unwrap()).await;
    }

    async fn handle(&mut self, event: InterfaceEvent) -> Changes {
        let nothing_cut = Cuts { open_since: None, is_rolling: false };
        Box::pin(self.interfaces.handle(event, &self.config, &mut self.kernel, nothing_cut)).await
    }

    /// Hands events on until the interfaces of n1 have been compared with a list of them that has some name; whether that
    /// was reported to be a new one.
    async fn compared_with(&mut self, name: &str) -> bool {
        loop {
            let event = self.next().await;
            let is_it = matches!(&event, InterfaceEvent::Links { links: Ok(links), .. }
                if links.iter().any(|link| link.name == name));
            let changes = self.handle(event).await;
            if is_it {
                return changes.reported.iter().any(|(_, what)| what.contains(&format!("renamed to {name}")));
            }
        }
    }
}

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// The list was read before the interface was there, and comes after our programs are on it.
#[test]
#[needs(root)]
fn a_list_that_is_older_than_an_attachment_takes_nothing_off() {
    let lab = Lab::switched(2);
    run(async {
        let mut workers = Workers::default();
        let worker = workers.of(Some(&netns(&lab))).await.unwrap();
        lab.ip("n1", "link delete eth0");
        let read_at = MonoNs::now();
        let read = || async { netlink::links().await.unwrap() };
        let links = worker.run(read).await.unwrap();
        assert!(links.iter().all(|link| link.name != "eth0"), "{links:?}");
        lab.join("n1");

        let mut alone = Alone::start(&lab, workers).await;
        let identity = alone.worker.identity();
        // The same list is the truth if it was read later.
        for (begun, attached) in [(read_at, 1), (MonoNs::now(), 0)] {
            let (at, news) = (begun, News::Overrun);
            alone.handle(InterfaceEvent::News { netns: Some(netns(&lab)), identity, at, news }).await;
            let links = Ok(links.clone());
            alone
                .handle(InterfaceEvent::Links { netns: Some(netns(&lab)), identity, at, begun, links })
                .await;
            assert_eq!(alone.interfaces.attached(), attached);
        }
        alone.interfaces.detach().await;
    });
}

/// Whatever holds the thread up while it is to attach: nobody waits for it, and nothing else says that it is free again.
#[test]
#[needs(root)]
fn an_interface_whose_thread_was_held_up_is_attached_to_once_it_is_free() {
    let lab = Lab::switched(2);
    run(async {
        let mut alone = Alone::start(&lab, Workers::default()).await;
        lab.ip("n1", "link delete eth0");
        lab.join("n1");
        // Until the thread has all news of that: later ones would say that it is free again.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut is_held_up = false;
        let mut lists = 0;
        loop {
            let event = alone.next().await;
            let is_list = matches!(&event, InterfaceEvent::Links { links: Ok(links), .. }
                if links.iter().any(|link| link.name == "eth0"));
            // The next thing that is asked of the thread is to attach to what is in this list.
            if is_list && alone.interfaces.attached() == 0 && !is_held_up {
                is_held_up = true;
                alone.worker.spawn(|| async { std::thread::sleep(Duration::from_secs(7)) }).unwrap();
            }
            lists += u32::from(is_list && is_held_up);
            alone.handle(event).await;
            if is_held_up && alone.interfaces.attached() == 1 {
                break;
            }
        }
        assert!(lists > 1, "it was looked at again");
        alone.interfaces.detach().await;
    });
}

/// A survey takes long where there are many interfaces; its names may be out of date when it comes.
#[test]
#[needs(root)]
fn a_survey_that_is_older_than_a_name_takes_nothing_back() {
    let lab = Lab::switched(2);
    run(async {
        let mut alone = Alone::start(&lab, Workers::default()).await;
        let identity = alone.worker.identity();
        alone.handle(InterfaceEvent::Survey { at: MonoNs::now() }).await;
        let old = loop {
            match alone.next().await {
                survey @ InterfaceEvent::Surveyed { .. } => break survey,
                other => drop(alone.handle(other).await),
            }
        };
        for words in ["link set eth0 down", "link set eth0 name eth9", "link set eth9 up"] {
            lab.ip("n1", words);
        }
        assert!(alone.compared_with("eth9").await, "its new name is taken note of");
        alone.handle(old).await;
        let (at, news) = (MonoNs::now(), News::Overrun);
        alone.handle(InterfaceEvent::News { netns: Some(netns(&lab)), identity, at, news }).await;
        assert!(!alone.compared_with("eth9").await, "it had the old name again");
        alone.interfaces.detach().await;
    });
}

/// A program of others may have been on the interface before ours.
#[test]
#[needs(root)]
fn hooks_of_an_interface_that_is_attached_to_again_are_read_again_for_a_command_that_waits() {
    let lab = Lab::switched(2);
    run(async {
        let mut alone = Alone::start(&lab, Workers::default()).await;
        let since = MonoNs::now();
        assert!(alone.interfaces.hooks_known_since() < since, "nobody has read them");
        assert_eq!(alone.interfaces.doubts_since(since).len(), 1);
        alone.read_hooks_since(since).await;
        assert!(alone.interfaces.hooks_known_since() >= since);
        assert_eq!(alone.interfaces.doubts_since(since), []);

        lab.ip("n1", "link delete eth0");
        lab.join("n1");
        let mut was_lost = false;
        while alone.interfaces.attached() == 0 || !was_lost {
            let event = alone.next().await;
            alone.handle(event).await;
            was_lost |= alone.interfaces.attached() == 0;
        }
        assert!(alone.interfaces.hooks_known_since() < since, "these are other hooks");
        let doubts = alone.interfaces.doubts_since(since);
        assert!(doubts.iter().any(|doubt| doubt.code == WarningCode::HookUnreadable), "{doubts:?}");
        alone.read_hooks_since(since).await;
        assert!(alone.interfaces.hooks_known_since() >= since);
        assert_eq!(alone.interfaces.doubts_since(since), []);
        alone.interfaces.detach().await;
    });
}
