//! The virtual machine: QEMU, and what comes out of its serial lines.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::qemu::Qemu;
use crate::command::{check_interrupt, words};

/// The beginning of the guest's own lines; all others are the tests'.
pub const MARK: &str = "[guest]";
/// The serial line that the tests write to. The kernel has the first one, so that its words never cut theirs apart.
pub const TESTS: &str = "/dev/ttyS1";

/// How long the guest may take from its start to its first test.
const BOOT: Duration = Duration::from_mins(3);
/// How long one test program may take, emulated on a busy machine.
const PROGRAM: Duration = Duration::from_mins(20);
const MEMORY: &str = "2G";
const PROCESSORS: &str = "2";

/// A message from the guest.
pub enum GuestEvent {
    /// A test program begins.
    Begin(String),
    /// A line of it.
    Line(String),
    /// A test program has ended, with this exit code.
    End(String, i32),
    /// A test that skipped itself.
    Skip(String),
    /// The result of a test of devices.
    Cell(String),
    /// All have ended.
    Done,
}

impl GuestEvent {
    fn read(line: &str) -> Self {
        let word = || {
            let rest = line.strip_prefix(MARK)?.strip_prefix(' ')?;
            let (what, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            match what {
                "begin" => Some(Self::Begin(rest.to_owned())),
                "end" => {
                    let (name, code) = rest.rsplit_once(' ')?;
                    Some(Self::End(name.to_owned(), code.parse().ok()?))
                }
                "skip" => Some(Self::Skip(rest.to_owned())),
                "cell" => Some(Self::Cell(rest.to_owned())),
                "done" if rest.is_empty() => Some(Self::Done),
                _ => None,
            }
        };
        word().unwrap_or_else(|| Self::Line(line.to_owned()))
    }
}

/// A running machine; ended when dropped.
pub struct Guest {
    qemu: Child,
    lines: Receiver<String>,
    /// The step that the host waits for; `deadline` is when it gives up.
    doing: String,
    deadline: Instant,
    log: PathBuf,
}

impl Guest {
    /// Starts it; what the kernel says goes to the log.
    pub fn boot(kernel: &Path, initramfs: &Path, log: &Path) -> Result<Self> {
        let qemu = Qemu::find().context("set-up has run, but there is no QEMU")?;
        let mut command = qemu.command();
        // Emulated: with KVM inside another virtual machine some hosts hang.
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        command.args(["-smp", PROCESSORS, "-m", MEMORY, "-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        // A panic or an oops ends the machine without a word of being done. On a busy host the kernel may take an emulated timer
        // for a broken one, and panic.
        command.args(["-append", "console=ttyS0 panic=-1 oops=panic no_timer_check"]);
        command.arg("-serial").arg(format!("file:{}", log.display())).args(["-serial", "stdio"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // A group of its own: Ctrl-C is for xtask alone, which then ends the machine.
        command.process_group(0);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                // If xtask is killed, the machine is too.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut qemu = command.spawn().with_context(|| format!("starting `{}`", words(&command)))?;
        let output = BufReader::new(qemu.stdout.take().context("the machine's output is piped")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let deadline = Instant::now() + BOOT;
        Ok(Self { qemu, lines, doing: "booting".to_owned(), deadline, log: log.to_path_buf() })
    }

    /// Waits for what it says next. That it is silent for too long or ends before it is done, is an error.
    pub fn next_event(&mut self) -> Result<GuestEvent> {
        loop {
            check_interrupt()?;
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    let reported = GuestEvent::read(&line);
                    match &reported {
                        GuestEvent::Begin(name) => {
                            self.doing = format!("running {name}");
                            self.deadline = Instant::now() + PROGRAM;
                        }
                        GuestEvent::End(name, _) => self.doing = format!("continuing after {name}"),
                        _ => {}
                    }
                    return Ok(reported);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < self.deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest took too long {}; {}", self.doing, self.last_words());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.qemu.wait().context("waiting for the guest")?;
                    bail!("the guest ended {} ({status}); {}", self.doing, self.last_words());
                }
            }
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        format!("its kernel said last:\n  {}", lines[lines.len().saturating_sub(20)..].join("\n  "))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The machine has no disk to lose. It may have ended in this moment; either way it is gone after
        // `wait`.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The version of the Debian package that a kernel is from, as its log says it.
pub fn package(log: &Path) -> Option<String> {
    let text = fs::read(log).unwrap_or_default();
    version(&String::from_utf8_lossy(&text)).map(str::to_owned)
}

/// The word behind the last "Debian" of the line that the kernel begins with.
fn version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.contains("Linux version "))?;
    line.rsplit_once(" Debian ")?.1.split_whitespace().next()
}

/// The lines of a kernel's log that report broken rules; none if the kernel has not begun to log.
pub fn complaints(log: &Path) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(str::trim).filter(|line| is_complaint(line)).map(str::to_owned).collect()
}

fn is_complaint(line: &str) -> bool {
    // A processor that is emulated on a busy machine may well pause for long.
    let is_slow = line.contains("soft lockup");
    !is_slow && ["BUG: ", "WARNING: ", "Oops: ", "Kernel panic"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::super::initramfs::Initramfs;
    use super::super::kernel::{Series, cache};
    use super::*;

    /// A kernel without `/init` and without a disk panics.
    #[test]
    fn a_guest_that_does_not_boot_fails_with_its_last_words() {
        const NAME: &str = "a_guest_that_does_not_boot_fails_with_its_last_words";
        let cache = cache().unwrap();
        let kernel = Series::ALL.into_iter().find_map(|series| series.unpacked(&cache).unwrap());
        let (Some(_), Some(kernel)) = (Qemu::find(), kernel) else {
            return injector_lab::skip(NAME, "`cargo xtask vm` has not run here: no QEMU, or no kernel");
        };
        let folder = tempfile::tempdir().unwrap();
        let [image, log] = ["initramfs", "log"].map(|name| folder.path().join(name));
        Initramfs::new(fs::File::create(&image).unwrap()).finish().unwrap();
        let mut guest = Guest::boot(&kernel.image, &image, &log).unwrap();
        let error = match guest.next_event() {
            Err(error) => format!("{error:#}"),
            Ok(_) => panic!("it has booted"),
        };
        assert!(error.contains("the guest ended booting"), "{error}");
        assert!(error.contains("its kernel said last:") && error.contains("Kernel panic"), "{error}");
    }

    #[test]
    fn the_guests_words_are_told_from_the_tests() {
        assert!(
            matches!(GuestEvent::read("[guest] begin netns_cut"), GuestEvent::Begin(name) if name == "netns_cut")
        );
        assert!(matches!(GuestEvent::read("[guest] end netns_cut 101"), GuestEvent::End(_, 101)));
        assert!(
            matches!(GuestEvent::read("[guest] skip SKIP a: no b"), GuestEvent::Skip(line) if line == "SKIP a: no b")
        );
        assert!(
            matches!(GuestEvent::read("[guest] cell veth\ttcx\tcut\t"), GuestEvent::Cell(line) if line == "veth\ttcx\tcut\t")
        );
        assert!(matches!(GuestEvent::read("[guest] done"), GuestEvent::Done));
        for line in ["test result: ok. 1 passed", "", "[guest] end of it", "done", "[guest] done for"] {
            assert!(matches!(GuestEvent::read(line), GuestEvent::Line(same) if same == line), "{line}");
        }
    }

    #[test]
    fn the_version_of_the_package_is_in_the_first_line() {
        let log = "\r\n[    0.000000] Linux version 6.1.0-57-cloud-amd64 (kernel@debian) (gcc-12 (Debian 12.2.0-14) 12.2.0, \
                   GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.177-1 (2026-11-02)\r\n";
        assert_eq!(version(log), Some("6.1.177-1"));
        assert_eq!(version("[    0.000000] Linux version 6.1.0 (me@here) #1 SMP\n"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn complaints_are_told_from_slowness() {
        assert!(is_complaint("[    3.2] WARNING: CPU: 0 PID: 1 at kernel/bpf/core.c:12"));
        assert!(is_complaint("[    3.2] BUG: kernel NULL pointer dereference, address: 0"));
        assert!(!is_complaint("[    3.2] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!"));
        assert!(!is_complaint("[    3.2] bridge: filtering via arp/ip/ip6tables is no longer available"));
    }
}
