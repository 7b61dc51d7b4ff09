//! `POST /v1/probes`: every endpoint once, and whether the programs on the hooks see its answer.
//!
//! The programs match responses only while a slot is watched: a slot without any link is watched until every
//! probe has its answer. A partition that needs the slot takes it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::active_config::peer_name;
use super::state::State;
use crate::probe;
use crate::server::command::Reply;
use injector_core::api::{EndpointAnswer, WireSight};
use injector_core::clock::MonoNs;
use injector_core::ledger::{Fault, Now, WatchedSlot};
use injector_core::model::natural;
use injector_core::sample::{EndpointId, Sample};

/// An endpoint that was asked; by the time of its answer another config may be in force.
struct Asked {
    name: String,
    wire: Option<u32>,
}

/// Every endpoint's answer, on its way back to the daemon's task.
pub struct ProbeAnswers {
    wire_watch: Option<WatchedSlot>,
    begun: MonoNs,
    asked: Vec<Asked>,
    samples: Vec<Sample>,
    reply: Reply<Vec<EndpointAnswer>>,
}

/// The channel by which answers come back to the daemon's task.
pub type Sink = mpsc::UnboundedSender<ProbeAnswers>;

/// The error of an endpoint whose thread ended meanwhile, was not there, or is held up.
const NO_ANSWER: &str =
    "not answered: its network namespace is gone or does not answer, or the config was read again meanwhile";
/// How much longer than the longest timeout of an endpoint its answers may take, on a busy host.
const GRACE: Duration = Duration::from_secs(1);

impl State {
    /// Runs every endpoint once, each in its own namespace.
    pub fn probe_once(&mut self, sink: &Sink, reply: Reply<Vec<EndpointAnswer>>) {
        let wire_watch = self.begin_wire_watch();
        let begun = MonoNs::now();
        let mut asked = Vec::new();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for (index, endpoint) in self.config.endpoints.iter().enumerate() {
            let wire = self.wire_ids.get(&EndpointId(index)).copied();
            asked.push(Asked { name: endpoint.name.clone(), wire });
            let Ok(worker) = self.interfaces.workers.running(endpoint.netns.as_ref()) else { continue };
            let peer = peer_name(&self.config, endpoint.peer);
            let (endpoint, sender) = (endpoint.clone(), sender.clone());
            // A namespace that is gone has no answer.
            let _ = worker.probe_awaited(move || async move {
                // The caller has gone by the time this thread is free.
                if sender.is_closed() {
                    return;
                }
                let _ = sender.send(probe::once(EndpointId(index), &endpoint, peer.as_deref()).await);
            });
        }
        drop(sender);
        let longest = self.config.endpoints.iter().map(|endpoint| endpoint.probe.options.timeout).max();
        let end = Instant::now() + longest.unwrap_or_default().0 + GRACE;
        let sink = sink.clone();
        tokio::spawn(async move {
            let mut samples: Vec<Sample> = Vec::new();
            while let Ok(Some(sample)) = timeout_at(end, receiver.recv()).await {
                samples.push(sample);
            }
            let _ = sink.send(ProbeAnswers { wire_watch, begun, asked, samples, reply });
        });
    }

    /// Answers once all endpoints have.
    pub fn take_answers(&mut self, found: ProbeAnswers) {
        let seen = found
            .wire_watch
            .filter(|wire_watch| self.wire_watch == Some(*wire_watch))
            .and_then(|wire_watch| self.seen(wire_watch));
        if found.wire_watch.is_some() && found.wire_watch == self.wire_watch {
            self.end_wire_watch();
        }
        let mut samples: BTreeMap<EndpointId, Sample> =
            found.samples.into_iter().map(|sample| (sample.endpoint, sample)).collect();
        let mut answers: Vec<EndpointAnswer> = found
            .asked
            .into_iter()
            .enumerate()
            .map(|(index, asked)| {
                let at = asked.wire.and_then(|id| seen.as_ref()?.get(&id).copied());
                let sample = samples.remove(&EndpointId(index));
                let (scheduled, done, error) = match sample {
                    Some(sample) => (
                        sample.scheduled,
                        sample.done,
                        sample.failure.map(|failure| failure.text.to_string()),
                    ),
                    None => (found.begun, MonoNs::now(), Some(NO_ANSWER.to_owned())),
                };
                EndpointAnswer {
                    name: asked.name,
                    scheduled_ns: scheduled,
                    done_ns: done,
                    error,
                    wire: asked.wire.map(|_| match (&seen, at) {
                        (None, _) => WireSight::NotLooked,
                        (Some(_), None) => WireSight::NotSeen,
                        (Some(_), Some(_)) => WireSight::Seen,
                    }),
                    wire_seen_ns: at,
                }
            })
            .collect();
        answers.sort_by(|a, b| natural(&a.name, &b.name));
        // A reader that has gone away does not want its answer.
        let _ = found.reply.send(answers);
    }

    /// `None` where nothing is to be seen, another watch is on its way, or every slot is in use.
    fn begin_wire_watch(&mut self) -> Option<WatchedSlot> {
        if self.wire_ids.is_empty() || self.wire_watch.is_some() || self.stopping {
            return None;
        }
        match self.ledger.lend(&mut self.kernel) {
            Ok(loan) => self.wire_watch = loan,
            Err(Fault::Lapsed(lapsed)) => self.lapsed(lapsed),
            Err(Fault::Plane(error)) => tracing::warn!(%error, "responses can't be looked for"),
        }
        self.wire_watch
    }

    /// The first response of each wire id since the watch began.
    fn seen(&self, wire_watch: WatchedSlot) -> Option<BTreeMap<u32, MonoNs>> {
        match self.kernel.responses(wire_watch.slot, wire_watch.generation) {
            Ok(found) => Some(found.into_iter().map(|(id, at)| (id, MonoNs(at))).collect()),
            Err(error) => {
                tracing::warn!(%error, "responses could not be read");
                None
            }
        }
    }

    /// Gives the watch's slot back, if there is one.
    pub(super) fn end_wire_watch(&mut self) {
        let Some(loan) = self.wire_watch.take() else { return };
        let effects = self.ledger.give_back(&mut self.kernel, loan, Now::read());
        self.carry_out(effects);
    }
}
