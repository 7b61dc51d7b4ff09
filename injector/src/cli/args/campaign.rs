//! Commands that make campaigns, and tell what they showed.

use std::path::PathBuf;

use clap::Args;

use injector_core::campaign::{rate, stop_when, system};
use injector_core::clock::Span;
use injector_core::model::seed;
use injector_core::run::settings::StopWhen;

use super::cut::{TrafficArgs, VerdictArgs};

/// `measure`.
#[derive(Debug, Args)]
pub struct Measure {
    /// Which links to cut, written as for `injector partition`
    #[arg(num_args = 1.., value_name = "SHAPE", required_unless_present_any = ["campaign", "resume"])]
    pub shape: Vec<String>,
    /// The peers that a shape may draw, as in n1,n2,n3 [default: all]
    #[arg(long, value_name = "PEERS", value_delimiter = ',')]
    pub among: Vec<String>,
    /// Read shapes, holds and other settings from a file; options on the command line override it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shape", "among", "hold", "direction", "scope", "loss", "flap", "neighbour"])]
    pub campaign: Option<PathBuf>,
    /// How long each cut lasts; the kernel ends it [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub hold: Option<Span>,
    /// How many trials, all cells together
    #[arg(long, value_name = "N", required_unless_present_any = ["campaign", "resume"])]
    pub trials: Option<u64>,
    /// How long after each heal the cluster may take [default: the daemon's]
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<Span>,
    /// Trial i draws from (seed, i); at most 2^53 - 1 [default: drawn, and kept in campaign.json]
    #[arg(long, value_parser = seed::parse)]
    pub seed: Option<u64>,
    /// The run directory
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Continue the campaign in DIR with its stored settings; options that contradict them are refused
    #[arg(long)]
    pub resume: bool,
    /// The largest share of trials beyond the deadline that still passes, as in 0.05 or 5% [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = rate)]
    pub max_rate: Option<f64>,
    /// Stop as soon as Wald's sequential test can decide between these rates, as in p0=0.01,p1=0.05
    #[arg(long, value_name = "RATES", value_parser = stop_when)]
    pub stop_when: Option<StopWhen>,
    /// What the verdicts take into account.
    #[command(flatten)]
    pub verdict: VerdictArgs,
    /// Report the rate, but exit with 0 whatever it is
    #[arg(long)]
    pub no_gate: bool,
    /// The pause after each record [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub cooldown: Option<Span>,
    /// Back to back: cut again this long after each heal, whatever the state; records that this closes are censored
    #[arg(long, value_name = "TIME", conflicts_with = "cooldown")]
    pub cycle: Option<Span>,
    /// Run a command before each cut, with --cycle from the heal on; if it fails, that trial is not made
    #[arg(long, value_name = "CMD")]
    pub before_trial: Option<String>,
    /// Run a command after each record
    #[arg(long, value_name = "CMD")]
    pub after_trial: Option<String>,
    /// Run a command as soon as a trial is known not to recover by the deadline
    #[arg(long, value_name = "CMD")]
    pub on_slow: Option<String>,
    /// A system under test and its version, as in etcd=3.5.1, to be kept with the results; may be repeated
    #[arg(long, value_name = "NAME=VERSION", value_parser = system)]
    pub system: Vec<(String, String)>,
    /// How long the endpoints may take to be healthy before a trial [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub healthy_timeout: Option<Span>,
    /// Give up after this many trials in a row that could not be made or proved [default: 3]
    #[arg(long, value_name = "N")]
    pub abort_after: Option<u32>,
    /// What the cuts do to the packets of their links.
    #[command(flatten)]
    pub traffic: TrafficArgs,
    /// Print nothing but the result
    #[arg(long, short)]
    pub quiet: bool,
}

/// `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The run directory; several with --index
    #[arg(value_name = "DIR", required = true, num_args = 1..)]
    pub directories: Vec<PathBuf>,
    /// Write a page over all runs, and each run's own page into its directory (report.html)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["html", "junit", "csv"])]
    pub index: Option<PathBuf>,
    /// Judge every trial again from its probes: an answer counts as served if it came within this time
    #[arg(long, value_name = "TIME")]
    pub served_within: Option<Span>,
    /// Write one self-contained page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Where to write `JUnit` XML.
    #[arg(long, value_name = "FILE", help = "Write JUnit XML", long_help = None)]
    pub junit: Option<PathBuf>,
    /// Write one line a trial
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The run directory to compare with
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The run directory that is judged
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// By how much B's share of trials beyond the deadline may be worse, as in 0.05 or 5% [default: 5%]
    #[arg(long, value_name = "SHARE", value_parser = rate)]
    pub margin: Option<f64>,
    /// Write a page with both curves
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Compare runs whose deadline, observation, probes, hold or gates differ
    #[arg(long)]
    pub force: bool,
}
