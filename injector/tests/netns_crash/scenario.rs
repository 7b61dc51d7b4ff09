//! The life of a daemon from its start to its end, through every command, with a fault injected somewhere on the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::hooks::{Allowed, Hook, fault};
use super::process::{Plan, Process};
use super::table::Row;
use crate::live::foreign::{Foreign, Position};
use crate::live::lab::addresses;
use crate::live::links;
use crate::live::traffic::{Kind, reaches};
use injector_lab::has_tcx;
use injector_lab::{AttachPoint, CLIENT, Lab, SWITCH};

/// A cut of both nodes from each other alone: nothing sees a link from a node to a peer on this machine. Group frames may pass.
const ISOLATE: &str = r#"{"shape":{"between":[["n1"],["n2"]]},"for":"60s","allow_uncovered":true}"#;
/// How long a step of a daemon that is well may take on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Within what traffic flows, whatever happened: the lease, and time for a test to notice.
const FLOWS: Duration = Duration::from_millis(2200);
/// How long a daemon may take to end.
const ENDS: Duration = Duration::from_secs(10);

/// By step: how often it was passed, and whether its system call can fail.
pub type PassedSteps = BTreeMap<String, (u32, bool)>;

/// Two nodes, with something of others on the hooks of one, and two cgroups that are peers on this machine.
pub struct Fixture {
    hook: Hook,
    binary: PathBuf,
    lab: Lab,
    foreign: Option<Foreign>,
    folder: tempfile::TempDir,
    cgroups: Cgroups,
}

/// The cgroups of the peers on this machine, which are gone with it.
struct Cgroups {
    root: PathBuf,
    names: [String; 2],
}

impl Cgroups {
    /// cgroup2 is mounted where only this thread and what it starts see it. The folder is removed by hand: a removal with all that is
    /// in it would remove the machine's cgroups, if the folder could not be unmounted.
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let root = tempfile::tempdir().unwrap().keep();
        let status = Command::new("mount").args(["-t", "cgroup2", "none"]).arg(&root).status().unwrap();
        assert!(status.success());
        // All mounts show the same cgroups.
        let (own, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let names = ["one", "two"].map(|name| format!("injector-crash-{own}-{number}-{name}"));
        let cgroups = Self { root, names };
        for name in &cgroups.names {
            std::fs::create_dir(cgroups.root.join(name)).unwrap();
        }
        cgroups
    }

    /// Another cgroup takes the place of the second one.
    fn recreate(&self) {
        let path = self.root.join(&self.names[1]);
        std::fs::remove_dir(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = std::fs::remove_dir(self.root.join(name));
        }
        let _ = Command::new("umount").arg(&self.root).status();
        let _ = std::fs::remove_dir(&self.root);
    }
}

/// Why a life was not lived to its end.
enum Interruption {
    /// The fault was injected: what comes then is checked.
    Fault,
    /// Something went wrong that nobody planned.
    Failure(String),
}

type LifeResult = Result<(), Interruption>;

impl Fixture {
    pub fn new(hook: Hook, binary: &Path) -> Self {
        let lab = Lab::new(2);
        let mut fixture = Self {
            hook,
            binary: binary.to_owned(),
            lab,
            foreign: None,
            folder: tempfile::tempdir().unwrap(),
            cgroups: Cgroups::new(),
        };
        fixture.make_ready("n2");
        fixture.make_ready("n1");
        fixture.add_filter("eth0");
        fixture.add_program();
        fixture
    }

    /// Carries out some `ip` commands in a namespace of the lab, one a line.
    fn ip(&self, of: &str, lines: &str) {
        for line in lines.lines() {
            self.lab.ip(of, line);
        }
    }

    /// Makes a node's interface ready: neighbours that need no asking.
    fn make_ready(&self, node: &str) {
        let host = |node: &str| node[1..].parse::<u8>().unwrap();
        let other = if node == "n1" { "n2" } else { "n1" };
        let mut words = format!("link set eth0 address 02:00:00:00:00:0{}\n", host(node));
        for address in addresses(other) {
            let mac = host(other);
            writeln!(words, "neigh replace {address} lladdr 02:00:00:00:00:0{mac} dev eth0 nud permanent")
                .unwrap();
        }
        self.ip(node, &words);
    }

