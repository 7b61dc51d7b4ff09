//! Commands about this host and its files.

use std::path::PathBuf;

use clap::Args;

/// `check`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Check {
    /// The config, as with --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The config
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A campaign file; with --config, its shapes are also built with that config's peers, presets and roles
    #[arg(long, value_name = "FILE")]
    pub campaign: Option<PathBuf>,
    /// Print the JSON Schema of configs instead, which editors complete them by
    #[arg(long, conflicts_with_all = ["file", "config", "campaign"])]
    pub schema: bool,
}

impl Check {
    /// The config, in whichever form it was named.
    pub fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref().or(self.file.as_ref())
    }
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The config, as with --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The config that is tried out: what would be attached, which links are open, whether each endpoint answers
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Remove filters that crashed daemons left behind; keep those of running daemons and of other programs
    #[arg(long)]
    pub clean: bool,
}

impl Doctor {
    /// The config, in whichever form it was named.
    pub fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref().or(self.file.as_ref())
    }
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The file to write; it must not exist. `-` prints the config
    #[arg(long, value_name = "FILE", default_value = "lab.yaml")]
    pub out: PathBuf,
    /// A peer: a name of what is found, as in n1, or a new one with its addresses, as in `n1=10.0.0.1,fd00::1`. May be
    /// repeated [default: what looks like one]
    #[arg(long = "peer", value_name = "NAME[=ADDRESSES]")]
    pub peers: Vec<String>,
    /// A TCP port by which peers show that they serve; may be repeated [default: what all peers listen on]
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// The socket of the engine that runs containers [default: Docker's or Podman's usual one, if it is there]
    #[arg(long, value_name = "SOCKET")]
    pub engine: Option<PathBuf>,
    /// Ask nothing on a terminal, and take what looks right
    #[arg(long, short)]
    pub yes: bool,
}

/// `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// How long the daemon may take to end [default: 15s]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<injector_core::clock::Span>,
}
