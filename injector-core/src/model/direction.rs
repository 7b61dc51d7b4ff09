//! The directions of a two-sided shape that are cut.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of a two-sided shape's directions are cut, relative to its first group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Both directions.
    #[default]
    Both,
    /// What the first group sends.
    Out,
    /// What the first group would receive.
    In,
}

/// Why a word is not a [`Direction`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectionError {
    /// A word that other tools use for opposite directions.
    #[error(
        "\"{0}\": `to` and `from` mean opposite things in other tools: write `out` (what the first group sends) or \
         `in` (what it would receive)"
    )]
    Ambiguous(String),
    /// Any other word.
    #[error(
        "\"{0}\" is not a direction: write `both`, `out` (what the first group sends) or `in` (what it would receive)"
    )]
    Unknown(String),
}

impl FromStr for Direction {
    type Err = DirectionError;
    fn from_str(word: &str) -> Result<Self, DirectionError> {
        match word {
            "both" => Ok(Self::Both),
            "out" => Ok(Self::Out),
            "in" => Ok(Self::In),
            "to" | "from" => Err(DirectionError::Ambiguous(word.to_owned())),
            _ => Err(DirectionError::Unknown(word.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Direction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both",
            Self::Out => "out",
            Self::In => "in",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_round_trip_as_text_and_as_json() {
        for (word, direction) in [("both", Direction::Both), ("out", Direction::Out), ("in", Direction::In)] {
            assert_eq!(word.parse(), Ok(direction));
            assert_eq!(direction.to_string(), word);
            let json = serde_json::to_string(&direction).unwrap();
            assert_eq!(json, format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<Direction>(&json).unwrap(), direction);
        }
    }

    #[test]
    fn to_and_from_are_refused_with_the_words_to_write() {
        for word in ["to", "from"] {
            let error = serde_json::from_str::<Direction>(&format!("\"{word}\"")).unwrap_err().to_string();
            assert!(error.contains("opposite things in other tools: write `out`"), "{error}");
        }
        let error = "left".parse::<Direction>().unwrap_err().to_string();
        assert!(error.contains("\"left\" is not a direction: write `both`, `out`"), "{error}");
    }
}
