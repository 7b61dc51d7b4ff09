//! Makes a [`Config`] of a file, and fetches its secrets.

use std::collections::BTreeSet;
use std::path::Path;

use http::header::HeaderValue;

use crate::model::{Direction, Shape};
use crate::topology::TopologyError;

use super::error::{ConfigError, ConfigErrors};
use super::secret::Sent;
use super::{Config, Engine, Family, Hosts, Select, Selector, Tls, read, text, text_position, validate};

impl Config {
    /// Reads and validates a config file that selects no containers; every fault is reported at once.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        Self::load_with(path, &nobody)
    }

    /// Reads and validates a config file. `select` asks the engine where it selects containers.
    pub fn load_with(path: impl AsRef<Path>, select: &Select<'_>) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let file = path.display().to_string();
        match text::read(path) {
            Ok(text) => Self::parse_with(&text, &file, select),
            Err(error) => Err(unread(&file, "the config", &error)),
        }
    }

    /// Takes the secrets, certificates and keys of probes and roles from where they are; `name` is what errors call the
    /// config.
    ///
    /// # Errors
    /// Every source that can't be read or gives nothing usable.
    pub fn fetch_secrets(&mut self, name: &str) -> Result<(), ConfigErrors> {
        let mut errors: Vec<ConfigError> = Vec::new();
        let probes = self
            .endpoints
            .iter_mut()
            .map(|endpoint| (format!("endpoints: {}", endpoint.base), endpoint.probe.kind.texts()));
        let roles = self.roles.values_mut().map(|role| (format!("roles.{}", role.name), role.kind.texts()));
        for (path, texts) in probes.chain(roles) {
            for (at, text) in texts {
                let what = text.fetch().err().or_else(|| {
                    let is_bad =
                        at == Sent::Header && HeaderValue::from_str(&text.fill(str::to_owned)).is_err();
                    is_bad.then(|| "a secret can't be in a header: it has control characters".to_owned())
                });
                let fault = what.map(|what| {
                    let remedy = "set it before the start, or name another source".to_owned();
                    read::error_at(name, None, &path, what, remedy)
                });
                // Every peer's endpoint has the same texts.
                errors.extend(fault.filter(|fault| !errors.contains(fault)));
            }
        }
        for (path, tls) in self.tls() {
            for (key, file) in tls.files() {
                let fault = file.fetch(key).err().map(|(what, remedy)| {
                    read::error_at(name, None, &format!("{path}.tls.{key}"), what, remedy)
                });
                errors.extend(fault.filter(|fault| !errors.contains(fault)));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// Every probe's and every role's TLS, with its path in the config.
    pub fn tls(&mut self) -> impl Iterator<Item = (String, &mut Tls)> {
        let probes = self.endpoints.iter_mut().filter_map(|endpoint| {
            let kind = &mut endpoint.probe.kind;
            Some((format!("endpoints: {}, probe.{}", endpoint.base, kind.word()), kind.tls_mut()?))
        });
        let roles = self.roles.values_mut().filter_map(|role| {
            let kind = &mut role.kind;
            Some((format!("roles.{}.{}", role.name, kind.word()), kind.tls_mut()?))
        });
        probes.chain(roles)
    }

    /// The host names that probes and roles connect to, each with its path in the config, the addresses that are wanted,
    /// and where those go.
    pub fn host_names(
        &mut self,
    ) -> impl Iterator<Item = (String, Option<Family>, BTreeSet<String>, &mut Hosts)> {
        let names = &self.names;
        let probes = self.endpoints.iter_mut().map(move |endpoint| {
            let path = format!("endpoints: {}", endpoint.base);
            (path, endpoint.family, endpoint.host_names(names), &mut endpoint.hosts)
        });
        let roles = self
            .roles
            .values_mut()
            .map(|role| (format!("roles.{}", role.name), None, role.kind.host_names(), &mut role.hosts));
        probes.chain(roles)
    }

    /// Whether a shape can be built from these peers, presets and roles, and cut in a direction, as far as that is known
    /// before roles are asked.
    ///
    /// # Errors
    /// Why the shape can't be built.
    pub fn can_build(&self, shape: &Shape, direction: Direction) -> Result<(), TopologyError> {
        let shape = match shape {
            Shape::Preset(name) => self.presets.get(name).ok_or_else(|| {
                let known = self.presets.keys().cloned().collect();
                TopologyError::UnknownPreset { name: name.clone(), known }
            })?,
            shape => shape,
        };
        validate::buildable(shape, direction, &self.names, &self.roles)
    }

    /// Validates a config's text, which selects no containers; `file` is what errors call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, file, &nobody)
    }

    /// Validates a config's text. `select` asks the engine where it selects containers.
    pub fn parse_with(text: &str, file: &str, select: &Select<'_>) -> Result<Self, ConfigErrors> {
        let (tree, report) = tree(text.strip_prefix('\u{feff}').unwrap_or(text), file)?;
        let config = validate::config(&read::Node::root(&tree.0, &report), select);
        match config {
            Some(config) if report.count() == 0 => Ok(config),
            _ => Err(report.into_errors()),
        }
    }
}

/// The tree of a text, and a report that has the keys which are given twice.
fn tree<'a>(text: &str, file: &'a str) -> Result<(read::Tree, read::Report<'a>), ConfigErrors> {
    if let Some(position) = text_position::too_deep(text) {
        let what = format!("lists and mappings are more than {} deep", text_position::MOST_DEPTH);
        return Err(ConfigErrors(vec![read::error_at(
            file,
            Some(position),
            "",
            what,
            DEPTH_REMEDY.to_owned(),
        )]));
    }
    let tree: read::Tree =
        serde_yaml::from_str(text).map_err(|error| ConfigErrors(vec![not_read(&error, text, file)]))?;
    let positions = text_position::TextPositions::of(text).map_err(|error| {
        let position = text_position::TextPosition::from(*error.marker());
        ConfigErrors(vec![not_yaml(error.info(), position, text, file)])
    })?;
    let report = read::Report::new(file, positions);
    report.duplicates();
    Ok((tree, report))
}

