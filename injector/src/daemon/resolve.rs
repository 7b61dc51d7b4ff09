//! Resolves a shape as asked to peers and links, beside the daemon's task: roles are asked in their
//! namespaces, and links are made on a thread of their own. The task hands a request out, and takes it back
//! with its links.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::request::{Answer, Asked, Resolution, Returned, ReturnedSink, ShapeNames, Wanted, shape_problem};
use super::state::State;
use crate::probe::role;
use crate::rights;
use crate::server::command::PutMode;
use injector_core::api::{Code, PartitionRequest, PartitionState, PartitionView, Problem};
use injector_core::model::{PeerName, seed};
use injector_core::topology::{self, RolePeers, TopologyError};

/// How many requests may be resolved at a time: each may run commands.
const MOST: usize = 64;

/// How much longer than its timeout a role's answer may take, on a busy host.
const GRACE: Duration = Duration::from_secs(1);

/// A role that is being asked.
struct AskedRole {
    name: String,
    answer: oneshot::Receiver<Result<Vec<PeerName>, String>>,
    /// When the answer must be there: the thread that asks may be held up.
    end: Instant,
}

impl State {
    /// Answers a request that needs no links, and hands out any other.
    pub fn resolve(&mut self, asked: Asked, sink: &ReturnedSink) {
        if asked.reply.is_closed() {
            return;
        }
        match self.begin(&asked) {
            Ok(RequestStart::Known(view)) => drop(asked.reply.send(Ok(*view))),
            Ok(RequestStart::Asking(roles)) => self.hand_out(asked, roles, sink.clone()),
            Err(problem) => drop(asked.reply.send(Err(problem))),
        }
    }

    fn begin(&mut self, asked: &Asked) -> Answer<RequestStart> {
        if self.stopping {
            return Err(Problem::new(Code::Stopping, "the daemon is stopping"));
        }
        let request = self.normalised((*asked.request).clone())?;
        if let Some(view) = self.answered_before(&asked.name, &request, asked.step, asked.from)? {
            return Ok(RequestStart::Known(Box::new(view)));
        }
        if self.resolving >= MOST {
            return Err(Problem::new(Code::TooBusy, format!("{MOST} requests are being resolved"))
                .remedy("ask again in a moment"));
        }
        let names = topology::roles(&request.shape, &self.config.presets);
        let names = names.map_err(|error| shape_problem(&error, &RolePeers::new()))?;
        let mut roles = Vec::with_capacity(names.len());
        for name in names {
            let Some(source) = self.config.roles.get(&name) else {
                let known = self.config.roles.keys().cloned().collect();
                return Err(shape_problem(&TopologyError::UnknownRole { name, known }, &RolePeers::new()));
            };
            let (sender, answer) = oneshot::channel();
            let end = Instant::now() + source.timeout.0 + GRACE;
            let (source, shape_names) = (source.clone(), Arc::clone(&self.shape_names));
            let worker = self.interfaces.workers.running(source.netns.as_ref());
            let begun = worker.and_then(|worker| {
                worker.spawn_awaited(move || async move {
                    // A request that was given up wants no answer, nor a question once this thread is free again.
                    if sender.is_closed() {
                        return;
                    }
                    let _ = sender.send(role::ask(&source, &shape_names.directory).await);
                })
            });
            begun.map_err(|error| unresolved(&name, &error.to_string()))?;
            roles.push(AskedRole { name, answer, end });
        }
        Ok(RequestStart::Asking(roles))
    }

    /// The view of what this request was answered with before, if it was.
    pub(super) fn answered_before(
        &mut self,
        name: &str,
        request: &PartitionRequest,
        step: PutMode,
        from: Option<usize>,
    ) -> Answer<Option<PartitionView>> {
        if step == PutMode::DryRun {
            return Ok(None);
        }
        let Some(partition) = self.known(name, request)? else { return Ok(None) };
        if step == PutMode::Apply && partition.life.state == PartitionState::Prepared {
            return Err(Problem::new(
                Code::WrongState,
                format!("\"{name}\" is prepared, and cuts nothing until it is enabled"),
            )
            .field("name")
            .remedy(format!("POST /v1/partitions/{name}/enable")));
        }
        let generation = partition.life.generation;
        Ok(Some(self.view(generation, from)))
    }

    fn hand_out(&mut self, asked: Asked, roles: Vec<AskedRole>, sink: ReturnedSink) {
        self.resolving += 1;
        let shape_names = Arc::clone(&self.shape_names);
        let config_number = self.config_number;
        let request = asked.request.clone();
        tokio::spawn(async move {
            let resolution = match wait_for(roles).await {
                Ok(roles) => make_links(shape_names, request, roles).await,
                Err(problem) => Err(problem),
            };
            let _ = sink.send(Returned { asked, config_number, resolution });
        });
    }

    /// Takes a request back; answers it if it is to be carried out.
    pub fn returned(&mut self, returned: Returned, sink: &ReturnedSink) -> Option<Wanted> {
        self.resolving = self.resolving.saturating_sub(1);
        let Returned { asked, config_number, resolution } = returned;
        if config_number != self.config_number {
            self.resolve(asked, sink);
            return None;
        }
        match resolution {
            Ok(resolution) => Some(Wanted { asked, config_number, resolution }),
            Err(problem) => {
                // A reader that has gone away does not want its answer.
                let _ = asked.reply.send(Err(problem));
                None
            }
        }
    }
}

/// The next step of a request.
enum RequestStart {
    /// The request was answered before.
    Known(Box<PartitionView>),
    /// The request is resolved once these roles have answered.
    Asking(Vec<AskedRole>),
}

async fn wait_for(roles: Vec<AskedRole>) -> Answer<RolePeers> {
    let mut peers = RolePeers::new();
    for AskedRole { name, answer, end } in roles {
        let named = match timeout_at(end, answer).await {
            Ok(Ok(named)) => named,
            Ok(Err(_)) => Err("its network namespace is gone".to_owned()),
            Err(_) => Err("the thread of its network namespace does not answer".to_owned()),
        };
        let named = named.map_err(|why| unresolved(&name, &why))?;
        peers.insert(name, named);
    }
    Ok(peers)
}

/// Makes links on a thread of its own that needs no rights: there may be a million.
async fn make_links(
    names: Arc<ShapeNames>,
    request: Box<PartitionRequest>,
    roles: RolePeers,
) -> Answer<Resolution> {
    let (sender, made) = oneshot::channel();
    let seed = request.seed.unwrap_or_else(|| seed::drawn(rand::random()));
    let thread = std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        if let Err(error) = rights::take_none() {
            tracing::debug!(%error, "the thread that makes links keeps its rights");
        }
        // A request that was given up wants no links.
        let _ = sender.send(names.resolve(&request, seed, roles));
    });
    let busy = |why: String| Problem::new(Code::TooBusy, why).remedy("ask again in a moment");
    thread.map_err(|error| busy(format!("a thread that makes links can't be started: {error}")))?;
    made.await.unwrap_or_else(|_| Err(busy("the thread that makes links ended".to_owned())))
}

fn unresolved(role: &str, why: &str) -> Problem {
    Problem::new(Code::RoleUnresolved, format!("role @{role} can't be resolved: {why}; nothing was cut"))
        .field("shape")
        .remedy(format!("fix what roles.{role} of the config asks, or name a peer"))
}
