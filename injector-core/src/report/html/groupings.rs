//! By what trials can be distinguished on the page: the shape as asked, what was cut, the peer that was cut off, its role.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats::cuts::named;
use crate::stats::trial::Trial;

/// Groups of one kind.
const MOST: usize = 50;

/// A way to group trials.
#[derive(Debug, Serialize)]
pub(super) struct Grouping {
    /// The grouping's name.
    title: &'static str,
    /// The groups, those with the most trials first.
    names: Vec<String>,
    /// For each trial the place of its group in `names`; −1 if it is in none of them.
    of: Vec<i64>,
}

/// A trial's group; `None` if it is in none.
type Key<'a> = &'a dyn Fn(&'a Trial) -> Option<&'a str>;

/// The groupings that distinguish trials at all, each other than those before it.
pub(super) fn of(trials: &[Trial]) -> Vec<Grouping> {
    let cuts = named(trials);
    let cut = |trial: &Trial| cuts.get(trial.stratum.as_str()).map(|cut| cut.label.as_str());
    let ways: [(&'static str, Key<'_>); 4] = [
        ("shape", &|trial| Some(&trial.asked)),
        ("what was cut", &cut),
        ("isolated peer", &|trial| trial.isolated.as_deref()),
        ("role", &|trial| trial.roles.as_deref()),
    ];
    let mut found: Vec<Grouping> = Vec::new();
    for (title, key) in ways {
        let grouping = grouping(title, trials, key);
        if grouping.names.len() > 1 && !found.iter().any(|other| other.of == grouping.of) {
            found.push(grouping);
        }
    }
    found
}

fn grouping<'a>(title: &'static str, trials: &'a [Trial], key: Key<'a>) -> Grouping {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in trials.iter().filter_map(key) {
        *counts.entry(name).or_default() += 1;
    }
    let mut names: Vec<(&str, usize)> = counts.into_iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    names.truncate(MOST);
    let places: BTreeMap<&str, i64> = names.iter().zip(0..).map(|((name, _), at)| (*name, at)).collect();
    let place = |trial: &'a Trial| key(trial).and_then(|name| places.get(name)).copied().unwrap_or(-1);
    Grouping {
        title,
        of: trials.iter().map(place).collect(),
        names: names.into_iter().map(|(name, _)| name.to_owned()).collect(),
    }
}
