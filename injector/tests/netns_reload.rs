//! SIGHUP to the real daemon: another config takes effect as a whole, or the old one continues as if nothing had been.

#[path = "support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use injector_common::record::Lease;
use injector_core::api::{Code, ConfigOutcome, Event, EventKind, Outcome};
use injector_lab::{needs, until};
use live::daemon::{Daemon, attached, isolate};
use live::lab::{AttachPoint, CLIENT, Lab};
use live::traffic::{Kind, Server, ServerMode, assert_cut, assert_flows, reaches};
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_mins(2);
const PATIENCE: Duration = Duration::from_mins(1);
const READY: &str = "ready: { consecutive: 3, observe: 200ms, observe_max: 1s }\n";

/// A config of some nodes, each with its address and its own interface.
fn config(lab: &Lab, nodes: &[u8], hook: &str) -> String {
    let (mut peers, mut interfaces) = (String::new(), String::new());
    for node in nodes {
        writeln!(peers, "  n{node}: {{ addresses: [10.99.0.{node}, \"fd99::{node}\"] }}").unwrap();
        interfaces += &lab.interface(&format!("n{node}"), AttachPoint::OwnNic, hook);
    }
    format!("{READY}peers:\n{peers}interfaces:\n{interfaces}")
}

/// The same with an endpoint, probed by the client.
fn with_endpoint(lab: &Lab, config: &str, name: &str, node: u8, server: &Server) -> String {
    format!(
        "{config}endpoints: [{{ name: {name}, peers: [n{node}], netns: {}, wire: {{ port: {port}, success: http }}, \
         probe: {{ http: {{ url: \"http://{{address}}:{port}/\" }}, interval: 20ms, timeout: 1s }} }}]\n",
        lab.netns(CLIENT),
        port = server.port()
    )
}

