//! Whether the programs are attached that give sockets of peers on this machine their owners, by readings and scans. While one is
//! missing, new sockets have no owner, and what they send is not cut: all links of these peers are in doubt since the last
//! reading that found every program, until a scan has attached the programs again and gone through the processes. Pure.

use std::time::Duration;

use crate::datapath::{CgroupQuery, Reattached};
use crate::discovery::local::Doubt;
use injector_core::clock::MonoNs;

/// How often a scan is asked for while the programs can't be attached again.
const RETRY: Duration = Duration::from_secs(1);

/// The programs, as they were last read.
#[derive(Default)]
pub(super) struct OwnerPrograms {
    /// Asks whether they are attached; `None` if the config has no peers on this machine.
    pub query: Option<CgroupQuery>,
    /// When they were last known to be attached, all of them.
    whole_at: MonoNs,
    /// When they were attached: a reading from before says nothing of them.
    attached_at: MonoNs,
    /// The loss that no scan has repaired yet.
    lost: Option<Lost>,
    /// When a scan was last asked for.
    asked_at: MonoNs,
}

/// A loss of programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// The programs that another process has detached.
    pub missing: Vec<&'static str>,
    /// Why it is not known which are missing, or why they can't be attached again.
    error: Option<String>,
}

/// A loss that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lost {
    /// When the reading began that found it.
    read_at: MonoNs,
    loss: Loss,
}

/// The start of a doubt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DoubtBegins {
    /// The instant from which links are in doubt.
    pub from: MonoNs,
    pub loss: Loss,
}

/// The news that a scan brings of the programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// A loss that was not known.
    pub lost: Option<DoubtBegins>,
    /// Whether a loss is repaired.
    pub is_back: bool,
}

