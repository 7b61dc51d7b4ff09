//! Follows a config's containers: a thread listens to the engine's events, asks what they mean, and notifies the daemon's task
//! what is new. When the engine ends, it connects again once the engine is back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::api::{Api, EngineError};
use super::look_up::{Found, container_states};
use crate::alarm::Guard;
use crate::fault;
use crate::rights;
use injector_core::clock::MonoNs;
use injector_core::config::ContainerRef;
use injector_core::containers::ContainerStates;

/// How long after the engine has ended it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// News of containers.
#[derive(Debug)]
pub enum News {
    /// The containers have these states now.
    Seen {
        /// When the news came.
        at: MonoNs,
        /// All that the config names.
        states: ContainerStates,
    },
    /// The engine does not answer: what happens to containers is not known.
    Lost {
        /// Its socket, and why.
        why: String,
    },
    /// The engine answers again.
    Back {
        /// Its socket.
        socket: String,
    },
}

/// Follows what was found until nobody listens to `sink` any more; `wrap` makes news of it what the sink takes. The guard is
/// the thread's.
///
/// # Errors
/// There can't be a further thread, or runtime.
pub fn follow<E: Send + 'static>(
    found: Found,
    guard: Guard,
    sink: mpsc::UnboundedSender<E>,
    wrap: fn(News) -> E,
) -> std::io::Result<()> {
    let Found { api: Some(api), states, ids } = found else { return Ok(()) };
    let wanted: BTreeSet<ContainerRef> = states.0.keys().cloned().collect();
    let mut following = Following { api, wanted, ids, states };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        let _guard = guard;
        if let Err(error) = rights::take_none() {
            tracing::debug!(%error, "the thread that listens to the engine keeps its rights");
        }
        runtime.block_on(async {
            let report = |news| drop(sink.send(wrap(news)));
            tokio::select! {
                () = following.run(report) => {}
                () = sink.closed() => {}
            }
        });
    })?;
    Ok(())
}

struct Following {
    api: Api,
    wanted: BTreeSet<ContainerRef>,
    /// The ids of the containers, as of the last answer.
    ids: BTreeMap<ContainerRef, String>,
    /// The states that were reported last.
    states: ContainerStates,
}

impl Following {
    async fn run(&mut self, report: impl Fn(News)) {
        let mut is_lost = false;
        loop {
            let Err(error) = self.listen(&report, &mut is_lost).await;
            if !is_lost {
                is_lost = true;
                report(News::Lost { why: error.to_string() });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Listens until the engine ends. What happened before it could be listened to is asked for first.
    async fn listen(
        &mut self,
        report: &impl Fn(News),
        is_lost: &mut bool,
    ) -> Result<std::convert::Infallible, EngineError> {
        // Events carry whole seconds: those of the running one may come twice.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut events = self.api.events(now).await?;
        self.report_changes(MonoNs::now(), report).await?;
        if std::mem::take(is_lost) {
            report(News::Back { socket: self.api.socket().display().to_string() });
        }
        loop {
            let happened = events.next().await?;
            if happened.iter().any(super::model::Event::is_change) {
                self.report_changes(MonoNs::now(), report).await?;
            }
        }
    }

    /// Asks how the containers are now, and reports it if it is new.
    async fn report_changes(&mut self, at: MonoNs, report: &impl Fn(News)) -> Result<(), EngineError> {
        fault::here("engine/look");
        let (states, ids) = container_states(&self.api, &self.wanted, &self.ids).await?;
        // A container that is gone is known by its id no more; one that has ended still is.
        self.ids = ids;
        if states != self.states {
            self.states = states.clone();
            report(News::Seen { at, states });
        }
        Ok(())
    }
}