    /// Puts a filter of others on an interface of n1.
    fn add_filter(&self, device: &str) {
        for words in [
            "qdisc add dev DEVICE clsact",
            "filter add dev DEVICE ingress pref 7 protocol all bpf bytecode 1,6_0_0_4294967295,",
        ] {
            let words = words.split(' ').map(|word| word.replace('_', " ").replace("DEVICE", device));
            let status = Command::new("tc").args(["-n", &self.lab.netns("n1")]).args(words).status().unwrap();
            assert!(status.success());
        }
    }

    /// Puts a program of others on n1's interface.
    fn add_program(&mut self) {
        self.foreign = has_tcx().then(|| Foreign::attach(&self.lab, "n1", Position::Last));
    }

    /// Takes n1's interface away, and puts another in its place.
    fn replug(&mut self) {
        self.lab.ip("n1", "link delete eth0");
        self.plug();
    }

    fn plug(&mut self) {
        let end = Instant::now() + PATIENCE;
        // SAFETY: a string that ends with zero.
        while self.lab.within(SWITCH, || unsafe { libc::if_nametoindex(c"p-n1".as_ptr()) != 0 }) {
            assert!(Instant::now() < end, "the old pair stays");
            std::thread::sleep(Duration::from_millis(5));
        }
        let netns = self.lab.netns("n1");
        self.ip(
            SWITCH,
            &format!("link add p-n1 type veth peer name new0 netns {netns}\nlink set p-n1 master br0 up"),
        );
        // Before the daemon finds it by its name.
        self.add_filter("new0");
        let [v4, v6] = addresses("n1");
        self.ip(
            "n1",
            &format!("link set new0 name eth0\naddress add {v4}/16 dev eth0\naddress add {v6}/64 dev eth0 nodad\nlink set eth0 up"),
        );
        self.make_ready("n1");
        self.add_program();
    }

    fn configure(&self, more: &str) {
        // One interface takes XDP, and both the same on TC.
        let config = self.lab.config(AttachPoint::OwnNic, self.hook.word());
        let netns = self.lab.netns(CLIENT);
        let [one, two] = &self.cgroups.names;
        let local = format!(
            "peers:\n  l1: {{ cgroup: /{one}, netns: {netns} }}\n  l2: {{ cgroup: /{two}, netns: {netns} }}\n"
        );
        let config = config.replacen("peers:\n", &local, 1);
        let text = format!(
            "socket: {{ group: root, mode: \"0600\" }}\ndeadline: 200ms\nready: {{ consecutive: 1, observe: 1ms, observe_max: 2ms }}\n{config}{more}"
        );
        std::fs::write(self.folder.path().join("lab.yaml"), text).unwrap();
    }

    /// A life without a fault: the steps that it passes.
    pub fn record(&mut self) -> PassedSteps {
        self.configure("");
        let mut process = Process::spawn(&self.binary, self.folder.path(), Some("record"));
        match self.live(&mut process) {
            Ok(()) => {}
            Err(Interruption::Failure(why)) => panic!("without a fault: {why}\n{}", process.log()),
            Err(Interruption::Fault) => unreachable!("nothing was planned"),
        }
        let mut passed = PassedSteps::new();
        for (step, pass, can_fail, _) in process.passed() {
            let of = passed.entry(step).or_insert((0, can_fail));
            of.0 = of.0.max(pass);
        }
        passed
    }

