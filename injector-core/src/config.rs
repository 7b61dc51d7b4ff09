//! `lab.yaml`: from text to a validated [`Config`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::header::HeaderValue;
use ipnet::IpNet;

use crate::clock::Span;
use crate::model::{Connection, PeerId, PeerNames, Ready, Scope, Shape};

mod error;
mod place;
mod read;
mod secret;
pub mod text;
mod validate;

pub use error::{ConfigError, ConfigErrors, SHOWN};
pub use secret::{Text, digest};

/// The longest deadline and observation: every probe until then is kept in memory.
pub const LONGEST_DEADLINE: Span = Span::secs(3600);
/// The longest `max_for`.
pub const LONGEST_FOR: Span = Span::secs(24 * 3600);

/// A validated configuration: every name resolved, every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the API listens.
    pub socket: Socket,
    /// The peers' names by id.
    pub names: PeerNames,
    /// The peers by id, in the order of `names.peers()` (index 0 is peer id 1).
    pub peers: Vec<Peer>,
    /// What to attach to.
    pub interfaces: Interfaces,
    /// The endpoints, one for each peer that an endpoint names.
    pub endpoints: Vec<Endpoint>,
    /// When an endpoint counts as ready and settled.
    pub ready: Ready,
    /// How long after the heal the cluster may take.
    pub deadline: Span,
    /// Never dropped.
    pub protect: Vec<Protect>,
    /// How long a partition without `for` lives, and the longest `for`.
    pub max_for: Span,
    /// Named shapes.
    pub presets: BTreeMap<String, Shape>,
    /// The peers whose links this daemon cuts, sorted; `None` is all of them. A link with neither end here is left to
    /// the daemons of other hosts.
    pub here: Option<Vec<PeerId>>,
    /// Devices that lead nowhere that matters, such as a management NIC: they are no peer's exit.
    pub elsewhere: Vec<Device>,
}

impl Config {
    /// Whether this daemon cuts a peer's links.
    pub fn is_here(&self, peer: PeerId) -> bool {
        peer != PeerId::WORLD && self.here.as_ref().is_none_or(|here| here.contains(&peer))
    }

    /// A peer by its id; `None` for `world`.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(usize::from(id.0).checked_sub(1)?)
    }

    /// Reads and validates a config file; every fault is reported at once.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let file = path.display().to_string();
        match text::read(path) {
            Ok(text) => Self::parse(&text, &file),
            Err(error) => Err(unread(&file, "the config", &error)),
        }
    }

    /// Takes the secrets of probes from where they are; `file` is what errors call the config.
    ///
    /// # Errors
    /// Every source that gives none.
    pub fn fetch_secrets(&mut self, file: &str) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        for endpoint in &mut self.endpoints {
            for (at, text) in endpoint.probe.kind.texts() {
                let what = text.fetch().err().or_else(|| {
                    let is_bad =
                        at == Sent::Header && HeaderValue::from_str(&text.fill(str::to_owned)).is_err();
                    is_bad.then(|| "a secret can't be in a header: it has control characters".to_owned())
                });
                errors.extend(what.map(|what| {
                    let path = format!("endpoints: {}", endpoint.name);
                    let remedy = "set it before the start, or name another source".to_owned();
                    read::error_at(file, None, &path, what, remedy)
                }));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    /// Validates a config's text; `file` is what errors call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let tree: read::Tree =
            serde_yaml::from_str(text).map_err(|error| ConfigErrors(vec![not_yaml(&error, text, file)]))?;
        let places = place::Places::of(text).map_err(|error| {
            let what = format!("this is not YAML ({})", error.info());
            let place = place::Place::from(*error.marker());
            ConfigErrors(vec![read::error_at(file, Some(place), "", what, SYNTAX_REMEDY.to_owned())])
        })?;
        let report = read::Report::new(file, places);
        report.duplicates();
        let config = validate::config(&read::Node::root(&tree.0, &report));
        match config {
            Some(config) if report.count() == 0 => Ok(config),
            _ => Err(report.into_errors()),
        }
    }
}

const SYNTAX_REMEDY: &str =
    "mend the syntax at this place: check indentation, quotes and brackets, and leave out tags";

/// A file that gave no text, as a fault.
pub(crate) fn unread(file: &str, what: &str, error: &text::TextError) -> ConfigErrors {
    let what = format!("{what} {error}");
    ConfigErrors(vec![read::error_at(file, error.place(), "", what, error.remedy().to_owned())])
}

/// Line and column of the value at `path`, or of the key that ends it.
pub(crate) fn place_of(text: &str, path: &str) -> Option<(usize, usize)> {
    let places = place::Places::of(text).ok()?;
    places.values_then_key(path).map(|place| (place.line, place.column))
}

fn not_yaml(error: &serde_yaml::Error, text: &str, file: &str) -> ConfigError {
    let place =
        error.location().map(|at| place::Place { line: at.line().max(1), column: at.column().max(1) });
    let place = place.or_else(|| place::second_document(text)).unwrap_or(place::START);
    read::error_at(file, Some(place), "", format!("this is not YAML ({error})"), SYNTAX_REMEDY.to_owned())
}

/// The API's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// The group that may use it.
    pub group: String,
    /// Its mode, such as 0o660.
    pub mode: u32,
}

/// A peer's identity on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// Single addresses.
    pub addresses: Vec<IpAddr>,
    /// Prefixes, host bits zero.
    pub prefixes: Vec<IpNet>,
    /// Its MAC address, used where no IP matches.
    pub mac: Option<[u8; 6]>,
    /// Addresses that it may hold and another peer may take over.
    pub vip: Vec<IpAddr>,
    /// The host's end of its virtual machine's network interface: nothing else is behind it.
    pub tap: Option<Device>,
    /// Whether it passes on what others send, so that its port and its MAC address do not say whose a packet is.
    pub forwards: bool,
}

