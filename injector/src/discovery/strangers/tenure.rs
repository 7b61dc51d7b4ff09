//! When a peer had a MAC address, as far as it is known. An engine gives that of one container to the next, so that a frame with
//! it is the peer's only if it came in that time. Pure.

use std::time::Duration;

use injector_common::key::PASSAGE;
use injector_core::clock::MonoNs;
use injector_core::identity::Stranger;

/// How many times are told apart.
const MOST: usize = 8;

/// The times in which the devices of a peer's home had a MAC address, the earliest first.
#[derive(Debug, Default)]
pub struct Tenures {
    times: Vec<Tenure>,
}

/// One such time.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    /// The last instant at which they are known not to have had it.
    after: MonoNs,
    /// From when on nobody else is known to have had it,
    from: MonoNs,
    /// the last instant at which they are known to have had it,
    until: MonoNs,
    /// and what has become of it since.
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// They have it.
    None,
    /// Nobody could see.
    Unknown,
    /// By then they did not have it any more.
    By(MonoNs),
}

impl Tenures {
    /// Takes in that they have it, as was read since an instant and by another. They did not at `absent`, if that is later than the
    /// last time; `is_others` says that someone else had it then.
    pub fn has(&mut self, (since, by): (MonoNs, MonoNs), absent: MonoNs, is_others: bool) {
        let gone = match self.times.last_mut() {
            // What was read by then may be older than that it is gone.
            Some(Tenure { until, end, .. }) if !matches!(*end, End::By(gone) if gone < since) => {
                *until = since.max(*until);
                *end = End::None;
                return;
            }
            Some(Tenure { end: End::By(gone), .. }) => *gone,
            _ => MonoNs(0),
        };
        let after = absent.max(gone);
        let from = if is_others { by } else { after };
        self.times.push(Tenure { after, from, until: since, end: End::None });
        if self.times.len() > MOST {
            let eldest = self.times.remove(0);
            self.times[0].after = eldest.after;
        }
    }

    /// Takes in that they do not have it, as was read since an instant and by another.
    pub fn has_not(&mut self, (since, by): (MonoNs, MonoNs)) {
        if let Some(Tenure { until, end, .. }) = self.times.last_mut()
            && !matches!(end, End::By(_))
            // Otherwise it came after they were read.
            && *until < since
        {
            *end = End::By(by);
        }
    }

    /// Takes in that they gave it up, and that this is known at an instant.
    pub fn gave_up(&mut self, by: MonoNs) {
        if let Some(last) = self.times.last_mut() {
            last.end = match last.end {
                End::By(gone) => End::By(gone.min(by)),
                _ => End::By(by),
            };
        }
    }

    /// Takes in that nobody sees any more whether they have it.
    pub fn lose_sight(&mut self) {
        if let Some(Tenure { end: end @ End::None, .. }) = self.times.last_mut() {
            *end = End::Unknown;
        }
    }

