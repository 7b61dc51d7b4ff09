//! The command line's syntax; what it means is said one file a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use injector_client::{Address, DEFAULT_SOCKET, SshHost};
use injector_core::api::{VerdictOptions, Verify};
use injector_core::campaign::given::GivenTraffic;
use injector_core::campaign::{rate, stop_when, system};
use injector_core::clock::{Span, WallNs};
use injector_core::model::{Direction, Flap, Neighbour, Percent, Scope, Traffic, seed};
use injector_core::run::settings::StopWhen;

mod help;
mod host;

pub use host::{Check, Doctor, Init, Stop};

/// What `--version` says: the version, the commit it was built from, and the ABI between daemon and programs.
const VERSION: &str = env!("INJECTOR_VERSION");

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
    /// The daemon's host, reached by ssh, as in `ssh://user@host`; several, repeated or separated by commas, are cut at one
    /// instant
    #[arg(
        long,
        global = true,
        help_heading = "Options of every command",
        value_name = "HOST",
        env = "INJECTOR_HOST",
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
    /// Watch it: links with drop rates, endpoints by the second, partitions, recoveries; keys heal
    #[command(after_help = help::TOP)]
    Top,
    /// Show the peers, what names their frames, and their interfaces
    #[command(after_help = help::PEERS)]
    Peers,
    /// Show the timeline of events
    #[command(after_help = help::TIMELINE)]
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

/// What a partition is, except for who owns it.
#[derive(Debug, Args)]
pub struct Cut {
    /// Which links to cut
    #[arg(required = true, num_args = 1.., value_name = "SHAPE")]
    pub shape: Vec<String>,
    /// The peers that a shape may draw, as in n1,n2,n3 [default: all]
    #[arg(long, value_name = "PEERS", value_delimiter = ',')]
    pub among: Vec<String>,
    /// The partition's name; generated and printed if omitted
    #[arg(long)]
    pub name: Option<String>,
    /// How long the cut lasts; the kernel ends it [default: the config's `max_for`]
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true)]
    pub for_: Option<Span>,
    /// How long after the heal the cluster may take to recover [default: the config's]
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<Span>,
    /// What the cut does to the packets of its links.
    #[command(flatten)]
    pub traffic: TrafficArgs,
    /// The seed for random shapes, at most 2^53 - 1; drawn and printed if omitted
    #[arg(long, value_parser = seed::parse)]
    pub seed: Option<u64>,
    /// Cut SSH connections to the daemon's host too; without it a partition that would cut one is refused
    #[arg(long)]
    pub allow_ssh: bool,
    /// What the verdict takes into account.
    #[command(flatten)]
    pub verdict: VerdictArgs,
}

/// What a cut does to the packets of its links.
#[derive(Debug, Args)]
pub struct TrafficArgs {
    /// Which directions to cut: both, out (what the first group sends) or in (what it would receive) [default: both]
    #[arg(long, requires = "shape")]
    direction: Option<Direction>,
    /// Which traffic to cut: tcp, udp, sctp, icmp, tcp/5122, udp/7000-7010:dst, proto/112 [default: all]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', requires = "shape")]
    scope: Vec<Scope>,
    /// The share of packets to drop [default: 100%]
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true, requires = "shape")]
    loss: Option<Percent>,
    /// Alternate: period and the share of it that drops, as in 200ms/50%
    #[arg(long, value_name = "PERIOD/PERCENT", requires = "shape")]
    flap: Option<Flap>,
    /// What happens to ARP and neighbour discovery [default: auto]
    #[arg(long, value_parser = neighbour(), requires = "shape")]
    neighbour: Option<Neighbour>,
}

impl From<TrafficArgs> for GivenTraffic {
    fn from(args: TrafficArgs) -> Self {
        let TrafficArgs { direction, scope: scopes, loss, flap, neighbour } = args;
        Self { direction, scopes, loss, flap, neighbour }
    }
}

impl From<TrafficArgs> for Traffic {
    fn from(args: TrafficArgs) -> Self {
        GivenTraffic::from(args).over(Self::default())
    }
}

