//! `injector doctor`: what the daemon's own checks find. Not listed in the help: it does not yet look at the host.

use std::fmt::Write as _;

use super::args::Common;
use super::failure::{Exit, Failure};
use super::human::or_none;
use super::show;
use crate::api::client::Client;

pub(super) async fn run(common: &Common) -> Result<Exit, Failure> {
    let status = Client::open(&common.address()).await?.status().await?;
    show(common, &status.attachments, || {
        let mut text = String::new();
        for found in &status.attachments {
            let _ = writeln!(text, "{}: {}: {}", found.interface, or_none(found.hook.as_deref()), found.why);
            for other in &found.others {
                let _ = writeln!(text, "  also there: {other}");
            }
        }
        text
    })?;
    Ok(Exit::OK)
}