/// Finds what is wrong with a text whatever its keys mean: no YAML, a second document, a key that is given twice, no mapping.
pub(crate) fn check_form(text: &str, file: &str, usage: &str) -> Result<(), ConfigErrors> {
    let (tree, report) = tree(text, file)?;
    read::Node::root(&tree.0, &report).entries(usage);
    if report.count() == 0 { Ok(()) } else { Err(report.into_errors()) }
}

/// Asks no engine, for callers without one.
fn nobody(_: &Engine, _: &Selector) -> Result<Vec<String>, (String, String)> {
    Err((
        "no engine is asked here which containers there are".to_owned(),
        "name each of them in peers".to_owned(),
    ))
}

const SYNTAX_REMEDY: &str =
    "fix the syntax at this place: check indentation, quotes and brackets, and leave out tags";

const TAB_REMEDY: &str = "replace the tabs at the beginning of lines by spaces, two for each level";

const DEPTH_REMEDY: &str =
    "close the brackets, or undo the indentation: nothing that is read here is so deep";

/// A file that gave no text, as a fault.
pub(crate) fn unread(file: &str, what: &str, error: &text::TextError) -> ConfigErrors {
    let what = format!("{what} {error}");
    ConfigErrors(vec![read::error_at(file, error.position(), "", what, error.remedy().to_owned())])
}

/// Line and column of the value at `path`, or of the key that ends it.
pub(crate) fn place_of(text: &str, path: &str) -> Option<(usize, usize)> {
    let positions = text_position::TextPositions::of(text).ok()?;
    positions.values_then_key(path).map(|position| (position.line, position.column))
}

fn not_read(error: &serde_yaml::Error, text: &str, file: &str) -> ConfigError {
    let position = error
        .location()
        .map(|at| text_position::TextPosition { line: at.line().max(1), column: at.column().max(1) });
    let position = position.or_else(|| text_position::second_document(text)).unwrap_or(text_position::START);
    not_yaml(&error.to_string(), position, text, file)
}

/// What a parser says of a text at a place. Parsers stumble over a tab in the indentation in ways that do not name it.
fn not_yaml(said: &str, position: text_position::TextPosition, text: &str, file: &str) -> ConfigError {
    let (position, what, remedy) = match text_position::tab_before(text, position) {
        Some(tab) => (tab, "a tab indents this line, and YAML allows only spaces".to_owned(), TAB_REMEDY),
        None => (position, format!("this is not YAML ({said})"), SYNTAX_REMEDY),
    };
    read::error_at(file, Some(position), "", what, remedy.to_owned())
}
