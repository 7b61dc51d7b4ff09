//! Interfaces that come and go by the dozen.

use std::fmt::Write as _;

use injector_lab::SWITCH;

use crate::support::{self, Lab};

/// Pairs of interfaces on the switch, which a config attaches to at one end.
pub struct Crowd {
    /// The entries of the config's `interfaces:`, a line each.
    pub entries: String,
    making: String,
    taking: String,
}

impl Crowd {
    /// None of them is there yet.
    pub fn of(lab: &Lab, count: usize) -> Self {
        let switch = lab.netns(SWITCH);
        let (mut entries, mut makes, mut removes) = (String::new(), String::new(), String::new());
        for at in 0..count {
            writeln!(entries, "  - {{ name: v{at}, netns: {switch} }}").unwrap();
            writeln!(makes, "link add v{at} type veth peer name w{at}\nlink set v{at} up").unwrap();
            writeln!(removes, "link del v{at}").unwrap();
        }
        let [making, taking] = [("made", makes), ("removed", removes)].map(|(name, lines)| {
            let file = lab.folder().join(name);
            std::fs::write(&file, lines).unwrap();
            format!("-n {switch} -batch {}", file.display())
        });
        Self { entries, making, taking }
    }

    /// Makes them all.
    pub fn make(&self) {
        support::ip(&self.making);
    }

    /// Removes them all.
    pub fn remove(&self) {
        support::ip(&self.taking);
    }
}
