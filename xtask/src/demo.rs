//! `cargo xtask demo`: cuts a small cluster apart, heals it, and shows how long each peer takes to come back.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::build::programs;
use crate::command::again_as_root;
use crate::injector::Injector;
use crate::lab::{Choice, Chosen, Cluster, names};
use crate::trials::{give_back, measure, report, run_folder, verdict};

/// The demo's options.
#[derive(clap::Args)]
pub struct Options {
    /// Which system
    #[arg(value_parser = names(), default_value = "quorum")]
    system: String,
    #[command(flatten)]
    choice: Choice,
    /// How many times to cut and heal
    #[arg(long, default_value_t = 5)]
    trials: u32,
    /// Seeds the choice of the peers that are isolated
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Sets up, brings a lab up, and runs the trials. Exit code 0: all recovered; 1: one did not; 2: one is undecided.
pub fn demo(options: &Options) -> Result<ExitCode> {
    let chosen = Chosen::install(&options.system, &options.choice)?;
    ensure!(
        chosen.cuts_every_peer(),
        "the demo isolates a random peer, and each daemon of the lab {0} isolates its own alone; run `cargo xtask campaign {0}`",
        options.system
    );
    let programs = programs()?;
    if let Some(code) = again_as_root(&programs.folder)? {
        return Ok(code);
    }
    let mut cluster = Cluster::up(chosen, &programs, None)?;
    let injector = Injector { program: &programs.injector(), at: cluster.daemon() };
    cluster.start_daemon(&injector)?;
    let folder = run_folder("demo")?;
    let words = ["random-node", "--hold", "5s", "--cooldown", "1s"].map(str::to_owned);
    let numbers = [("--trials", options.trials.into()), ("--seed", options.seed)];
    let numbers = numbers.map(|(option, number): (&str, u64)| format!("{option}={number}"));
    println!("A random peer is isolated for 5 s, {} times.", options.trials);
    let code = measure(&injector, &[&words[..], &numbers].concat(), &folder, &mut cluster.lab)?;
    println!("\n{} trials: {}.", options.trials, verdict(code));
    let page = report(&injector, &folder)?;
    give_back(&folder)?;
    println!("The report is in {}.", page.display());
    Ok(ExitCode::from(code))
}
