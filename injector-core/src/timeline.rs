//! The history of events: numbered, bounded, and never a reason to lose a result (results are in the records).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::api::{Event, EventKind};
use crate::clock::{MonoNs, WallOffset};

/// How many events are kept for late readers.
const KEPT: usize = 10_000;

/// The events so far.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The events, whose numbers rise by one. Readers share them: there may be a hundred, and thousands of
    /// events.
    events: VecDeque<Arc<Event>>,
    last: u64,
}

impl Timeline {
    /// Adds an event and answers it with its number.
    pub fn add(&mut self, at: MonoNs, offset: WallOffset, kind: EventKind) -> Arc<Event> {
        self.last += 1;
        let event = Arc::new(Event { id: self.last, at_ns: at, wall: offset.wall(at), kind });
        self.events.push_back(Arc::clone(&event));
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
        event
    }

    /// The oldest events after an id that are still kept, up to so many of them, and whether there are more. If the first
    /// one does not follow the id, those in between are no longer kept.
    pub fn page(&self, id: u64, most: usize) -> (Vec<Arc<Event>>, bool) {
        let Some(oldest) = self.events.front() else { return (Vec::new(), false) };
        let known = id.saturating_add(1).saturating_sub(oldest.id);
        let known = usize::try_from(known).map_or(self.events.len(), |known| known.min(self.events.len()));
        let page = self.events.range(known..).take(most).cloned().collect();
        (page, self.events.len() - known > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_readers_read_what_is_kept_page_by_page() {
        let mut timeline = Timeline::default();
        let offset = WallOffset::now();
        let ids = |timeline: &Timeline, id: u64, most: usize| {
            let (page, is_more) = timeline.page(id, most);
            (page.first().map(|event| event.id), page.last().map(|event| event.id), page.len(), is_more)
        };
        assert_eq!(ids(&timeline, 0, 10), (None, None, 0, false));
        let all = KEPT as u64 + 5;
        for n in 0..all {
            let event = timeline.add(MonoNs(n), offset, EventKind::Mark { text: n.to_string() });
            assert_eq!(event.id, n + 1);
        }
        assert_eq!(ids(&timeline, 0, KEPT), (Some(6), Some(all), KEPT, false), "five are gone");
        assert_eq!(ids(&timeline, 7, 10), (Some(8), Some(17), 10, true));
        assert_eq!(ids(&timeline, all - 10, 10), (Some(all - 9), Some(all), 10, false));
        assert_eq!(ids(&timeline, all - 1, 10), (Some(all), Some(all), 1, false));
        for id in [all, all + 1, u64::MAX] {
            assert_eq!(ids(&timeline, id, 10), (None, None, 0, false), "{id}");
        }
    }
}
