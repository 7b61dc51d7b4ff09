//! Roles, such as the leader's: whom the daemon asks who has one, and how it reads the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::netns::Netns;
use super::probe::{self, ExecCommand, Hosts, HttpRequest, Tls};
use super::secret::{Sent, Text};
use crate::clock::Span;
use crate::model::PeerId;

/// The longest that a role's source may take: an API call waits for it.
pub const LONGEST_ROLE_TIMEOUT: Span = Span::secs(5);
/// How long it may take, if nothing is given.
pub const ROLE_TIMEOUT: Span = Span::secs(2);
/// How many peers one role asks at most.
pub const MOST_ASKED: usize = 64;

/// An entry of `roles:`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleSource {
    /// The role's name, without its sign.
    pub name: String,
    /// Where the daemon asks.
    pub kind: RoleKind,
    /// How long all of it may take.
    pub timeout: Span,
    /// Where the daemon asks from; `None` is its own namespace.
    pub netns: Option<Netns>,
    /// The addresses of its host names; empty until the names were resolved, and without any.
    pub hosts: Hosts,
}

/// Where the daemon asks.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleKind {
    /// A command that prints the names or addresses of one or several peers.
    Exec(ExecCommand),
    /// An HTTP/1.1 request whose answer is JSON.
    Http {
        /// The request to the peers that are asked.
        request: Box<RoleRequest>,
        /// How the answer is read.
        answer: RoleAnswer,
    },
}

/// The request of [`RoleKind::Http`].
#[derive(Clone, Debug, PartialEq)]
pub struct RoleRequest {
    /// The request, with `{address}` or `{peer}` filled in once for each peer.
    pub http: HttpRequest,
    /// The peers that are asked; empty if one request is sent, to no peer in particular.
    pub peers: Vec<AskedPeer>,
}

/// A peer that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedPeer {
    /// Its id.
    pub id: PeerId,
    /// Its name.
    pub name: String,
    /// Its first single address.
    pub address: Option<IpAddr>,
}

/// How the JSON of an answer is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAnswer {
    /// A JSON pointer (RFC 6901) to the value that says who has the role.
    pub pointer: String,
    /// The meaning of the value.
    pub meaning: RoleMeaning,
}

/// The meaning of the value at [`RoleAnswer::pointer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleMeaning {
    /// The value names one or several peers: by name, by address, or by a word that the config maps to a
    /// peer.
    Names(BTreeMap<String, PeerId>),
    /// The asked peer has the role if the value is this text, number or truth value.
    Equals(String),
    /// The asked peer has the role if the value is the same as the one at this pointer.
    SameAs(String),
}

impl RoleKind {
    /// Every text that may have secrets in it.
    pub(super) fn texts(&mut self) -> Vec<(Sent, &mut Text)> {
        match self {
            Self::Exec(exec) => exec.env.values_mut().map(|text| (Sent::Elsewhere, text)).collect(),
            Self::Http { request, .. } => request.http.texts().collect(),
        }
    }

    /// Its key in the config.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Http { .. } => "http",
        }
    }

    /// Its TLS, if it has any.
    pub(super) fn tls_mut(&mut self) -> Option<&mut Tls> {
        match self {
            Self::Exec(_) => None,
            Self::Http { request, .. } => request.http.tls.as_mut(),
        }
    }

    /// The host names that it connects to.
    pub fn host_names(&self) -> BTreeSet<String> {
        match self {
            Self::Http { request, .. } if request.http.unix.is_none() => {
                let RoleRequest { http, peers } = &**request;
                let peers: Vec<_> = peers.iter().map(|peer| (peer.name.as_str(), peer.address)).collect();
                let nobody = [("", None)];
                probe::host_names(http.authority(), if peers.is_empty() { nobody.to_vec() } else { peers })
            }
            _ => BTreeSet::new(),
        }
    }

    /// The command that it runs.
    pub fn command(&self) -> Option<&ExecCommand> {
        match self {
            Self::Exec(exec) => Some(exec),
            Self::Http { .. } => None,
        }
    }
}
