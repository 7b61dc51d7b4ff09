//! How a command ends: the exit codes of the contract, and failures that carry one.

use std::io::{self, Write as _};

use super::args::Common;
use crate::terminal::clean;
use rustix::process::Signal;

use injector_client::ClientError;
use injector_client::campaign::CampaignError;
use injector_client::trial::TrialError;
use injector_core::api::{Code, Outcome, Problem};
use injector_core::config::{ConfigErrors, SHOWN};
use injector_core::report::ReportError;
use injector_core::run::dir::RunDirError;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Recovered, or simply done.
    pub const OK: Self = Self(0);
    /// Not recovered, a rate above the limit, a regression, an endpoint that does not answer.
    pub const NOT_RECOVERED: Self = Self(1);
    /// Unknown, censored, undecided, or our own failure.
    pub const UNDECIDED: Self = Self(2);
    /// Wrong usage or a bad config.
    pub const USAGE: Self = Self(64);
    /// No daemon answers.
    pub const UNREACHABLE: Self = Self(69);
    /// Not for this user.
    pub const NOT_PERMITTED: Self = Self(77);
    /// `with` failed by itself, not its command.
    pub const WITH_FAILED: Self = Self(125);

    /// The worse of two, which is the larger number.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// The exit code of a command that a signal ended, as shells have it.
    pub fn ended_by(signal: Signal) -> Self {
        u8::try_from(128 + signal.as_raw()).map_or(Self::WITH_FAILED, Self)
    }

    /// The exit code of an outcome.
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Recovered => Self::OK,
            Outcome::NotRecovered => Self::NOT_RECOVERED,
            Outcome::Censored | Outcome::Unknown | Outcome::HarnessFailed => Self::UNDECIDED,
        }
    }
}

/// A failure for the user: what went wrong, where, and what to do.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The text.
    pub message: String,
    /// The same for programs, if there is more to say: `{"problem": …}` or `{"errors": […]}`.
    pub details: Option<serde_json::Value>,
}

impl Failure {
    /// A failure with a text.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: None }
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::USAGE, message)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let shown = &errors.0[..errors.0.len().min(SHOWN)];
        let details = Some(serde_json::json!({ "errors": shown, "more": errors.0.len() - shown.len() }));
        Self { exit: Exit::USAGE, message: errors.to_string(), details }
    }
}

impl From<RunDirError> for Failure {
    fn from(error: RunDirError) -> Self {
        let exit = match &error {
            RunDirError::Io { .. } => Exit::UNDECIDED,
            _ => Exit::USAGE,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<CampaignError> for Failure {
    fn from(error: CampaignError) -> Self {
        match error {
            CampaignError::Trial(TrialError::Client(error)) => error.into(),
            CampaignError::RunDir(error) => error.into(),
            CampaignError::Usage(error) => Self::usage(error.to_string()),
            CampaignError::Read(error) => Self::usage(error.to_string()),
            CampaignError::Trial(error @ (TrialError::NeverFinal { .. } | TrialError::Reloaded { .. })) => {
                Self::new(Exit::UNDECIDED, error.to_string())
            }
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable { .. } | ClientError::Broken { .. } | ClientError::NoAnswer { .. } => {
                Exit::UNREACHABLE
            }
            ClientError::NotPermitted { .. } | ClientError::Refused(_) => Exit::NOT_PERMITTED,
            ClientError::Protocol { .. } => Exit::UNDECIDED,
            ClientError::Problem(problem) => match problem.code {
                Code::Stopping => Exit::UNREACHABLE,
                Code::NotPermitted => Exit::NOT_PERMITTED,
                Code::NoFreeSlot
                | Code::TooBusy
                | Code::DataPlane
                | Code::RoleUnresolved
                | Code::NoAnswer => Exit::UNDECIDED,
                _ => Exit::USAGE,
            },
        };
        let message = match &error {
            ClientError::Problem(Problem { field: Some(field), .. }) => format!("{field}: {error}"),
            _ => error.to_string(),
        };
        let details = match error {
            ClientError::Problem(problem) => Some(serde_json::json!({ "problem": problem })),
            _ => None,
        };
        Self { exit, message, details }
    }
}

/// Writes a failure to standard error.
pub(super) fn report(common: &Common, failure: &Failure) {
    let _ = io::stderr().write_all(failure_line(common, failure).as_bytes());
}

/// What a failure says on standard error.
pub(super) fn failure_line(common: &Common, failure: &Failure) -> String {
    let host = common.one_of_several.as_ref();
    if common.json {
        return json_line(failure, host.map(ToString::to_string).as_deref());
    }
    let host = host.map(|host| format!("{host}: ")).unwrap_or_default();
    format!("injector: {host}{}\n", clean(&failure.message))
}

/// The same with `--json`: `{"exit": …, "error": …}`, the host where several are asked, and what [`Failure::details`] has.
pub(super) fn json_line(failure: &Failure, host: Option<&str>) -> String {
    let mut report = serde_json::json!({ "exit": failure.exit.0, "error": failure.message });
    for (key, value) in failure.details.iter().filter_map(|details| details.as_object()).flatten() {
        report[key] = value.clone();
    }
    if let Some(host) = host {
        report["host"] = host.into();
    }
    format!("{}\n", clean(&report.to_string()))
}
