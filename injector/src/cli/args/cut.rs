//! What a cut is, for the commands that make one.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use injector_core::api::{VerdictOptions, Verify};
use injector_core::campaign::given::GivenTraffic;
use injector_core::clock::{Span, WallNs};
use injector_core::model::{Direction, Flap, Neighbour, Percent, Scope, Traffic, seed};

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
    #[arg(long)]
    direction: Option<Direction>,
    /// Which traffic to cut: tcp, udp, sctp, icmp, tcp/5122, udp/7000-7010:dst, proto/112 [default: all]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<Scope>,
    /// The share of packets to drop [default: 100%]
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    loss: Option<Percent>,
    /// Alternate: period and the share of it that drops, as in 200ms/50%
    #[arg(long, value_name = "PERIOD/PERCENT")]
    flap: Option<Flap>,
    /// What happens to ARP and neighbour discovery [default: auto]
    #[arg(long, value_parser = neighbour())]
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
