//! What a status learns of the hooks. Each reading takes the kernel's lock of network devices (rtnl) several times, and whoever
//! makes or removes interfaces holds that for tens of milliseconds each: a status does not wait for it where the hooks were
//! read a moment ago. (A cut waits for a reading that begins after its command: `daemon/hold.rs`.)

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::check::NO_ANSWER;
use super::hook_reading::{HooksFound, LESS, PATIENCE, RECENT, UNANSWERED, Wanted};
use super::pending::PendingAnswer;
use super::{InterfaceEvent, Interfaces};
use crate::netns::{Identity, Worker};
use crate::turn;
use injector_core::clock::MonoNs;
use injector_core::config::Netns;

/// What there is to know of the hooks of one namespace.
pub(super) enum HooksAnswer {
    /// They were read now.
    Read(HooksFound),
    /// They were last read so long ago, and another reading is under way.
    Old(Duration),
    /// They could not be read, for this reason.
    None(String),
}

/// How a namespace's hooks are read for a status.
enum Way {
    /// A reading was begun; the last one is so old. Without an answer in time the reading comes as an event.
    Soon(Duration, oneshot::Receiver<HooksFound>),
    /// There was none for long: a reading is waited for as long as the turn allows.
    Patient(Worker, Wanted),
    /// There is nothing to wait for.
    Known(HooksAnswer),
}

impl Interfaces {
    /// Reads the hooks of all namespaces at once, and waits for the answers.
    pub(super) async fn read_hooks(&mut self) -> Vec<(Option<Netns>, HooksAnswer)> {
        let begun = MonoNs::now();
        let wanted = self.hooks_wanted(|_| true);
        let ways: Vec<(Option<Netns>, Way)> = wanted
            .into_iter()
            .map(|(netns, wanted)| {
                let way = self.way_to_read(netns.as_ref(), wanted);
                (netns, way)
            })
            .collect();
        let asked = ways.into_iter().map(async |(netns, way)| {
            let answer = match way {
                Way::Soon(age, receiver) => soon(age, receiver).await,
                Way::Patient(worker, wanted) => match worker.ask(move || wanted.read()).await {
                    Ok(found) => HooksAnswer::Read(found),
                    Err(error) => HooksAnswer::None(error.to_string()),
                },
                Way::Known(answer) => return (netns, answer, false),
            };
            let is_overdue = matches!(answer, HooksAnswer::Old(_));
            (netns, answer, is_overdue)
        });
        let mut answers = Vec::new();
        for (netns, answer, is_overdue) in join_all(asked).await {
            if is_overdue {
                self.hooks_asked.entry(netns.clone()).or_insert(begun);
            }
            answers.push((netns, answer));
        }
        answers
    }

    fn way_to_read(&self, netns: Option<&Netns>, wanted: Wanted) -> Way {
        let worker = match self.workers.running(netns) {
            Ok(worker) => worker,
            Err(error) => return Way::Known(HooksAnswer::None(error.to_string())),
        };
        let identity = worker.identity();
        let recent = self.hooks_age(netns, identity).filter(|age| *age <= RECENT);
        // A reading that is overdue already comes by itself, and another one would wait behind it.
        let patience = if recent.is_some() { LESS } else { PATIENCE };
        if self.was_asked_before(&netns.cloned(), patience) {
            let unread = || HooksAnswer::None(UNANSWERED.to_owned());
            return Way::Known(recent.map_or_else(unread, HooksAnswer::Old));
        }
        let Some(age) = recent else {
            return Way::Patient(worker.clone(), wanted);
        };
        let (reply, receiver) = oneshot::channel();
        let of = netns.cloned();
        let none = InterfaceEvent::Hooks { netns: of.clone(), identity, found: HooksFound::none(NO_ANSWER) };
        let pending = PendingAnswer::new(&self.sinks.hooks, none);
        let spawned = worker.spawn_awaited(move || async move {
            crate::fault::here("hooks/ask");
            match reply.send(wanted.read().await) {
                Ok(()) => pending.withdraw(),
                // Nobody waits any more.
                Err(found) => pending.answer(InterfaceEvent::Hooks { netns: of, identity, found }),
            }
        });
        match spawned {
            Ok(()) => Way::Soon(age, receiver),
            Err(error) => Way::Known(HooksAnswer::None(error.to_string())),
        }
    }

    /// How long ago the hooks of a namespace were last read.
    fn hooks_age(&self, netns: Option<&Netns>, identity: Identity) -> Option<Duration> {
        let (of, at) = self.hooks_read.get(&netns.cloned())?;
        (*of == identity).then(|| MonoNs::now().saturating_since(*at))
    }
}

/// The answer of a reading if it comes soon, else how old the last one is.
async fn soon(age: Duration, mut receiver: oneshot::Receiver<HooksFound>) -> HooksAnswer {
    match tokio::time::timeout(turn::patience(LESS), &mut receiver).await {
        Ok(Ok(found)) => return HooksAnswer::Read(found),
        Ok(Err(_)) => return HooksAnswer::None(NO_ANSWER.to_owned()),
        Err(_) => {}
    }
    // It may have come just now, and is no event then.
    receiver.close();
    receiver.try_recv().map_or(HooksAnswer::Old(age), HooksAnswer::Read)
}
