//! What is outside the daemon (its log, its config's file system, whatever stops its task) can't hold it up, nor keep a
//! cut in force without it. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

injector_lab::group!(waits);

#[path = "support/stopped_thread.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod stopped_thread;
#[path = "support/interfaces.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod support;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use injector_lab::AttachPoint;
use injector_lab::{needs, skip};
use rustix::process::Signal;
use serde_json::Value;
use stopped_thread::StoppedThread;
use support::{Daemon, Lab, until};

/// How long the programs keep cutting without a sign of life.
const LEASE: Duration = Duration::from_secs(2);
/// What a starved host may add to anything.
const SLACK: Duration = Duration::from_millis(700);
/// How long a heal may take.
const SOON: Duration = Duration::from_secs(1);

/// A daemon whose surroundings are the test's.
fn start(lab: &Lab, arrange: impl FnOnce(&mut Command)) -> Daemon {
    let mut launch = support::launch(lab, "lab", &config_of(lab)).with_own_output();
    arrange(launch.command());
    Daemon::launched(launch)
}

/// Ends it by SIGTERM: how, and how long that took.
fn terminate(mut daemon: Daemon) -> (ExitStatus, Duration) {
    let asked = Instant::now();
    (daemon.terminate(), asked.elapsed())
}

/// What its timeline says of configs.
fn configs(daemon: &Daemon) -> Vec<Value> {
    daemon.timeline().into_iter().filter(|event| event["kind"] == "config").collect()
}

fn config_of(lab: &Lab) -> String {
    lab.config(AttachPoint::OwnNic, "auto") + "ready: { observe: 500ms }\n"
}

/// What a daemon must still do, whatever became of its log.
fn assert_works(lab: &Lab, daemon: &Daemon) {
    assert!(lab.reaches_soon(1, 2));
    daemon.cli("partition isolate n1 --name p --for 60s");
    assert!(!lab.reaches(1, 2));
    daemon.heals_within(SOON, "p");
    assert!(lab.reaches_soon(1, 2));
}

/// A terminal, and its other end: the screen.
fn screen_and_terminal() -> (OwnedFd, OwnedFd) {
    let (mut screen, mut terminal) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: the kernel writes two numbers; nothing is asked for and nothing is set.
    let answer = unsafe {
        libc::openpty(&raw mut screen, &raw mut terminal, none, std::ptr::null(), std::ptr::null())
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were just opened, and nobody else has them.
    let ends = unsafe { (OwnedFd::from_raw_fd(screen), OwnedFd::from_raw_fd(terminal)) };
    // A daemon of another test must not keep them open.
    for end in [&ends.0, &ends.1] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).unwrap();
    }
    ends
}

#[test]
#[needs(root)]
fn a_log_that_can_not_be_written_ends_nothing_and_its_lines_are_counted() {
    for way in ["full disk", "closed pipe", "gone terminal", "size limit"] {
        let lab = Lab::switched(2);
        let daemon = start(&lab, |command| {
            command.env("INJECTOR_LOG", "debug");
            match way {
                "full disk" => {
                    command.stderr(OpenOptions::new().write(true).open("/dev/full").unwrap());
                }
                "closed pipe" => {
                    let (_reader, writer) = std::io::pipe().unwrap();
                    command.stderr(writer);
                }
                "gone terminal" => {
                    let (_screen, terminal) = screen_and_terminal();
                    command.stderr(terminal);
                }
                _ => {
                    command.stderr(File::create(lab.folder().join("log")).unwrap());
                    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
                    // SAFETY: one system call, between fork and exec.
                    unsafe {
                        command.pre_exec(move || {
                            Ok(rustix::process::setrlimit(rustix::process::Resource::Fsize, none)?)
                        });
                    }
                }
            }
        });
        assert_works(&lab, &daemon);
        let status = daemon.cli("status");
        assert!(status["lost_log_lines"].as_u64().unwrap() > 0, "{way}: {status}");
        let (status, took) = terminate(daemon);
        assert!(status.success(), "{way}: {status}");
        println!("{way}: ended within {took:?}");
        assert!(lab.reaches_soon(1, 2));
    }
}

/// Requests, each over a connection of its own, until lines are lost: the daemon logs each connection, and as many of them as fill
/// whatever lies between the daemon and its reader.
fn flood_log(daemon: &Daemon) {
    for _ in 0..20_000 {
        let (status, answer) = daemon.raw("GET", "/v1/status", b"");
        assert_eq!(status, 200, "{answer}");
        if answer["lost_log_lines"].as_u64().unwrap() > 0 {
            return;
        }
    }
    panic!("no line was ever lost: the log does not block");
}

