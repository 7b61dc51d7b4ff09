//! Chores of this workspace, one file a chore. `cargo xtask demo` and `cargo xtask test` set up what they need.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bare;
mod bench;
mod build;
mod campaign;
#[cfg(test)]
mod chores;
mod circles;
mod command;
mod debian;
mod demo;
mod dist;
mod files;
mod form;
mod fuzz;
mod handbook;
mod injector;
mod lab;
mod layers;
mod lint;
mod miri;
mod page;
mod results;
mod setup;
mod soak;
mod test;
mod toolchain;
mod trials;
mod unpack;
mod vm;

use command::Interrupted;
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
    /// Format, clippy for the host and for the eBPF target, layers, circles of files, the handbook, licences
    Lint,
    /// The tests that this machine can run; what is skipped is named
    Test(test::Options),
    /// Cut a small cluster apart and measure how it comes back
    Demo(demo::Options),
    /// Bring up a lab, say how to use it, tear it down on Ctrl-C
    Lab(lab::Options),
    /// Run a campaign on a lab; with --short, a few trials on each system
    Campaign(campaign::Options),
    /// Run a series of campaigns whose results are kept in docs/results
    Results(results::Options),
    /// The kernel's and namespaces' tests on another kernel, in an emulated machine
    Vm(vm::Options),
    /// Benchmarks
    Bench,
    /// Build what users install: a static binary, a Debian package, a tarball, checksums, an SBOM
    Dist(dist::Options),
    /// What README.md has a newcomer install, in a Debian root that has nothing else (debootstrap, as root); takes 40 minutes
    Bare,
    /// The long forms of the tests that wear the daemon down; all without a name
    Soak {
        /// Which
        #[arg(value_enum)]
        which: Vec<soak::Soak>,
        /// With a release build, as users run it
        #[arg(long)]
        release: bool,
    },
    /// The tests of what is shared with the kernel and of configs, under Miri; skipped by name where that can't be installed
    Miri,
    /// libFuzzer on what reads bytes of others, from the stored corpora
    Fuzz {
        /// What; each in turn without it
        #[arg(value_enum)]
        target: Option<fuzz::Target>,
        /// For how long, each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let chore = Args::parse().chore;
    let done = command::watch_signals().and_then(|()| run(chore));
    done.unwrap_or_else(|error| {
        if Interrupted::is(&error) {
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
        Chore::Fuzz { target, seconds } => {
            setup::setup(&[Need::Fuzz])?;
            fuzz::fuzz(target, seconds)?;
        }
        Chore::Lint => return lint::lint(),
        Chore::Miri => return miri::miri(),
        Chore::Test(options) => return test::test(&options),
        Chore::Demo(options) => return demo::demo(&options),
        Chore::Lab(options) => return lab::show(&options),
        Chore::Campaign(options) => return campaign::campaign(&options),
        Chore::Results(options) => return results::results(&options),
        Chore::Vm(options) => return vm::vm(&options),
        Chore::Bare => bare::bare()?,
        Chore::Bench => return bench::bench(),
        Chore::Dist(options) => dist::dist(&options)?,
        Chore::Soak { which, release } => return soak::soak(&which, release),
    }
    Ok(ExitCode::SUCCESS)
}
