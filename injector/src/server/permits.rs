//! How many connections are served at once, and whose: what one user holds keeps no other from healing.
//!
//! Root and the daemon's own user have permits of their own, and so have readers. So has each other user, up to a share of
//! those for everyone. A client that finds none gets one for heals alone.

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
    /// and for one user of it.
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
        if of_uid >= limits.per_uid {
            return Err(format!(
                "{of_uid} connections of uid {uid} are open, which is the limit for one user"
            ));
        }
        let all: usize = taken.iter().filter(|(other, _)| other.is_beside(key)).map(|(_, count)| count).sum();
        if all >= limits.all {
            return Err(format!("{all} connections are open, which is the limit"));
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
    fn one_member_leaves_places_for_others_and_two_leave_heals() {
        let permits = Permits::default();
        let first = fill(&permits, Class::Member, 1);
        assert_eq!(first.len(), 32 + 4);
        let limit = permits.take(Class::Member, 1).err().unwrap();
        assert_eq!(limit, "32 connections of uid 1 are open, which is the limit for one user");
        let second = fill(&permits, Class::Member, 2);
        assert_eq!(second.len(), 32 + 4);
        let (heal_only, why) = permits.take(Class::Member, 3).unwrap();
        assert_eq!(why.unwrap(), "64 connections are open, which is the limit");
        assert_eq!(heal_only.key, Key { class: Class::Member, calls: Calls::HealOnly, uid: 3 });
        drop(first);
        assert_eq!(permits.take(Class::Member, 3).unwrap().1, None);
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