/// A device by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Its name in its namespace.
    pub name: String,
    /// Its namespace; `None` is the daemon's own.
    pub netns: Option<Netns>,
}

/// What to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// Where the peers' addresses live.
    Auto,
    /// These.
    Named(Vec<Interface>),
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Its namespace; `None` is the daemon's own.
    pub netns: Option<Netns>,
    /// Which hook to use.
    pub hook: Hook,
    /// The peer that is behind it, and no other: the config's word.
    pub peer: Option<PeerId>,
}

impl Interface {
    /// One that discovery found.
    pub fn found(name: &str, netns: Option<&Netns>) -> Self {
        Self { name: name.to_owned(), netns: netns.cloned(), hook: Hook::Auto, peer: None }
    }

    /// Whether it is the interface of that name in that namespace.
    pub fn is(&self, name: &str, netns: Option<&Netns>) -> bool {
        self.name == name && self.netns.as_ref() == netns
    }
}

/// A network namespace as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Netns {
    /// A name under `/run/netns`.
    Name(String),
    /// A path to a namespace file.
    Path(PathBuf),
    /// The namespace of a process.
    Pid(u32),
}

impl Netns {
    /// The namespace file.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Name(name) => PathBuf::from("/run/netns").join(name),
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }
}

impl std::fmt::Display for Netns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid {pid}"),
        }
    }
}

/// Which hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hook {
    /// TC both ways.
    #[default]
    Auto,
    /// TC both ways: TCX where the kernel has it, clsact below.
    Tc,
    /// TC both ways through the clsact qdisc, also where TCX exists.
    Clsact,
    /// XDP ingress, native or generic, and TC egress.
    Xdp,
}

/// Whether an endpoint gates the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Required,
    /// It is only reported.
    Advisory,
}

/// One endpoint instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `ingress@n1`, or the bare name if it has no peer.
    pub name: String,
    /// The name without the peer.
    pub base: String,
    /// The peer it runs on.
    pub peer: Option<PeerId>,
    /// The peer's first single address, if it has a peer.
    pub address: Option<IpAddr>,
    /// Its role.
    pub role: Role,
    /// Its stimulus.
    pub probe: Probe,
    /// What the kernel takes as a successful response.
    pub wire: Option<Wire>,
    /// Where the probe starts from; `None` is the daemon's own namespace.
    pub netns: Option<Netns>,
}

/// A probe's settings; `{seq}`, `{peer}` and `{address}` are filled in at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What is sent and expected.
    pub kind: ProbeKind,
    /// The fixed schedule.
    pub interval: Span,
    /// When a probe has failed.
    pub timeout: Span,
    /// Whether each probe makes its own connection.
    pub connection: Connection,
}

/// What is sent and expected.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// An HTTP/1.1 request.
    Http {
        /// `http://{address}:8080/health`.
        url: Text,
        /// GET, POST, …
        method: String,
        /// Request headers.
        headers: BTreeMap<String, Text>,
        /// The request's body.
        body: Option<Text>,
        /// The status of a success; `None` is any 2xx.
        status: Option<u16>,
        /// A text that a success's body contains.
        body_contains: Option<Text>,
    },
    /// A unary gRPC call over cleartext HTTP/2.
    Grpc {
        /// `{address}:5122`.
        target: String,
        /// `package.Service/Method`.
        method: String,
        /// The request message, protobuf bytes.
        message: Vec<u8>,
    },
    /// A TCP connect.
    Tcp {
        /// `{address}:8080`.
        target: String,
    },
    /// A command; exit code 0 is a success.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
        /// The user it runs as; `None` is the daemon's.
        user: Option<String>,
        /// What the command's environment has beside `PATH` and the variables that describe the probe.
        env: BTreeMap<String, Text>,
    },
}

/// Where a text goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Header,
    Elsewhere,
}

impl ProbeKind {
    /// Every text that may have secrets in it.
    fn texts(&mut self) -> Vec<(Sent, &mut Text)> {
        match self {
            Self::Http { url, headers, body, body_contains, .. } => {
                let rest = [Some(url), body.as_mut(), body_contains.as_mut()].into_iter().flatten();
                let rest = rest.map(|text| (Sent::Elsewhere, text));
                headers.values_mut().map(|text| (Sent::Header, text)).chain(rest).collect()
            }
            Self::Exec { env, .. } => env.values_mut().map(|text| (Sent::Elsewhere, text)).collect(),
            Self::Grpc { .. } | Self::Tcp { .. } => Vec::new(),
        }
    }
}

/// What the kernel takes as a successful response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The endpoint's TCP port.
    pub port: u16,
    /// The pattern.
    pub success: WireSuccess,
}

/// The pattern of a successful response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireSuccess {
    /// An HTTP/1 status line with 2xx.
    Http,
    /// HTTP/2 HEADERS with `:status 200` followed by DATA.
    Grpc,
    /// Any payload.
    Payload,
    /// A payload that begins with these bytes (at most 16).
    Prefix(Vec<u8>),
}

/// Something that is never dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protect {
    /// Ports of a protocol, either side.
    Scope(Scope),
    /// All traffic from and to an address.
    Address(IpAddr),
}

/// The name of an interface with its namespace, for people.
pub fn shown(interface: &Interface) -> String {
    match &interface.netns {
        None => interface.name.clone(),
        Some(netns) => format!("{} in netns {netns}", interface.name),
    }
}

#[cfg(test)]
mod tests;
