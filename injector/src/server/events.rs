//! `GET /v1/events`: the timeline as NDJSON.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;

use crate::server::command::EventFeed;
use injector_core::api::{Event, EventKind};

/// The media type of the stream.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// Backlog first, then what comes. Where events are missing, because the reader was too slow or the history too
/// short, a `lost` line says how many; its id is that of the last one lost, so that `since` it goes on behind the gap.
pub(super) fn lines(feed: EventFeed, since: u64) -> Body {
    let live = stream::unfold(feed.live, |mut live| async move {
        loop {
            match live.recv().await {
                Ok(event) => return Some((event, live)),
                // The ids tell how many: those that were lost here may be in the backlog.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    body(gaps_told(stream::iter(feed.backlog).chain(live), since))
}

/// The backlog alone.
pub(super) fn history(feed: EventFeed, since: u64) -> Body {
    body(gaps_told(stream::iter(feed.backlog), since))
}

/// Ids rise by one: what is not above the last one is known already, and a jump is a loss.
fn gaps_told(events: impl Stream<Item = Event>, since: u64) -> impl Stream<Item = Event> {
    let pairs = events.scan(since, |last, event| {
        let missing = event.id.saturating_sub(last.saturating_add(1));
        let lost = (missing > 0).then(|| Event {
            id: event.id - 1,
            at_ns: event.at_ns,
            wall: event.wall,
            kind: EventKind::Lost { count: missing },
        });
        let new = event.id > *last;
        *last = event.id.max(*last);
        std::future::ready(Some([lost, new.then_some(event)]))
    });
    pairs.flat_map(|pair| stream::iter(pair.into_iter().flatten()))
}

fn body(events: impl Stream<Item = Event> + Send + 'static) -> Body {
    Body::from_stream(events.map(|event| {
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(line))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use injector_core::clock::{MonoNs, WallNs};
    use tokio::sync::broadcast;

    fn mark(id: u64) -> Event {
        Event { id, at_ns: MonoNs(id), wall: WallNs(0), kind: EventKind::Mark { text: id.to_string() } }
    }

    #[tokio::test]
    async fn a_history_that_is_too_short_says_so() {
        let (_sender, live) = broadcast::channel(2);
        let bytes =
            history(EventFeed { backlog: vec![mark(8)], live }, 5).collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with("{\"id\":7,") && text.contains("\"count\":2"), "{text}");
    }

    #[tokio::test]
    async fn a_lagging_reader_learns_what_it_lost() {
        let (sender, live) = broadcast::channel(2);
        let feed = EventFeed { backlog: vec![mark(1), mark(2)], live };
        for id in 2..=7 {
            sender.send(mark(id)).unwrap();
        }
        drop(sender);
        let bytes = lines(feed, 0).collect().await.unwrap().to_bytes();
        let events: Vec<Event> = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
        assert_eq!(ids, [1, 2, 5, 6, 7]);
        assert!(matches!(events[2].kind, EventKind::Lost { count: 3 }), "{events:?}");
    }
}
