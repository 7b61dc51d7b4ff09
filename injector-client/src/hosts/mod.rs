//! One partition on several hosts, each with a daemon: prepared everywhere, then enabled at one instant, or taken back
//! everywhere.
//!
//! ```no_run
//! use injector_client::api::PartitionRequest;
//! use injector_client::hosts::{Hosts, Start};
//! use injector_client::model::Shape;
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let addresses = ["ssh://root@n1", "ssh://root@n2"].map(|host| host.parse().map(injector_client::Address::ssh));
//! let mut hosts = Hosts::new(addresses.into_iter().collect::<Result<_, _>>()?);
//! let request = PartitionRequest::new(Shape::Isolate(vec!["n1".into()]));
//! let cut = hosts.cut("p", request, Start::Soon).await?;
//! println!("all hosts began within {} ns", cut.spread_ns.unwrap_or_default());
//! hosts.each(async |client| client.heal("p").await, |host, healed| println!("{host}: {healed:?}")).await;
//! # Ok(())
//! # }
//! ```
//!
//! What decides is without I/O: clocks in [`clock`], links in [`share`], what is undone in [`stage`].

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::{Address, Client, ClientError};

mod answer;
pub mod clock;
mod cut;
mod error;
mod host;
pub mod share;
pub mod stage;

pub use answer::{Begin, HostCut, HostsCut};
pub use cut::Start;
pub use error::{CutError, HostError, HostFailure, Why};
use host::Host;
pub use host::LIMIT;

/// Several hosts, each with one connection, which is opened by the first question.
///
/// A partition that [`Hosts::cut`] made belongs to nobody: it ends by its own deadline or by a heal.
pub struct Hosts {
    hosts: Vec<Host>,
}

impl Hosts {
    /// These hosts; none is asked yet.
    pub fn new(addresses: Vec<Address>) -> Self {
        Self { hosts: addresses.into_iter().map(Host::new).collect() }
    }

    /// Asks all hosts at once, and gives each answer as it comes. A host that does not answer within [`LIMIT`] is given up;
    /// it does not hold up the others.
    pub async fn each<T>(
        &mut self,
        call: impl AsyncFn(&mut Client) -> Result<T, ClientError>,
        mut heard: impl FnMut(String, Result<T, HostError>),
    ) {
        let call = &call;
        let asked = self.hosts.iter_mut().map(|host| async move {
            let answer = host.ask(async |client| call(client).await).await;
            (host.name(), answer)
        });
        let mut answers: FuturesUnordered<_> = asked.collect();
        while let Some((host, answer)) = answers.next().await {
            heard(host, answer);
        }
    }
}
