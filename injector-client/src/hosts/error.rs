//! What goes wrong on several hosts.

use std::fmt::Write as _;

use injector_core::clock::{Span, WallNs};

use super::share::ShareError;
use crate::ClientError;

/// What went wrong on one host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its daemon can't be reached, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It did not answer.
    #[error("no answer within {0}; see whether the host is up and its daemon runs (`injector status` there)")]
    NoAnswer(Span),
    /// The daemon would cut other links than the shape's.
    #[error(
        "its daemon makes other links of the shape than the first host's: the lists of peers in their configs differ; \
         give all hosts the same `peers`"
    )]
    OtherLinks,
}

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {why}")]
pub struct HostFailure {
    /// The host, as the user names it.
    pub host: String,
    /// What.
    pub why: HostError,
}

/// Why several hosts don't cut.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// Hosts can't be reached, or refuse.
    #[error("{}", all(.0))]
    Hosts(Vec<HostFailure>),
    /// The links of the shape can't be shared out among the hosts.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The start is over, or so near that not every host can be sure of it.
    #[error("the hosts were ready {0} before the start, which is too late; let it lie further ahead")]
    TooLate(Span),
    /// Hosts did not confirm in time that they begin.
    #[error("{} (the cut had to be confirmed before it begins)", all(.0))]
    Unconfirmed(Vec<HostFailure>),
}

/// Why several hosts don't cut, and what became of the partition where it was prepared or enabled.
#[derive(Debug, thiserror::Error)]
#[error("{why}; {}", what_became(self))]
pub struct CutError {
    /// Why.
    pub why: Why,
    /// The hosts on which it was taken back.
    pub taken_back: Vec<String>,
    /// The hosts on which it may still be in force, and why it could not be healed there.
    pub left: Vec<HostFailure>,
    /// When it was to begin, on the client's wall clock, if it was enabled.
    pub begins: Option<WallNs>,
}

fn all(failures: &[HostFailure]) -> String {
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    // What has lines of its own does not share one with another host.
    texts.join(if texts.iter().any(|text| text.contains('\n')) { "\n" } else { "; " })
}

fn what_became(error: &CutError) -> String {
    let mut text = match (error.taken_back.as_slice(), error.left.as_slice()) {
        ([], []) => return "nothing was cut on any host".to_owned(),
        (hosts, []) => return format!("nothing is cut: it was taken back on {}", hosts.join(", ")),
        ([], _) => "it could not be taken back".to_owned(),
        (hosts, _) => format!("it was taken back on {}", hosts.join(", ")),
    };
    for failure in &error.left {
        let HostFailure { host, why } = failure;
        let _ =
            write!(text, ", but {host} may cut until its `--for` ends: it could not be healed there ({why})");
    }
    text
}