    /// Waits until something holds; ends early if the fault was injected, or the daemon has ended.
    fn until(process: &mut Process, what: &str, mut holds: impl FnMut(&mut Process) -> bool) -> LifeResult {
        let begun = Instant::now();
        let mut injected_at = None;
        loop {
            if holds(process) {
                return Ok(());
            }
            if process.is_injected() {
                let since = *injected_at.get_or_insert_with(Instant::now);
                if process.ended().is_some() || since.elapsed() > Duration::from_millis(1500) {
                    return Err(Interruption::Fault);
                }
            } else if let Some(status) = process.ended() {
                // Its end may be what is waited for.
                let ended = || Interruption::Failure(format!("{what}: the daemon ended with {status}"));
                return if holds(process) { Ok(()) } else { Err(ended()) };
            }
            if begun.elapsed() > PATIENCE {
                return Err(Interruption::Failure(format!("never: {what}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A request that is answered with success, unless the fault was injected.
    fn ask(process: &mut Process, method: &str, path: &str, body: &str) -> LifeResult {
        let answer = process.call(method, path, body);
        match answer {
            Some((200..300, _)) => Ok(()),
            _ if process.is_injected() => Err(Interruption::Fault),
            other => Err(Interruption::Failure(format!("{method} {path}: {other:?}"))),
        }
    }

    /// From the start to the end, through every command.
    fn live(&mut self, process: &mut Process) -> LifeResult {
        const LOCAL: &str = r#"{"shape":{"between":[["l1"],["l2"]]},"for":"60s"}"#;
        Self::until(process, "it is ready", |process| process.log().contains(" ready "))?;
        Self::ask(process, "PUT", "/v1/partitions/a", ISOLATE)?;
        if self.flows(Duration::from_millis(100)).is_some() {
            // Where the fault came meanwhile, it fails open.
            let is_injected = process.is_injected();
            return Err(if is_injected {
                Interruption::Fault
            } else {
                Interruption::Failure("a cut that cuts nothing".into())
            });
        }
        Self::ask(process, "DELETE", "/v1/partitions/a", "")?;
        Self::ask(process, "POST", "/v1/partitions/b/prepare", ISOLATE)?;
        Self::ask(process, "POST", "/v1/partitions/b/enable", "{}")?;
        Self::ask(process, "GET", "/v1/status", "")?;
        Self::ask(process, "DELETE", "/v1/partitions/b", "")?;
        Self::ask(process, "PUT", "/v1/partitions/l", LOCAL)?;
        self.cgroups.recreate();
        Self::until(process, "the daemon notices the new cgroup", |process| {
            process.passed().iter().any(|(step, ..)| step == "cgroups/news")
        })?;
        for link in links::of_process(process.id()).iter().filter(|link| link.kind == "cgroup") {
            // The daemon may have ended meanwhile.
            let _ = links::detach(link);
        }
        Self::until(process, "the programs for peers on this machine are attached again", |process| {
            process.log().contains("attached again: ")
        })?;
        Self::ask(process, "DELETE", "/v1/partitions/l", "")?;
        Self::until(process, "the records are closed", |process| {
            ["a", "b", "l"].iter().all(|name| {
                let record = process.call("GET", &format!("/v1/partitions/{name}/recovery"), "");
                record.is_some_and(|(_, record)| record["final"] == true)
            })
        })?;
        self.configure(&format!(
            "endpoints: [{{ name: e, peers: [n1], role: advisory, netns: {}, probe: {{ tcp: {{ target: \"{{address}}:9\" }}, interval: 50ms }} }}]\n",
            self.lab.netns(CLIENT)
        ));
        process.signal(Signal::HUP);
        Self::until(process, "the config is in force", |process| process.log().contains("config in force"))?;
        Self::ask(process, "PUT", "/v1/partitions/c", ISOLATE)?;
        let attached = process.log().matches(" attached ").count();
        self.replug();
        Self::until(process, "the new interface is attached", |process| {
            process.log().matches(" attached ").count() > attached
        })?;
        Self::ask(process, "DELETE", "/v1/partitions", "")?;
        Self::ask(process, "PUT", "/v1/partitions/d", ISOLATE)?;
        process.signal(Signal::TERM);
        Self::until(process, "it ends", |process| process.ended().is_some())?;
        match process.ended() {
            _ if process.is_injected() => Err(Interruption::Fault),
            Some(status) if status.success() => Ok(()),
            status => Err(Interruption::Failure(format!("SIGTERM: it ended with {status:?}"))),
        }
    }

    /// How long it takes until datagrams flow both ways, by both IP versions; `None` if they do not in time.
    fn flows(&self, patience: Duration) -> Option<Duration> {
        let begun = Instant::now();
        for (from, to) in [("n1", "n2"), ("n2", "n1")] {
            for address in addresses(to) {
                let left = patience.saturating_sub(begun.elapsed());
                if !reaches(&self.lab, Kind::Udp, from, to, address, left) {
                    return None;
                }
            }
        }
        Some(begun.elapsed())
    }

    /// The same of what must flow within [`FLOWS`]. A busy machine may be late with datagrams that passed in time: then
    /// the first ones that are sent after it must arrive.
    fn flows_in_time(&self) -> Option<Duration> {
        let arrives = |from: &str, to: &str| {
            let mut ends = addresses(from).into_iter().zip(addresses(to));
            ends.all(|(src, dst)| self.lab.delivered_within((from, src), (to, dst), 3, 1, PATIENCE) > 0)
        };
        self.flows(FLOWS).or_else(|| (arrives("n1", "n2") && arrives("n2", "n1")).then_some(FLOWS))
    }

    /// Lives through a life with the planned fault, and checks what is left of it.
    pub fn inject(&mut self, plan: &Plan) -> Row {
        self.configure("");
        let fault = format!("{}#{}={}", plan.step, plan.pass, plan.kind);
        let mut process = Process::spawn(&self.binary, self.folder.path(), Some(&fault));
        let mut row =
            Row { plan: plan.clone(), was_injected: false, end: "", flowed: Duration::ZERO, failure: None };
        let lived = self.live(&mut process);
        row.was_injected = process.is_injected();
        let outcome = match lived {
            Err(Interruption::Failure(why)) => Err(why),
            _ => self.aftermath(plan, &mut process, &mut row),
        };
        row.failure = outcome.err().map(|why| format!("{why}\n{}", process.log()));
        row
    }

    fn aftermath(&mut self, plan: &Plan, process: &mut Process, row: &mut Row) -> Result<(), String> {
        if self.lab.within("n1", || {
            // SAFETY: a string that ends with zero.
            unsafe { libc::if_nametoindex(c"eth0".as_ptr()) == 0 }
        }) {
            self.plug();
        }
        row.end = if plan.is_lethal()
            && row.was_injected
            && process.ends_within(Duration::from_secs(1)).is_some()
        {
            "died"
        } else if process.ended().is_some() {
            "ended"
        } else {
            "continued"
        };
        if process.ended().is_none() {
            // It works on after the fault: then its heal does, or what it cut ends by itself.
            let healed = process.call("DELETE", "/v1/partitions", "");
            row.flowed =
                self.flows_in_time().ok_or_else(|| format!("nothing flows after its heal: {healed:?}"))?;
            process.signal(Signal::TERM);
            process.ends_within(ENDS).ok_or("SIGTERM does not end it")?;
        } else {
            row.flowed = self.flows_in_time().ok_or("nothing flows after its end")?;
        }
        let status = process.ended().ok_or("it has not ended")?;
        if !plan.is_lethal() && !matches!(status.code(), Some(0 | 2)) {
            return Err(format!("an errno ended it with {status}"));
        }
        // Only what did not end cleanly may leave filters, which do nothing.
        let allowed = if plan.is_lethal() && status.code() != Some(0) {
            Allowed::InertFilters
        } else {
            Allowed::Others
        };
        self.check_state(allowed)?;
        self.start_again()?;
        self.check_state(Allowed::Others)
    }

    fn check_state(&self, allowed: Allowed) -> Result<(), String> {
        let foreign = self.foreign.as_ref().map(|foreign| foreign.id);
        let faults =
            [fault(&self.lab, "n1", foreign, true, allowed), fault(&self.lab, "n2", None, false, allowed)];
        faults.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// The next start, without a fault: it cuts, heals and ends.
    fn start_again(&mut self) -> Result<(), String> {
        let mut next = Process::spawn(&self.binary, self.folder.path(), None);
        let reported = |cut: Interruption, next: &Process| match cut {
            Interruption::Failure(why) => format!("the next start: {why}\n{}", next.log()),
            Interruption::Fault => "a fault was injected into the next start".into(),
        };
        let done = (|| {
            Self::until(&mut next, "it is ready", |next| next.log().contains(" ready "))?;
            Self::ask(&mut next, "PUT", "/v1/partitions/a", ISOLATE)?;
            if self.flows(Duration::from_millis(100)).is_some() {
                return Err(Interruption::Failure("it cuts nothing".into()));
            }
            next.signal(Signal::TERM);
            Self::until(&mut next, "it ends", |next| next.ended().is_some())
        })();
        done.map_err(|cut| reported(cut, &next))?;
        self.flows_in_time().map(drop).ok_or_else(|| "nothing flows after the next start's end".into())
    }
}
