//! Warnings that make a partition or its record doubtful: a code for programs, a sentence for people.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The kind of a [`Warning`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// A foreign program runs before ours on a hook and can bypass it; the subject is the interface.
    ForeignAhead,
    /// The hooks of a namespace could not be read between the command and the cut, nor were they just before; the subject is
    /// the namespace.
    HookUnreadable,
    /// A packet of this link may be rolled for loss more than once, or nowhere; the subject is the link.
    LossNotOnce,
    /// These links are not covered, and are left out on purpose; the subject are the links.
    LeftOut,
    /// It is not known whether all ways of these links pass hooks of ours; the subject are the links.
    CoverageUnknown,
    /// What these peers send to groups is lost for everyone, since a peer that they are cut off from has no hooked port of
    /// its own; the subject are the senders.
    GroupsLost,
    /// A peer sent packets to other peers from an address that is neither listed nor its own; the subject is the peer.
    ForeignSource,
    /// Packets passed between a peer and a host that nothing identifies and that may be another peer; the subject is the link.
    Unnamed,
    /// The active check was asked for and says nothing about these links; the subject are the links.
    NotChecked,
    /// Another partition was in force at some time between this one's cut and the end of its observation; the subject is
    /// its name.
    Overlapped,
    /// Any other, as in records of schema 1.
    #[serde(other)]
    Other,
}

/// What makes a partition or its record doubtful.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Warning {
    /// The kind.
    pub code: WarningCode,
    /// The interface or link that is concerned; `null` where none is.
    pub subject: Option<String>,
    /// The whole warning in words.
    pub text: String,
}

impl Warning {
    /// A warning about `subject`.
    pub fn new(code: WarningCode, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code, subject: Some(subject.into()), text: text.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Warning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Records of schema 1 have sentences.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Sentence(String),
            Whole {
                code: WarningCode,
                #[serde(default)]
                subject: Option<String>,
                text: String,
            },
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Sentence(text) => Self { code: WarningCode::Other, subject: None, text },
            Form::Whole { code, subject, text } => Self { code, subject, text },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_schema_1_are_read_as_other() {
        let read: Vec<Warning> = serde_json::from_str(
            r#"["n1: a program", {"code": "foreign_ahead", "subject": "eth0", "text": "eth0: x"},
                {"code": "of_a_later_version", "subject": null, "text": "y"}]"#,
        )
        .unwrap();
        assert_eq!(
            read[0],
            Warning { code: WarningCode::Other, subject: None, text: "n1: a program".into() }
        );
        assert_eq!(read[1], Warning::new(WarningCode::ForeignAhead, "eth0", "eth0: x"));
        assert_eq!(read[2].code, WarningCode::Other);
        let written = serde_json::to_string(&read[1]).unwrap();
        assert_eq!(written, r#"{"code":"foreign_ahead","subject":"eth0","text":"eth0: x"}"#);
    }
}
