//! `injector peers`.

use super::args::Common;
use super::failure::{Exit, Failure};
use super::human::{Table, or_none};
use super::show;
use crate::api::client::Client;

pub(super) async fn run(common: &Common) -> Result<Exit, Failure> {
    let status = Client::open(&common.address()).await?.status().await?;
    show(common, &status.peers, || {
        let mut table = Table::new(["peer", "addresses", "mac"]);
        for (name, peer) in &status.peers {
            table.row([name.0.clone(), peer.addresses.join(" "), or_none(peer.mac.as_deref())]);
        }
        table.to_string()
    })?;
    Ok(Exit::OK)
}
