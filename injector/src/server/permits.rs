//! How many connections are served at once, and whose: what one user holds keeps no other from healing.
//!
//! Root and the daemon's own user have permits of their own, and so have readers. So has each other user, up to half of what the
//! others of its class leave: however many users take all they can, the next one finds a permit, until there are none. A
//! client that finds none gets one for heals alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The class of users that a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Root and the daemon's own user.
    Privileged,
    /// Another user who may use all of the API.
    Member,
    /// A user who may read, and change nothing.
    Reader,
}

/// The calls that are answered with a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Calls {
    /// Every call.
    Full,
    /// `DELETE` of partitions alone.
    HealOnly,
}

/// How many permits there are.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The permits of each class,
    all: usize,
    /// and for one user of it, however few others hold.
    per_uid: usize,
}

impl Limits {
    const fn of(class: Class, calls: Calls) -> Self {
        match (class, calls) {
            (Class::Privileged, Calls::Full) => Self { all: 64, per_uid: 64 },
            (Class::Member, Calls::Full) => Self { all: 64, per_uid: 32 },
            (Class::Reader, Calls::Full) => Self { all: 32, per_uid: 8 },
            (Class::Privileged, Calls::HealOnly) => Self { all: 8, per_uid: 8 },
            (Class::Member, Calls::HealOnly) => Self { all: 16, per_uid: 4 },
            (Class::Reader, Calls::HealOnly) => Self { all: 0, per_uid: 0 },
        }
    }

    /// The permits that one user may hold while others of its class hold so many.
    fn of_uid(self, class: Class, others: usize) -> usize {
        let left = self.all.saturating_sub(others);
        match class {
            Class::Privileged => self.per_uid.min(left),
            // The last one is not halved.
            Class::Member | Class::Reader => self.per_uid.min(left.div_ceil(2)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    class: Class,
    calls: Calls,
    uid: u32,
}

impl Key {
    fn is_beside(self, other: Self) -> bool {
        (self.class, self.calls) == (other.class, other.calls)
    }
}

/// All permits.
#[derive(Clone, Default)]
pub(super) struct Permits(Arc<Mutex<HashMap<Key, usize>>>);

/// A permit; given back when dropped.
pub(super) struct Permit {
    permits: Permits,
    key: Key,
}

impl Permits {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        // Every change is one number: a poisoned table is still a whole one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_one(&self, class: Class, calls: Calls, uid: u32) -> Result<Permit, String> {
        let key = Key { class, calls, uid };
        let limits = Limits::of(class, calls);
        let mut taken = self.lock();
        let of_uid = taken.get(&key).copied().unwrap_or_default();
        let all: usize = taken.iter().filter(|(other, _)| other.is_beside(key)).map(|(_, count)| count).sum();
        if all >= limits.all {
            return Err(format!("{all} connections are open, which is the limit"));
        }
        let others = all - of_uid;
        if of_uid >= limits.of_uid(class, others) {
            let beside = if others == 0 { String::new() } else { format!(" while others hold {others}") };
            return Err(format!(
                "{of_uid} connections of uid {uid} are open, which is the limit for one user{beside}"
            ));
        }
        taken.insert(key, of_uid + 1);
        Ok(Permit { permits: self.clone(), key })
    }

    /// A permit for a caller, and why it is for heals alone if it is. `Err` if there is not even such a one.
    pub fn take(&self, class: Class, uid: u32) -> Result<(Permit, Option<String>), String> {
        match self.take_one(class, Calls::Full, uid) {
            Ok(permit) => Ok((permit, None)),
            Err(limit) => match self.take_one(class, Calls::HealOnly, uid) {
                Ok(permit) => Ok((permit, Some(limit))),
                Err(_) => Err(limit),
            },
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.permits.lock();
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(permits: &Permits, class: Class, uid: u32) -> Vec<Permit> {
        std::iter::from_fn(|| permits.take(class, uid).ok().map(|(permit, _)| permit)).collect()
    }

    #[test]
    fn each_member_leaves_places_for_the_next_and_all_leave_heals() {
        let permits = Permits::default();
        let first = fill(&permits, Class::Member, 1);
        assert_eq!(first.len(), 32 + 4);
        let limit = permits.take(Class::Member, 1).err().unwrap();
        assert_eq!(limit, "32 connections of uid 1 are open, which is the limit for one user");
        let held: Vec<Vec<Permit>> = (2..=7).map(|uid| fill(&permits, Class::Member, uid)).collect();
        let full = |held: &Vec<Permit>| held.iter().filter(|permit| permit.key.calls == Calls::Full).count();
        assert_eq!(held.iter().map(full).collect::<Vec<_>>(), [16, 8, 4, 2, 1, 1]);
        let limit = permits.take(Class::Member, 2).err().unwrap();
        assert_eq!(limit, "64 connections are open, which is the limit");
        drop(first);
        let (permit, why) = permits.take(Class::Member, 8).unwrap();
        assert_eq!((permit.key.calls, why), (Calls::Full, None));
    }

    #[test]
    fn a_member_that_finds_no_place_may_heal() {
        let permits = Permits::default();
        let _held: Vec<Permit> =
            (1..=64).map_while(|uid| permits.take_one(Class::Member, Calls::Full, uid).ok()).collect();
        let (heal_only, why) = permits.take(Class::Member, 100).unwrap();
        assert_eq!(why.unwrap(), "64 connections are open, which is the limit");
        assert_eq!(heal_only.key, Key { class: Class::Member, calls: Calls::HealOnly, uid: 100 });
    }

    #[test]
    fn whatever_others_hold_root_has_its_places_and_each_is_given_back() {
        let permits = Permits::default();
        let held: Vec<Vec<Permit>> = (1..50).map(|uid| fill(&permits, Class::Member, uid)).collect();
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 64 + 16);
        let root = fill(&permits, Class::Privileged, 0);
        assert_eq!(root.len(), 64 + 8);
        let readers: Vec<Vec<Permit>> = (1..50).map(|uid| fill(&permits, Class::Reader, uid)).collect();
        assert_eq!(readers.iter().map(Vec::len).max(), Some(8));
        assert_eq!(
            readers.iter().map(Vec::len).sum::<usize>(),
            32,
            "no permit is kept for heals that they may not ask for"
        );
        drop((held, root, readers));
        assert!(permits.lock().is_empty());
    }
}
