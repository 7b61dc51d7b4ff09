//! Texts of probes, and secrets in them: `${env:NAME}` and `${file:/path}` name a value in the daemon's environment or in
//! a file. Probes send the value; nothing shows or stores it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::text::{self, TextError};

/// A text that may have secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Secret { source: Source, value: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Environment(String),
    File(PathBuf),
}

/// A literal is as secret as a value that a text names.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.written.len())
    }
}

impl From<&str> for Text {
    /// Takes the text literally: nothing in it is read as a secret, even if it has the form of a source.
    fn from(text: &str) -> Self {
        Self { written: text.to_owned(), parts: vec![Part::Literal(text.to_owned())] }
    }
}

/// The secrets that this process has taken, and their words: what is asked may repeat them, as servers that show a request do.
static TAKEN: RwLock<BTreeSet<String>> = RwLock::new(BTreeSet::new());

/// The least length of what is hidden, in bytes: shorter words are in many texts that show no secret.
const LEAST: usize = 4;

/// Somebody else's text, without the secrets that it repeats.
pub fn without_secrets(text: &str) -> String {
    let taken = TAKEN.read().unwrap_or_else(PoisonError::into_inner);
    // The longest first: a word of a secret may be a part of another one.
    let mut found: Vec<&String> = taken.iter().filter(|secret| text.contains(secret.as_str())).collect();
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "(secret)"))
}

fn taken(value: &str) {
    let words = value.split_whitespace().chain([value.trim()]);
    let words = words.filter(|word| word.len() >= LEAST).map(str::to_owned);
    TAKEN.write().unwrap_or_else(PoisonError::into_inner).extend(words);
}

/// The beginnings of the two kinds of `${…}` that are sources of secrets.
const KINDS: [&str; 2] = ["${env:", "${file:"];

impl Text {
    /// Reads a text of a config. Other `${…}` stay as they are, unless they resemble a misspelt source: the
    /// name of a secret must not be sent in place of the secret.
    ///
    /// # Errors
    /// The fault of a source, in words; they name no other part of the text.
    pub fn read(text: &str) -> Result<Self, String> {
        misspelt(text)?;
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, kind)) = KINDS.iter().filter_map(|kind| Some((rest.find(kind)?, kind))).min() {
            let (before, from) = rest.split_at(at);
            let (name, after) =
                from[kind.len()..].split_once('}').ok_or_else(|| format!("{kind} has no closing brace"))?;
            let source = if *kind == KINDS[0] {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || !name.chars().all(is_name) {
                    return Err(format!("\"{name}\" can't be the name of an environment variable"));
                }
                Source::Environment(name.to_owned())
            } else {
                if !Path::new(name).is_absolute() {
                    return Err(format!("the path \"{name}\" is relative"));
                }
                Source::File(name.into())
            };
            parts.push(Part::Literal(before.to_owned()));
            parts.push(Part::Secret { source, value: None });
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        Ok(Self { written: text.to_owned(), parts })
    }

    /// The text as the config has it: with the sources of secrets, not with their values.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether a secret is in it.
    pub fn has_secret(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Secret { .. }))
    }

    /// Takes secrets from where they are.
    ///
    /// # Errors
    /// The source that can't be read, and why.
    pub fn fetch(&mut self) -> Result<(), String> {
        for part in &mut self.parts {
            if let Part::Secret { source, value } = part {
                let fetched = source.fetch()?;
                taken(&fetched);
                *value = Some(fetched);
            }
        }
        Ok(())
    }

    /// The text to send: secrets as they are, the rest filled.
    pub fn fill(&self, fill: impl Fn(&str) -> String) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Literal(text) => fill(text),
            Part::Secret { value, .. } => value.clone().unwrap_or_default(),
        });
        parts.collect()
    }
}

/// Refuses `${envv:…}`, `${File:…}` and the like.
fn misspelt(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices("${") {
        let rest = &text[at + 2..];
        let Some((word, _)) = rest.split_once(':') else { break };
        if !word.chars().all(|c| c.is_ascii_alphabetic()) {
            continue;
        }
        let word_in_small = word.to_ascii_lowercase();
        for kind in KINDS {
            let known = &kind[2..kind.len() - 1];
            if word != known && strsim::damerau_levenshtein(&word_in_small, known) <= 1 {
                return Err(format!("${{{word}: names no source of secrets; {kind} does"));
            }
        }
    }
    Ok(())
}

