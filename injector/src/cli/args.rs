//! The command line's syntax; what it means is said one file a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use injector_client::{Address, DEFAULT_SOCKET, SshHost};
use injector_core::clock::Span;

mod campaign;
mod cut;
mod help;
mod host;

pub use campaign::{Compare, Measure, Report};
pub use cut::{At, Cut};
pub use host::{Check, Doctor, Init, Stop};

/// What `--version` says: the version, the commit it was built from, and the ABI between daemon and programs.
const VERSION: &str = env!("INJECTOR_VERSION");

/// Names the daemon's socket.
pub(super) const SOCKET_VARIABLE: &str = "INJECTOR_SOCKET";
/// Names the daemon's hosts.
pub(super) const HOST_VARIABLE: &str = "INJECTOR_HOST";

/// Cuts cluster networks and measures how long they take to serve again after the heal.
#[derive(Debug, Parser)]
#[command(name = "injector", version = VERSION, after_help = help::EXIT_CODES)]
pub struct CommandLine {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl CommandLine {
    /// Reads words of a page or of a test, for which the variables of this process mean nothing.
    ///
    /// # Errors
    /// They are no command line, or ask for help.
    pub fn read_words<I: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = I>,
    ) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        for argument in ["socket", "host"] {
            command = command.mut_arg(argument, |argument| argument.env(None::<&'static str>));
        }
        let mut matches = command.try_get_matches_from_mut(words)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Print JSON
    #[arg(long, global = true, help_heading = "Options of every command")]
    pub json: bool,
    /// The daemon's socket [default: /run/injector/injector.sock]
    #[arg(
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "PATH",
        env = SOCKET_VARIABLE,
        hide_env_values = true
    )]
    pub socket: Option<PathBuf>,
    /// The daemon's host, reached by ssh, as in `ssh://user@host`; several, repeated or separated by commas, are cut at one
    /// instant
    #[arg(
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "HOST",
        env = HOST_VARIABLE,
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub host: Vec<SshHost>,
    /// Set where several hosts are asked, each by a value of its own: which of them an answer is from.
    #[arg(skip)]
    pub one_of_several: Option<String>,
}

impl Common {
    /// Where the one daemon is.
    pub fn address(&self) -> Address {
        debug_assert!(self.host.len() < 2, "commands that ask one daemon refuse several hosts");
        match self.host.first() {
            Some(host) => self.address_of(host),
            None => Address::Socket(self.socket_path()),
        }
    }

    fn address_of(&self, host: &SshHost) -> Address {
        Address::Ssh { host: host.clone(), socket: self.socket.clone() }
    }

    /// Where the daemons of all hosts are.
    pub fn addresses(&self) -> Vec<Address> {
        self.host.iter().map(|host| self.address_of(host)).collect()
    }

    /// The same options for each of several hosts.
    pub fn each_host(&self) -> impl Iterator<Item = Self> {
        self.host.iter().map(|host| Self {
            host: vec![host.clone()],
            one_of_several: Some(host.to_string()),
            ..self.clone()
        })
    }

    /// The socket on this host.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon, as root. SIGTERM heals and detaches everything; SIGHUP reloads the config if nothing is cut
    #[command(after_help = help::START)]
    Start(Start),
    /// Stop the daemon of this host: it heals what it has cut, and detaches
    #[command(after_help = help::STOP)]
    Stop(Stop),
    /// Write a config from what is found on this host: namespaces, guests, neighbours, listening ports
    #[command(after_help = help::INIT)]
    Init(Init),
    /// Validate a config or a campaign file, without privileges
    #[command(after_help = help::CHECK)]
    Check(Check),
    /// Check this host and a config, list other programs on the hooks, and find what crashed daemons left behind
    #[command(after_help = help::DOCTOR)]
    Doctor(Doctor),
    /// Cut the network between peers
    #[command(after_help = help::partition())]
    Partition(Partition),
    /// Heal partitions; for one that has already ended, print when and why
    #[command(after_help = help::HEAL)]
    Heal(Heal),
    /// Show the daemon, its interfaces, partitions and endpoints
    #[command(after_help = help::STATUS)]
    Status(Status),
    /// Watch links with drop rates, endpoints by the second, partitions and recoveries; keys heal
    #[command(after_help = help::TOP)]
    Top,
    /// Show the peers, what names their frames, and their interfaces
    #[command(after_help = help::PEERS)]
    Peers,
    /// Show the timeline of events
    #[command(after_help = help::TIMELINE, alias = "events")]
    Timeline(Timeline),
    /// Put a mark on the timeline
    #[command(after_help = help::MARK)]
    Mark(Mark),
    /// Wait until a partition's outcome is decided, and print its recovery record; or until all endpoints are healthy
    #[command(after_help = help::WAIT)]
    Wait(Wait),
    /// Run a command under a partition, and always heal afterwards
    #[command(after_help = help::WITH)]
    With(With),
    /// Run every endpoint's probe once
    #[command(after_help = help::PROBE)]
    Probe,
    /// Run a campaign: cut and heal many times, and record each recovery
    #[command(after_help = help::MEASURE)]
    Measure(Box<Measure>),
    /// Summarise a run directory that `measure` wrote
    #[command(after_help = help::REPORT)]
    Report(Report),
    /// Compare run B with run A: is B worse?
    #[command(after_help = help::COMPARE)]
    Compare(Compare),
    /// Carry the API between standard input and output and the socket
    #[command(hide = true)]
    DialStdio,
}

