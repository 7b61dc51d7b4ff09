//! One pinned thread per network namespace: it enters once, and does that namespace's attaching and netlink ever after. No
//! thread ever enters a second namespace. Probes have a thread of their own, which the first one starts (see [`probes`]).
//!
//! A thread inside a namespace keeps it alive. So when a namespace's file goes, its thread is stopped, and a
//! namespace that is made again under the same name gets a new thread. All threads are started by the supervisor (see
//! [`supervisor`]): it alone keeps the right to enter after the start (see [`crate::rights`]), and its threads give it up as
//! soon as they are in.

mod error;
mod file;
mod identity;
mod job;
mod probes;
mod supervisor;
mod worker;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;

pub use self::error::NetnsError;
use self::file::{Looks, NAMES, NamespaceFile, Unseen};
pub use self::identity::Identity;
pub use self::supervisor::Supervisor;
use self::supervisor::{PathThreads, QUESTION, START};
pub use self::worker::Worker;
use self::worker::{Door, Way};
use crate::alarm::{Alarm, Guard};
use crate::rights::{Rights, Role};
use injector_core::config::{ContainerRef, Netns};
use injector_core::containers::ContainerStates;

/// Named namespaces, and which they are.
pub type Listed = BTreeMap<String, Option<Identity>>;

fn unseen_error(name: &str, unseen: Unseen) -> NetnsError {
    let name = name.to_owned();
    match unseen {
        Unseen::Hung => NetnsError::Hung { name },
        Unseen::Late => NetnsError::Late { name },
    }
}

/// A namespace's name for people.
fn shown(netns: Option<&Netns>) -> String {
    netns.map_or_else(|| "the daemon's own".to_owned(), ToString::to_string)
}

/// The threads, by namespace; they end when dropped.
#[derive(Default)]
pub struct Workers {
    by_name: HashMap<Option<Netns>, Worker>,
    /// The namespaces of the threads that were started for this copy; `None` if this is no copy.
    started: Option<Vec<Option<Netns>>>,
    /// Started with the first of them, at the latest.
    supervisor: Option<Supervisor>,
    /// The first process of each container that runs, and the namespace that it is in.
    containers: BTreeMap<ContainerRef, (u32, Identity)>,
    /// The threads that read namespaces which are given by a path.
    by_path: PathThreads,
    /// The checks of names, where the kernel has not all of it in memory.
    looks: Looks,
    /// The rights that the threads give up; `None` if they keep those of their starter.
    rights: Option<Rights>,
    alarm: Alarm,
}

impl Workers {
    /// Threads that keep only what a config needs. The supervisor has the caller's rights until [`Self::drop_start_rights`].
    pub fn limited(rights: Rights, alarm: Alarm) -> Result<Self, NetnsError> {
        let mut workers = Self { rights: Some(rights), alarm, ..Self::default() };
        workers.supervisor(None)?;
        Ok(workers)
    }

    /// A set without threads yet, but with the same supervisor, and the same rights for its threads.
    #[must_use]
    pub fn another(&self) -> Self {
        let (supervisor, alarm) = (self.supervisor.clone(), self.alarm.clone());
        Self { supervisor, rights: self.rights, alarm, looks: self.looks.clone(), ..Self::default() }
    }

