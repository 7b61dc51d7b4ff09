//! Names: which are allowed, which peer one is, and what has had one before.

use crate::config::read::{Node, Report};
use crate::model::{PeerId, PeerNames, WORLD};
use crate::nearest::known_names;

/// Whether a name can be used in commands and paths of the API: `[A-Za-z0-9._-]+`, no leading `-`.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('-') && name.chars().all(allowed)
}

pub(super) const NAME_REMEDY: &str = "use letters, digits, '.', '_' and '-', and no '-' at the beginning";

/// The peer that a text names.
pub(super) fn peer_named(node: &Node<'_>, names: &PeerNames, usage: &str) -> Option<PeerId> {
    let name = node.text(usage)?;
    match names.id(name) {
        Some(PeerId::WORLD) => {
            node.error(format!("\"{WORLD}\" is everyone who is no peer"), usage);
            None
        }
        None => {
            unknown_peer(node, name, names);
            None
        }
        id => id,
    }
}

/// Reports a name that no peer has. Where there are no peers at all, that is the fault, and has been reported.
pub(super) fn unknown_peer(node: &Node<'_>, name: &str, names: &PeerNames) {
    let known: Vec<String> = names.peers().map(|id| names.name(id).to_owned()).collect();
    if !known.is_empty() {
        node.error(format!("unknown peer \"{name}\""), known_names(name, "peers", &known));
    }
}

/// Where each value was first, so that a report about its second place can name the first.
pub(super) struct Firsts<'a, K> {
    report: &'a Report<'a>,
    seen: std::collections::HashMap<K, String>,
}

impl<'a, K: std::hash::Hash + Eq> Firsts<'a, K> {
    pub(super) fn new(report: &'a Report<'a>) -> Self {
        Self { report, seen: std::collections::HashMap::new() }
    }

    /// `None` for the first of its kind, else path and line of the first.
    pub(super) fn earlier(&mut self, what: K, node: &Node<'_>) -> Option<String> {
        if let Some(path) = self.seen.get(&what) {
            return Some(format!("{path}, {}", self.report.line(path)));
        }
        self.seen.insert(what, node.path.clone());
        None
    }

    /// The place of the first of its kind, in words.
    pub(super) fn place(&self, what: &K) -> Option<String> {
        self.seen.get(what).map(|path| format!("{path}, {}", self.report.line(path)))
    }
}
