//! `GET /v1/events`: the timeline as NDJSON.

use std::future::Future;
use std::sync::Arc;
use std::vec;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::server::command::EventFeed;
use injector_core::api::{Event, EventKind, Problem};

/// The media type of the stream.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// The end of a reader's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The history alone.
    Now,
    /// Events that come later, too.
    TheEnd,
}

/// A reader and its place in the history. Only the page that it reads is held for it: the rest is asked for
/// as it continues.
struct Reader<A> {
    page: vec::IntoIter<Arc<Event>>,
    is_more: bool,
    live: Receiver<Arc<Event>>,
    /// The id of the last event that it was given.
    last: u64,
    until: Until,
    /// Asks for the events after an id.
    ask: A,
}

/// The history first, then what comes. Where events are missing, because the reader was slower than the history is long, a
/// `lost` line says how many; its id is that of the last one lost, so that `since` it continues behind the gap.
pub(super) fn lines<A, F>(first: EventFeed, since: u64, until: Until, ask: A) -> Body
where
    A: Fn(u64) -> F + Send + 'static,
    F: Future<Output = Result<EventFeed, Problem>> + Send + 'static,
{
    let EventFeed { page, is_more, live } = first;
    let reader = Reader { page: page.into_iter(), is_more, live, last: since, until, ask };
    Body::from_stream(stream::try_unfold(reader, |mut reader| async move {
        let Some(event) = reader.next().await? else { return Ok(None) };
        let lines = reader.lines(&event)?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some((lines, reader)))
    }))
}

impl<A, F> Reader<A>
where
    A: Fn(u64) -> F,
    F: Future<Output = Result<EventFeed, Problem>>,
{
    async fn next(&mut self) -> Result<Option<Arc<Event>>, Problem> {
        loop {
            let event = match self.page.next() {
                Some(event) => event,
                None if self.is_more => {
                    self.turn_page().await?;
                    continue;
                }
                None if self.until == Until::Now => return Ok(None),
                None => match self.live.recv().await {
                    Ok(event) => event,
                    // The history is longer than the feed.
                    Err(RecvError::Lagged(_)) => {
                        self.turn_page().await?;
                        continue;
                    }
                    Err(RecvError::Closed) => return Ok(None),
                },
            };
            if event.id > self.last {
                return Ok(Some(event));
            }
        }
    }

    async fn turn_page(&mut self) -> Result<(), Problem> {
        let EventFeed { page, is_more, live } = (self.ask)(self.last).await?;
        (self.page, self.is_more, self.live) = (page.into_iter(), is_more, live);
        Ok(())
    }

    /// The line of an event, after that of what is missing before it: ids rise by one, so a jump is a loss.
    fn lines(&mut self, event: &Event) -> serde_json::Result<Bytes> {
        let missing = event.id - self.last - 1;
        self.last = event.id;
        let mut lines = Vec::new();
        if missing > 0 {
            let kind = EventKind::Lost { count: missing };
            let lost = Event { id: event.id - 1, at_ns: event.at_ns, wall: event.wall, kind };
            serde_json::to_writer(&mut lines, &lost)?;
            lines.push(b'\n');
        }
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
        Ok(lines.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use http_body_util::BodyExt;
    use injector_core::clock::{MonoNs, WallOffset};
    use injector_core::timeline::Timeline;
    use tokio::sync::broadcast;

    /// A history, the feed of what comes, and what each page was asked for.
    struct Source {
        timeline: Mutex<Timeline>,
        feed: broadcast::Sender<Arc<Event>>,
        asked: Mutex<Vec<u64>>,
    }

    impl Source {
        fn with(events: usize) -> Arc<Self> {
            let source =
                Self { timeline: Mutex::default(), feed: broadcast::Sender::new(4), asked: Mutex::default() };
            for _ in 0..events {
                source.happen();
            }
            Arc::new(source)
        }

        fn happen(&self) {
            let kind = EventKind::Mark { text: "x".to_owned() };
            let event = self.timeline.lock().unwrap().add(MonoNs(1), WallOffset::now(), kind);
            let _ = self.feed.send(event);
        }

        fn read(self: &Arc<Self>, since: u64) -> EventFeed {
            self.asked.lock().unwrap().push(since);
            let (page, is_more) = self.timeline.lock().unwrap().page(since, EventFeed::PAGE);
            EventFeed { page, is_more, live: self.feed.subscribe() }
        }

        fn body(self: &Arc<Self>, since: u64, until: Until) -> Body {
            let source = Arc::clone(self);
            lines(self.read(since), since, until, move |since| {
                let feed = source.read(since);
                async move { Ok(feed) }
            })
        }
    }

    fn events(bytes: &[u8]) -> Vec<Event> {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    async fn history(source: &Arc<Source>, since: u64) -> Vec<Event> {
        events(&source.body(since, Until::Now).collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn a_history_is_read_page_by_page_and_a_reader_holds_one_of_them() {
        let source = Source::with(3 * EventFeed::PAGE + 2);
        let found = history(&source, 0).await;
        let ids: Vec<u64> = found.iter().map(|event| event.id).collect();
        assert_eq!(ids, (1..=3 * EventFeed::PAGE as u64 + 2).collect::<Vec<_>>());
        assert_eq!(*source.asked.lock().unwrap(), [0, 256, 512, 768]);
        assert_eq!(history(&source, 767).await.len(), 3);
        let mut unread = source.body(0, Until::TheEnd);
        let asked = source.asked.lock().unwrap().len();
        let first = unread.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(events(&first)[0].id, 1);
        let held = Arc::strong_count(&source.timeline.lock().unwrap().page(600, 1).0[0]);
        assert_eq!(held, 2, "the timeline and this test hold an event of a later page");
        assert_eq!(source.asked.lock().unwrap().len(), asked, "nothing more was asked for");
    }

    #[tokio::test]
    async fn a_history_that_is_too_short_says_so_once() {
        let source = Source::with(10_007);
        let found = history(&source, 5).await;
        assert_eq!((found[0].id, &found[0].kind), (7, &EventKind::Lost { count: 2 }));
        assert_eq!((found[1].id, found.len()), (8, 10_001));
        let lost = found.iter().filter(|event| matches!(event.kind, EventKind::Lost { .. }));
        assert_eq!(lost.count(), 1);
    }

    #[tokio::test]
    async fn a_reader_that_the_feed_leaves_behind_reads_on_in_the_history() {
        let source = Source::with(2);
        let mut body = source.body(0, Until::TheEnd);
        let mut ids = Vec::new();
        while ids.len() < 22 {
            let bytes = body.frame().await.unwrap().unwrap().into_data().unwrap();
            ids.extend(events(&bytes).iter().map(|event| event.id));
            if ids.len() == 2 {
                // Five times what the feed holds.
                (0..20).for_each(|_| source.happen());
            }
        }
        assert_eq!(ids, (1..=22).collect::<Vec<_>>(), "nothing is lost");
    }
}
