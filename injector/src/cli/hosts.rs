//! Commands with several hosts: `partition` and `heal` for all at once, `wait` too, and what reads for one after the other.
//! Everything else is refused.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::args::{Command, Common, Wait};
use super::failure::{Exit, Failure, report};
use super::runtime::block_on;
use super::{check, compare, dial_stdio, mark, peers, probe, status, timeline, wait};
use answers::Answers;
use injector_client::hosts::{HostError, LIMIT};
use injector_core::clock::Span;

mod answers;
mod cut;
mod heal;
pub(super) mod limit;

/// Refuses hosts both before and behind the command: the parser keeps only the latter, and the others would be left out.
pub(super) fn all_are_read(common: &Common) -> Result<(), Failure> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let mut words = words.skip(1).take_while(|word| word != "--");
    let mut given = 0;
    while let Some(word) = words.next() {
        let value =
            if word == "--host" { words.next() } else { word.strip_prefix("--host=").map(str::to_owned) };
        given += value.map_or(0, |hosts| hosts.split(',').count());
    }
    if given == 0 || given == common.host.len() {
        return Ok(());
    }
    Err(Failure::usage("--host is given before and behind the command; name all hosts in one place"))
}

/// Runs a command with several hosts.
pub(super) fn run(common: &Common, command: Command) -> Result<Exit, Failure> {
    each_is_named_once(common)?;
    match command {
        Command::Partition(args) => block_on(cut::run(common, args)),
        Command::Heal(args) => block_on(heal::run(common, &args)),
        Command::Wait(args) => block_on(wait_for(common, args)),
        Command::Status(args) if args.watch => {
            Err(refused("status --watch", "shows one daemon", "leave out --watch"))
        }
        Command::Status(args) => block_on(in_turn(common, async |one| status::run(one, args.clone()).await)),
        Command::Peers => block_on(in_turn(common, async |one| peers::run(one).await)),
        Command::Timeline(args) if args.follow => {
            Err(refused("timeline --follow", "follows one daemon", "run it once for each host"))
        }
        Command::Timeline(args) => {
            block_on(in_turn(common, async |one| timeline::run(one, args.clone()).await))
        }
        Command::Mark(args) => block_on(in_turn(common, async |one| mark::run(one, args.clone()).await)),
        Command::Probe => block_on(in_turn(common, async |one| probe::run(one).await)),
        Command::Top => Err(refused("top", "watches one daemon", "run it once for each host")),
        Command::With(_) => Err(refused(
            "with",
            "runs its command under a partition of one daemon",
            "run `injector partition`, then the command, then `injector heal`, each with these hosts",
        )),
        Command::Measure(_) => Err(refused(
            "measure",
            "makes trials on one daemon",
            "name the host of the node that is cut, with an advisory endpoint for each other node in its config",
        )),
        Command::Start(_) => Err(on_its_host("start")),
        Command::Stop(_) => Err(on_its_host("stop")),
        Command::Init(_) => Err(on_its_host("init")),
        Command::Doctor(_) => Err(on_its_host("doctor")),
        // They ask no daemon, whatever the environment names.
        Command::Check(args) => check::run(common, &args),
        Command::Report(args) => super::report::run(common, args),
        Command::Compare(args) => compare::run(common, args),
        Command::DialStdio => dial_stdio::run(common),
    }
}

fn refused(command: &str, what_it_does: &str, remedy: &str) -> Failure {
    Failure::usage(format!(
        "{command} {what_it_does}, and --host (or INJECTOR_HOST) names several hosts; {remedy}"
    ))
}

fn on_its_host(command: &str) -> Failure {
    refused(
        command,
        "works on the host where it is run",
        &format!("run it there (`ssh HOST sudo injector {command}`)"),
    )
}

fn each_is_named_once(common: &Common) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    let twice = common.host.iter().map(ToString::to_string).find(|host| !seen.insert(host.clone()));
    twice.map_or(Ok(()), |host| {
        Err(Failure::usage(format!("--host: {host} is named twice; name each host once")))
    })
}

/// Runs a command for one host after the other, each for [`LIMIT`] at most; those that fail do not keep it from the rest.
async fn in_turn(
    common: &Common,
    command: impl AsyncFn(&Common) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let mut worst = Exit::OK;
    for one in common.each_host() {
        let ended = tokio::time::timeout(LIMIT, command(&one)).await;
        let exit = ended.unwrap_or_else(|_| Err(HostError::NoAnswer(Span(LIMIT)).into())).unwrap_or_else(
            |failure| {
                report(&one, &failure);
                failure.exit
            },
        );
        worst = worst.worse(exit);
    }
    Ok(worst)
}

/// Waits for each host's outcome, for all at once, and prints each as it comes.
async fn wait_for(common: &Common, args: Wait) -> Result<Exit, Failure> {
    let waiting = common.each_host().map(|one| {
        let args = args.clone();
        async move {
            let ended = wait::run(&one, args).await;
            (one, ended)
        }
    });
    let mut waiting: FuturesUnordered<_> = waiting.collect();
    let mut answers = Answers::default();
    while let Some((one, ended)) = waiting.next().await {
        answers.add(&one, ended);
    }
    Ok(answers.end())
}
