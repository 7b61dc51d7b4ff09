//! A real guest of QEMU on a tap of a lab's switch: its console, its monitor, and the replies to its pings.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use injector_lab::http::Request;
use injector_lab::{BOOT_GUEST, CLIENT, Lab, Process, SWITCH, program};

/// How long an emulated machine may take to boot on a busy host.
const BOOT: Duration = Duration::from_mins(3);
/// How long a guest pings on until its replies are counted: five pings are due each second.
const LISTEN: Duration = Duration::from_secs(2);

/// How a guest is started.
#[derive(Clone, Copy)]
pub struct GuestSpec<'a> {
    /// Whose MAC address it has.
    pub peer: &'a str,
    pub tap: &'a str,
    /// The host number of its address.
    pub host: u8,
    /// The host numbers that it pings all the time.
    pub pings: &'a [u8],
}

/// A running machine; it ends when it is dropped.
pub struct Guest {
    process: Process,
    monitor: PathBuf,
    address: IpAddr,
}

impl Guest {
    /// Boots one, and waits until it serves.
    pub fn boot(lab: &Lab, spec: GuestSpec<'_>) -> Self {
        let mut guest = Self::start(lab, spec);
        guest.wait_up(lab, 1);
        guest
    }

    /// Starts one, which boots meanwhile.
    pub fn start(lab: &Lab, spec: GuestSpec<'_>) -> Self {
        let GuestSpec { peer, tap, host, pings } = spec;
        let mac = lab.guest(peer).mac;
        let name = format!("{peer}-{tap}-{host}");
        let monitor = lab.folder().join(format!("{name}.qmp"));
        let address = lab.ipv4(host);
        let pings: Vec<String> = pings.iter().map(|host| lab.ipv4(*host).to_string()).collect();
        let mut command = lab.command(SWITCH, program(BOOT_GUEST).unwrap());
        command.args([tap, &mac]).arg(&monitor);
        command.args([format!("address={address}/16"), format!("ping={}", pings.join(","))]);
        let log = lab.folder().join(format!("{name}.log"));
        let process = Process::start(&name, &mut command, &log).unwrap();
        // It has nothing to lose, and ends at once.
        Self { process: process.with_grace(Duration::ZERO), monitor, address }
    }

    /// Waits until it has come up so many times, and serves.
    pub fn wait_up(&mut self, lab: &Lab, times: usize) {
        let end = Instant::now() + BOOT;
        while self.process.log().matches(" is up").count() < times || !self.serves(lab) {
            self.process.check().unwrap();
            assert!(Instant::now() < end, "it does not come up: {}", self.process.log_end());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether it answers the client, which is no peer: no cut is in the way.
    pub fn serves(&self, lab: &Lab) -> bool {
        lab.request(CLIENT, (self.address, 8080), &Request::get("/")).is_ok_and(|(status, _)| status == 200)
    }

    /// How many replies to its pings it has had from another guest, since it was started.
    fn replies_of(&self, other: &Self) -> usize {
        self.process.log().matches(&format!("bytes from {}:", other.address)).count()
    }

    /// Has QEMU's monitor run a command.
    pub fn command(&self, name: &str) {
        let stream = UnixStream::connect(&self.monitor).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut writer = &stream;
        for name in ["qmp_capabilities", name] {
            writeln!(writer, "{{\"execute\":\"{name}\"}}").unwrap();
            // Its greeting and events come in between.
            let answer = lines.by_ref().map(Result::unwrap).find(|line| {
                assert!(!line.contains("\"error\""), "{name}: {line}");
                line.contains("\"return\"")
            });
            assert!(answer.is_some(), "{name} is not answered");
        }
    }

    /// Takes its power away.
    pub fn power_off(&mut self) {
        self.process.kill();
    }
}

/// The replies that two guests have had to their pings of each other.
pub type Replies = [usize; 2];

/// Counts them now.
pub fn replies(one: &Guest, two: &Guest) -> Replies {
    [one.replies_of(two), two.replies_of(one)]
}

/// Waits until each guest gets replies: the positive control.
#[track_caller]
pub fn wait_flow(one: &Guest, two: &Guest) {
    let before = replies(one, two);
    injector_lab::until("both guests get replies", || {
        let now = replies(one, two);
        (now[0] > before[0] + 2 && now[1] > before[1] + 2).then_some(())
    });
}

/// Counts once the replies of before the cut are written down, for which a guest on a busy machine takes its time.
#[track_caller]
pub fn replies_once_cut(one: &Guest, two: &Guest) -> Replies {
    let quiet = (0..5).find_map(|_| {
        let before = replies(one, two);
        std::thread::sleep(LISTEN / 2);
        (replies(one, two) == before).then_some(before)
    });
    quiet.expect("no more replies are written down")
}

/// Asserts that neither guest has had a reply since then, nor gets one now.
#[track_caller]
pub fn assert_silent_since(then: Replies, one: &Guest, two: &Guest) {
    std::thread::sleep(LISTEN);
    assert_eq!(replies(one, two), then, "replies that the guests had from each other");
}
