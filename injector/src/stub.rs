//! Placeholder until the configuration and the shapes' words are merged: the same signatures, little behind them.

use std::fmt;
use std::path::Path;

use crate::config::Config;
use crate::model::{Nothing, Shape};

/// Stands for `config::ConfigErrors`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub struct ConfigErrors(pub Vec<String>);

impl Config {
    /// Refuses every file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        Err(ConfigErrors(vec![format!("{}:1:1: this build reads no config", path.as_ref().display())]))
    }
}

/// Stands for the error of [`parse_words`].
#[derive(Debug, thiserror::Error)]
#[error("unknown shape {0:?}")]
pub struct ShapeError(Vec<String>);

/// Knows `isolate` and `halves`.
pub fn parse_words(words: &[String]) -> Result<Shape, ShapeError> {
    match words.split_first() {
        Some((word, peers)) if word == "isolate" && !peers.is_empty() => Ok(Shape::Isolate(peers.to_vec())),
        Some((word, [])) if word == "halves" => Ok(Shape::Halves(Nothing {})),
        _ => Err(ShapeError(words.to_vec())),
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolate(peers) => write!(f, "isolate {}", peers.join(" ")),
            other => write!(f, "{other:?}"),
        }
    }
}