    /// A copy with the same threads, and those that are started for it, until [`Self::adopt`] takes them
    /// over.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            by_name: self.by_name.clone(),
            started: Some(Vec::new()),
            containers: self.containers.clone(),
            by_path: self.by_path.clone(),
            ..self.another()
        }
    }

    /// Takes over what was started for a copy; a namespace that has got a thread meanwhile needs no other one.
    pub fn adopt(&mut self, copy: Self) {
        for netns in copy.started.into_iter().flatten() {
            let Some(worker) = copy.by_name.get(&netns) else { continue };
            // The name may refer to another namespace by now. A process, a path, or a name that the kernel
            // can't resolve at once would have to be read by another thread, which may be held up; those
            // names do not change hands without news.
            let is_moved = match &netns {
                Some(Netns::Name(name)) => Looks::file_now(&Path::new(NAMES).join(name))
                    .is_some_and(|now| !now.is_ok_and(|now| now.identity() == worker.identity())),
                Some(Netns::Container(container)) => {
                    self.containers.get(container).is_none_or(|(_, now)| *now != worker.identity())
                }
                _ => false,
            };
            if is_moved {
                worker.stop();
                continue;
            }
            match self.by_name.entry(netns) {
                Entry::Occupied(_) => worker.stop(),
                Entry::Vacant(free) => {
                    free.insert(worker.clone());
                }
            }
        }
    }

    /// The start is over: the supervisor, too, gives up what it does not need.
    pub async fn drop_start_rights(&mut self) -> Result<(), NetnsError> {
        let Some(rights) = self.rights else { return Ok(()) };
        let give_up = move || rights.take(Role::Supervisor);
        let taken = self.supervisor(None)?.ask_within(START, give_up).await;
        Ok(taken.ok_or_else(|| NetnsError::Late { name: shown(None) })??)
    }

    /// Runs something on a namespace's thread, if it has one, after all earlier jobs of the supervisor:
    /// neither is held up then.
    pub fn when_free<F>(&self, netns: Option<&Netns>, job: impl FnOnce(Identity) -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let Ok(worker) = self.running(netns) else { return };
        // A thread that has ended does not run it.
        let identity = worker.identity();
        let hand_on = move || drop(worker.spawn(move || job(identity)));
        match &self.supervisor {
            Some(supervisor) => supervisor.when_free(hand_on),
            None => hand_on(),
        }
    }

    /// The thread that has more rights than the others, if there is one.
    pub fn privileged(&self) -> Option<&Supervisor> {
        self.supervisor.as_ref()
    }

    fn supervisor(&mut self, netns: Option<&Netns>) -> Result<&Supervisor, NetnsError> {
        Ok(match &mut self.supervisor {
            Some(supervisor) => supervisor,
            none => none.insert(Supervisor::start().map_err(|_| NetnsError::Gone { name: shown(netns) })?),
        })
    }

    /// The thread of a namespace, started on first use.
    pub async fn of(&mut self, netns: Option<&Netns>) -> Result<Worker, NetnsError> {
        if let Some(worker) = self.by_name.get(&netns.cloned()) {
            return Ok(worker.clone());
        }
        let worker = self.start(netns, self.rights).await?;
        self.by_name.insert(netns.cloned(), worker.clone());
        if let Some(started) = &mut self.started {
            started.push(netns.cloned());
        }
        Ok(worker)
    }

    /// The thread of a namespace, which has to be there: to start one takes time.
    ///
    /// # Errors
    /// The namespace has no thread.
    pub fn running(&self, netns: Option<&Netns>) -> Result<Worker, NetnsError> {
        let running = self.by_name.get(&netns.cloned()).cloned();
        running.ok_or_else(|| NetnsError::Gone { name: shown(netns) })
    }

    /// Starts a further thread inside a namespace, with all the supervisor's rights; the caller has to stop
    /// it.
    pub async fn visitor(&mut self, netns: Option<&Netns>) -> Result<Worker, NetnsError> {
        self.start(netns, None).await
    }

    async fn start(&mut self, netns: Option<&Netns>, rights: Option<Rights>) -> Result<Worker, NetnsError> {
        let (way, expected) = match netns {
            Some(Netns::Container(container)) => {
                let known = self.containers.get(container);
                let (pid, identity) = known.ok_or_else(|| NetnsError::NoContainer { name: shown(netns) })?;
                (Netns::Pid(*pid).path().map_or(Way::Own, Way::At), Some(*identity))
            }
            Some(Netns::Name(name)) => {
                let found = self.file(name, START).await?;
                let path = Path::new(NAMES).join(name);
                let found = found.map_err(|source| NetnsError::Open { name: shown(netns), path, source })?;
                (Way::Found(found), None)
            }
            Some(netns) => (netns.path().map_or(Way::Own, Way::At), None),
            None => (Way::Own, None),
        };
        let door = Door { name: shown(netns), way, expected, alarm: self.alarm.clone() };
        // A thread that is started too late ends at once, since nobody gives it jobs.
        self.ask(netns, START, move || Worker::start(door, rights)).await?
    }

    /// The file of a name under `/run/netns`.
    async fn file(
        &self,
        name: &str,
        patience: Duration,
    ) -> Result<std::io::Result<NamespaceFile>, NetnsError> {
        let found = self.looks.file(&Path::new(NAMES).join(name), patience).await;
        found.map_err(|unseen| unseen_error(name, unseen))
    }

    /// The open files of named namespaces that are still the ones that they were.
    pub async fn files(
        &self,
        named: impl IntoIterator<Item = (String, Identity)>,
    ) -> Vec<(String, Identity, File)> {
        let look = |(name, identity): (String, Identity)| async move {
            let found = self.file(&name, QUESTION).await.ok()?.ok()?;
            let file = found.open().ok().filter(|_| found.identity() == identity)?;
            Some((name, identity, file))
        };
        join_all(named.into_iter().map(look)).await.into_iter().flatten().collect()
    }

    /// The namespaces that have names now, and which they are: `None` of a file that is no namespace's. A
    /// name whose file nobody can read is taken to refer to the same namespace as before.
    ///
    /// # Errors
    /// Nobody can list the names.
    pub async fn listed(&self, before: &Listed) -> Result<Listed, NetnsError> {
        let names = self.looks.names(QUESTION).await.map_err(|unseen| unseen_error(NAMES, unseen))?;
        let look = |name: String| async move {
            let identity = match self.file(&name, QUESTION).await {
                Ok(found) => found.ok().map(|found| found.identity()),
                Err(_) => before.get(&name).copied().flatten(),
            };
            (name, identity)
        };
        Ok(join_all(names.into_iter().map(look)).await.into_iter().collect())
    }

    /// Asks the thread that may read a namespace's file: the supervisor, or the path's own thread.
    async fn ask<T: Send + 'static>(
        &mut self,
        netns: Option<&Netns>,
        patience: Duration,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetnsError> {
        let rights = self.rights;
        let supervisor = self.supervisor(netns)?.clone();
        let (thread, is_of_path) = match netns {
            Some(Netns::Path(path)) => (self.by_path.of(path, &supervisor, rights).await?, true),
            _ => (supervisor, false),
        };
        let answer = thread.ask_within(patience, question).await;
        let name = shown(netns);
        // A thread that was not even asked, since the turn has no time left, has no overdue reply.
        let is_hung = is_of_path && thread.is_late();
        answer.ok_or(if is_hung { NetnsError::Hung { name } } else { NetnsError::Late { name } })
    }

    /// A guard for what follows something on behalf of these threads.
    pub fn guard(&self, what: &str) -> Guard {
        self.alarm.guard(what)
    }

    /// Takes in which containers run, by the ids of their first processes. A container whose namespace is not
    /// known, because the supervisor does not answer, is taken not to run.
    ///
    /// # Errors
    /// There is such a container: the same states are to be taken in again.
    pub async fn contain(&mut self, states: &ContainerStates) -> Result<(), NetnsError> {
        let mut late = Ok(());
        for (container, standing) in &states.0 {
            let Ok(running) = standing else {
                self.containers.remove(container);
                continue;
            };
            if self.containers.get(container).is_some_and(|(pid, _)| *pid == running.pid) {
                continue;
            }
            let now = self.now(&Netns::Pid(running.pid)).await.unwrap_or_else(|error| {
                late = Err(error);
                None
            });
            match now {
                Some(identity) => {
                    self.containers.insert(container.clone(), (running.pid, identity));
                }
                // The container has ended by now: the engine will say so.
                None => drop(self.containers.remove(container)),
            }
        }
        late
    }

    /// Takes a container not to run.
    pub fn leave(&mut self, container: &ContainerRef) {
        self.containers.remove(container);
    }

    /// The namespaces of the containers that run.
    pub fn containers(&self) -> impl Iterator<Item = (&ContainerRef, Identity)> {
        self.containers.iter().map(|(container, (_, identity))| (container, *identity))
    }

    /// The namespace that a name refers to now; `None` if there is no file of a namespace.
    ///
    /// # Errors
    /// Nobody can say: a missing answer does not mean that there is none.
    pub async fn now(&mut self, netns: &Netns) -> Result<Option<Identity>, NetnsError> {
        let (wanted, expected) = match netns {
            Netns::Name(name) => {
                return Ok(self.file(name, QUESTION).await?.ok().map(|found| found.identity()));
            }
            // Not every thread may read these.
            Netns::Path(_) | Netns::Pid(_) => (netns.path(), None),
            Netns::Container(container) => match self.containers.get(container) {
                Some((pid, identity)) => (Netns::Pid(*pid).path(), Some(*identity)),
                None => return Ok(None),
            },
        };
        let look = move || wanted.as_deref().and_then(Identity::at);
        let now = self.ask(Some(netns), QUESTION, look).await?;
        Ok(now.filter(|now| expected.is_none_or(|expected| expected == *now)))
    }

    /// [`Self::now`] for all of some names that are names under `/run/netns`, at once.
    pub async fn named_now(
        &self,
        names: &BTreeSet<Netns>,
    ) -> BTreeMap<Netns, Result<Option<Identity>, NetnsError>> {
        let look = |netns: Netns| async move {
            let Netns::Name(name) = &netns else { return None };
            let now = self.file(name, QUESTION).await.map(|found| Some(found.ok()?.identity()));
            Some((netns, now))
        };
        join_all(names.iter().cloned().map(look)).await.into_iter().flatten().collect()
    }

    /// Waits, within bounds, until every thread has begun all that it was given before.
    pub async fn caught_up(&self) {
        let reached = self.by_name.values().map(|worker| worker.run(|| std::future::ready(())));
        for reached in join_all(reached).await {
            if let Err(error) = reached {
                tracing::warn!(%error, "what a thread still does is not waited for");
            }
        }
    }

    /// Every thread, with its namespace.
    pub fn all(&self) -> impl Iterator<Item = (&Option<Netns>, &Worker)> {
        self.by_name.iter()
    }

    /// The namespaces that have a thread.
    pub fn names(&self) -> Vec<Option<Netns>> {
        self.by_name.keys().cloned().collect()
    }

    /// The namespace that a name's thread is in, if it has one.
    pub fn identity(&self, netns: Option<&Netns>) -> Option<Identity> {
        self.by_name.get(&netns.cloned()).map(Worker::identity)
    }

    /// Ends a namespace's thread, and forgets it.
    pub fn stop(&mut self, netns: Option<&Netns>) {
        if let Some(worker) = self.by_name.remove(&netns.cloned()) {
            worker.stop();
        }
    }
}
