//! RFC 9457 problem documents, with a fixed code each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An RFC 9457 problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{detail}{}", remedy_suffix(detail, remedy.as_deref()))]
pub struct Problem {
    /// A fixed word for programs, such as `unknown-peer`.
    pub code: Code,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, and where.
    pub detail: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A remedy after what is wrong: on the same line, or below where either has lines of its own.
fn remedy_suffix(detail: &str, remedy: Option<&str>) -> String {
    match remedy {
        None => String::new(),
        Some(remedy) if detail.contains('\n') || remedy.contains('\n') => {
            remedy.lines().fold("\nwhat to do:".to_owned(), |text, line| text + "\n  " + line)
        }
        Some(remedy) => format!("; {remedy}"),
    }
}

/// The fixed codes of [`Problem`], each with one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request's head is not HTTP/1.1.
    BadHead,
    /// The request's head is over the limit.
    HeadTooLarge,
    /// The request's target is too long.
    UriTooLong,
    /// The body is not the JSON that is expected.
    BadBody,
    /// The body is over the limit.
    BodyTooLarge,
    /// A query parameter or name is wrong.
    BadParameter,
    /// The shape can't be built from these peers.
    BadShape,
    /// The shape is well formed, and cuts no link: an empty grudge, a group that is everyone.
    EmptyPartition,
    /// A peer is not in the config.
    UnknownPeer,
    /// A preset is not in the config.
    UnknownPreset,
    /// A role is not in the config.
    UnknownRole,
    /// A role could not be resolved, or the shape can't be built from the peers that have it.
    RoleUnresolved,
    /// An endpoint is not in the config.
    UnknownEndpoint,
    /// A time is wrong: zero, past, or over `max_for`.
    BadTime,
    /// The name is taken by another partition that is not closed.
    NameTaken,
    /// The request id was used for something else.
    RequestIdUsed,
    /// Links of it pass no hook of ours, or not all of their paths do.
    NotCovered,
    /// It would cut an SSH connection to this host.
    OwnSsh,
    /// None of its links has an end here.
    NotHere,
    /// All slots are live.
    NoFreeSlot,
    /// No partition had this name.
    UnknownPartition,
    /// The state does not allow it (enabling what is not prepared).
    WrongState,
    /// No such path.
    NoSuchCall,
    /// The path knows other methods.
    WrongMethod,
    /// Too many connections or requests.
    TooBusy,
    /// The caller may not.
    NotPermitted,
    /// The data plane refused.
    DataPlane,
    /// The daemon is stopping.
    Stopping,
    /// The daemon did not answer in time.
    NoAnswer,
}

impl Code {
    /// The HTTP status of this code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadHead
            | Self::BadBody
            | Self::BadParameter
            | Self::BadShape
            | Self::EmptyPartition
            | Self::UnknownPeer
            | Self::UnknownPreset
            | Self::UnknownRole
            | Self::UnknownEndpoint
            | Self::NotHere
            | Self::BadTime => 400,
            Self::NotPermitted => 403,
            Self::UnknownPartition | Self::NoSuchCall => 404,
            Self::WrongMethod => 405,
            Self::NameTaken | Self::RequestIdUsed | Self::WrongState | Self::NotCovered | Self::OwnSsh => 409,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::TooBusy => 429,
            Self::HeadTooLarge => 431,
            Self::DataPlane => 500,
            Self::NoFreeSlot | Self::Stopping | Self::RoleUnresolved => 503,
            Self::NoAnswer => 504,
        }
    }
}

impl Problem {
    /// A problem with its code's status.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, status: code.status(), detail: detail.into(), field: None, remedy: None }
    }

    /// Names the wrong field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_goes_below_what_has_several_lines() {
        let short = Problem::new(Code::NotCovered, "nothing was cut").remedy("add a hook");
        assert_eq!(short.to_string(), "nothing was cut; add a hook");
        let long =
            Problem::new(Code::NotCovered, "nothing was cut\n  n1→n2").remedy("add a hook\nor do not cut it");
        assert_eq!(
            long.to_string(),
            "nothing was cut\n  n1→n2\nwhat to do:\n  add a hook\n  or do not cut it"
        );
    }
}