#[test]
#[needs(root)]
fn a_log_that_blocks_holds_up_nothing() {
    for way in ["unread pipe", "stopped terminal"] {
        let lab = Lab::switched(2);
        let mut kept = None;
        let daemon = start(&lab, |command| {
            command.env("INJECTOR_LOG", "trace");
            let (other_end, log) = if way == "unread pipe" {
                let (reader, writer) = std::io::pipe().unwrap();
                (OwnedFd::from(reader), OwnedFd::from(writer))
            } else {
                let (screen, terminal) = screen_and_terminal();
                // As Ctrl-S does.
                rustix::termios::tcflow(&terminal, rustix::termios::Action::OOff).unwrap();
                (screen, terminal)
            };
            kept = Some(other_end);
            command.stderr(log);
        });
        flood_log(&daemon);
        assert_works(&lab, &daemon);
        daemon.cli("partition isolate n1 --name held --for 60s");
        // Longer than the lease: the daemon works, so the cut stays.
        std::thread::sleep(LEASE + SLACK);
        assert!(!lab.reaches(1, 2), "{way}: the cut ended by itself");
        let (status, took) = terminate(daemon);
        assert!(status.success(), "{way}: {status}");
        assert!(took < Duration::from_secs(4), "{way}: SIGTERM took {took:?}");
        assert!(lab.reaches_soon(1, 2));
        drop(kept);
    }
}

/// How long what passes takes, unless the machine is busy.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Two sockets, one in each node.
fn sockets(lab: &Lab) -> (UdpSocket, UdpSocket) {
    let sender = lab.within("n1", || UdpSocket::bind((lab.ipv4(1), 7100)).unwrap());
    let receiver = lab.within("n2", || UdpSocket::bind((lab.ipv4(2), 7100)).unwrap());
    (sender, receiver)
}

#[test]
#[needs(root)]
fn whatever_stops_the_daemons_task_ends_its_cuts_within_the_lease() {
    let lab = Lab::switched(2);
    let daemon = start(&lab, |command| {
        command.stderr(File::create(lab.folder().join("log")).unwrap());
    });
    assert!(lab.reaches_soon(1, 2));
    // ARP is kept: it is asked for once a second only.
    daemon.cli("partition isolate n1 --name p --for 60s --neighbour keep");
    let (sender, receiver) = sockets(&lab);
    let mut number = 0_u64;
    let mut send = || {
        number += 1;
        sender.send_to(&number.to_ne_bytes(), (lab.ipv4(2), 7100)).unwrap();
        number
    };
    // Whether a datagram from this one on arrives.
    let arrives = |first: u64, patience| {
        receiver.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 8];
        while receiver.recv(&mut buffer).is_ok() {
            if u64::from_ne_bytes(buffer) >= first {
                return true;
            }
        }
        false
    };
    let first = send();
    let watched = Instant::now();
    while watched.elapsed() < LEASE * 2 {
        send();
        assert!(!arrives(first, AT_ONCE), "a daemon that works keeps its cut");
    }

    let stopped_thread = StoppedThread::main(daemon.id());
    let stopped = Instant::now();
    while !arrives(first, AT_ONCE) {
        send();
        assert!(stopped.elapsed() < support::PATIENCE, "the cut outlives the daemon's task");
    }
    let took = stopped.elapsed();
    println!("traffic flows {took:?} after the task was stopped");
    assert!(took < LEASE + SLACK, "{took:?}");
    drop(stopped_thread);

    let record = daemon.cli("wait p --timeout 20s");
    assert_eq!(record["healed_by"], "lease", "{record}");
    assert_eq!(record["outcome"], "harness_failed", "{record}");
    let again = Instant::now();
    while again.elapsed() < LEASE {
        assert!(arrives(send(), support::PATIENCE), "what has lapsed comes back");
    }
    daemon.cli("partition isolate n1 --name q --for 60s --neighbour keep");
    assert!(!arrives(send(), AT_ONCE), "the next cut is one");
    daemon.heal_by_hand("q");
    assert!(arrives(send(), support::PATIENCE));
    assert!(terminate(daemon).0.success());
}

/// Makes the daemon see a file system whose server never answers.
fn mount_hung(command: &mut Command, at: &Path) {
    std::fs::create_dir(at).unwrap();
    let server = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
    let [options, at, root, kind] =
        [options.as_str(), at.to_str().unwrap(), "/", "fuse"].map(|text| CString::new(text).unwrap());
    let call = |answer: libc::c_int| if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: system calls alone, with strings that were made before the fork. The descriptor stays open in the daemon:
    // nobody else is to end the file system.
    unsafe {
        command.pre_exec(move || {
            rustix::io::fcntl_setfd(server.as_fd(), rustix::io::FdFlags::empty())?;
            call(libc::unshare(libc::CLONE_NEWNS))?;
            let none = std::ptr::null();
            call(libc::mount(none, root.as_ptr(), none, libc::MS_REC | libc::MS_SLAVE, none.cast()))?;
            call(libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()))
        });
    }
}

/// `fcntl`'s number, which the `libc` crate lacks.
const F_SETSIG: libc::c_int = 10;

