//! When a peer had a MAC address, as far as it is known. Container engines reuse MAC addresses, so that a frame with one is the
//! peer's only if it came while the peer had it. Pure.

use std::time::Duration;

use injector_common::key::PASSAGE;
use injector_core::clock::MonoNs;
use injector_core::identity::Stranger;

/// How many tenures are kept of a peer and a MAC address.
const MOST: usize = 8;
/// How much earlier a frame may be stamped than it came: the programs read a clock that the kernel advances once a tick.
const TICK: Duration = Duration::from_millis(10);

/// When something was found: it was read since an instant and by another.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The instant before it was read,
    pub since: MonoNs,
    /// and one after.
    pub by: MonoNs,
}

/// The times in which the devices of a peer's home had a MAC address, the earliest first.
#[derive(Debug, Default)]
pub struct Tenures {
    times: Vec<Tenure>,
}

/// One such time.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    /// The last instant at which the devices are known not to have had it.
    after: MonoNs,
    /// From this instant on, nobody else can have had it,
    from: MonoNs,
    /// up to the last instant at which the devices are known to have had it.
    until: MonoNs,
    /// What is known of the time after that.
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The devices have it.
    None,
    /// The home has not been read since.
    Unknown,
    /// By this instant the devices had it no more.
    By(MonoNs),
}

impl Tenures {
    /// Takes in that the devices have it. They did not at `absent`; `is_others` says that someone else has been seen with it.
    pub fn has(&mut self, read: Reading, absent: MonoNs, is_others: bool) {
        let before = match self.times.last_mut() {
            None => None,
            Some(Tenure { end: End::By(gone), .. }) if *gone < read.since => Some(*gone),
            Some(Tenure { until, end: End::Unknown, .. }) => Some(*until),
            // The news that it is gone may be younger than the reading, and is taken in again after it.
            Some(Tenure { until, end, .. }) => {
                *until = read.since.max(*until);
                *end = End::None;
                return;
            }
        };
        let after = absent.max(before.unwrap_or(MonoNs(0)));
        // Someone may have had it meanwhile whom nobody has seen.
        let from = if is_others || before.is_some() { read.by } else { after };
        self.times.push(Tenure { after, from, until: read.since, end: End::None });
        if self.times.len() > MOST {
            let eldest = self.times.remove(0);
            self.times[0].after = eldest.after;
        }
    }

    /// Takes in that the devices do not have it.
    pub fn has_not(&mut self, read: Reading) {
        if let Some(Tenure { until, end, .. }) = self.times.last_mut()
            && !matches!(end, End::By(_))
            // Otherwise it came after they were read.
            && *until < read.since
        {
            *end = End::By(read.by);
        }
    }

    /// Takes in news that they have given it up, which came at an instant.
    pub fn gave_up(&mut self, by: MonoNs) {
        // News from before it came again says nothing of now.
        if let Some(last) = self.times.last_mut().filter(|last| last.until < by) {
            last.end = match last.end {
                End::By(gone) => End::By(gone.min(by)),
                _ => End::By(by),
            };
        }
    }

    /// Takes in that nobody sees any more whether the devices have it.
    pub fn lose_sight(&mut self) {
        if let Some(Tenure { end: end @ End::None, .. }) = self.times.last_mut() {
            *end = End::Unknown;
        }
    }

    /// Forgets the tenures that were over before an instant; whether any are left.
    pub fn forget(&mut self, before: MonoNs) -> bool {
        let is_over =
            |end: End| matches!(end, End::By(gone) if gone + Duration::from_nanos(PASSAGE) < before);
        self.times.retain(|tenure| !is_over(tenure.end));
        !self.times.is_empty()
    }

