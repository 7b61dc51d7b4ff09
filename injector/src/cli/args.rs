//! The command line's syntax; what it means is said one file a command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::api::client::{Address, DEFAULT_SOCKET, SshHost};
use crate::clock::{Span, WallNs};
use crate::model::{Direction, Flap, Neighbour, Percent, Scope};

const EXIT_CODES: &str = "\
Exit codes: 0 recovered or done · 1 not recovered · 2 unknown, censored, undecided or our own failure · \
64 wrong usage or bad config · 69 daemon not reachable · 77 not permitted";

const SHAPES: &str = "\
Shapes:
  isolate n1 [n2 …]        cut these peers, as one group, off from all the others
  split n1,n2 n3 …         cut these groups off from each other
  halves | random-halves   a smaller first and a larger second half
  random-node              isolate one peer, drawn
  majorities-ring          every peer sees a majority, no two the same one
  bridge n3                two halves that only n3 hears both of
  links n1:n2 …            exactly these directed links
  grudge JSON              {\"n1\": [\"n2\"]}: n1 drops from n2
  preset NAME              a shape that the config names";

/// Cuts cluster networks and measures how long they take to serve again after the heal.
#[derive(Debug, Parser)]
#[command(name = "injector", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct CommandLine {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
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
        env = "INJECTOR_SOCKET",
        hide_env_values = true
    )]
    pub socket: Option<PathBuf>,
    /// The daemon's host, reached by ssh, as in `ssh://user@host`
    #[arg(
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "HOST",
        env = "INJECTOR_HOST",
        hide_env_values = true
    )]
    pub host: Option<SshHost>,
}

impl Common {
    /// Where the daemon is.
    pub fn address(&self) -> Address {
        match &self.host {
            Some(host) => Address::Ssh { host: host.clone(), socket: self.socket.clone() },
            None => Address::Socket(self.socket_path()),
        }
    }

    /// The socket on this host.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon (as root); SIGTERM heals and leaves nothing behind, SIGHUP reads the config again
    Start(Start),
    /// Validate a config, without privileges
    Check(Check),
    /// Can this host do it; who else is on the hooks; what did dead daemons leave
    #[command(after_help = "The exit code is 1 if something keeps the daemon from its work.")]
    Doctor(Doctor),
    /// Cut
    #[command(after_help = SHAPES)]
    Partition(Partition),
    /// Heal; one that has ended tells when and by what
    Heal(Heal),
    /// Show the daemon, its interfaces, partitions and endpoints
    Status(Status),
    /// Show the peers
    Peers,
    /// Show what happened
    Timeline(Timeline),
    /// Put a mark on the timeline
    Mark(Mark),
    /// Wait until a partition's outcome is decided, and tell its story
    Wait(Wait),
    /// Run a command under a partition; always heals
    #[command(
        after_help = "The exit code is the command's: 128+n if signal n ended it, 126 or 127 if it can't be run or \
                      found, 125 if the partition failed."
    )]
    With(With),
    /// Run every endpoint's probe once
    Probe,
    /// Carry the API between standard input and output and the socket
    #[command(hide = true)]
    DialStdio,
}

