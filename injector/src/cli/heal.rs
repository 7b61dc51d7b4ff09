//! `injector heal`.

use super::args::{Common, Heal};
use super::failure::{Exit, Failure};
use super::human::{wall, word};
use super::{report, show};
use injector_client::Client;
use injector_core::api::Healed;

pub(super) async fn run(common: &Common, args: Heal) -> Result<Exit, Failure> {
    let mut client = Client::open(&common.address()).await?;
    if args.all {
        let healed = client.heal_all().await?;
        show(common, &healed, || {
            if healed.is_empty() { "nothing was cut\n".to_owned() } else { healed.iter().map(line).collect() }
        })?;
        return Ok(Exit::OK);
    }
    let mut healed = Vec::new();
    let mut exit = Exit::OK;
    for name in &args.names {
        match client.heal(name).await {
            Ok(one) => healed.push(one),
            // One that can't be healed must not keep the others cut.
            Err(error) => {
                let failure = Failure::from(error);
                report(common, &failure);
                if exit == Exit::OK {
                    exit = failure.exit;
                }
            }
        }
    }
    show(common, &healed, || healed.iter().map(line).collect())?;
    Ok(exit)
}

/// When and by what, in one line.
pub(super) fn line(healed: &Healed) -> String {
    format!("{}: healed {} by {}\n", healed.name, wall(healed.wall), word(&healed.healed_by))
}
