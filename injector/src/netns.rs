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

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::{mpsc, oneshot};

pub use self::error::NetnsError;
use self::file::{Looks, NAMES, NamespaceFile, Unseen};
pub use self::identity::Identity;
use self::job::Job;
use self::probes::ProbeThread;
pub use self::supervisor::Supervisor;
use self::supervisor::{PathThreads, QUESTION, START};
use crate::alarm::{Alarm, Guard};
use crate::rights::{Rights, Role};
use crate::turn;
use injector_core::config::{ContainerRef, Netns};
use injector_core::containers::ContainerStates;

/// How long a thread may take over a job before nobody waits for it any more: having programs verified takes seconds
/// on an emulated machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a thread is told.
enum Order {
    Run(Job),
    /// To hand this on to the thread of probes.
    Probe(Job),
    Stop,
}

/// A thread inside a network namespace.
#[derive(Clone)]
pub struct Worker {
    name: String,
    identity: Identity,
    alarm: Alarm,
    jobs: mpsc::UnboundedSender<Order>,
    /// Its answer is overdue, and nobody waits for it any more.
    late: Arc<AtomicBool>,
}

/// How a namespace is found.
enum Way {
    /// It is the daemon's own.
    Own,
    /// Its file was found.
    Found(NamespaceFile),
    /// Its file is at this path, where the thread that starts the namespace's thread looks.
    At(PathBuf),
}

/// A namespace to enter.
struct Door {
    /// As configured.
    name: String,
    /// How it is found.
    way: Way,
    /// Which one it must be: a process's id may belong to another process by now.
    expected: Option<Identity>,
    /// Raised when something panics in there that nobody waits for.
    alarm: Alarm,
}

impl Worker {
    fn start(door: Door, rights: Option<Rights>) -> Result<Self, NetnsError> {
        let Door { name, way, expected, alarm } = door;
        let guard = alarm.guard(format!("the thread of network namespace {name}"));
        let is_own = matches!(way, Way::Own);
        let (path, found) = match way {
            Way::Own => {
                let path = PathBuf::from("/proc/self/ns/net");
                (path.clone(), NamespaceFile::at(&path))
            }
            Way::Found(found) => (PathBuf::from(&name), Ok(found)),
            Way::At(path) => (path.clone(), NamespaceFile::at(&path)),
        };
        let opened = found.and_then(|found| Ok((found.open()?, found.identity())));
        let (file, identity) =
            opened.map_err(|source| NetnsError::Open { name: name.clone(), path, source })?;
        if expected.is_some_and(|expected| expected != identity) {
            return Err(NetnsError::NoContainer { name });
        }
        let file = (!is_own).then_some(file);
        let (jobs, mut queue) = mpsc::unbounded_channel::<Order>();
        let (entered, result) = std::sync::mpsc::channel();
        let in_thread = name.clone();
        let mut probes = ProbeThread::new(name.clone(), alarm.clone());
        std::thread::Builder::new()
            .name(format!("netns {name}").chars().take(15).collect())
            .spawn(move || {
                let _guard = guard;
                let enter =
                    crate::fault::at("netns/enter").and_then(|()| file.map_or(Ok(()), |file| enter(&file)));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match (enter, runtime) {
                    (Ok(()), Ok(runtime)) => runtime,
                    (Err(source), _) | (_, Err(source)) => {
                        return drop(entered.send(Err(NetnsError::Enter { name: in_thread, source })));
                    }
                };
                if let Err(error) = rights.map_or(Ok(()), |rights| rights.take(Role::Daemon)) {
                    return drop(entered.send(Err(error.into())));
                }
                let _ = entered.send(Ok(()));
                // Jobs may hold sockets of this namespace: they run, and end, on this thread.
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    loop {
                        match queue.recv().await {
                            Some(Order::Run(job)) => job.spawn(),
                            Some(Order::Probe(job)) => probes.run(job),
                            Some(Order::Stop) | None => return,
                        }
                    }
                });
            })
            .map_err(|_| NetnsError::Gone { name: name.clone() })?;
        match result.recv() {
            Ok(Ok(())) => Ok(Self { name, identity, alarm, jobs, late: Arc::default() }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(NetnsError::Gone { name }),
        }
    }

    /// The namespace that the thread is in.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Ends the thread and everything that runs on it, and so its hold on the namespace.
    pub fn stop(&self) {
        // A thread that has ended needs no order.
        let _ = self.jobs.send(Order::Stop);
    }

    /// Runs a future on the thread; it is made there, so it need not be `Send`. Nobody waits for it: if it panics, the alarm is
    /// raised.
    pub fn spawn<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Run(Job::new(job, Some(self.guard()))))
    }

    /// The same for a future whose end is noticed however it ends, also by a panic: what it drops answers.
    pub fn spawn_awaited<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Run(Job::new(job, None)))
    }

    /// Runs probes, on the namespace's thread for these; nobody waits for them.
    pub fn probe<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Probe(Job::new(job, Some(self.guard()))))
    }

    /// The same for a probe whose end is noticed however it ends.
    pub fn probe_awaited<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), NetnsError>
    where
        F: Future<Output = ()> + 'static,
    {
        self.order(Order::Probe(Job::new(job, None)))
    }

    fn guard(&self) -> Guard {
        self.alarm.guard(format!("something in network namespace {}", self.name))
    }

    fn order(&self, order: Order) -> Result<(), NetnsError> {
        self.jobs.send(order).map_err(|_| NetnsError::Gone { name: self.name.clone() })
    }

    /// Runs a future on the thread and waits for its result; if that takes too long, it runs all the same, and its
    /// result is dropped there.
    ///
    /// # Errors
    /// [`NetnsError::Late`], at once if the thread has an overdue answer already.
    pub async fn run<T, F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let patience = if self.is_late() { Duration::ZERO } else { PATIENCE };
        self.run_within(patience, job).await
    }

    /// A question, to which the answer is wanted soon or not at all: the thread is not even asked while an answer of it is overdue.
    pub async fn ask<T, F>(&self, question: impl FnOnce() -> F + Send + 'static) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        // Whoever has no time left does not ask: the thread is not to be taken for one that does not answer.
        if self.is_late() || turn::patience(QUESTION).is_zero() {
            return Err(NetnsError::Late { name: self.name.clone() });
        }
        self.run_within(QUESTION, question).await
    }

    /// The same with a patience of the caller's.
    pub async fn run_within<T, F>(
        &self,
        patience: Duration,
        job: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, NetnsError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (reply, result) = oneshot::channel();
        self.spawn_awaited(move || async move {
            let _ = reply.send(job().await);
        })?;
        if let Ok(result) = tokio::time::timeout(turn::patience(patience), result).await {
            return result.map_err(|_| NetnsError::Gone { name: self.name.clone() });
        }
        if !self.late.swap(true, Ordering::Relaxed) {
            let late = self.late.clone();
            // Behind the job: a thread that reaches this is not held up.
            self.spawn(move || async move { late.store(false, Ordering::Relaxed) })?;
        }
        Err(NetnsError::Late { name: self.name.clone() })
    }

    fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }
}

