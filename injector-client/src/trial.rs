//! One trial on a daemon: wait until the endpoints are healthy, cut for exactly the hold, and wait for the final record.
//!
//! A [`Runner`] keeps one connection, which owns the partitions that it applies: they are healed when it breaks.

use std::time::{Duration, Instant};

use injector_core::api::{
    Code, Outcome, PartitionRequest, PartitionView, ProbeView, Problem, RecoveryRecord, StartAt, Status,
};
use injector_core::campaign::is_named;
use injector_core::clock::{MonoNs, Span};
use injector_core::measure;

use crate::{Address, Client, ClientError};

/// The length of a long poll for a record: an outcome that is decided before the record is final is seen when
/// the poll ends.
const SLICE: Duration = Duration::from_secs(2);
/// How often the runner asks for the endpoints' health.
const POLL: Duration = Duration::from_millis(100);
/// How long before its start a cut that is set ahead is handed in.
const AHEAD: Duration = Duration::from_millis(300);
/// The longest time that a cut of a cycle is set ahead, where the host is too busy to be asked in time.
const LONGEST_AHEAD: Duration = Duration::from_secs(10);
/// How long a record may take beyond every time that the settings allow.
const GRACE: Duration = Duration::from_mins(1);

/// Why a trial can't be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The daemon.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The record never became final.
    #[error(
        "the record of {name} is not final {after} after its heal was due; see `injector status` and the daemon's log"
    )]
    NeverFinal {
        /// The partition.
        name: String,
        /// How long the runner waited.
        after: Span,
    },
    /// The daemon has read another config.
    #[error(
        "the daemon's config was replaced during the campaign (config {was} when it began, {is} now): trials under two configs are not one campaign; start a new one, or continue with --resume if nothing that matters has changed"
    )]
    Reloaded {
        /// The number of the config when the runner was opened.
        was: u32,
        /// The present one.
        is: u32,
    },
}

/// When a trial's cut begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As soon as every required endpoint is healthy.
    Healthy {
        /// How long the endpoints may take.
        timeout: Span,
    },
    /// At an instant of the daemon's clock, whatever the endpoints' state.
    At(MonoNs),
}

/// A partition that a [`Runner`] applied.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: u32,
    /// When the kernel heals it, on the daemon's clock.
    pub ends_at: MonoNs,
    /// The daemon's answer.
    pub view: PartitionView,
    /// By how much its begin was put off, as the instant asked for had come too close.
    pub late: Duration,
    /// How long after the end of the hold the record must be final.
    limit: Duration,
}

/// A record that is known while a trial waits for the final one.
pub enum Pending {
    /// The trial is known not to recover by its deadline; the record may still change.
    Slow(Box<RecoveryRecord>),
    /// The record is final.
    Final(Box<RecoveryRecord>),
}

/// Runs trials on one daemon, under one config.
pub struct Runner {
    client: Client,
    address: Address,
    /// The number of the config that the trials run under.
    config_number: u32,
}

impl Runner {
    /// Connects to a daemon, and answers its status.
    pub async fn open(address: Address) -> Result<(Self, Status), TrialError> {
        let mut client = Client::open(&address).await?;
        let status = client.status().await?;
        Ok((Self { client, address, config_number: status.config_number }, status))
    }

    /// Connects again: the old connection may be in the middle of an answer.
    pub async fn reopen(&mut self) -> Result<(), TrialError> {
        self.client = Client::open(&self.address).await?;
        Ok(())
    }

    /// The client, for calls that are not of a trial.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The daemon's status.
    ///
    /// # Errors
    /// The daemon has read another config since the runner was opened.
    pub async fn status(&mut self) -> Result<Status, TrialError> {
        let status = self.client.status().await?;
        if status.config_number != self.config_number {
            return Err(TrialError::Reloaded { was: self.config_number, is: status.config_number });
        }
        Ok(status)
    }

    /// Waits for an instant of the daemon's clock.
    pub async fn sleep_until(&mut self, at: MonoNs) -> Result<(), TrialError> {
        let now = self.status().await?.now_ns;
        tokio::time::sleep(at.saturating_since(now)).await;
        Ok(())
    }

    /// Waits until a cut may begin; `Some` says why it can't. `advisory` names endpoints that need not be healthy.
    pub async fn wait(&mut self, start: Start, advisory: &[String]) -> Result<Option<String>, TrialError> {
        match start {
            Start::Healthy { timeout } => self.until_healthy(timeout, advisory).await,
            Start::At(at) => {
                self.sleep_until(at - AHEAD - POLL).await?;
                Ok(None)
            }
        }
    }

