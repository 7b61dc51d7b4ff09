//! Peers that are known by a cgroup, a unit or a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use injector_lab::{Lab, needs};

use super::support::{self, Daemon, until};
use super::talker::Talker;
use super::{A, B, C, machine};

/// Cgroups of a test, which are gone with it.
struct Cgroups {
    root: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroups {
    /// cgroup2 is mounted where only this thread and what it starts see it.
    fn new(lab: &Lab) -> Self {
        let root = lab.folder().join("cgroups");
        fs::create_dir(&root).unwrap();
        support::ok("mount", &format!("-t cgroup2 none {}", root.display()));
        Self { root, made: Vec::new() }
    }

    fn make(&mut self, path: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir(&path).unwrap();
        self.made.push(path.clone());
        path
    }

    fn remove(&mut self, path: &Path) {
        // Its processes have ended, but the kernel may not have taken note of that yet.
        until("the cgroup is empty", || fs::remove_dir(path).is_ok().then_some(()));
        self.made.retain(|made| made != path);
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            for _ in 0..100 {
                if fs::remove_dir(path).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        support::run("umount", &self.root.display().to_string());
    }
}

fn join(cgroup: &Path, talker: &Talker) {
    fs::write(cgroup.join("cgroup.procs"), talker.id().to_string()).unwrap();
}

#[test]
#[needs(root, example = "talker")]
fn peers_are_told_apart_by_cgroup_unit_and_process_also_when_they_come_again() {
    let lab = machine();
    let mut cgroups = Cgroups::new(&lab);
    let own = format!("inj{}", std::process::id());
    let slice = cgroups.make(&format!("{own}-lab"));
    let by_path = cgroups.make(&format!("{own}-lab/a"));
    let unit = cgroups.make(&format!("{own}-lab/{own}.service"));
    let below = cgroups.make(&format!("{own}-lab/{own}.service/sub"));
    // All sockets are made in the root's cgroup: it is not the one of a socket's birth that counts.
    let [mut a, mut b, mut c] = [A, B, C].map(|at| Talker::start(&lab, "m", &[at]));
    let to_a = b.dial(A);
    join(&by_path, &a);
    join(&below, &b);
    let netns = lab.netns("m");
    let config = format!(
        "peers:\n  a: {{ cgroup: /{own}-lab/a, netns: {netns} }}\n  b: {{ unit: {own}.service, netns: {netns} }}\n  \
         c: {{ pid: {}, netns: {netns} }}\ninterfaces: auto\n",
        c.id()
    );
    let daemon = Daemon::start(&lab, "lab", &config);
    let mut client = Talker::start(&lab, "m", &[]);
    daemon.cli("partition isolate b --name p --for 60s");
    assert_eq!(b.ask("say", &to_a), "silent");
    let silence = |talker: &mut Talker, to: &str| {
        let heard = (talker.ask("dial", to), talker.ask("ask", to));
        assert_eq!(heard, ("silent".to_owned(), "silent".to_owned()), "{to}");
    };
    silence(&mut a, B);
    silence(&mut c, B);
    silence(&mut b, A);
    silence(&mut b, C);
    assert_eq!(a.ask_patiently("start", C), "echo");
    assert_eq!(client.ask_patiently("start", B), "echo");
    // The unit is restarted: another cgroup has its name.
    b.kill();
    cgroups.remove(&below);
    cgroups.remove(&unit);
    let unit = cgroups.make(&format!("{own}-lab/{own}.service"));
    let mut again = Talker::start(&lab, "m", &[]);
    join(&unit, &again);
    again.listen(B);
    // On a busy machine, its first sockets may come before the news of its cgroup; a look finds them.
    until("the new cgroup is b's", || (again.ask("dial", A) == "silent").then_some(()));
    until("its listener is b's", || (a.ask("dial", B) == "silent").then_some(()));
    assert_eq!(client.ask_patiently("start", B), "echo");
    daemon.cli("heal p");
    assert_eq!(again.ask_patiently("start", A), "echo");
    assert_eq!(a.ask_patiently("start", B), "echo");
    c.kill();
    let output = injector_lab::Daemon::cli(&daemon).run("partition links a:c --name q --for 1s".split(' '));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The look at each cut comes after it: one that begins later is refused.
    let said = if output.status.success() {
        until("the end of c's process is noticed", || {
            daemon.cli("heal q");
            let words = "partition links a:c --name q --for 1s";
            let output = injector_lab::Daemon::cli(&daemon).run(words.split(' '));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (!output.status.success() && said.contains("has ended")).then_some(said)
        })
    } else {
        said
    };
    assert!(said.contains("has ended, and its id does not lead to what comes after it"), "{said}");
    drop((again, a));
    cgroups.remove(&unit);
    cgroups.remove(&by_path);
    cgroups.remove(&slice);
}

#[test]
#[needs(root, example = "talker")]
fn a_unit_within_another_peers_cgroup_is_refused() {
    let lab = machine();
    let mut cgroups = Cgroups::new(&lab);
    let own = format!("inj{}-nested", std::process::id());
    cgroups.make(&own);
    cgroups.make(&format!("{own}/{own}.service"));
    let netns = lab.netns("m");
    let config = format!(
        "peers:\n  a: {{ cgroup: /{own}, netns: {netns} }}\n  b: {{ unit: {own}.service, netns: {netns} }}\n\
         interfaces: auto\n"
    );
    let daemon = Daemon::start(&lab, "lab", &config);
    let said = super::refusal(&daemon, "links a:b", "p").unwrap_err();
    for words in
        ["the cgroups of a and b are one, or one is within the other", "name them by cgroups of their own"]
    {
        assert!(said.contains(words), "{said}");
    }
}

/// A second cgroup with the name of a peer's unit takes nothing from the first, and nobody can say which is meant.
#[test]
#[needs(root, example = "talker")]
fn a_unit_stays_the_cgroup_that_it_was_and_two_of_a_name_are_refused() {
    let lab = machine();
    let mut cgroups = Cgroups::new(&lab);
    let own = format!("inj{}-two", std::process::id());
    // The other one comes first by its name.
    for path in ["", "/a", "/z"] {
        cgroups.make(&format!("{own}{path}"));
    }
    let unit = cgroups.make(&format!("{own}/z/{own}.service"));
    let [a, mut b, _c] = [A, B, C].map(|at| Talker::start(&lab, "m", &[at]));
    join(&unit, &a);
    let netns = lab.netns("m");
    let config = format!(
        "peers:\n  a: {{ unit: {own}.service, netns: {netns} }}\n  b: {{ listens: [7002], netns: {netns} }}\n\
         interfaces: auto\n{}",
        super::READY
    );
    let daemon = Daemon::start(&lab, "lab", &config);
    daemon.cli("partition links a:b b:a --name p --for 60s");
    let mut innocent = Talker::start(&lab, "m", &[]);
    let other = cgroups.make(&format!("{own}/a/{own}.service"));
    join(&other, &innocent);
    until("two have the name", || {
        let status = daemon.cli("partition links a:b --name q --for 1s --dry-run");
        status.to_string().contains("either may be meant").then_some(())
    });
    assert_eq!(innocent.ask_patiently("start", B), "echo");
    assert_eq!(b.ask("dial", A), "silent");
    let said = super::refusal(&daemon, "links a:b", "q").unwrap_err();
    assert!(said.contains(&format!("two cgroups are called {own}.service, /{own}/z/")), "{said}");
    daemon.cli("heal p");
    assert_ne!(super::record(&daemon, "p")["links"][0]["in_force"], "yes");
    drop((a, innocent));
    cgroups.remove(&other);
    cgroups.remove(&unit);
}

/// Whoever follows cgroups no more would take sockets of a peer that is restarted for nobody's.
#[test]
#[needs(root, example = "fault_injected", example = "talker")]
fn a_daemon_that_follows_cgroups_no_more_ends() {
    let lab = machine();
    let mut cgroups = Cgroups::new(&lab);
    let own = format!("inj{}", std::process::id());
    let lab_cgroup = cgroups.make(&format!("{own}-fault"));
    let of_a = cgroups.make(&format!("{own}-fault/a"));
    let a = Talker::start(&lab, "m", &[A]);
    join(&of_a, &a);
    let netns = lab.netns("m");
    let config = format!(
        "peers:\n  a: {{ cgroup: /{own}-fault/a, netns: {netns} }}\n  b: {{ listens: [7002], netns: {netns} }}\ninterfaces: auto\n"
    );
    let program = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/fault_injected");
    let mut launch = injector_lab::Launch::in_folder(program, lab.folder(), "lab", &config).unwrap();
    launch.command().env("INJECTOR_FAULT", "cgroups/news#1=panic");
    let mut daemon = Daemon::launched(launch);
    a.kill();
    cgroups.remove(&of_a);
    let of_a = cgroups.make(&format!("{own}-fault/a"));
    let status = until("the daemon ends", || daemon.ended());
    assert_eq!(status.code(), Some(2), "{}", daemon.log());
    assert!(daemon.log().contains("panicked, which is a bug"), "{}", daemon.log());
    cgroups.remove(&of_a);
    cgroups.remove(&lab_cgroup);
}
