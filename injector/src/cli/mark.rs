//! `injector mark`.

use super::args::{Common, Mark};
use super::failure::{Exit, Failure};
use super::output::show;
use super::timeline;
use injector_client::Client;

pub(super) async fn run(common: &Common, args: Mark) -> Result<Exit, Failure> {
    let event = Client::open(&common.address()).await?.mark(&args.text.join(" ")).await?;
    show(common, &event, || timeline::line(&event))?;
    Ok(Exit::OK)
}
