//! The topics that are followed in namespaces, and the namespaces that can't be followed.

use std::collections::{BTreeMap, BTreeSet};

use crate::netlink::news::Topic;
use crate::netns::Identity;
use injector_core::config::Netns;

/// The topics that are followed in namespaces, and which namespaces these are.
pub(super) type Subscriptions = BTreeMap<Option<Netns>, (Identity, BTreeSet<Topic>)>;

/// Names of namespaces that nobody could read.
#[derive(Default)]
pub(super) struct UnseenNames {
    /// Names whose files did not answer the last time.
    pub(super) hung: BTreeSet<Netns>,
    /// Whether an event is under way by which all are checked again.
    pub(super) is_check_due: bool,
}

/// The timeline's text for a namespace whose changes are not noticed: the subject, and what happened.
pub(super) fn unnoticed(netns: Option<&Netns>, why: &str) -> (String, String) {
    let name = netns.map_or_else(|| "the daemon's own".to_owned(), Netns::to_string);
    let what = format!(
        "changes are not noticed until the kernel notifies of them again, which is tried each second: {why}"
    );
    (format!("network namespace {name}"), what)
}