    /// Whether a stranger's frames were the peer's: `true` if all were, `false` if some may have been, `None` if none can.
    pub fn is_of(&self, stranger: &Stranger) -> Option<bool> {
        let Stranger { first, last, .. } = *stranger;
        let is_possible = |tenure: &&Tenure| {
            tenure.after < last + TICK
                && match tenure.end {
                    End::None | End::Unknown => true,
                    // A frame may have been on its way.
                    End::By(gone) => first <= gone + Duration::from_nanos(PASSAGE),
                }
        };
        let is_certain = |tenure: &Tenure| {
            tenure.from <= first && (tenure.end == End::None || last + TICK <= tenure.until)
        };
        self.times.iter().filter(is_possible).map(is_certain).reduce(|one, other| one || other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::identity::{Contact, StrangerId};
    use injector_core::model::PeerId;

    /// An instant, in seconds: far enough from others for a frame to be on its way, and for stamps.
    fn at(seconds: u64) -> MonoNs {
        MonoNs(seconds * 1_000_000_000)
    }

    /// A reading that began at an instant, and took a tenth of a second.
    fn read(seconds: u64) -> Reading {
        Reading { since: at(seconds), by: at(seconds) + Duration::from_millis(100) }
    }

    /// Frames within a time.
    fn came(tenures: &Tenures, first: u64, last: u64) -> Option<bool> {
        let id = StrangerId { peer: PeerId(1), mac: [2; 6], contact: Contact::From };
        tenures.is_of(&Stranger { id, packets: 1, first: at(first), last: at(last), address: None })
    }

    fn since(seconds: u64, absent: u64, is_others: bool) -> Tenures {
        let mut tenures = Tenures::default();
        tenures.has(read(seconds), at(absent), is_others);
        tenures
    }

    #[test]
    fn what_came_before_it_was_there_is_others() {
        let tenures = since(20, 10, false);
        assert_eq!(came(&tenures, 5, 9), None);
        assert_eq!(came(&tenures, 5, 15), Some(false), "some of it");
        assert_eq!(came(&tenures, 11, 15), Some(true), "before it was noticed");
        assert_eq!(came(&tenures, 30, 99), Some(true));
        let tenures = since(20, 10, true);
        assert_eq!(came(&tenures, 11, 15), Some(false), "someone else has been seen with it");
        assert_eq!(came(&tenures, 21, 99), Some(true));
    }

    #[test]
    fn a_stamp_may_be_a_tick_early() {
        let tenures = since(20, 10, false);
        let id = StrangerId { peer: PeerId(1), mac: [2; 6], contact: Contact::From };
        let early = MonoNs(at(10).0 - 5_000_000);
        let stranger = Stranger { id, packets: 1, first: early, last: early, address: None };
        assert_eq!(tenures.is_of(&stranger), Some(false));
    }

    #[test]
    fn what_came_while_it_was_given_up_is_in_doubt_and_later_others() {
        let mut tenures = since(1, 0, false);
        tenures.has(read(10), at(0), false);
        tenures.gave_up(at(50));
        assert_eq!(came(&tenures, 1, 9), Some(true));
        assert_eq!(came(&tenures, 1, 11), Some(false));
        assert_eq!(came(&tenures, 50, 60), Some(false), "on its way");
        assert_eq!(came(&tenures, 51, 60), None);
        // A survey that began before says that it is there; the news that came meanwhile is taken in again.
        tenures.has(read(40), at(0), false);
        tenures.gave_up(at(50));
        assert_eq!(came(&tenures, 41, 45), Some(false));
        assert_eq!(came(&tenures, 51, 60), None);
        tenures.has_not(read(60));
        assert_eq!(came(&tenures, 51, 60), None, "the earlier instant counts");
    }

    #[test]
    fn what_came_between_two_times_is_others_and_in_doubt_until_it_was_noticed() {
        let mut tenures = since(1, 0, false);
        tenures.has_not(read(10));
        tenures.has(read(100), at(90), false);
        assert_eq!(came(&tenures, 12, 89), None);
        assert_eq!(came(&tenures, 1, 99), Some(false));
        assert_eq!(came(&tenures, 91, 99), Some(false), "nobody may have seen who had it");
        assert_eq!(came(&tenures, 101, 999), Some(true));
        // News from before it came again, taken in once more after a survey.
        tenures.gave_up(at(50));
        assert_eq!(came(&tenures, 101, 999), Some(true));
        for again in 2..20 {
            tenures.gave_up(at(again * 100 - 20));
            tenures.has(read(again * 100), at(again * 100 - 10), false);
        }
        assert_eq!(tenures.times.len(), MOST);
        assert_eq!(came(&tenures, 12, 89), Some(false), "the earliest are told apart no longer");
        assert_eq!(came(&tenures, 1882, 1889), None);
    }

    #[test]
    fn what_was_read_before_it_came_does_not_end_it() {
        let mut tenures = since(20, 10, false);
        tenures.has_not(read(15));
        assert_eq!(came(&tenures, 25, 99), Some(true));
        tenures.has_not(read(35));
        assert_eq!(came(&tenures, 41, 99), None);
    }

    #[test]
    fn whoever_nobody_sees_may_still_have_it() {
        let mut tenures = since(20, 10, false);
        tenures.lose_sight();
        assert_eq!(came(&tenures, 15, 19), Some(true));
        assert_eq!(came(&tenures, 15, 99), Some(false));
        tenures.has(read(50), at(10), false);
        assert_eq!(came(&tenures, 30, 40), Some(false), "somebody else may have had it meanwhile");
        assert_eq!(came(&tenures, 51, 99), Some(true));
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let mut tenures = since(1, 0, false);
        tenures.gave_up(at(10));
        assert!(tenures.forget(at(10)));
        assert!(!tenures.forget(at(11)));
        assert_eq!(came(&tenures, 5, 9), None);
        assert!(since(1, 0, false).forget(at(99)), "they have it");
    }
}
