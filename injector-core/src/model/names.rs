//! The peers' names and their order.

use std::cmp::Ordering;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PeerId, WORLD};

/// Compares names as people number them: n1, n2, n10. A run of digits is compared by its value; names that differ
/// in leading zeros alone are compared as text.
pub fn natural(a: &str, b: &str) -> Ordering {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (mut left, mut right) = (a, b);
    loop {
        let order = match (digits(left), digits(right)) {
            (0, _) | (_, 0) => match (left.chars().next(), right.chars().next()) {
                (None, None) => return a.cmp(b),
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(x), Some(y)) => {
                    (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
                    x.cmp(&y)
                }
            },
            (x, y) => {
                let (x, y) = (left.split_at(x), right.split_at(y));
                (left, right) = (x.1, y.1);
                let (x, y) = (x.0.trim_start_matches('0'), y.0.trim_start_matches('0'));
                x.len().cmp(&y.len()).then_with(|| x.cmp(y))
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A peer's name as a key: sorted by [`natural`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PeerName(pub String);

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PeerName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl PartialOrd for PeerName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PeerName {
    fn cmp(&self, other: &Self) -> Ordering {
        natural(&self.0, &other.0)
    }
}

/// The peers' names by id; the order is the natural one, so that equal configs give equal ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNames {
    names: Vec<String>,
}

impl PeerNames {
    /// Makes the names from the configured ones ([`WORLD`] is added); sorts them and removes duplicates.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().filter(|name| name != WORLD).collect();
        names.sort_by(|a, b| natural(a, b));
        names.dedup();
        names.insert(0, WORLD.to_owned());
        Self { names }
    }

    /// The id of a name, [`WORLD`] included.
    pub fn id(&self, name: &str) -> Option<PeerId> {
        if name == WORLD {
            return Some(PeerId::WORLD);
        }
        let at = self.names[1..].binary_search_by(|probe| natural(probe, name)).ok()?;
        Some(PeerId(u16::try_from(at + 1).expect("at most MAX_PEERS names")))
    }

    /// The name of an id.
    pub fn name(&self, id: PeerId) -> &str {
        &self.names[usize::from(id.0)]
    }

    /// The configured peers, without [`WORLD`], in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + use<> {
        (1..self.names.len()).map(|at| PeerId(at as u16))
    }

    /// How many ids there are, [`WORLD`] included: the side of the matrix.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no peer is configured.
    pub fn is_empty(&self) -> bool {
        self.names.len() == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_follow_the_natural_order_of_the_names() {
        let names = PeerNames::new(["n2", "n1", "n10", "db"].map(str::to_owned));
        assert_eq!(names.id(WORLD), Some(PeerId::WORLD));
        let order: Vec<String> = names.peers().map(|id| names.name(id).to_owned()).collect();
        assert_eq!(order, ["db", "n1", "n2", "n10"]);
        assert_eq!(names.id("n10"), Some(PeerId(4)));
        assert_eq!(names.id("n3"), None);
        assert_eq!(names.id("n01"), None, "another name, though the number is the same");
    }

    #[test]
    fn numbers_within_names_count_by_value() {
        let sorted = [
            "",
            "n",
            "n1",
            "n01",
            "n2",
            "n9",
            "n10",
            "n10a",
            "n10b2",
            "n10b11",
            "n99999999999999999999998",
            "n99999999999999999999999",
            "rack1-n2",
            "rack1-n10",
            "rack2-n1",
            "x",
        ];
        for (a, b) in sorted.iter().zip(&sorted[1..]) {
            let expected = if (*a, *b) == ("n1", "n01") { Ordering::Greater } else { Ordering::Less };
            assert_eq!(natural(a, b), expected, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[a0-2]{0,6}", b in "[a0-2]{0,6}", c in "[a0-2]{0,6}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b) == Ordering::Equal, a == b);
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le());
            }
        }
    }
}
