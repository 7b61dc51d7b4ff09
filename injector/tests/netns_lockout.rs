//! What users of this host can do to keep others, or the daemon, out: nothing. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(waits);

#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;
#[path = "support/users.rs"]
mod users;

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use injector_lab::{attempt, needs};
use rustix::fs::{FlockOperation, Mode, OFlags};
use support::{Daemon, Lab};
use users::{A_THIRD, ANOTHER, MEMBER, ROOT, as_user, call, connect, hold_streams};

fn lab_for_members() -> (Lab, String) {
    let lab = Lab::switched(2);
    std::fs::set_permissions(lab.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (n1, n2) = (lab.netns("n1"), lab.netns("n2"));
    let config = format!(
        "socket: {{ group: nogroup, mode: \"0660\" }}\n{}interfaces: [{{ name: eth0, netns: {n1} }}, \
         {{ name: eth0, netns: {n2} }}]\n",
        lab.peers()
    );
    (lab, config)
}

#[test]
#[needs(root)]
fn members_that_hold_all_they_can_keep_nobody_from_healing() {
    let (lab, config) = lab_for_members();
    let daemon = Daemon::start(&lab, "d", &config);
    let socket = daemon.socket();
    let first = hold_streams(socket, MEMBER);
    let (answer, _) = call(socket, MEMBER, "GET", "/v1/status");
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("uid 65534 are open"), "{answer}");
    let (answer, _) = call(socket, ANOTHER, "GET", "/v1/status");
    assert!(answer.starts_with("HTTP/1.1 200"), "one member alone keeps another out: {answer}");
    let second = hold_streams(socket, ANOTHER);
    println!("held by two members: {} and {}", first.len(), second.len());
    let (answer, _) = call(socket, A_THIRD, "GET", "/v1/status");
    assert!(answer.starts_with("HTTP/1.1 200"), "two members keep a third one out: {answer}");

    // Heads that never end, in the places that are kept for heals.
    let mut heads: Vec<UnixStream> = Vec::new();
    for user in [MEMBER, ANOTHER].into_iter().cycle().take(24) {
        let mut stream = connect(socket, user);
        // It may have been refused by now.
        let _ = stream.write_all(b"DELETE /v1/parti");
        heads.push(stream);
    }
    let mut slowest = Duration::ZERO;
    for turn in 0..20 {
        daemon.cli(&format!("partition isolate n1 --name p{turn} --for 60s"));
        assert!(!lab.reaches(1, 2) || turn > 0, "the cut is one");
        let healer = [ROOT, A_THIRD][turn % 2];
        let (answer, took) = call(socket, healer, "DELETE", "/v1/partitions");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("p{turn}\"")),
            "{healer:?}: {answer}"
        );
        slowest = slowest.max(took);
    }
    println!("the slowest heal took {slowest:?}");
    // Who waited for a place would wait for as long as the members hold theirs.
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["heal", "--all", "--socket"])
        .arg(socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(lab.reaches_soon(1, 2));

    // The member that holds everything can still heal itself, once it lets go of one head.
    drop(heads);
    daemon.cli("partition isolate n1 --name own --for 60s");
    support::until("its heal is answered", || {
        let (answer, _) = call(socket, MEMBER, "DELETE", "/v1/partitions/own");
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
    drop((first, second));
    support::until("the places are free again", || {
        call(socket, MEMBER, "GET", "/v1/status").0.starts_with("HTTP/1.1 200").then_some(())
    });
    attempt(
        "a member of the group",
        "opens event streams until it is refused",
        "429 at its limit; the next member is answered",
    );
    attempt(
        "two members",
        "hold all streams that they may, and 24 requests whose heads never end",
        "20 heals of root and of a third member are answered, also `heal --all`; so is a heal of their own once they let go",
    );
}

#[test]
#[needs(root)]
fn a_lock_on_the_sockets_directory_holds_up_no_start() {
    let (lab, config) = lab_for_members();
    let directory = lab.folder();
    let _locked = as_user(MEMBER, || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(directory, flags, Mode::empty()).unwrap();
        rustix::fs::flock(&handle, FlockOperation::LockExclusive).unwrap();
        handle
    });
    let begun = Instant::now();
    let daemon = Daemon::start(&lab, "d", &config);
    println!("it serves after {:?}", begun.elapsed());
    // The lock is never given up: a start that waited for it would end here without a daemon.
    daemon.stop();
    let left: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let of_ours = left.iter().filter(|name| name.to_str().unwrap().contains("sock")).count();
    assert_eq!(of_ours, 0, "{left:?}");
    attempt(
        "any user of the host",
        "locks the directory of the socket before the start",
        "the daemon starts",
    );
}

fn start(config: &Path, socket: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
    command.args(["start", "--config"]).arg(config).arg("--socket").arg(socket).stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
#[needs(root)]
fn a_way_to_the_socket_that_another_user_can_change_is_refused() {
    let (lab, text) = lab_for_members();
    let base = lab.folder();
    let config = base.join("lab.yaml");
    std::fs::write(&config, text).unwrap();
    let (theirs, ours) = (base.join("theirs"), base.join("ours"));
    std::fs::create_dir_all(theirs.join("inner")).unwrap();
    std::fs::create_dir(&ours).unwrap();
    chown(&theirs, Some(MEMBER.uid), None).unwrap();
    symlink(&ours, base.join("link")).unwrap();
    lchown(base.join("link"), Some(MEMBER.uid), None).unwrap();
    symlink(theirs.join("inner"), base.join("inwards")).unwrap();
    let open = base.join("open");
    std::fs::create_dir_all(open.join("inner")).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    for way in ["theirs/d.sock", "theirs/inner/d.sock", "theirs/new/d.sock", "link/d.sock", "inwards/d.sock"]
    {
        let output = start(&config, &base.join(way));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{way}: {said}");
        assert!(said.contains("belongs to uid 65534") && said.contains("mode 0755"), "{way}: {said}");
    }
    assert!(!theirs.join("new").exists(), "nothing is made where others rule");
    let output = start(&config, &open.join("inner/d.sock"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("0777"), "{said}");
    // A lock that another user put there.
    let lock = ours.join(".d.sock.lock");
    std::fs::write(&lock, "").unwrap();
    chown(&lock, Some(MEMBER.uid), None).unwrap();
    let output = start(&config, &ours.join("d.sock"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("d.sock.lock"), "{said}");
    attempt(
        "another user",
        "owns a directory or a symbolic link on the way to the socket",
        "the start is refused with the owner's uid, and nothing is made there",
    );
    attempt(
        "anyone",
        "may write to a directory on the way to the socket (mode 0777)",
        "the start is refused with the mode",
    );
    attempt(
        "another user",
        "puts the socket's lock file there first",
        "the start is refused with the file's name",
    );
}
