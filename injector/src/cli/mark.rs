//! `injector mark`.

use super::args::{Common, Mark};
use super::failure::{Exit, Failure};
use super::hosts::limit::connected;
use super::output::show;
use super::timeline;

pub(super) async fn run(common: &Common, args: Mark) -> Result<Exit, Failure> {
    let event = connected(common).await?.mark(&args.text.join(" ")).await?;
    show(common, &event, || timeline::line(&event))?;
    Ok(Exit::OK)
}
