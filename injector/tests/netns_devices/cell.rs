//! One try: a device and a hook, a cut between two peers, and what came of it.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use injector_core::api::PartitionView;
use injector_lab::has_tcx;

use crate::live::daemon::{Daemon, links};
use crate::wired::{Device, PEERS, Wired};

/// The environment variable with the file that results are appended to, a line each: the device, the hook, a word, and
/// what there is to say of it, between tabs.
const CELLS: &str = "INJECTOR_CELLS";

const LONG: Duration = Duration::from_mins(9);
/// How many datagrams are sent each way over each version of IP.
const COUNT: usize = 10;

/// Where the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Tcx,
    Clsact,
    /// In, and TC out.
    Xdp,
}

impl Hook {
    pub const ALL: [Self; 3] = [Self::Tcx, Self::Clsact, Self::Xdp];

    /// As the config names it.
    fn configured(self) -> &'static str {
        match self {
            Self::Tcx => "tc",
            Self::Clsact => "clsact",
            Self::Xdp => "xdp",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Xdp => "xdp",
        })
    }
}

/// What came of a try.
#[derive(Debug)]
pub enum Cell {
    /// The cut stopped all traffic both ways and nobody else's, the sender got no error, and the heal brought the
    /// traffic back. Holds the hook in force.
    Cut(String),
    /// The daemon says why it can't cut there.
    Refused(String),
    /// The kernel does not have the hook.
    NoHook(String),
    /// The kernel does not have the device.
    NoDevice(String),
    /// A device that can be hooked was not.
    NotAttached(String),
    /// Before the cut.
    NoTraffic(String),
    /// Traffic passed the cut.
    Leaks(String),
    /// A sender got an error from the cut.
    Loud(String),
    /// The third peer's traffic stopped.
    Harms(String),
    /// Fewer drops were counted than there were.
    Miscounts(String),
    /// After the heal.
    StaysCut(String),
}

impl Cell {
    /// The result for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Cut(_) => "cut",
            Self::Refused(_) => "refused",
            Self::NoHook(_) => "no-hook",
            Self::NoDevice(_) => "no-device",
            Self::NotAttached(_) => "not-attached",
            Self::NoTraffic(_) => "no-traffic",
            Self::Leaks(_) => "leaks",
            Self::Loud(_) => "loud",
            Self::Harms(_) => "harms",
            Self::Miscounts(_) => "miscounts",
            Self::StaysCut(_) => "stays-cut",
        }
    }

    /// What there is to say of it.
    pub fn detail(&self) -> &str {
        match self {
            Self::Cut(detail)
            | Self::Refused(detail)
            | Self::NoHook(detail)
            | Self::NoDevice(detail)
            | Self::NotAttached(detail)
            | Self::NoTraffic(detail)
            | Self::Leaks(detail)
            | Self::Loud(detail)
            | Self::Harms(detail)
            | Self::Miscounts(detail)
            | Self::StaysCut(detail) => detail,
        }
    }

    /// Whether it is neither a cut nor a clear refusal nor something that the kernel lacks.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Cut(_) | Self::Refused(_) | Self::NoHook(_) | Self::NoDevice(_))
    }
}

/// Appends a result to the file for them, if there is one.
pub fn report(device: Device, hook: Hook, cell: &Cell) {
    let detail = cell.detail().split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!("{device}\t{hook}\t{}\t{detail}", cell.word());
    eprintln!("{line}");
    if let Some(path) = std::env::var_os(CELLS) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        // In one piece: tests run side by side.
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Tries a cut between the first two peers.
pub fn tried(device: Device, hook: Hook) -> Cell {
    let wired = match Wired::new(device) {
        Ok(wired) => wired,
        Err(why) => return Cell::NoDevice(why),
    };
    if hook == Hook::Tcx && !has_tcx() {
        return Cell::NoHook("Linux 6.6 brought TCX".to_owned());
    }
    let unattached = |why: &str| {
        let why = wired.plain(why);
        if wired.is_ethernet() { Cell::NotAttached(why) } else { Cell::Refused(why) }
    };
    let daemon = match Daemon::try_start(&wired.config(hook.configured())) {
        Ok(daemon) => daemon,
        Err((_, log)) => {
            let last = log.lines().rev().find(|line| !line.trim().is_empty());
            return unattached(last.unwrap_or("the daemon ended without a word"));
        }
    };
    let attachments = daemon.status().attachments;
    if let Some(loose) = attachments.iter().find(|attachment| attachment.hook.is_none()) {
        return unattached(&loose.why);
    }
    let in_force = attachments.into_iter().find_map(|attachment| attachment.hook).unwrap_or_default();
    match judged(&wired, &daemon) {
        Ok(()) => Cell::Cut(in_force),
        Err(cell) => cell,
    }
}

/// Control, cut, heal; the first thing that is not as it should be.
fn judged(wired: &Wired, daemon: &Daemon) -> Result<(), Cell> {
    let [(n1, _), (n2, _), (n3, _)] = PEERS;
    let both_ways = [(n1, n2), (n2, n1)];
    let beside = [(n1, n3), (n3, n1), (n2, n3), (n3, n2)];
    let stopped = |ways: &[(&str, &str)]| {
        ways.iter().find(|(from, to)| !wired.flows(from, to)).map(|(from, to)| format!("{from}→{to}"))
    };
    if let Some(way) = stopped(&both_ways).or_else(|| stopped(&beside)) {
        return Err(Cell::NoTraffic(way));
    }
    if let Err(problem) = daemon.try_apply("p", &links(&both_ways, LONG)) {
        return Err(Cell::Refused(wired.plain(&problem.detail)));
    }
    for (from, to) in both_ways {
        for (sent, family) in wired.swallowed(from, to, COUNT).iter().zip(["IPv4", "IPv6"]) {
            if sent.delivered > 0 {
                let delivered = sent.delivered;
                return Err(Cell::Leaks(format!("{delivered} of {COUNT} datagrams {from}→{to} by {family}")));
            }
            // With a port that is off, too, nobody answers who has an address.
            let told = sent.error.as_ref().filter(|why| why.raw_os_error() != Some(libc::EHOSTUNREACH));
            if let Some(why) = told {
                return Err(Cell::Loud(format!("{from}→{to} by {family}: {why}")));
            }
        }
    }
    let view = daemon.partition("p");
    for (from, to) in both_ways {
        let counted = dropped(&view, from, to);
        if counted < 2 * COUNT as u64 {
            return Err(Cell::Miscounts(format!("{counted} of {} datagrams {from}→{to}", 2 * COUNT)));
        }
    }
    if let Some(way) = stopped(&beside) {
        return Err(Cell::Harms(way));
    }
    daemon.heal("p");
    stopped(&both_ways).map_or(Ok(()), |way| Err(Cell::StaysCut(way)))
}

/// What was dropped on a link.
fn dropped(view: &PartitionView, src: &str, dst: &str) -> u64 {
    let link = view.links.iter().flatten().find(|link| link.src == src && link.dst == dst);
    let link = link.unwrap_or_else(|| panic!("no link {src}→{dst} in {view:#?}"));
    link.dropped_packets.unwrap_or_else(|| panic!("the drops of {src}→{dst} can't be read"))
}
