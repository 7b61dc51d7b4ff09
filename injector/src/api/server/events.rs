//! `GET /v1/events`: the timeline as NDJSON.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;

use crate::api::types::{Event, EventKind};
use crate::clock::{MonoNs, WallOffset};
use crate::daemon::command::EventFeed;

/// The media type of the stream.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// Backlog first, then what comes. A reader that was too slow finds one `lost` line where events are missing; its
/// id is that of the last one lost, so that resuming `since` it goes on behind the gap.
pub(super) fn lines(feed: EventFeed, since: u64) -> Body {
    let last = feed.backlog.last().map_or(since, |event| event.id);
    let live = stream::unfold((feed.live, last), |(mut live, last)| async move {
        loop {
            let event = match live.recv().await {
                // Events between the subscription and the copy of the backlog are in both.
                Ok(event) if event.id <= last => continue,
                Ok(event) => event,
                Err(RecvError::Lagged(count)) => lost(last, count),
                Err(RecvError::Closed) => return None,
            };
            let id = event.id;
            return Some((event, (live, id)));
        }
    });
    body(stream::iter(feed.backlog).chain(live))
}

/// The backlog alone.
pub(super) fn history(feed: EventFeed) -> Body {
    body(stream::iter(feed.backlog))
}

fn lost(last: u64, count: u64) -> Event {
    let now = MonoNs::now();
    Event { id: last + count, at_ns: now, wall: WallOffset::now().wall(now), kind: EventKind::Lost { count } }
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
    use crate::clock::WallNs;
    use http_body_util::BodyExt;
    use tokio::sync::broadcast;

    fn mark(id: u64) -> Event {
        Event { id, at_ns: MonoNs(id), wall: WallNs(0), kind: EventKind::Mark { text: id.to_string() } }
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
        assert!(matches!(events[2].kind, EventKind::Lost { count: 4 }), "{events:?}");
        assert_eq!(ids[0..2], [1, 2]);
        assert_eq!(ids[3..], [6, 7]);
    }
}
