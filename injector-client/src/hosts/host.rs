//! One of several hosts: its connection, its clock, and how far a partition is there.

use std::collections::BTreeSet;
use std::time::Duration;

use injector_core::api::{Code, Problem, Status};
use injector_core::clock::{MonoNs, Span};

use super::clock::{Offset, Reading};
use super::error::{HostError, HostFailure};
use super::stage::{Connection, Stage, Undo};
use crate::{Address, Client, ClientError};

/// How long a host may take to be reached and to answer one request. ssh gives up connecting after 10 s, and a daemon answers
/// within 10 s.
pub const LIMIT: Duration = Duration::from_secs(15);

/// How often a host's clock is read to find its offset.
const READINGS: usize = 5;

/// One of several hosts.
pub(super) struct Host {
    pub address: Address,
    client: Option<Client>,
    /// The peers there.
    pub here: BTreeSet<String>,
    pub offset: Option<Offset>,
    pub stage: Stage,
}

impl Host {
    pub fn new(address: Address) -> Self {
        Self { address, client: None, here: BTreeSet::new(), offset: None, stage: Stage::Untouched }
    }

    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Asks its daemon, over a new connection if there is none.
    pub async fn ask<T>(
        &mut self,
        call: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, HostError> {
        self.ask_within(LIMIT, call).await
    }

    /// The same within another time.
    ///
    /// The client is taken out meanwhile: a call that is given up, by this limit or by the caller, closes its connection, which
    /// would be in the middle of an answer.
    pub async fn ask_within<T>(
        &mut self,
        limit: Duration,
        call: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, HostError> {
        let (client, address) = (self.client.take(), &self.address);
        let asked = async {
            let mut client = match client {
                Some(client) => client,
                None => Client::open(address).await?,
            };
            let answer = call(&mut client).await;
            Ok::<_, ClientError>((client, answer))
        };
        let (client, answer) =
            tokio::time::timeout(limit, asked).await.map_err(|_| HostError::NoAnswer(in_millis(limit)))??;
        let is_usable = matches!(&answer, Ok(_) | Err(ClientError::Problem(_) | ClientError::Refused(_)));
        self.client = is_usable.then_some(client);
        Ok(answer?)
    }

    /// A failure of this host.
    pub fn failed(&self, why: impl Into<HostError>) -> HostFailure {
        HostFailure { host: self.name(), why: why.into() }
    }

    /// Asks which peers are there.
    pub async fn look(&mut self) -> Result<(), HostFailure> {
        let status = self.ask(async |client| client.status().await).await;
        let Status { peers, .. } = status.map_err(|why| self.failed(why))?;
        let here = peers.into_iter().filter(|(_, peer)| peer.is_here);
        self.here = here.map(|(name, _)| name.0).collect();
        Ok(())
    }

    /// Measures the offset of its clock.
    pub async fn measure_clock(&mut self) -> Result<(), HostFailure> {
        let read = self.ask(async |client| {
            let mut readings = Vec::with_capacity(READINGS);
            for _ in 0..READINGS {
                let sent = MonoNs::now();
                let theirs = client.status().await?.now_ns;
                readings.push(Reading { sent, theirs, answered: MonoNs::now() });
            }
            Ok(readings)
        });
        let readings = read.await.map_err(|why| self.failed(why))?;
        self.offset = Offset::of(&readings);
        Ok(())
    }

    /// Takes back what was asked of it under a name.
    pub async fn take_back(&mut self, name: &str) -> Result<(), HostFailure> {
        let connection = if self.client.is_some() { Connection::Open } else { Connection::Closed };
        let done = match self.stage.undo(connection) {
            Undo::Nothing => Ok(()),
            Undo::Disconnect => {
                self.client = None;
                Ok(())
            }
            Undo::Heal(generation) => {
                self.ask(async |client| heal_generation(client, name, generation).await).await
            }
        };
        if done.is_ok() {
            self.stage = Stage::Untouched;
        }
        done.map_err(|why| self.failed(why))
    }
}

/// A time as an error shows it.
pub(super) fn in_millis(time: Duration) -> Span {
    Span::millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Heals a partition unless it is gone: another client may have its name by now.
async fn heal_generation(client: &mut Client, name: &str, generation: u32) -> Result<(), ClientError> {
    let is_gone = |error: &ClientError| {
        matches!(error, ClientError::Problem(Problem { code: Code::UnknownPartition, .. }))
    };
    match client.partition(name).await {
        Ok(view) if view.generation == generation => client.heal(name).await.map(drop),
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}