/// How each line of the daemon's log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: in colour on a terminal
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// `start`.
#[derive(Debug, Args)]
pub struct Start {
    /// The config, as with --config
    #[arg(value_name = "FILE", conflicts_with = "config", required_unless_present = "config")]
    pub file: Option<PathBuf>,
    /// The config
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run in the background, and return when the API answers
    #[arg(long)]
    pub detach: bool,
    /// Where the log goes with --detach [default: injector.log beside the socket]
    #[arg(long, value_name = "FILE", requires = "detach")]
    pub log: Option<PathBuf>,
    /// How each line of the log is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Set by --detach for the process that it starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub ready_on_stdout: bool,
}

impl Start {
    /// The config, in whichever form it was named.
    pub fn config(&self) -> &Path {
        let named = self.config.as_ref().or(self.file.as_ref());
        named.expect("the command line requires one of the two")
    }
}

/// `partition`.
#[derive(Debug, Args)]
pub struct Partition {
    /// What to cut.
    #[command(flatten)]
    pub cut: Cut,
    /// When the cut begins: a wall-clock time such as 2026-01-31T12:00:00Z, or +5s from now
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub at: Option<At>,
    /// Print the links that would be cut, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `heal`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Heal {
    /// Which partitions
    pub names: Vec<String>,
    /// Every partition
    #[arg(long)]
    pub all: bool,
}

/// `status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Show it again each second
    #[arg(long)]
    pub watch: bool,
}

/// `timeline`.
#[derive(Clone, Debug, Args)]
pub struct Timeline {
    /// Continue with new events
    #[arg(long)]
    pub follow: bool,
    /// Only events with a larger id
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub since: u64,
}

/// `mark`.
#[derive(Clone, Debug, Args)]
pub struct Mark {
    /// The text
    #[arg(required = true)]
    pub text: Vec<String>,
}

/// `wait`.
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// The partition; optional if only one is unfinished
    pub name: Option<String>,
    /// Wait for no partition, but until every required endpoint is healthy, so that a cut can be measured
    #[arg(long, conflicts_with = "name")]
    pub healthy: bool,
    /// How long to wait at most [default with --healthy: 1m]; exit with 2 if it is not over by then
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
}

/// `with`.
#[derive(Debug, Args)]
pub struct With {
    /// What to cut.
    #[command(flatten)]
    pub cut: Cut,
    /// After a command that succeeded, wait for the recovery record: exit with 1 if the cluster did not recover, with 125 if
    /// the outcome is not known
    #[arg(long)]
    pub wait: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use injector_core::model::Traffic;

    use super::*;

    #[test]
    fn the_syntax_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn with_splits_shape_and_command() {
        let line = "injector with isolate n1 n2 --for 5s --scope tcp/80,udp -- sh -c exit";
        let CommandLine { command: Command::With(with), .. } =
            CommandLine::read_words(line.split(' ')).unwrap()
        else {
            panic!("with is with");
        };
        assert_eq!(with.cut.shape, ["isolate", "n1", "n2"]);
        assert_eq!(with.command, ["sh", "-c", "exit"]);
        assert_eq!(Traffic::from(with.cut.traffic).scopes.len(), 2);
    }

    /// A campaign file says what its cuts do; its verdict options may be added to.
    #[test]
    fn traffic_belongs_to_a_shape_and_not_to_a_campaign_file() {
        let parse = |options: &str| {
            CommandLine::read_words(format!("injector measure --out o {options}").split_whitespace())
                .map(drop)
        };
        for options in [
            "--among n1,n2",
            "--loss 30%",
            "--scope tcp",
            "--flap 1s/50%",
            "--direction in",
            "--neighbour keep",
        ] {
            parse(&format!("--campaign c {options}")).unwrap_err();
            parse(&format!("--trials 3 halves {options}")).unwrap();
        }
        parse("--campaign c --strict --allow-uncovered --advisory metadata --verify active").unwrap();
    }
}