/// Enters a namespace: the one place that does, on a thread that never leaves it again.
fn enter(file: &File) -> std::io::Result<()> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Into::into)
}

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
    /// In a copy, those that were started for it.
    started: Option<Vec<Option<Netns>>>,
    /// Started with the first of them, at the latest.
    supervisor: Option<Supervisor>,
    /// The first process of each container that runs, and the namespace that it is in.
    containers: BTreeMap<ContainerRef, (u32, Identity)>,
    /// What looks at namespaces that are given by a path.
    by_path: PathThreads,
    /// What looks at names, where the kernel has not all of it in memory.
    looks: Looks,
    /// What the threads give up; `None` if they keep what their starter has.
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

    /// No threads yet, but the same supervisor, and the same rights for its threads.
    #[must_use]
    pub fn another(&self) -> Self {
        let (supervisor, alarm) = (self.supervisor.clone(), self.alarm.clone());
        Self { supervisor, rights: self.rights, alarm, looks: self.looks.clone(), ..Self::default() }
    }

    /// The same threads, and those that are started for this copy, until [`Self::adopt`] takes them over.
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
            // The name may refer to another namespace by now. Who has a process, a path, or a name that the kernel can't tell at
            // once asks another thread, which may be held up; those names do not change hands but by way of news.
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

    /// Runs something on a namespace's thread, if it has one, once the supervisor has come to it: neither is held up then.
    pub fn when_free<F>(&self, netns: Option<&Netns>, job: impl FnOnce(Identity) -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let Ok(worker) = self.running(netns) else { return };
        // A thread that has ended has nothing to tell.
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
    /// There is none.
    pub fn running(&self, netns: Option<&Netns>) -> Result<Worker, NetnsError> {
        let running = self.by_name.get(&netns.cloned()).cloned();
        running.ok_or_else(|| NetnsError::Gone { name: shown(netns) })
    }

    /// One more thread inside a namespace, with all the supervisor's rights; to be stopped by the caller.
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
        // One that is started too late ends at once, since nobody gives it jobs.
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

    /// The namespaces that have names now, and which they are: `None` of a file that is no namespace's. One that nobody can
    /// look at is taken to be the one that it was before.
    ///
    /// # Errors
    /// Nobody can say which names there are.
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

    /// Asks whoever may look at a namespace's file: the supervisor, or the path's own thread.
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
        // One that was not even asked, since the turn has no time left, owes nothing.
        let is_hung = is_of_path && thread.is_late();
        answer.ok_or(if is_hung { NetnsError::Hung { name } } else { NetnsError::Late { name } })
    }

    /// A guard for what follows something on behalf of these threads.
    pub fn guard(&self, what: &str) -> Guard {
        self.alarm.guard(what)
    }

    /// Takes in which containers run, by the ids of their first processes. A container whose namespace can't be told, because
    /// the supervisor does not answer, is taken not to run.
    ///
    /// # Errors
    /// There is such a one: the same is to be taken in again.
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
                // It has ended by now: the engine will say so.
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
    /// Nobody can say: that is no answer that there is none.
    pub async fn now(&mut self, netns: &Netns) -> Result<Option<Identity>, NetnsError> {
        let (wanted, expected) = match netns {
            Netns::Name(name) => {
                return Ok(self.file(name, QUESTION).await?.ok().map(|found| found.identity()));
            }
            // Not everybody may look there.
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

    /// The same for all those of some names that are names under `/run/netns`.
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