impl OwnerPrograms {
    /// Takes in a reading that began at an instant. Returns a loss that was not known.
    pub fn read(&mut self, at: MonoNs, missing: &[&'static str]) -> Option<DoubtBegins> {
        if at < self.attached_at {
            return None;
        }
        if !missing.is_empty() {
            return self.lose(at, Loss { missing: missing.to_vec(), error: None });
        }
        if self.lost.is_none() {
            self.whole_at = self.whole_at.max(at);
        }
        None
    }

    /// Takes in what a scan that began at an instant found, and attached again.
    pub fn scanned(&mut self, begun: MonoNs, found: &Reattached) -> Scanned {
        let mut scanned = Scanned::default();
        let loss = Loss { missing: found.missing.clone(), error: found.since.clone().err() };
        if loss.error.is_some() || !loss.missing.is_empty() {
            scanned.lost = self.lose(begun, loss);
        }
        if let Ok(since) = found.since {
            self.attached_at = self.attached_at.max(since);
            let repaired = self.lost.take_if(|lost| begun >= lost.read_at || since > lost.read_at);
            scanned.is_back = repaired.is_some();
            if self.lost.is_none() {
                self.whole_at = self.whole_at.max(begun).max(since);
            }
        }
        scanned
    }

    fn lose(&mut self, read_at: MonoNs, loss: Loss) -> Option<DoubtBegins> {
        if self.lost.is_some() {
            return None;
        }
        self.lost = Some(Lost { read_at, loss: loss.clone() });
        Some(DoubtBegins { from: self.whole_at, loss })
    }

    /// The loss that no scan has repaired yet.
    pub fn lost(&self) -> Option<&Loss> {
        self.lost.as_ref().map(|lost| &lost.loss)
    }

    /// Whether a scan is to be asked for now, to attach the programs again. It counts as asked for then.
    pub fn is_scan_due(&mut self, now: MonoNs) -> bool {
        let Some(lost) = &self.lost else { return false };
        let is_first = self.asked_at < lost.read_at;
        let is_due = is_first || now.saturating_since(self.asked_at) >= RETRY;
        if is_due {
            self.asked_at = now;
        }
        is_due
    }

    /// The doubt about each peer on this machine while programs are lost.
    pub fn doubt(&self) -> Option<Doubt> {
        self.lost.as_ref().map(|lost| lost.loss.doubt())
    }
}

impl Loss {
    /// The doubt that it casts on each peer on this machine.
    pub fn doubt(&self) -> Doubt {
        let why = format!("{self}: nothing says whose the sockets are that were made since");
        Doubt { why, remedy: Some("try again once `injector status` no longer says so of lo") }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let detached = (!self.missing.is_empty()).then(|| {
            format!("another process detached {} from the root of all cgroups", self.missing.join(", "))
        });
        let parts: Vec<String> = detached.into_iter().chain(self.error.clone()).collect();
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: [&str; 1] = ["injector_sock"];

    fn ms(at: u64) -> MonoNs {
        MonoNs(at * 1_000_000)
    }

    /// Programs that were attached at 10 ms, and a reading that found them all at 20 ms.
    fn programs() -> OwnerPrograms {
        let mut programs = OwnerPrograms::default();
        let first = programs.scanned(ms(11), &Reattached { missing: Vec::new(), since: Ok(ms(10)) });
        assert_eq!(first, Scanned::default());
        assert_eq!(programs.read(ms(20), &[]), None);
        programs
    }

    fn again(since: u64) -> Reattached {
        Reattached { missing: LOST.to_vec(), since: Ok(ms(since)) }
    }

    #[test]
    fn a_loss_holds_from_the_last_whole_reading_until_a_scan_has_attached_again() {
        let mut programs = programs();
        let lost = programs.read(ms(30), &LOST).unwrap();
        assert_eq!(lost.from, ms(20));
        assert!(programs.is_scan_due(ms(30)));
        assert_eq!(programs.read(ms(31), &LOST), None, "a loss is reported once");
        assert!(!programs.is_scan_due(ms(31)), "a scan is under way");
        assert!(programs.is_scan_due(ms(1031)), "it may have been in vain");
        assert_eq!(programs.read(ms(32), &[]), None);
        assert!(programs.doubt().is_some(), "no scan has gone through the processes");
        assert_eq!(programs.scanned(ms(33), &again(34)), Scanned { lost: None, is_back: true });
        assert_eq!(programs.doubt(), None);
        assert!(!programs.is_scan_due(ms(9000)));
        assert_eq!(programs.read(ms(33), &LOST), None, "a reading from before they were attached again");
        assert_eq!(programs.read(ms(40), &LOST).unwrap().from, ms(34), "the next loss");
    }

    #[test]
    fn a_scan_that_began_before_the_loss_repairs_nothing() {
        let mut programs = programs();
        assert!(programs.read(ms(30), &LOST).is_some());
        let old = Reattached { missing: Vec::new(), since: Ok(ms(10)) };
        assert_eq!(programs.scanned(ms(25), &old), Scanned::default());
        assert!(programs.doubt().is_some());
        assert!(
            programs.scanned(ms(26), &again(31)).is_back,
            "it attached the programs after the loss was read"
        );
    }

    #[test]
    fn a_scan_that_finds_a_loss_first_reports_it_and_repairs_it() {
        let mut programs = programs();
        let scanned = programs.scanned(ms(30), &again(31));
        assert_eq!(scanned.lost.map(|lost| lost.from), Some(ms(20)));
        assert!(scanned.is_back && programs.doubt().is_none());
    }

    #[test]
    fn programs_that_are_refused_stay_lost_until_a_scan_finds_them_all() {
        let mut programs = programs();
        let refused = Reattached { missing: LOST.to_vec(), since: Err("refused".to_owned()) };
        let scanned = programs.scanned(ms(30), &refused);
        let lost = scanned.lost.unwrap();
        assert_eq!((lost.from, scanned.is_back), (ms(20), false));
        let shown = "another process detached injector_sock from the root of all cgroups; refused";
        assert_eq!(lost.loss.to_string(), shown);
        assert_eq!(programs.scanned(ms(40), &refused), Scanned::default());
        // A scan that attached them failed later, and has no report.
        let whole = Reattached { missing: Vec::new(), since: Ok(ms(45)) };
        assert_eq!(programs.scanned(ms(50), &whole), Scanned { lost: None, is_back: true });
    }
}
