//! Another process detaches the programs that give sockets their owners: the daemon notices it, attaches them again, and
//! says so wherever a cut was not one.

use std::time::{Duration, Instant};

use injector_lab::http::{Request, over_unix};
use injector_lab::needs;

use super::support::{Daemon, until};
use super::talker::Talker;
use super::{A, B, C, assert_proved, config, hears, links, machine, record, refusal, says, talkers};

/// What the daemon says of a loss.
const LOST: &str = "another process detached injector_sock, injector_bind4, injector_bind6, injector_connect";
/// What it says when all is well again.
const BACK: &str = "attached again: the programs that give sockets their owners";

/// Detaches the programs of a daemon from the root of all cgroups.
fn detach(daemon: &Daemon) {
    assert_eq!(links::detach_all(daemon.pid(), "cgroup"), 4, "{:?}", links::of_process(daemon.pid()));
}

/// How often the timeline says something of an interface.
fn reported(daemon: &Daemon, what: &str) -> usize {
    let events = daemon.timeline();
    events.iter().filter(|event| event["what"].as_str().is_some_and(|said| said.contains(what))).count()
}

/// A new connection over each link that isolates a is silent.
fn assert_cut(talkers: &mut [Talker; 3]) {
    for (from, to) in [(0, B), (0, C), (1, A), (2, A)] {
        assert_eq!(talkers[from].ask("start", to), "silent", "peer {from} to {to}");
    }
}

#[test]
#[needs(root, example = "talker")]
fn programs_that_another_process_detaches_during_a_cut_are_attached_again_and_nothing_is_proved() {
    let lab = machine();
    let mut talkers = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    daemon.cli("partition isolate a --name p --for 60s");
    assert_cut(&mut talkers);
    detach(&daemon);
    // The programs that follow processes are no less needed, and nobody can detach them.
    let others =
        links::of_process(daemon.pid()).into_iter().filter(|link| !["cgroup", "tcx"].contains(&&*link.kind));
    let refused = others.map(|link| (links::detach(&link).unwrap_err().raw_os_error(), link.kind));
    let refused: Vec<_> = refused.filter(|(error, _)| *error == Some(libc::EOPNOTSUPP)).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    until("the programs are attached again", || (reported(&daemon, BACK) == 1).then_some(()));
    assert_cut(&mut talkers);
    assert_eq!(reported(&daemon, LOST), 1, "{:?}", daemon.timeline());
    until("the log says so too", || daemon.log().contains(LOST).then_some(()));
    daemon.cli("heal p");
    let first = record(&daemon, "p");
    assert_eq!((&first["proved"], &first["outcome"]), (&false.into(), &"harness_failed".into()), "{first}");
    let of_links = first["links"].as_array().unwrap();
    assert_eq!(of_links.len(), 4, "{first}");
    for link in of_links {
        assert_eq!((&link["in_force"], &link["proved"]), (&"no".into(), &false.into()), "{link}");
        let time = &link["uncovered"][0];
        // The last reading that found them was after the cut began, or just before it.
        assert!(time["from_ns"].as_u64() < time["until_ns"].as_u64(), "{link}");
    }
    daemon.cli("partition isolate a --name q --for 60s");
    assert_cut(&mut talkers);
    daemon.cli("heal q");
    assert_proved(&record(&daemon, "q"));
}

#[test]
#[needs(root, example = "talker")]
fn a_cut_on_detached_programs_is_refused_and_the_next_one_holds_for_sockets_from_in_between() {
    let lab = machine();
    let mut talkers = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let mut times = 0;
    let (connections, refused) = until("a cut is refused", || {
        detach(&daemon);
        // Nothing is cut, so that nobody has asked for the programs yet.
        let connections = [talkers[1].dial(A), talkers[1].dial(A)];
        assert_eq!(hears(&mut talkers[1], &connections.each_ref().map(String::as_str)), ["echo", "echo"]);
        let asked = Instant::now();
        if let Err(said) = refusal(&daemon, "isolate a", "p") {
            return Some((connections, said));
        }
        let waited = asked.elapsed();
        // Where the programs can't be read in time, a cut is carried out, and proves nothing.
        assert!(waited >= Duration::from_millis(60), "the programs were not read: {waited:?}");
        let record = record(&daemon, "p");
        let links = record["links"].as_array().unwrap();
        assert!(links.iter().all(|link| link["in_force"] != "yes"), "{record}");
        times += 1;
        until("the programs are attached again", || (reported(&daemon, BACK) == times).then_some(()));
        None
    });
    let connections = connections.each_ref().map(String::as_str);
    assert!(refused.contains("nothing was cut") && refused.contains(LOST), "{refused}");
    assert!(refused.contains("try again once `injector status`"), "{refused}");
    until("a cut is taken", || refusal(&daemon, "isolate a", "p").ok());
    daemon.cli("partition isolate a --name q --for 60s");
    assert_eq!(says(&mut talkers[1], &connections), ["silent", "silent"], "from while nothing was attached");
    assert_cut(&mut talkers);
    daemon.cli("heal q");
    assert_proved(&record(&daemon, "q"));
}

#[test]
#[needs(root, example = "talker")]
fn status_says_that_programs_are_detached_and_has_them_attached_again() {
    let lab = machine();
    let _talkers = talkers(&lab);
    let daemon = Daemon::start(&lab, "lab", &config(&lab));
    let why = || daemon.attachment(&lab.netns("m"), "lo")["why"].as_str().unwrap().to_owned();
    assert!(!why().contains("detached"), "{}", why());
    detach(&daemon);
    until("status says so", || why().contains(LOST).then_some(()));
    until("the programs are attached again", || (!why().contains("detached")).then_some(()));
    assert_eq!((reported(&daemon, LOST), reported(&daemon, BACK)), (1, 1), "{:?}", daemon.timeline());
    let (_, metrics) = over_unix(daemon.socket(), &Request::get("/metrics")).unwrap();
    assert!(metrics.contains("injector_attachments_lost_total{from=\"cgroup\"} 1\n"), "{metrics}");
    assert_eq!(links::of_process(daemon.pid()).iter().filter(|link| link.kind == "cgroup").count(), 4);
}