#[test]
#[needs(root)]
fn a_config_that_can_not_be_read_holds_up_nothing() {
    let lab = Lab::switched(2);
    let directory = lab.folder().to_owned();
    let (link, good) = (directory.join("lab.yaml"), directory.join("good.yaml"));
    std::fs::write(&good, config_of(&lab)).unwrap();
    symlink(&good, &link).unwrap();
    let fifo = directory.join("fifo");
    support::ok("mkfifo", fifo.to_str().unwrap());
    let endless = directory.join("endless.yaml");
    File::create(&endless).unwrap().set_len(1 << 40).unwrap();
    let leased = directory.join("leased.yaml");
    std::fs::write(&leased, config_of(&lab)).unwrap();
    let can_hang = Path::new("/dev/fuse").exists();
    let hung = directory.join("hung");
    let daemon = start(&lab, |command| {
        command.stderr(File::create(directory.join("log")).unwrap());
        if can_hang {
            mount_hung(command, &hung);
        }
    });
    let point_to = |to: &Path| {
        std::fs::remove_file(&link).unwrap();
        symlink(to, &link).unwrap();
    };
    // An open for reading waits until the lease's holder gives it up, or for /proc/sys/fs/lease-break-time.
    let holder = File::options().write(true).open(&leased).unwrap();
    // SAFETY: takes numbers alone.
    assert_eq!(unsafe { libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) }, 0);
    // SAFETY: the same. The signal that comes by default when the lease is to be broken would end this process.
    assert_eq!(unsafe { libc::fcntl(holder.as_raw_fd(), F_SETSIG, libc::SIGCHLD) }, 0);
    let bad: [&Path; 5] = [&fifo, Path::new("/dev/zero"), &directory, &endless, &leased];
    for path in bad {
        point_to(path);
        let before = configs(&daemon).len();
        daemon.cli("partition isolate n1 --name p --for 60s");
        daemon.signal(Signal::HUP);
        daemon.heals_within(SOON, "p");
        let reported = until("the config is refused", || configs(&daemon).get(before).cloned());
        assert_eq!(reported["outcome"], "refused", "{}: {reported}", path.display());
    }
    drop(holder);
    if !can_hang {
        let name = "a_config_that_can_not_be_read_holds_up_nothing";
        return skip(name, "no /dev/fuse (only the file system that does not answer)");
    }
    let before = configs(&daemon).len();
    point_to(&hung.join("lab.yaml"));
    daemon.cli("partition isolate n1 --name p --for 60s");
    let begun = Instant::now();
    daemon.signal(Signal::HUP);
    until("a thread waits for the file system", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
        let mut names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
        names.any(|name| name.is_ok_and(|name| name.trim() == "config")).then_some(())
    });
    while begun.elapsed() < LEASE + SLACK {
        assert!(!lab.reaches(1, 2), "the daemon works, so the cut stays");
    }
    daemon.heals_within(SOON, "p");
    assert!(lab.reaches_soon(1, 2));
    let reported = until("it is reported", || configs(&daemon).get(before).cloned());
    assert_eq!(reported["outcome"], "refused", "{reported}");
    assert!(reported["what"].as_str().unwrap().contains("not read within 10 s"), "{reported}");
    assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
    // No thread more for each further one.
    daemon.signal(Signal::HUP);
    let reported = until("it is reported again", || configs(&daemon).get(before + 1).cloned());
    assert!(reported["what"].as_str().unwrap().contains("an earlier SIGHUP"), "{reported}");
    let (status, took) = terminate(daemon);
    assert!(status.success() && took < Duration::from_secs(4), "{status} after {took:?}");
}

/// What a config says reaches log, timeline and terminal, but does not act there.
#[test]
#[needs(root)]
fn what_a_config_says_does_not_act_on_a_terminal() {
    let lab = Lab::switched(2);
    let log = lab.folder().join("log");
    let daemon = start(&lab, |command| {
        command.stderr(File::create(&log).unwrap());
    });
    let config = lab.folder().join("lab.yaml");
    let bad = format!("{}\"\\e[2J\\x9b31m\\u202e key\": 1\n", config_of(&lab));
    std::fs::write(&config, bad).unwrap();
    daemon.signal(Signal::HUP);
    let reported = until("the config is refused", || configs(&daemon).first().cloned());
    assert!(reported["what"].as_str().unwrap().contains("key"), "{reported}");
    let said = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_injector"));
        let output = command.arg("--socket").arg(daemon.socket()).args(words).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let logged =
        until("it is logged", || std::fs::read_to_string(&log).ok().filter(|text| text.contains("refused")));
    for (what, text) in [
        ("the log", logged),
        ("the timeline", said(&["timeline"])),
        ("the timeline as JSON", said(&["--json", "timeline"])),
        ("check", said(&["check", "--config", config.to_str().unwrap()])),
    ] {
        assert!(text.contains("key"), "{what} says nothing of it: {text}");
        let acts = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!text.contains(acts), "{what}: {text:?}");
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_injector"))
        .args(["start", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(!refused.stderr.contains(&0x1b), "{refused:?}");
}
