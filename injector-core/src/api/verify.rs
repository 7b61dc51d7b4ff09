//! The optional active check of a cut, and what it saw of a link.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::MonoNs;

/// How a partition is verified beyond counting what its hooks see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// The daemon sends frames of its own over the links that are cut in full, before the cut and while it lasts.
    Active,
}

/// A form of the active check's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckForm {
    /// Ethertype 0x88b5: MAC addresses and ports name its ends.
    Ethertype,
    /// IP protocol 253: the peers' addresses name its ends.
    Ip,
}

/// What the active check saw of one link. Its frames go from the sender's network interfaces to the receiver's, three of each
/// form by each way and try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkCheck {
    /// Frames that arrived before the cut; `null` if none could be sent then.
    pub control: Option<u64>,
    /// The forms in which frames arrived then and were sent during the cut; the others say nothing.
    #[serde(default)]
    pub forms: Vec<CheckForm>,
    /// Frames that were sent during the cut, by the ways and in the forms in which the control arrived.
    pub sent: u64,
    /// How many of them arrived in the first try, about 200 ms after the cut; `null` if there was none.
    pub arrived_after_cut: Option<u64>,
    /// How many arrived in the later tries, one a second up to the heal; `null` if there was none.
    pub arrived_before_heal: Option<u64>,
    /// When the last frame that counts was sent; `null` if none was.
    pub checked_until_ns: Option<MonoNs>,
    /// Why the check says nothing about this link; `null` if it says something.
    pub why_not: Option<String>,
}

impl LinkCheck {
    /// Frames that arrived during the cut; `None` if the check says nothing.
    pub fn arrived(&self) -> Option<u64> {
        self.control.filter(|arrived| *arrived > 0)?;
        let tries = [self.arrived_after_cut, self.arrived_before_heal];
        tries.into_iter().flatten().reduce(|sum, more| sum + more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_control_or_a_try_the_check_says_nothing() {
        let check = |control, arrived_after_cut, arrived_before_heal| LinkCheck {
            control,
            arrived_after_cut,
            arrived_before_heal,
            ..LinkCheck::default()
        };
        assert_eq!(check(Some(3), Some(0), None).arrived(), Some(0));
        assert_eq!(check(Some(1), Some(2), Some(3)).arrived(), Some(5));
        assert_eq!(check(Some(3), None, None).arrived(), None);
        assert_eq!(check(Some(0), Some(0), None).arrived(), None);
        assert_eq!(check(None, Some(1), None).arrived(), None);
    }
}