    /// Whether a stranger is who had it: all of its frames came while only they had it, or some may have; `None` if none can.
    pub fn is_of(&self, stranger: &Stranger) -> Option<bool> {
        let Stranger { first, last, .. } = *stranger;
        let is_possible = |tenure: &Tenure| {
            tenure.after < last
                && match tenure.end {
                    End::None | End::Unknown => true,
                    // A frame may have been on its way.
                    End::By(gone) => first <= gone + Duration::from_nanos(PASSAGE),
                }
        };
        let is_certain =
            |tenure: &Tenure| tenure.from <= first && (tenure.end == End::None || last <= tenure.until);
        let mut possible = self.times.iter().filter(|tenure| is_possible(tenure)).peekable();
        possible.peek()?;
        Some(possible.any(is_certain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::identity::{Contact, StrangerId};
    use injector_core::model::PeerId;

    fn came(tenures: &Tenures, first: u64, last: u64) -> Option<bool> {
        let id = StrangerId { peer: PeerId(1), mac: [2; 6], contact: Contact::From };
        tenures.is_of(&Stranger { id, packets: 1, first: MonoNs(first), last: MonoNs(last), address: None })
    }

    fn since(at: u64, absent: u64, is_others: bool) -> Tenures {
        let mut tenures = Tenures::default();
        tenures.has((MonoNs(at), MonoNs(at)), MonoNs(absent), is_others);
        tenures
    }

    #[test]
    fn what_came_before_it_was_there_is_others() {
        let tenures = since(20, 10, false);
        assert_eq!(came(&tenures, 5, 10), None);
        assert_eq!(came(&tenures, 5, 15), Some(false), "some of it");
        assert_eq!(came(&tenures, 11, 15), Some(true), "before it was noticed");
        assert_eq!(came(&tenures, 30, 99), Some(true));
        let tenures = since(20, 10, true);
        assert_eq!(came(&tenures, 11, 15), Some(false), "someone else had it");
        assert_eq!(came(&tenures, 20, 99), Some(true));
    }

    #[test]
    fn what_came_while_it_was_given_up_is_in_doubt_and_later_others() {
        let mut tenures = since(1, 0, false);
        tenures.has((MonoNs(10), MonoNs(10)), MonoNs(0), false);
        tenures.gave_up(MonoNs(50));
        assert_eq!(came(&tenures, 1, 10), Some(true));
        assert_eq!(came(&tenures, 1, 11), Some(false));
        assert_eq!(came(&tenures, 50 + PASSAGE, 60 + PASSAGE), Some(false), "on its way");
        assert_eq!(came(&tenures, 51 + PASSAGE, 60 + PASSAGE), None);
        // A survey that began before says that it is there; what followed is taken in again.
        tenures.has((MonoNs(40), MonoNs(40)), MonoNs(0), false);
        tenures.gave_up(MonoNs(50));
        assert_eq!(came(&tenures, 41, 45), Some(false));
        assert_eq!(came(&tenures, 51 + PASSAGE, 60 + PASSAGE), None);
        tenures.has_not((MonoNs(60), MonoNs(70)));
        assert_eq!(came(&tenures, 51 + PASSAGE, 60 + PASSAGE), None, "the earlier instant counts");
    }

    #[test]
    fn what_came_between_two_times_is_others() {
        let far = 10 * PASSAGE;
        let mut tenures = since(1, 0, false);
        tenures.has_not((MonoNs(10), MonoNs(20)));
        tenures.has((MonoNs(far), MonoNs(far)), MonoNs(far - 10), false);
        assert_eq!(came(&tenures, 21 + PASSAGE, far - 10), None);
        assert_eq!(came(&tenures, 1, 1), Some(true));
        assert_eq!(came(&tenures, 1, far), Some(false));
        assert_eq!(came(&tenures, far - 9, far), Some(true));
        for again in 2..20 {
            tenures.gave_up(MonoNs(again * far - 20));
            tenures.has((MonoNs(again * far), MonoNs(again * far)), MonoNs(again * far - 10), false);
        }
        assert_eq!(tenures.times.len(), MOST);
        assert_eq!(
            came(&tenures, 21 + PASSAGE, far - 10),
            Some(false),
            "the earliest are told apart no longer"
        );
        assert_eq!(came(&tenures, 18 * far - 20 + PASSAGE + 1, 18 * far - 10), None);
    }

    #[test]
    fn what_was_read_before_it_came_does_not_end_it() {
        let mut tenures = since(20, 10, false);
        tenures.has_not((MonoNs(15), MonoNs(30)));
        assert_eq!(came(&tenures, 25, 99), Some(true));
        tenures.has_not((MonoNs(35), MonoNs(40)));
        assert_eq!(came(&tenures, 41 + PASSAGE, 99 + PASSAGE), None);
    }

    #[test]
    fn whoever_nobody_sees_may_still_have_it() {
        let mut tenures = since(20, 10, false);
        tenures.lose_sight();
        assert_eq!(came(&tenures, 15, 20), Some(true));
        assert_eq!(came(&tenures, 15, 99 + PASSAGE), Some(false));
        tenures.has((MonoNs(50), MonoNs(50)), MonoNs(10), false);
        assert_eq!(came(&tenures, 15, 99 + PASSAGE), Some(true));
    }
}
