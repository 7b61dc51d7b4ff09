//! Requests for partitions on their way: as asked, resolved beside the daemon's task, and returned to it.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::server::command::{IsGone, Origin, PutMode, Reply};
use injector_core::api::{Code, EnableRequest, PartitionRequest, PartitionView, Problem, role_words};
use injector_core::clock::MonoNs;
use injector_core::config::Config;
use injector_core::model::Shape;
use injector_core::roles::Directory;
use injector_core::topology::{self, Definitions, Resolved, RolePeers, TopologyError};

/// The answer to a command.
pub(super) type Answer<T> = Result<T, Problem>;

/// `PUT /v1/partitions/{name}` or `POST …/prepare`, as asked.
pub struct Asked {
    pub name: String,
    pub request: Box<PartitionRequest>,
    pub step: PutMode,
    /// The link from which on its links are listed, if that is asked for.
    pub from: Option<usize>,
    pub whose: Origin,
    pub is_gone: IsGone,
    pub reply: Reply<Answer<PartitionView>>,
    /// When it was sent.
    pub sent_at: Option<MonoNs>,
}

/// The peers and links of a shape at the moment of its request.
pub struct Resolution {
    /// Shape and links.
    pub resolved: Resolved,
    /// The seed, which matters only if something was drawn.
    pub seed: u64,
    /// The peers of its roles then.
    pub roles: RolePeers,
}

/// A request on its way back to the daemon's task.
pub struct Returned {
    pub(super) asked: Asked,
    /// The config that it was resolved by.
    pub(super) config_number: u32,
    pub(super) resolution: Answer<Resolution>,
}

/// A request whose links are known.
pub struct Wanted {
    pub asked: Asked,
    pub config_number: u32,
    pub resolution: Resolution,
}

/// The channel by which requests come back to the daemon's task.
pub type ReturnedSink = mpsc::UnboundedSender<Returned>;

/// The meanings of the names in shapes under one config.
pub struct ShapeNames {
    presets: BTreeMap<String, Shape>,
    pub(super) directory: Directory,
}

impl ShapeNames {
    pub fn of(config: &Config) -> Self {
        Self { presets: config.presets.clone(), directory: Directory::of(config) }
    }

    /// Makes peers and links of the shape of a request.
    pub fn resolve(&self, request: &PartitionRequest, seed: u64, roles: RolePeers) -> Answer<Resolution> {
        let known = Definitions { names: self.directory.names(), presets: &self.presets, roles: &roles };
        match topology::resolve(&request.shape, request.traffic.direction, known, seed) {
            Ok(resolved) => Ok(Resolution { resolved, seed, roles }),
            Err(error) => Err(shape_problem(&error, &roles)),
        }
    }
}

/// Why a shape could not be resolved, as the API says it.
pub(super) fn shape_problem(error: &TopologyError, roles: &RolePeers) -> Problem {
    let code = match error {
        TopologyError::UnknownPeer { .. } => Code::UnknownPeer,
        TopologyError::UnknownPreset { .. } => Code::UnknownPreset,
        TopologyError::UnknownRole { .. } => Code::UnknownRole,
        error if error.depends_on_peers() && !roles.is_empty() => {
            let what = format!("with {} the shape can't be built: {}", role_words(roles), error.what());
            return Problem::new(Code::RoleUnresolved, what).field("shape").remedy(error.remedy());
        }
        TopologyError::Empty { .. } | TopologyError::CutsNothing => Code::EmptyPartition,
        _ => Code::BadShape,
    };
    let field = match error {
        TopologyError::NoFirstGroup { .. } => "direction",
        _ => "shape",
    };
    Problem::new(code, error.what()).field(field).remedy(error.remedy())
}

/// A command that may cut.
pub enum Effective {
    /// A request whose links are known.
    Apply(Box<Wanted>),
    /// `POST /v1/partitions/{name}/enable`.
    Enable {
        name: String,
        request: EnableRequest,
        whose: Origin,
        is_gone: IsGone,
        reply: Reply<Answer<PartitionView>>,
        /// When it was sent.
        sent_at: Option<MonoNs>,
    },
}