fn timeline(daemon: &Daemon) -> Vec<Event> {
    let output = daemon.cli(&["timeline", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn readings(daemon: &Daemon) -> Vec<(ConfigOutcome, u32, String)> {
    let events = timeline(daemon).into_iter();
    let of = |event: Event| match event.kind {
        EventKind::Config { outcome, number, what } => Some((outcome, number, what)),
        _ => None,
    };
    events.filter_map(of).collect()
}

/// Sends SIGHUP, and waits until the daemon has reported the result.
fn hang_up(daemon: &Daemon) -> (ConfigOutcome, u32, String) {
    let before = readings(daemon).len();
    daemon.signal(Signal::HUP);
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(reading) = readings(daemon).into_iter().nth(before) {
            return reading;
        }
        assert!(Instant::now() < end, "SIGHUP came to nothing: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Gives it another config.
fn reload(daemon: &Daemon, config: &str) -> (ConfigOutcome, u32, String) {
    daemon.rewrite(config);
    hang_up(daemon)
}

/// Asserts that it refuses another config, saying so.
fn refuses(daemon: &Daemon, config: &str, says: &[&str]) {
    let (outcome, number, what) = reload(daemon, config);
    assert_eq!((outcome, number), (ConfigOutcome::Refused, 1), "{what}");
    for says in says {
        assert!(what.contains(says), "{says:?} is not in {what}");
        wait_logged(daemon, says);
    }
}

/// Waits until the log says something: the daemon writes it beside everything else.
fn wait_logged(daemon: &Daemon, says: &str) {
    until(&format!("the log says {says:?}"), || daemon.log().contains(says).then_some(()));
}

/// Positive control → cut → heal.
fn cuts_and_heals(lab: &Lab, daemon: &Daemon, name: &str, peer: &str, other: &str) {
    assert_flows(lab, &[Kind::Udp], peer, other);
    daemon.apply(name, &isolate(peer, LONG));
    assert_cut(lab, &[Kind::Udp], peer, other);
    assert_cut(lab, &[Kind::Udp], other, peer);
    daemon.heal(name);
    assert_flows(lab, &[Kind::Udp], other, peer);
    let record = daemon.record(name);
    assert!(record.proved, "{record:#?}");
    assert!(record.links.iter().all(|link| link.uncovered.is_empty()), "{record:#?}");
}

#[test]
#[needs(root)]
fn another_config_takes_effect_as_a_whole_and_the_history_stays() {
    let lab = Lab::new(3);
    let servers = ["n1", "n3"].map(|node| Server::start(&lab, node));
    let first = with_endpoint(&lab, &config(&lab, &[1, 2], "auto"), "first", 1, &servers[0]);
    let second = with_endpoint(&lab, &config(&lab, &[2, 3], "auto"), "second", 3, &servers[1]);
    let daemon = Daemon::start(&first);
    daemon.wait_healthy();
    cuts_and_heals(&lab, &daemon, "old", "n1", "n2");
    let old = || {
        let calls = ["/v1/partitions/old", "/v1/partitions/old/recovery", "/v1/partitions/old/probes"];
        calls.map(|path| daemon.raw("GET", path, b""))
    };
    let before = old();
    assert!(before.iter().all(|(status, _)| *status == 200), "{before:?}");
    assert!(before[2].1.to_string().contains("first@n1"), "{}", before[2].1);
    let pid = daemon.status().pid;

    let (outcome, number, what) = reload(&daemon, &second);
    assert_eq!((outcome, number), (ConfigOutcome::InForce, 2), "{what}");
    let status = daemon.status();
    assert_eq!((status.pid, status.config_number), (pid, 2));
    assert_eq!(status.peers.keys().map(|name| name.0.as_str()).collect::<Vec<_>>(), ["n2", "n3"]);
    let attached = status.attachments.iter().filter(|attachment| attachment.hook.is_some());
    let mut attached: Vec<_> = attached.map(|attachment| attachment.netns.clone().unwrap()).collect();
    attached.sort();
    assert_eq!(attached, [lab.netns("n2"), lab.netns("n3")]);
    assert_eq!(status.endpoints.iter().map(|endpoint| &*endpoint.name).collect::<Vec<_>>(), ["second@n3"]);
    daemon.wait_healthy();
    let answers = daemon.raw("POST", "/v1/probes", b"{}").1;
    assert_eq!(answers[0]["wire"], "seen", "the programs know the new endpoint: {answers}");

    assert_eq!(daemon.try_apply("p", &isolate("n1", LONG)).unwrap_err().code, Code::UnknownPeer);
    cuts_and_heals(&lab, &daemon, "new", "n3", "n2");
    let record = daemon.record("new");
    assert!(record.generation > before[0].1["generation"].as_u64().unwrap() as u32, "generations continue");
    assert_eq!(record.endpoints[0].name, "second@n3");
    assert_eq!(old(), before);
    let ids: Vec<u64> = timeline(&daemon).iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    let reported = String::from_utf8(daemon.cli(&["timeline"]).stdout).unwrap();
    assert!(
        reported.contains("config     in force: 2 peers, 2 interfaces attached, 1 endpoints probed"),
        "{reported}"
    );

    let (outcome, number, _) = hang_up(&daemon);
    assert_eq!((outcome, number), (ConfigOutcome::Unchanged, 2));
}

#[test]
#[needs(root)]
fn what_is_wrong_or_in_the_way_changes_nothing() {
    let lab = Lab::new(3);
    let server = Server::start(&lab, "n1");
    let good = with_endpoint(&lab, &config(&lab, &[1, 2], "auto"), "e", 1, &server);
    let other = config(&lab, &[2, 3], "auto");
    let daemon = Daemon::start(&good);
    daemon.wait_healthy();
    let before = attached(&daemon.status());
    assert_eq!(daemon.status().refused_config, None);

    refuses(&daemon, &other.replace("10.99.0.3", "10.99.0.333"), &["lab.yaml:5:", "10.99.0.333", "n3"]);
    // Who asks later is told, too, until a reload is good.
    let refused = daemon.status().refused_config.expect("the reload was refused");
    assert_eq!(refused.outcome, ConfigOutcome::Refused);
    assert!(refused.what.contains("10.99.0.333") && refused.at_ns <= daemon.status().now_ns, "{refused:?}");
    let told = || String::from_utf8(daemon.cli(&["status"]).stdout).unwrap();
    assert!(
        told().contains("(refused), config 1 still is: ") && told().contains("10.99.0.333"),
        "{}",
        told()
    );
    let (outcome, _, what) = reload(&daemon, &good);
    assert_eq!((outcome, daemon.status().refused_config), (ConfigOutcome::Unchanged, None), "{what}");
    assert!(!told().contains("WARNING"), "{}", told());
    refuses(&daemon, &format!("{other}nonsense: [1\n"), &["lab.yaml:"]);
    daemon.rewrite(&other);
    let file = daemon.folder().join("lab.yaml");
    let elsewhere = std::fs::read_to_string(&file).unwrap().replace("/run/api.sock", "/run/other.sock");
    std::fs::write(&file, elsewhere).unwrap();
    let (outcome, _, what) = hang_up(&daemon);
    assert!(outcome == ConfigOutcome::Refused && what.contains("socket:"), "{what}");
    std::fs::remove_file(&file).unwrap();
    let (outcome, _, what) = hang_up(&daemon);
    assert!(outcome == ConfigOutcome::Refused && what.contains("can't be read"), "{what}");
    daemon.rewrite(&other);
    // Without its rights root is a user like others.
    let closed = |owner, mode| {
        chown(daemon.folder(), Some(owner), None).unwrap();
        std::fs::set_permissions(daemon.folder(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    closed(65_534, 0o700);
    let (outcome, _, what) = hang_up(&daemon);
    assert!(outcome == ConfigOutcome::Refused && what.contains("given up the right"), "{what}");
    closed(0, 0o700);
    let probes = "endpoints: [{ name: e, probe: { exec: { command: [\"true\"] } } }]\n";
    refuses(&daemon, &format!("{other}{probes}"), &["exec probes", "restart the daemon"]);

    // Dropped ARP proves nothing: the two know each other's MAC addresses.
    assert_flows(&lab, &[Kind::Icmp], "n1", "n2");
    daemon.apply("held", &isolate("n1", LONG));
    refuses(&daemon, &other, &["still open: held (active)", "wait for their records"]);
    assert_cut(&lab, &[Kind::Udp], "n1", "n2");
    daemon.heal("held");
    let record = daemon.record("held");
    assert_eq!(record.outcome, Some(Outcome::Recovered), "{record:#?}");

    // Read and valid, but this host is not so: the interface of n2 was off by then, and is on again.
    let missing = other.replace("name: eth0", "name: eth7");
    let (outcome, number, what) = reload(&daemon, &missing);
    assert_eq!((outcome, number), (ConfigOutcome::Failed, 1), "{what}");
    assert!(what.contains("eth7"), "{what}");
    wait_logged(&daemon, "the one before is in force again");
    assert_eq!(attached(&daemon.status()), before);
    let refused = daemon.status().refused_config.expect("the reload failed");
    assert!(refused.outcome == ConfigOutcome::Failed && refused.what.contains("eth7"), "{refused:?}");
    daemon.wait_healthy();
    cuts_and_heals(&lab, &daemon, "again", "n1", "n2");
    assert_eq!(daemon.record("again").outcome, Some(Outcome::Recovered));

    let (outcome, number, what) = reload(&daemon, &other);
    assert_eq!((outcome, number), (ConfigOutcome::InForce, 2), "{what}");
    assert_eq!(daemon.status().refused_config, None);
}

/// XDP takes one program, and so does our place in the clsact qdisc.
#[test]
#[needs(root)]
fn every_hook_makes_room_for_the_next_config_and_comes_back() {
    for hook in ["xdp", "clsact"] {
        let lab = Lab::new(2);
        let first = config(&lab, &[1, 2], hook);
        let daemon = Daemon::start(&first);
        let before = attached(&daemon.status());
        assert!(before[0].2.as_deref().is_some_and(|found| found.starts_with(hook)), "{before:?}");
        let (outcome, _, what) = reload(&daemon, &format!("{first}max_for: 3m\n"));
        assert_eq!(outcome, ConfigOutcome::InForce, "{what}");
        assert_eq!(attached(&daemon.status()), before);
        cuts_and_heals(&lab, &daemon, "p", "n1", "n2");
        let n2 = lab.netns("n2");
        let missing = first.replace(&format!("netns: {n2}"), &format!("netns: {n2}x"));
        let (outcome, _, what) = reload(&daemon, &missing);
        assert_eq!(outcome, ConfigOutcome::Failed, "{what}");
        assert_eq!(attached(&daemon.status()), before);
        cuts_and_heals(&lab, &daemon, "q", "n1", "n2");
    }
}

#[test]
#[needs(root)]
fn auto_looks_for_the_peers_of_the_next_config() {
    let lab = Lab::new(2);
    // `auto` sees the other labs of this machine too, and these all have the same addresses.
    let net = format!("10.98.{}", std::process::id() % 250);
    for node in [1, 2] {
        lab.ip(&format!("n{node}"), &format!("address add {net}.{node}/24 dev eth0"));
    }
    let peer = |node: u8| format!("n{node}: {{ addresses: [{net}.{node}] }}");
    let auto = |peers: &str| format!("{READY}peers: {{ {peers} }}\ninterfaces: auto\n");
    let daemon = Daemon::start(&auto(&peer(1)));
    assert_eq!(daemon.status().attachments.len(), 1);
    let (outcome, _, what) = reload(&daemon, &auto(&format!("{}, {}", peer(1), peer(2))));
    assert_eq!(outcome, ConfigOutcome::InForce, "{what}");
    assert_eq!(daemon.status().attachments.len(), 2);
    let (outcome, _, what) = reload(&daemon, &auto("n9: { addresses: [203.0.113.77] }"));
    assert!(
        outcome == ConfigOutcome::Failed && what.contains("found none of the peers' addresses"),
        "{what}"
    );
    let to: IpAddr = format!("{net}.1").parse().unwrap();
    assert!(reaches(&lab, Kind::Udp, "n2", "n1", to, PATIENCE));
    daemon.apply("p", &isolate("n2", LONG));
    assert!(!reaches(&lab, Kind::Udp, "n2", "n1", to, Duration::from_millis(250)));
}

#[test]
#[needs(root)]
fn a_probe_that_waits_for_an_answer_gets_one() {
    let lab = Lab::new(1);
    let server = Server::start(&lab, "n1");
    let bare = config(&lab, &[1], "auto");
    let daemon = Daemon::start(&with_endpoint(&lab, &bare, "e", 1, &server).replace("1s }", "15s }"));
    daemon.wait_healthy();
    server.set(ServerMode::Hanging);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| daemon.raw("POST", "/v1/probes", b"{}"));
        // The request is taken by then, and its probe waits.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(reload(&daemon, &bare).0, ConfigOutcome::InForce);
        let (status, answers) = asked.join().unwrap();
        assert_eq!((status, answers[0]["name"].as_str()), (200, Some("e@n1")), "{answers}");
        assert!(answers[0]["error"].as_str().unwrap().contains("read again meanwhile"), "{answers}");
    });
    assert!(daemon.status().endpoints.is_empty());
}

/// What a daemon holds: descriptors (programs, maps and links are such), the maps in the kernel that bear its name,
/// wherever they are held, and its threads with their capabilities.
#[derive(Debug, PartialEq)]
struct Resources {
    descriptors: usize,
    maps: usize,
    threads: Vec<String>,
}

fn resources(pid: u32) -> Resources {
    let leases = aya::maps::loaded_maps().flatten().filter(|map| map.name_as_str() == Some("LEASE"));
    let ours = leases.filter(|map| {
        // One of another test's daemon may be gone by now.
        let Ok(data) = aya::maps::MapData::from_id(map.id()) else { return false };
        let Ok(map) = aya::maps::Map::from_map_data(data) else { return false };
        let Ok(map) = aya::maps::Array::<_, Lease>::try_from(map) else { return false };
        map.get(&0, 0).is_ok_and(|lease| lease.pid == u64::from(pid))
    });
    let maps = ours.count();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread that ends meanwhile has no status.
    let status = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")));
    let of = |status: String| {
        let lines = status.lines().filter(|line| line.starts_with("Name:") || line.starts_with("CapPrm:"));
        lines.collect::<Vec<_>>().join(" ")
    };
    let mut threads: Vec<String> = status.flatten().map(of).collect();
    threads.sort();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Resources { descriptors, maps, threads }
}

#[test]
#[needs(root)]
fn eight_reloads_leave_nothing_behind() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let first = with_endpoint(&lab, &config(&lab, &[1], "auto"), "e", 1, &server);
    let second = with_endpoint(&lab, &config(&lab, &[1], "auto"), "f", 1, &server);
    let daemon = Daemon::start(&first);
    daemon.wait_healthy();
    let pid = daemon.status().pid;
    let steady = |what: &str, is_wanted: &dyn Fn(&Resources) -> bool| {
        let end = Instant::now() + PATIENCE;
        loop {
            // Connections, probes and threads that end take a moment.
            let found = resources(pid);
            std::thread::sleep(Duration::from_millis(200));
            if found == resources(pid) && is_wanted(&found) {
                return found;
            }
            assert!(Instant::now() < end, "{what}: {found:?}");
        }
    };
    // Two of the threads follow rules of NAT, in the daemon's own namespace and in the switch's; one sends probes.
    let before = steady("at the start", &|found| (found.maps, found.threads.len()) == (1, 10));
    for turn in 0..8 {
        let (outcome, _, what) = reload(&daemon, if turn % 2 == 0 { &second } else { &first });
        assert_eq!(outcome, ConfigOutcome::InForce, "{what}");
    }
    // And one that fails.
    let missing = first.replace("name: eth0", "name: eth7");
    assert_eq!(reload(&daemon, &missing).0, ConfigOutcome::Failed);
    daemon.wait_healthy();
    steady(&format!("after the reloads, not {before:?}"), &|found| *found == before);
}

#[test]
#[needs(root)]
fn systemd_is_told_of_each_reload_whatever_comes_of_it() {
    let lab = Lab::new(1);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 128];
    let mut hear = || {
        let length = notified.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let file = folder.path().join("lab.yaml");
    let text = format!(
        "socket: {{ path: {}/api.sock, group: root, mode: \"0600\" }}\n{}",
        folder.path().display(),
        config(&lab, &[1], "auto")
    );
    std::fs::write(&file, &text).unwrap();
    // A name without a directory: it must be found again.
    let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
    command.args(["start", "--config", "lab.yaml"]).current_dir(folder.path());
    command.env("NOTIFY_SOCKET", &socket).env_remove("INJECTOR_SOCKET");
    injector_lab::end_with_thread(&mut command);
    let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_child(&daemon);
    assert_eq!(hear(), "READY=1\n");
    for text in [text.clone(), format!("{text}max_for: 3m\n"), "no: config\n".to_owned()] {
        std::fs::write(&file, text).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(hear(), "READY=1\n");
    }
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(hear(), "STOPPING=1\n");
    assert!(daemon.wait().unwrap().success());
}

#[test]
#[needs(root)]
fn a_campaign_does_not_go_on_under_another_config() {
    let lab = Lab::new(2);
    let server = Server::start(&lab, "n1");
    let first = with_endpoint(&lab, &config(&lab, &[1, 2], "auto"), "e", 1, &server);
    let daemon = Daemon::start(&first);
    daemon.wait_healthy();
    let (out, log) = (daemon.folder().join("campaign"), daemon.folder().join("measure.log"));
    let said = || std::fs::read_to_string(&log).unwrap();
    let mut measure = Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["measure", "isolate", "n1", "--hold", "100ms", "--trials", "50", "--cooldown", "2s", "--out"])
        .arg(&out)
        .env_remove("INJECTOR_HOST")
        .env("INJECTOR_SOCKET", daemon.socket())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let records = || std::fs::read_to_string(out.join("trials.jsonl")).unwrap_or_default().lines().count();
    let end = Instant::now() + PATIENCE;
    while records() == 0 {
        assert!(matches!(measure.try_wait(), Ok(None)), "it has ended: {}", said());
        assert!(Instant::now() < end, "no trial was made");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (outcome, _, what) = reload(&daemon, &format!("{first}max_for: 3m\n"));
    assert_eq!(outcome, ConfigOutcome::InForce, "{what}");
    let status = measure.wait().unwrap();
    assert_eq!(status.code(), Some(2), "{}", said());
    assert!(said().contains("config 1 when it began, 2 now"), "{}", said());
    assert_eq!(records(), 1, "no trial of the second config is among them");
}
