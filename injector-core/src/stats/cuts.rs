//! What a cut is called, and which peers it cuts off, over all trials of it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::labels::digest;
use super::trial::Trial;

/// A cut as all figures of a run name it.
///
/// One cut may be written in several ways: of three peers, `isolate n1,n2` and a drawn `isolate n3` cut the same links. Name
/// and sides must come from one of them, else a row mixes the outages of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCut<'a> {
    /// The cut in words, as its first trial has them; of two cuts with the same words, the later one ends in a digest.
    pub label: String,
    /// The peers that are cut off by these words; `None` for shapes without sides.
    pub cut_off: Option<&'a BTreeSet<String>>,
}

/// The cuts of these trials by [`Trial::stratum`]; the first trial of each names it.
pub fn named<'a>(trials: impl IntoIterator<Item = &'a Trial>) -> HashMap<&'a str, NamedCut<'a>> {
    let mut found: HashMap<&str, NamedCut<'_>> = HashMap::new();
    let mut taken: HashSet<String> = HashSet::new();
    for trial in trials {
        found.entry(&trial.stratum).or_insert_with(|| {
            let mut label = trial.label.clone();
            if !taken.insert(label.clone()) {
                label = format!("{label} #{:08x}", digest(&trial.stratum) >> 32);
            }
            NamedCut { label, cut_off: trial.cut_off.as_ref() }
        });
    }
    found
}