/// What the verdict takes into account, beside what was seen.
#[derive(Debug, Args)]
pub struct VerdictArgs {
    /// An endpoint that does not decide the verdict, by full or base name; may be repeated
    #[arg(long, value_name = "NAME")]
    advisory: Vec<String>,
    /// Cut even if hooks cover some links only partly or not at all; the record marks those links as left out
    #[arg(long)]
    allow_uncovered: bool,
    /// Treat a link as failed if it is unknown whether all its paths were cut
    #[arg(long)]
    strict: bool,
    /// Try the cut with frames of the daemon's own, before and while it lasts: active
    #[arg(long, value_name = "HOW", value_parser = verify())]
    verify: Option<Verify>,
}

impl From<VerdictArgs> for VerdictOptions {
    fn from(args: VerdictArgs) -> Self {
        let VerdictArgs { advisory, allow_uncovered, strict, verify } = args;
        Self { advisory, allow_uncovered, strict, verify }
    }
}

fn verify() -> impl TypedValueParser<Value = Verify> {
    PossibleValuesParser::new(["active"]).map(|_| Verify::Active)
}

fn neighbour() -> impl TypedValueParser<Value = Neighbour> {
    PossibleValuesParser::new(["auto", "keep", "drop"]).map(|word| match word.as_str() {
        "drop" => Neighbour::Drop,
        "keep" => Neighbour::Keep,
        _ => Neighbour::Auto,
    })
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
    /// Go on with what comes
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
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `measure`.
#[derive(Debug, Args)]
pub struct Measure {
    /// Which links to cut, written as for `injector partition`
    #[arg(num_args = 1.., value_name = "SHAPE", required_unless_present_any = ["campaign", "resume"])]
    pub shape: Vec<String>,
    /// The peers that a shape may draw, as in n1,n2,n3 [default: all]
    #[arg(long, value_name = "PEERS", value_delimiter = ',', requires = "shape")]
    pub among: Vec<String>,
    /// Read shapes, holds and other settings from a file; options on the command line override it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shape", "among", "hold", "direction", "scope", "loss", "flap", "neighbour"])]
    pub campaign: Option<PathBuf>,
    /// How long each cut lasts; the kernel ends it [default: 5s]
    #[arg(long, value_name = "TIME", requires = "shape")]
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
                // Two digits each: a number would also be read with a sign of its own.
                let part = |text: &str, most: i64| -> Result<i64, AtError> {
                    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                    text.parse().ok().filter(|part| digits && *part <= most).ok_or_else(error)
                };
                let size = (part(hours, 23)? * 60 + part(minutes, 59)?) * 60;
                (format!("{local}Z"), if offset.starts_with('-') { -size } else { size })
            }
            _ => (text.to_owned(), 0),
        };
        let time = humantime::parse_rfc3339(&utc).map_err(|_| error())?;
        let since_epoch = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| error())?;
        let ns = i64::try_from(since_epoch.as_nanos()).map_err(|_| error())?;
        ns.checked_sub(offset_s * 1_000_000_000).map(|ns| Self::Wall(WallNs(ns))).ok_or_else(error)
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
        assert_eq!(Traffic::from(with.cut.traffic).scopes.len(), 2);
    }

    /// A campaign file says what its cuts do; its verdict options may be added to.
    #[test]
    fn traffic_belongs_to_a_shape_and_not_to_a_campaign_file() {
        let parse = |options: &str| {
            CommandLine::try_parse_from(format!("injector measure --out o {options}").split_whitespace())
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
            parse(&format!("--resume {options}")).unwrap_err();
            parse(&format!("--trials 3 halves {options}")).unwrap();
        }
        parse("--campaign c --strict --allow-uncovered --advisory metadata --verify active").unwrap();
    }

    #[test]
    fn times_are_relative_or_absolute_with_an_offset() {
        assert_eq!("+5s".parse::<At>().unwrap(), At::In(Duration::from_secs(5)));
        let noon = "2026-01-31T12:00:00Z".parse::<At>().unwrap();
        assert_eq!("2026-01-31T13:30:00+01:30".parse::<At>().unwrap(), noon);
        assert_eq!("2026-01-31T07:00:00-05:00".parse::<At>().unwrap(), noon);
        for text in [
            "5s",
            "noon",
            "2026-01-31",
            "+",
            "2026-01-31T13:30:00+x1:30",
            "2026-01-31T13:30:00+24:00",
            "2026-01-31T13:30:00+00:60",
            "2026-01-31T13:30:00+-1:30",
            "2026-01-31T13:30:00+-0:00",
            // The last second that nanoseconds reach, and then some.
            "2262-04-11T23:47:16-05:00",
        ] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