/// `start`.
#[derive(Debug, Args)]
pub struct Start {
    /// The config
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Go to the background, and return when the API answers
    #[arg(long)]
    pub detach: bool,
    /// Where the log goes with --detach [default: injector.log beside the socket]
    #[arg(long, value_name = "FILE", requires = "detach")]
    pub log: Option<PathBuf>,
    /// Set by --detach for the process that it starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub ready_on_stdout: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The config
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The config whose interfaces are looked at
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Remove filters whose daemon is dead (those of a living one, and others', stay)
    #[arg(long)]
    pub clean: bool,
}

/// What a partition is, but for who owns it.
#[derive(Debug, Args)]
pub struct Cut {
    /// Which links to cut
    #[arg(required = true, num_args = 1.., value_name = "SHAPE")]
    pub shape: Vec<String>,
    /// Its name; made and printed if left out
    #[arg(long)]
    pub name: Option<String>,
    /// How long, enforced in the kernel [default: the config's `max_for`]
    #[arg(long = "for", value_name = "TIME")]
    pub for_: Option<Span>,
    /// When: a wall-clock time such as 2026-01-31T12:00:00Z, or +5s from now
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub at: Option<At>,
    /// How long after the heal the cluster may take [default: the config's]
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<Span>,
    /// Which directions, relative to the first group
    #[arg(long, default_value = "both", value_parser = direction())]
    pub direction: Direction,
    /// Which traffic: tcp, udp, icmp, tcp/5122, udp/7000-7010:dst [default: all]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    pub scope: Vec<Scope>,
    /// The share of packets to drop
    #[arg(long, value_name = "PERCENT", default_value = "100%")]
    pub loss: Percent,
    /// Alternate: period and the share of it that drops, as in 200ms/50%
    #[arg(long, value_name = "PERIOD/PERCENT")]
    pub flap: Option<Flap>,
    /// What happens to ARP and neighbour discovery
    #[arg(long, default_value = "keep", value_parser = neighbour())]
    pub neighbour: Neighbour,
    /// The seed of drawn shapes; drawn and printed if left out
    #[arg(long)]
    pub seed: Option<u64>,
}

fn direction() -> impl TypedValueParser<Value = Direction> {
    PossibleValuesParser::new(["both", "to", "from"]).map(|word| match word.as_str() {
        "to" => Direction::To,
        "from" => Direction::From,
        _ => Direction::Both,
    })
}

fn neighbour() -> impl TypedValueParser<Value = Neighbour> {
    PossibleValuesParser::new(["keep", "drop"]).map(|word| match word.as_str() {
        "drop" => Neighbour::Drop,
        _ => Neighbour::Keep,
    })
}

/// `partition`.
#[derive(Debug, Args)]
pub struct Partition {
    /// What to cut.
    #[command(flatten)]
    pub cut: Cut,
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
#[derive(Debug, Args)]
pub struct Status {
    /// Show it anew each second
    #[arg(long)]
    pub watch: bool,
}

/// `timeline`.
#[derive(Debug, Args)]
pub struct Timeline {
    /// Go on with what comes
    #[arg(long)]
    pub follow: bool,
    /// Only events with a larger id
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub since: u64,
}

/// `mark`.
#[derive(Debug, Args)]
pub struct Mark {
    /// The text
    #[arg(required = true)]
    pub text: Vec<String>,
}

/// `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Which partition; may be left out if only one is unfinished
    pub name: Option<String>,
    /// How long to wait at most; the exit code is then 2
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
}

/// `with`.
#[derive(Debug, Args)]
pub struct With {
    /// What to cut.
    #[command(flatten)]
    pub cut: Cut,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// When a partition starts, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// From now on.
    In(Duration),
    /// By the wall clock.
    Wall(WallNs),
}

/// Why a text is not an [`At`].
#[derive(Debug, thiserror::Error)]
#[error("\"{0}\" is not a time; write 2026-01-31T12:00:00Z, 2026-01-31T13:00:00+01:00 or +5s")]
pub struct AtError(String);

impl FromStr for At {
    type Err = AtError;
    fn from_str(text: &str) -> Result<Self, AtError> {
        let error = || AtError(text.to_owned());
        if let Some(span) = text.strip_prefix('+') {
            return span.parse::<Span>().map(|span| Self::In(span.0)).map_err(|_| error());
        }
        // The crate reads UTC only; other offsets are taken off by hand.
        let (utc, offset_s) = match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
            Some((local, offset)) if offset.starts_with(['+', '-']) => {
                let (hours, minutes) = offset[1..].split_once(':').ok_or_else(error)?;
                let hours: i64 = hours.parse().map_err(|_| error())?;
                let minutes: i64 = minutes.parse().map_err(|_| error())?;
                let size = (hours * 60 + minutes) * 60;
                (format!("{local}Z"), if offset.starts_with('-') { -size } else { size })
            }
            _ => (text.to_owned(), 0),
        };
        let time = humantime::parse_rfc3339(&utc).map_err(|_| error())?;
        let since_epoch = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| error())?;
        let ns = i64::try_from(since_epoch.as_nanos()).map_err(|_| error())?;
        Ok(Self::Wall(WallNs(ns - offset_s * 1_000_000_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_syntax_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn with_splits_shape_and_command() {
        let line = "injector with isolate n1 n2 --for 5s --scope tcp/80,udp -- sh -c exit";
        let CommandLine { command: Command::With(with), .. } =
            CommandLine::try_parse_from(line.split(' ')).unwrap()
        else {
            panic!("with is with");
        };
        assert_eq!(with.cut.shape, ["isolate", "n1", "n2"]);
        assert_eq!(with.command, ["sh", "-c", "exit"]);
        assert_eq!(with.cut.scope.len(), 2);
    }

    #[test]
    fn times_are_relative_or_absolute_with_an_offset() {
        assert_eq!("+5s".parse::<At>().unwrap(), At::In(Duration::from_secs(5)));
        let noon = "2026-01-31T12:00:00Z".parse::<At>().unwrap();
        assert_eq!("2026-01-31T13:30:00+01:30".parse::<At>().unwrap(), noon);
        assert_eq!("2026-01-31T07:00:00-05:00".parse::<At>().unwrap(), noon);
        for text in ["5s", "noon", "2026-01-31", "+", "2026-01-31T13:30:00+x1:30"] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
