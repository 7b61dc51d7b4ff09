//! The ids by which the programs know interfaces: there are [`INTERFACE_IDS`], and each interface that comes takes one.

use std::collections::VecDeque;

use injector_common::key::INTERFACE_IDS;

/// Gives ids, and takes them back. An id that was given back is given again only once all others have been, so that
/// whatever still has it (a thread that takes programs off, an answer on its way) is long done.
#[derive(Debug)]
pub struct InterfaceIds {
    /// The next one that was never given.
    next: u32,
    /// Those that were given back, in that order.
    free: VecDeque<u32>,
}

impl InterfaceIds {
    /// All ids.
    pub fn new() -> Self {
        Self::from(1)
    }

    /// Only the ids from this one on, as if the daemon had run for long.
    pub fn from(next: u32) -> Self {
        Self { next, free: VecDeque::new() }
    }

    /// An id that no interface has. Where all are in use the programs don't know it: see [`Self::fits`].
    pub fn take(&mut self) -> u32 {
        if Self::fits(self.next) || self.free.is_empty() {
            self.next += 1;
            return self.next - 1;
        }
        self.free.pop_front().unwrap_or(self.next)
    }

    /// An id that the programs know, if one is free.
    pub fn take_fitting(&mut self) -> Option<u32> {
        (Self::fits(self.next) || !self.free.is_empty()).then(|| self.take())
    }

    /// Takes back the id of an interface that is forgotten.
    pub fn give_back(&mut self, id: u32) {
        if Self::fits(id) {
            self.free.push_back(id);
        }
    }

    /// Whether the programs know an id.
    pub fn fits(id: u32) -> bool {
        id < INTERFACE_IDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_again_once_all_were_given() {
        let mut ids = InterfaceIds::new();
        assert_eq!((ids.take(), ids.take()), (1, 2));
        ids.give_back(1);
        assert_eq!(ids.take(), 3, "none is given again before the last");
        let mut ids = InterfaceIds { next: INTERFACE_IDS - 1, ..ids };
        ids.give_back(3);
        assert_eq!((ids.take(), ids.take()), (INTERFACE_IDS - 1, 1));
        assert_eq!(ids.take_fitting(), Some(3), "in the order in which they were given back");
    }

    #[test]
    fn an_id_that_the_programs_do_not_know_is_nobody_elses() {
        let mut ids = InterfaceIds::from(INTERFACE_IDS);
        assert_eq!(ids.take_fitting(), None);
        let beyond = [ids.take(), ids.take()];
        assert_eq!(beyond, [INTERFACE_IDS, INTERFACE_IDS + 1]);
        assert_eq!(beyond.map(InterfaceIds::fits), [false; 2]);
        ids.give_back(beyond[0]);
        ids.give_back(7);
        assert_eq!(ids.take_fitting(), Some(7));
        assert_eq!(ids.take(), INTERFACE_IDS + 2);
    }
}
