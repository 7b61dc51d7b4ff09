//! `injector heal` on several hosts.

use super::answers::Answers;
use crate::cli::args::{Common, Heal};
use crate::cli::failure::{Exit, Failure};
use crate::cli::heal::line;
use crate::cli::output::show;
use injector_client::hosts::Hosts;
use injector_client::{Client, ClientError};
use injector_core::api::Healed;

/// What became of each partition that was to be healed.
type Heals = Vec<Result<Healed, ClientError>>;

/// Heals on all hosts at once, and prints each host's answer as it comes.
pub(super) async fn run(common: &Common, args: &Heal) -> Result<Exit, Failure> {
    let mut answers = Answers::default();
    let mut hosts = Hosts::new(common.addresses());
    let mut ended = Ok(());
    hosts
        .each(
            async |client| heals(client, args).await,
            |host, heals| {
                let Some(one) = common.each_host().find(|one| one.one_of_several.as_ref() == Some(&host))
                else {
                    return;
                };
                match heals {
                    Ok(heals) => {
                        if let Err(failure) = print(&one, &mut answers, heals) {
                            ended = Err(failure);
                        }
                    }
                    Err(error) => answers.add(&one, Err(error.into())),
                }
            },
        )
        .await;
    ended?;
    Ok(answers.end())
}

async fn heals(client: &mut Client, args: &Heal) -> Result<Heals, ClientError> {
    if args.all {
        return Ok(client.heal_all().await?.into_iter().map(Ok).collect());
    }
    let mut heals = Vec::new();
    for name in &args.names {
        // One that can't be healed must not keep the others cut.
        heals.push(client.heal(name).await);
    }
    Ok(heals)
}

/// Prints the heals of one host, and adds them to the answers.
fn print(one: &Common, answers: &mut Answers, heals: Heals) -> Result<(), Failure> {
    let is_empty = heals.is_empty();
    let (mut healed, mut failures) = (Vec::new(), Vec::new());
    for heal in heals {
        match heal {
            Ok(heal) => healed.push(heal),
            Err(error) => failures.push(error),
        }
    }
    if is_empty || !healed.is_empty() {
        show(one, &healed, || {
            if is_empty { "nothing was cut\n".to_owned() } else { healed.iter().map(line).collect() }
        })?;
        answers.add(one, Ok(Exit::OK));
    }
    for error in failures {
        answers.add(one, Err(error.into()));
    }
    Ok(())
}