impl Source {
    fn fetch(&self) -> Result<String, String> {
        match self {
            Self::Environment(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => format!("{name} is not in the daemon's environment"),
                std::env::VarError::NotUnicode(_) => {
                    format!("{name} in the daemon's environment is not UTF-8")
                }
            }),
            Self::File(path) => {
                let failed = |error: &TextError| {
                    // The place in the file is left out: it says something of what is there.
                    format!("{} {error}", path.display())
                };
                let text = text::read(path).map_err(|error| failed(&error))?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
            }
        }
    }
}

/// 16 bits of what is not shown: enough to see that two differ, too few to find out what it is.
pub fn digest<'a>(hidden: impl IntoIterator<Item = &'a str>) -> u16 {
    // FNV-1a, folded.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for text in hidden {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    (hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) as u16
}

/// The part of a probe that a text is sent in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Header,
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, JsonValue};

    #[test]
    fn secrets_are_sent_as_they_are_and_not_filled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "s3{seq}\n").unwrap();
        let mut text = Text::read(&format!("Bearer ${{file:{}}} {{seq}} ${{HOME}}", file.display())).unwrap();
        text.fetch().unwrap();
        assert_eq!(text.fill(|part| part.replace("{seq}", "7")), "Bearer s3{seq} 7 ${HOME}");
        assert!(text.has_secret() && !text.written().contains("s3"));
        assert!(!format!("{text:?}").contains("Bearer"), "{text:?}");
        std::fs::remove_file(&file).unwrap();
        assert!(text.fetch().unwrap_err().contains("token"));
        assert!(Text::read("${env:NO_SUCH_VARIABLE}").unwrap().fetch().unwrap_err().contains("NO_SUCH"));
    }

    /// A service that repeats its request in an answer shows nobody the secret.
    #[test]
    fn what_repeats_a_secret_is_shown_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "Bearer qx7Wd91z\n").unwrap();
        let mut text = Text::read(&format!("${{file:{}}}", file.display())).unwrap();
        assert_eq!(without_secrets("it names qx7Wd91z"), "it names qx7Wd91z", "not taken yet");
        text.fetch().unwrap();
        assert_eq!(without_secrets("it names qx7Wd91z, or n1"), "it names (secret), or n1");
        assert_eq!(without_secrets("Bearer qx7Wd91z; qx7Wd91z"), "(secret); (secret)");
        let value = JsonValue { pointer: "/by".to_owned(), equals: "n1".to_owned() };
        let error = value.check(br#"{"by": "token qx7Wd91z"}"#).unwrap_err().to_string();
        assert_eq!(error, "/by is \"token (secret)\", expected \"n1\"");
    }

    #[test]
    fn bad_sources_are_told_apart() {
        for (text, what) in [
            ("${env:A", "closing brace"),
            ("${env:}", "name"),
            ("${env:A B}", "name"),
            ("${file:token}", "relative"),
            ("Bearer ${envv:TOKEN}", "${envv: names no source of secrets; ${env: does"),
            ("${evn:TOKEN}", "${evn: names no source"),
            ("${ENV:TOKEN}", "${ENV: names no source"),
            ("${HOME} ${files:/run/token}", "${files: names no source of secrets; ${file: does"),
        ] {
            assert!(Text::read(text).unwrap_err().contains(what), "{text}");
        }
        // A shell's expansions and a template's words are nobody's secrets.
        for text in ["${A} $env:{", "${HOME:-/root}", "${user:id}", "${x", "a ${é:1}"] {
            assert!(!Text::read(text).unwrap().has_secret(), "{text}");
        }
    }

    fn config(url: &str) -> String {
        let peers = "peers: { n1: { addresses: [10.0.0.1] }, n2: { addresses: [10.0.0.2] } }";
        format!(
            "{peers}\ninterfaces: auto\nendpoints:\n  - {{ name: e, peers: [n1, n2], probe: {{ http: {{ url: '{url}' }} }} }}\n"
        )
    }

    #[test]
    fn a_missing_secret_is_one_fault_for_all_peers() {
        let mut config =
            Config::parse(&config("http://{address}/${env:NO_SUCH_VARIABLE}"), "lab.yaml").unwrap();
        let errors = config.fetch_secrets("lab.yaml").unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert!(errors.to_string().contains("endpoints: e"), "{errors}");
    }

    #[test]
    fn the_digest_tells_texts_apart() {
        assert_ne!(digest(["a", "b"]), digest(["ab"]));
        assert_eq!(digest(["a", "b"]), digest(["a", "b"]));
    }
}
