//! How long the daemon's task may wait for other threads. A thread may be held up in the kernel; the task that answers heals
//! and renews the lease must not be.
//!
//! All waiting of one turn of the task's loop shares one end, however many threads are asked and by whom: so no turn outlasts
//! the lease. What has not answered by then answers later, by an event, or is asked again.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// How long a turn may wait in all: with the time between two renewals less than the lease.
const WAIT: Duration = Duration::from_millis(750);

tokio::task_local! {
    /// When the waiting of this turn ends; `None` until it begins.
    static END: Cell<Option<Instant>>;
}

/// Runs the loop of the daemon's task, whose turns wait for a bounded time each. Tasks that it spawns are not bounded.
pub async fn bounded<F: Future>(work: F) -> F::Output {
    END.scope(Cell::new(None), work).await
}

/// A turn begins: its waiting has not.
pub fn begin() {
    let _ = END.try_with(|end| end.set(None));
}

/// Runs a step of a turn that may wait longer, because nothing is cut meanwhile.
pub async fn for_at_most<F: Future>(most: Duration, step: F) -> F::Output {
    END.scope(Cell::new(Some(Instant::now() + most)), step).await
}

/// How much of a time that somebody wants to wait is left to the turn; all of it outside the daemon's loop.
pub fn patience(wanted: Duration) -> Duration {
    let left = END.try_with(|end| {
        let now = Instant::now();
        let until = end.get().unwrap_or(now + WAIT);
        end.set(Some(until));
        until.saturating_duration_since(now)
    });
    left.map_or(wanted, |left| left.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn all_waits_of_a_turn_share_one_end() {
        assert_eq!(patience(LONG), LONG, "nothing bounds what is outside the loop");
        bounded(async {
            for _ in 0..2 {
                begin();
                assert_eq!(patience(SHORT), SHORT);
                begin();
                // Work that waits for nobody is not counted.
                tokio::time::sleep(SHORT).await;
                assert!(patience(LONG) == WAIT);
                tokio::time::sleep(SHORT).await;
                assert!(patience(LONG) <= WAIT.saturating_sub(SHORT));
                tokio::time::sleep(WAIT).await;
                assert_eq!(patience(SHORT), Duration::ZERO);
                let longer = for_at_most(LONG, async { patience(LONG * 2) }).await;
                assert!(longer > WAIT && longer <= LONG, "{longer:?}");
                assert_eq!(tokio::spawn(async { patience(LONG) }).await.unwrap(), LONG);
            }
        })
        .await;
    }
}
