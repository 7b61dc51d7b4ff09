//! How many connections are served at once, and whose: what one user holds keeps no other from healing.
//!
//! Root and the daemon's own user have places of their own, and so have readers. So has each other user, up to a share of
//! those for everyone. A client that finds no place gets one in which a heal is answered and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose places are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Root and the daemon's own user.
    Privileged,
    /// Anyone else who may use all of the API.
    Member,
    /// Who may read, and change nothing.
    Reader,
}

/// What is answered in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Seat {
    /// Every call.
    Full,
    /// `DELETE` of partitions alone.
    HealOnly,
}

/// How many places there are.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For each class,
    all: usize,
    /// and for one user of it.
    per_uid: usize,
}

impl Limits {
    const fn of(class: Class, seat: Seat) -> Self {
        match (class, seat) {
            (Class::Privileged, Seat::Full) => Self { all: 64, per_uid: 64 },
            (Class::Member, Seat::Full) => Self { all: 64, per_uid: 32 },
            (Class::Reader, Seat::Full) => Self { all: 32, per_uid: 8 },
            (Class::Privileged, Seat::HealOnly) => Self { all: 8, per_uid: 8 },
            (Class::Member, Seat::HealOnly) => Self { all: 16, per_uid: 4 },
            (Class::Reader, Seat::HealOnly) => Self { all: 0, per_uid: 0 },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    class: Class,
    seat: Seat,
    uid: u32,
}

impl Key {
    fn is_beside(self, other: Self) -> bool {
        (self.class, self.seat) == (other.class, other.seat)
    }
}

/// All places.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<Key, usize>>>);

/// A place that is taken; free when dropped.
pub(super) struct Place {
    places: Places,
    key: Key,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        // Every change is one number: a poisoned table is still a whole one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_one(&self, class: Class, seat: Seat, uid: u32) -> Result<Place, String> {
        let key = Key { class, seat, uid };
        let limits = Limits::of(class, seat);
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
        Ok(Place { places: self.clone(), key })
    }

    /// A place for a caller, and why it is for heals alone if it is. `Err` if there is not even such a one.
    pub fn take(&self, class: Class, uid: u32) -> Result<(Place, Option<String>), String> {
        match self.take_one(class, Seat::Full, uid) {
            Ok(place) => Ok((place, None)),
            Err(limit) => match self.take_one(class, Seat::HealOnly, uid) {
                Ok(place) => Ok((place, Some(limit))),
                Err(_) => Err(limit),
            },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
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

    fn fill(places: &Places, class: Class, uid: u32) -> Vec<Place> {
        std::iter::from_fn(|| places.take(class, uid).ok().map(|(place, _)| place)).collect()
    }

    #[test]
    fn one_member_leaves_places_for_others_and_two_leave_heals() {
        let places = Places::default();
        let first = fill(&places, Class::Member, 1);
        assert_eq!(first.len(), 32 + 4);
        let limit = places.take(Class::Member, 1).err().unwrap();
        assert_eq!(limit, "32 connections of uid 1 are open, which is the limit for one user");
        let second = fill(&places, Class::Member, 2);
        assert_eq!(second.len(), 32 + 4);
        let (heal_only, why) = places.take(Class::Member, 3).unwrap();
        assert_eq!(why.unwrap(), "64 connections are open, which is the limit");
        assert_eq!(heal_only.key, Key { class: Class::Member, seat: Seat::HealOnly, uid: 3 });
        drop(first);
        assert_eq!(places.take(Class::Member, 3).unwrap().1, None);
    }

    #[test]
    fn whatever_others_hold_root_has_its_places_and_each_is_given_back() {
        let places = Places::default();
        let held: Vec<Vec<Place>> = (1..50).map(|uid| fill(&places, Class::Member, uid)).collect();
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 64 + 16);
        let root = fill(&places, Class::Privileged, 0);
        assert_eq!(root.len(), 64 + 8);
        let readers: Vec<Vec<Place>> = (1..50).map(|uid| fill(&places, Class::Reader, uid)).collect();
        assert_eq!(readers.iter().map(Vec::len).max(), Some(8));
        assert_eq!(
            readers.iter().map(Vec::len).sum::<usize>(),
            32,
            "no place is kept for heals that they may not ask for"
        );
        drop((held, root, readers));
        assert!(places.lock().is_empty());
    }
}