    async fn until_healthy(
        &mut self,
        timeout: Span,
        advisory: &[String],
    ) -> Result<Option<String>, TrialError> {
        let until = Instant::now() + timeout.0;
        loop {
            let sick = unhealthy(&self.status().await?, advisory);
            if sick.is_empty() {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Ok(Some(format!("not healthy within {timeout}: {}", sick.join("; "))));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Applies a partition. One that is to begin at an instant that has almost come begins a little later.
    pub async fn cut(
        &mut self,
        name: String,
        mut request: PartitionRequest,
        start: Start,
        observe_max: Span,
    ) -> Result<Cut, TrialError> {
        let hold = request.for_.unwrap_or_default();
        let limit = hold.0 + request.deadline.unwrap_or_default().0 + observe_max.0 + GRACE;
        let mut ahead = AHEAD / 2;
        let mut late = Duration::ZERO;
        let view = loop {
            if let Start::At(at) = start {
                // A hook may have taken longer than the time that was left.
                let soonest = self.status().await?.now_ns + ahead;
                late = soonest.saturating_since(at);
                request.at = Some(StartAt::MonoNs(at.max(soonest)));
            }
            match self.client.apply(&name, &request).await {
                // On a starved host, the request arrives after the instant that it names.
                Err(ClientError::Problem(Problem { code: Code::BadTime, .. }))
                    if request.at.is_some() && ahead < LONGEST_AHEAD =>
                {
                    ahead *= 4;
                }
                applied => break applied?,
            }
        };
        let cut_at = view.effective.map(|cut| cut.end_ns);
        let ends_at = view.ends_at_ns.or(cut_at.map(|at| at + hold.0)).unwrap_or_default();
        Ok(Cut { name, generation: view.generation, ends_at, view, late, limit })
    }

    /// The record of a trial in which nothing was cut, because a role of its shape could not be resolved.
    pub async fn unresolved(
        &mut self,
        name: String,
        request: &PartitionRequest,
        reason: String,
    ) -> Result<RecoveryRecord, TrialError> {
        Ok(measure::unresolved(&self.status().await?, name, request, reason))
    }

    /// Waits until more is known of a cut than before; `is_slow_known` after [`Pending::Slow`] was answered.
    pub async fn record(&mut self, cut: &Cut, is_slow_known: bool) -> Result<Pending, TrialError> {
        let begun = Instant::now();
        loop {
            let record = self.client.recovery(&cut.name, Some(cut.generation), SLICE).await?;
            let is_slow = record.outcome == Some(Outcome::NotRecovered);
            if is_slow && !is_slow_known {
                return Ok(Pending::Slow(Box::new(record)));
            }
            if record.is_final {
                return Ok(Pending::Final(Box::new(record)));
            }
            if begun.elapsed() > cut.limit {
                return Err(TrialError::NeverFinal { name: cut.name.clone(), after: Span(cut.limit) });
            }
        }
    }

    /// Every probe of a cut's record.
    pub async fn probes(&mut self, cut: &Cut) -> Result<Vec<ProbeView>, TrialError> {
        Ok(self.client.probes(&cut.name, Some(cut.generation)).await?)
    }

    /// Heals every partition that is prepared, scheduled or active and whose name begins with a prefix.
    pub async fn heal_all_of(&mut self, prefix: &str) -> Result<(), TrialError> {
        use injector_core::api::PartitionState::{Active, Prepared, Scheduled};
        for view in self.client.partitions().await? {
            if matches!(view.state, Prepared | Scheduled | Active) && view.name.starts_with(prefix) {
                self.client.heal(&view.name).await?;
            }
        }
        Ok(())
    }
}

/// The required endpoints that are not healthy, with their last failures. `advisory` names some that do not count.
pub fn unhealthy(status: &Status, advisory: &[String]) -> Vec<String> {
    let gates = |name: &str| !advisory.iter().any(|advisory| is_named(name, advisory));
    status
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.required && gates(&endpoint.name) && endpoint.healthy != Some(true))
        .map(|endpoint| match (&endpoint.last_error, endpoint.healthy) {
            (Some(error), Some(false)) => format!("{}: {error}", endpoint.name),
            _ => format!("{}: too few probes yet", endpoint.name),
        })
        .collect()
}
