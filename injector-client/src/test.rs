//! Partitions for test suites: guards that heal when they are dropped.
//!
//! A guard holds a partition whose owner is its own connection to the daemon. It heals when the guard is dropped: at the
//! end of its scope, after a failed assertion, in a test that panics. If the process dies, the connection breaks, and
//! the daemon heals it. [`Partition`] blocks; [`AsyncPartition`] is for async tests, whatever their runtime.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use injector_client::test::{Cut, Partition};
//!
//! # fn write_to(_: &str) {}
//! # fn main() -> Result<(), injector_client::test::GuardError> {
//! let partition = Partition::cut(Cut::isolate(["n1"]).scope("tcp/5122"))?;
//! write_to("n2"); // the test's own work: the majority must serve
//! partition.heal()?; // fails unless the partition was in force until now
//! let record = partition.recovery(Duration::from_secs(60))?;
//! assert!(record.heal_to_settled_ns.is_some_and(|settled| settled < 10_000_000_000));
//! # Ok(())
//! # }
//! ```
//!
//! Each guard's partition has a name of its own, so that two guards on one daemon, of one process or of several, do not
//! heal each other's.

use std::time::Duration;

use injector_core::api::{Healed, PartitionRequest, PartitionView, RecoveryRecord};
use injector_core::clock::Span;
use injector_core::model::{NamedLink, Scope, Selector, Shape};

use crate::Address;

mod error;
mod guard_thread;
mod verdict;

pub use error::GuardError;
use guard_thread::GuardThread;
pub use verdict::NotRecovered;

/// The cut of a guard, and the daemon that makes it.
#[derive(Clone, Debug)]
pub struct Cut {
    request: PartitionRequest,
    scopes: Vec<String>,
    name: Option<String>,
    daemon: Option<Address>,
}

impl Cut {
    /// A cut by any request; its owner becomes the guard.
    pub fn of(request: PartitionRequest) -> Self {
        Self { request, scopes: Vec::new(), name: None, daemon: None }
    }

    /// A cut of any shape.
    pub fn shape(shape: Shape) -> Self {
        Self::of(PartitionRequest::new(shape))
    }

    /// Cuts these peers, as one group, off from all the others. Here and below a role such as `@leader` may name a peer.
    pub fn isolate<'a>(peers: impl IntoIterator<Item = &'a str>) -> Self {
        Self::shape(Shape::Isolate(selectors(peers)))
    }

    /// Cuts groups off from each other; peers that are not named form one more.
    pub fn split<'a, G: IntoIterator<Item = &'a str>>(groups: impl IntoIterator<Item = G>) -> Self {
        Self::shape(Shape::Split(groups.into_iter().map(selectors).collect()))
    }

    /// Cuts groups off from each other, and no one else.
    pub fn between<'a, G: IntoIterator<Item = &'a str>>(groups: impl IntoIterator<Item = G>) -> Self {
        Self::shape(Shape::Between(groups.into_iter().map(selectors).collect()))
    }

    /// Cuts exactly these directed links, each from the first peer to the second.
    pub fn links<'a>(links: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let links = links.into_iter().map(|(src, dst)| NamedLink { src: src.into(), dst: dst.into() });
        Self::shape(Shape::Links(links.collect()))
    }

    /// Cuts only this traffic, as in `tcp/5122`; several scopes add up.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.scopes.push(scope.to_owned());
        self
    }

    /// The kernel ends the cut after this time, whatever happens to the suite; without it after the config's `max_for`.
    #[must_use]
    pub fn lasting(mut self, span: Duration) -> Self {
        self.request.for_ = Some(Span(span));
        self
    }

    /// How long after the heal the cluster may take, at most an hour; without it the config's `deadline`.
    #[must_use]
    pub fn deadline(mut self, span: Duration) -> Self {
        self.request.deadline = Some(Span(span));
        self
    }

    /// The seed of a drawn shape.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.request.seed = Some(seed);
        self
    }

    /// The partition's name; without it one is made of the test's name, which nobody else has.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The daemon; without it the one that `INJECTOR_HOST` or `INJECTOR_SOCKET` names, else the usual one.
    #[must_use]
    pub fn on(mut self, daemon: Address) -> Self {
        self.daemon = Some(daemon);
        self
    }

    fn into_request(mut self) -> Result<(Address, String, PartitionRequest), GuardError> {
        for scope in &self.scopes {
            self.request.traffic.scopes.push(scope.parse::<Scope>()?);
        }
        let address = self.daemon.map_or_else(Address::from_environment, Ok)?;
        Ok((address, self.name.unwrap_or_else(guard_thread::own_name), self.request))
    }
}

