//! The history of events: numbered, bounded, and never a reason to lose a result (results are in the records).

use std::collections::VecDeque;

use crate::api::{Event, EventKind};
use crate::clock::{MonoNs, WallOffset};

/// How many events are kept for late readers.
const KEPT: usize = 10_000;

/// The events so far.
#[derive(Debug, Default)]
pub struct Timeline {
    events: VecDeque<Event>,
    last: u64,
}

impl Timeline {
    /// Adds an event and answers it with its number.
    pub fn add(&mut self, at: MonoNs, offset: WallOffset, kind: EventKind) -> Event {
        self.last += 1;
        let event = Event { id: self.last, at_ns: at, wall: offset.wall(at), kind };
        self.events.push_back(event.clone());
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
        event
    }

    /// The events after an id; if some of them are no longer kept, the first one says how many.
    pub fn since(&self, id: u64) -> Vec<Event> {
        let Some(oldest) = self.events.front() else { return Vec::new() };
        let mut found: Vec<Event> = self.events.iter().filter(|event| event.id > id).cloned().collect();
        let gone = oldest.id - 1;
        if gone > id {
            let kind = EventKind::Lost { count: gone - id };
            found.insert(0, Event { id: gone, at_ns: oldest.at_ns, wall: oldest.wall, kind });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_readers_learn_what_they_missed() {
        let mut timeline = Timeline::default();
        let offset = WallOffset::now();
        assert!(timeline.since(0).is_empty());
        for n in 0..(KEPT as u64 + 5) {
            let event = timeline.add(MonoNs(n), offset, EventKind::Mark { text: n.to_string() });
            assert_eq!(event.id, n + 1);
        }
        let all = timeline.since(0);
        assert_eq!(all[0].kind, EventKind::Lost { count: 5 });
        assert_eq!((all[0].id, all[1].id), (5, 6));
        assert_eq!(timeline.since(KEPT as u64 + 4).len(), 1);
        assert!(timeline.since(KEPT as u64 + 5).is_empty());
    }
}
