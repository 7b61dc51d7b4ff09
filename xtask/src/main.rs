//! Chores of this workspace, one file a chore. `cargo xtask demo` and `cargo xtask test` set up what they need.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod build;
mod command;
mod demo;
mod fuzz;
mod lab;
mod layers;
mod lint;
mod setup;
mod test;
mod toolchain;
mod vm;

use command::Interrupted;
use lab::System;
use setup::Need;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Chores of this workspace")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what is missing, and say so
    Setup {
        /// For which chores; without it, for building and testing
        #[arg(value_enum)]
        needs: Vec<Need>,
    },
    /// Build the injector, its eBPF programs and the example service
    Build,
    /// Format, clippy for the host and for the eBPF target, licences
    Lint,
    /// Every test that this machine can run; what is skipped is named
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Cut a small cluster apart and measure how it comes back
    Demo(demo::Options),
    /// Bring up a lab, say how to use it, tear it down on Ctrl-C
    Lab {
        /// Which cluster
        #[arg(value_enum)]
        system: System,
    },
    /// The kernel's and namespaces' tests on another kernel, in an emulated machine
    Vm(vm::Options),
    /// Benchmarks
    Bench,
    /// libFuzzer on the packet parser, from the stored corpus
    Fuzz {
        /// For how long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let chore = Args::parse().chore;
    let done = command::watch_signals().and_then(|()| run(chore));
    done.unwrap_or_else(|error| {
        if error.is::<Interrupted>() {
            eprintln!("interrupted");
            return ExitCode::from(130);
        }
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Setup { needs } => {
            setup::setup(if needs.is_empty() { &[Need::Build, Need::Network] } else { &needs })?;
        }
        Chore::Build => {
            setup::setup(&[Need::Build])?;
            println!("Built in {}", build::programs()?.folder.display());
        }
        Chore::Fuzz { seconds } => {
            setup::setup(&[Need::Fuzz])?;
            fuzz::run(seconds)?;
        }
        Chore::Lint => return lint::lint(),
        Chore::Test { filter } => return test::test(filter.as_deref()),
        Chore::Demo(options) => return demo::demo(&options),
        Chore::Lab { system } => return lab::show(system),
        Chore::Vm(options) => return vm::vm(&options),
        Chore::Bench => return bench::bench(),
    }
    Ok(ExitCode::SUCCESS)
}