fn selectors<'a>(peers: impl IntoIterator<Item = &'a str>) -> Vec<Selector> {
    peers.into_iter().map(Selector::from).collect()
}

/// A partition that heals when it is dropped. Its calls block; they may be made from any thread, also from one of an
/// async runtime, which they hold up.
#[derive(Debug)]
pub struct Partition(GuardThread);

impl Partition {
    /// Cuts, and returns when the cut is in force.
    ///
    /// # Errors
    /// The daemon can't be reached, or refuses; then nothing is cut.
    pub fn cut(cut: Cut) -> Result<Self, GuardError> {
        let (address, name, request) = cut.into_request()?;
        let (applied, guard_thread) = GuardThread::start(address, name, request)?;
        let view = applied.recv().map_err(|_| ended())??;
        Ok(Self(guard_thread.holding(view)))
    }

    /// The daemon's answer when it was cut: the peers that were drawn, the links, the seed.
    pub fn applied(&self) -> &PartitionView {
        self.0.view()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.view().name
    }

    /// Heals, and returns when the links carry again. A second heal answers as the first did.
    ///
    /// # Errors
    /// [`GuardError::NotInForce`] if something else ended the partition, or packets passed it.
    pub fn heal(&self) -> Result<Healed, GuardError> {
        self.0.heal().recv().map_err(|_| ended())?
    }

    /// Waits for the record to become final; heals first. After `timeout` the record is as it is then.
    ///
    /// # Errors
    /// The daemon can't be asked.
    pub fn recovery(&self, timeout: Duration) -> Result<RecoveryRecord, GuardError> {
        self.heal()?;
        self.0.recovery(timeout).recv().map_err(|_| ended())?
    }

    /// Heals, waits, and fails unless all required endpoints settled within a time from its heal. Where partitions overlap,
    /// ask the one that is healed last: the record of another one may be final before that heal.
    ///
    /// # Errors
    /// [`GuardError::NotRecovered`], whose message shows phases, links and endpoints, and [`GuardError::BeyondDeadline`] where
    /// nobody watches for so long.
    pub fn recovers(&self, within: Duration) -> Result<RecoveryRecord, GuardError> {
        error::is_watched(&self.recovery(Duration::ZERO)?, within)?;
        Ok(verdict::within(self.recovery(verdict::patience(within))?, within)?)
    }
}

/// A partition that heals when it is dropped, for async tests: the drop waits for the heal, and holds up its thread for so
/// long (some milliseconds). Works in any runtime.
#[derive(Debug)]
pub struct AsyncPartition(GuardThread);

impl AsyncPartition {
    /// Cuts, and returns when the cut is in force. If the future is dropped, what it cut is healed.
    ///
    /// # Errors
    /// The errors of [`Partition::cut`].
    pub async fn cut(cut: Cut) -> Result<Self, GuardError> {
        let (address, name, request) = cut.into_request()?;
        let (applied, guard_thread) = GuardThread::start(address, name, request)?;
        let view = applied.await.map_err(|_| ended())??;
        Ok(Self(guard_thread.holding(view)))
    }

    /// The daemon's answer when it was cut: the peers that were drawn, the links, the seed.
    pub fn applied(&self) -> &PartitionView {
        self.0.view()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.view().name
    }

    /// Heals, and resolves when the links carry again, as [`Partition::heal`] does.
    ///
    /// # Errors
    /// The errors of [`Partition::heal`].
    pub async fn heal(&self) -> Result<Healed, GuardError> {
        self.0.heal().await.map_err(|_| ended())?
    }

    /// Heals, and waits for the record to become final, as [`Partition::recovery`] does.
    ///
    /// # Errors
    /// The errors of [`Partition::recovery`].
    pub async fn recovery(&self, timeout: Duration) -> Result<RecoveryRecord, GuardError> {
        self.heal().await?;
        self.0.recovery(timeout).await.map_err(|_| ended())?
    }

    /// Heals, waits, and fails unless all required endpoints settled in time, as [`Partition::recovers`]
    /// does.
    ///
    /// # Errors
    /// The errors of [`Partition::recovers`].
    pub async fn recovers(&self, within: Duration) -> Result<RecoveryRecord, GuardError> {
        error::is_watched(&self.recovery(Duration::ZERO).await?, within)?;
        Ok(verdict::within(self.recovery(verdict::patience(within)).await?, within)?)
    }
}

fn ended() -> GuardError {
    GuardError::Thread("it has ended".to_owned())
}
