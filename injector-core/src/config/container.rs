//! Containers, as a config names them.

use std::path::{Path, PathBuf};

/// Where engines usually listen: Docker, then Podman.
pub const ENGINE_SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];

/// A container as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerRef {
    /// Its name, its id, or the first 12 or more digits of its id.
    Name(String),
    /// A service of a compose project.
    Compose {
        /// The project.
        project: String,
        /// The service.
        service: String,
        /// The number of the container within the service, from 1; `None` if there is only one.
        number: Option<u32>,
    },
}

impl std::fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Compose { project, service, number: None } => write!(f, "{project}/{service}"),
            Self::Compose { project, service, number: Some(number) } => {
                write!(f, "{project}/{service}/{number}")
            }
        }
    }
}

/// Where the engine's API is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The first of [`ENGINE_SOCKETS`] that is there.
    #[default]
    Usual,
    /// This socket.
    At(PathBuf),
}

impl Engine {
    /// The engine's sockets to try, the best first.
    pub fn sockets(&self) -> Vec<&Path> {
        match self {
            Self::Usual => ENGINE_SOCKETS.iter().map(Path::new).collect(),
            Self::At(path) => vec![path],
        }
    }
}

/// The labels of the containers that are peers, each by its name: a container must have all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Labels, each with its value if only one value is meant.
    pub labels: Vec<(String, Option<String>)>,
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels = self.labels.iter().map(|(label, value)| match value {
            Some(value) => format!("{label}={value}"),
            None => label.clone(),
        });
        f.write_str(&labels.collect::<Vec<_>>().join(", "))
    }
}

/// Asks an engine which containers a selector means: their names, or what is wrong and what to do about it.
pub type Select<'a> = dyn Fn(&Engine, &Selector) -> Result<Vec<String>, (String, String)> + 'a;
