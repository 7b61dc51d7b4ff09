//! The facts that a kind of probe gives about itself.

use std::fmt::{self, Write as _};

use schemars::JsonSchema;

use super::texts::Texts;
use crate::clock::Span;
use crate::config::probe::{ExecCommand, Tls};
use crate::config::read::Node;
use crate::config::secret::{Sent, Text, digest};
use crate::model::ProbeSettings;

/// The schedule of most kinds, where the config names none.
pub const INTERVAL: Span = Span::millis(10);

/// A kind of probe.
pub(in crate::config) trait Kind: Sized {
    /// Its keys, with what they mean, for the schema and the page of the config.
    type Keys: JsonSchema;
    /// The definition of a success, for the page of the config.
    const SUCCESS: &'static str;
    /// The schedule, where the config names none.
    const INTERVAL: Span = INTERVAL;
    /// Whether several probes may share a connection (`connection: pooled`).
    const SHARES_CONNECTIONS: bool = false;

    /// Reads it; reports what is wrong.
    fn read(node: &Node<'_>, texts: &Texts<'_>) -> Option<Self>;

    /// Adds the request and the expected answer to the stimulus, in words, without what may be secret.
    fn describe<'a>(&'a self, stimulus: &mut Stimulus<'a>);

    /// Adds the settings by keys of the config, for programs that compare them: each value has one spelling.
    fn settings(&self, settings: &mut Settings);

    /// Every text that may have secrets in it.
    fn texts(&mut self) -> Vec<(Sent, &mut Text)> {
        Vec::new()
    }

    /// Host and port that it connects to, as the config has them; `None` for commands and Unix sockets.
    fn authority(&self) -> Option<&str> {
        None
    }

    /// How it speaks TLS.
    fn tls(&self) -> Option<&Tls> {
        None
    }

    /// Its TLS settings, to read their files.
    fn tls_mut(&mut self) -> Option<&mut Tls> {
        None
    }

    /// The command that it runs.
    fn command(&self) -> Option<&ExecCommand> {
        None
    }
}

/// The facts that all probes of a kind share.
pub(in crate::config) struct KindInfo {
    /// Its key in `probe:`.
    pub word: &'static str,
    /// The definition of a success.
    pub success: &'static str,
    /// The schedule, where the config names none.
    pub interval: Span,
    /// Whether several probes may share a connection.
    pub shares_connections: bool,
}

/// The settings of a probe, by keys of the config.
#[derive(Default)]
pub(in crate::config) struct Settings(ProbeSettings);

impl Settings {
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        self.0.insert(key.to_owned(), value.to_string());
    }

    /// A digest shows where two measurements differ, and not in what.
    pub fn hide<'a>(&mut self, key: &str, texts: impl IntoIterator<Item = &'a str>) {
        self.set(key, format_args!("#{:04x}", digest(texts)));
    }

    pub fn set_tls(&mut self, tls: Option<&Tls>) {
        if let Some(tls) = tls {
            self.set("tls", tls);
        }
    }

    pub fn finish(self) -> ProbeSettings {
        self.0
    }
}

/// The request and the expected answer of a probe, in words. They have no values of headers, queries, bodies
/// and arguments: a digest of these shows where two measurements differ.
#[derive(Default)]
pub(in crate::config) struct Stimulus<'a> {
    text: String,
    hidden: Vec<&'a str>,
}

impl<'a> Stimulus<'a> {
    pub fn say(&mut self, words: fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.text.write_fmt(words);
    }

    pub fn hide(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        self.hidden.extend(texts);
    }

    /// How TLS is spoken: files by their paths.
    pub fn say_tls(&mut self, tls: Option<&Tls>) {
        if let Some(tls) = tls {
            self.say(format_args!(", {tls}"));
        }
    }

    pub fn finish(mut self) -> String {
        if !self.hidden.is_empty() {
            let digest = digest(std::mem::take(&mut self.hidden));
            self.say(format_args!(" #{digest:04x}"));
        }
        self.text
    }
}
