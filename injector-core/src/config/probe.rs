//! The parts of probes, and of roles that are asked over HTTP: requests, targets, TLS and expected answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::uri::Authority;
use serde_json::Value;

use super::secret::{Sent, Text, without_secrets};
use super::text;
use crate::answer::{scalar, shown};

/// Host names and the address that each was resolved to, once, before the config was put in force.
pub type Hosts = BTreeMap<String, IpAddr>;

/// The family of the address that a probe goes to, where a peer or a host name has several addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

impl Family {
    /// Whether an address is of it.
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv6() == (self == Self::Ipv6)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// An HTTP/1.1 request.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRequest {
    /// `http://{address}:8080/health`, or with `https`.
    pub url: Text,
    /// GET, POST, …
    pub method: String,
    /// Its headers.
    pub headers: BTreeMap<String, Text>,
    /// Its body.
    pub body: Option<Text>,
    /// The Unix socket that it goes to, in place of the URL's host.
    pub unix: Option<String>,
    /// `Some` exactly if the URL's scheme is `https`.
    pub tls: Option<Tls>,
}

impl HttpRequest {
    /// Every text that may have secrets in it.
    pub(super) fn texts(&mut self) -> impl Iterator<Item = (Sent, &mut Text)> {
        let rest = std::iter::once(&mut self.url).chain(self.body.as_mut());
        let rest = rest.map(|text| (Sent::Elsewhere, text));
        self.headers.values_mut().map(|text| (Sent::Header, text)).chain(rest)
    }

    /// The host and port of the URL as the config has them; secrets are behind these.
    pub fn authority(&self) -> &str {
        let url = self.url.written();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
    }
}

/// Where a probe connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host with a port: `{address}:5122`.
    Host(String),
    /// The path of a Unix socket.
    Unix(String),
}

impl Target {
    /// The host with its port; `None` for a Unix socket.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Host(host) => Some(host),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// How a probe speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The servers that it trusts.
    pub trust: Trust,
    /// The certificate that it shows to servers that ask for one.
    pub identity: Option<Identity>,
    /// The name that the server's certificate must be for; `None` is the target's host.
    pub server_name: Option<String>,
}

/// The servers that a probe trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Servers whose certificate an authority that this host trusts has signed.
    Host,
    /// Servers whose certificate one of these authorities has signed.
    Ca(PemFile),
    /// Any server: `insecure`.
    Anyone,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the authority's.
    pub cert: PemFile,
    /// Its private key.
    pub key: PemFile,
}

impl Tls {
    /// The files that it takes, by their keys in the config.
    pub fn files(&mut self) -> impl Iterator<Item = (&'static str, &mut PemFile)> {
        let ca = if let Trust::Ca(file) = &mut self.trust { Some(("ca", file)) } else { None };
        let identity = self.identity.as_mut().map(|it| [("cert", &mut it.cert), ("key", &mut it.key)]);
        ca.into_iter().chain(identity.into_iter().flatten())
    }
}

/// The TLS settings in words, with files by their paths.
impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trust {
            Trust::Host => f.write_str("TLS")?,
            Trust::Ca(file) => write!(f, "TLS with ca {}", file.path().display())?,
            Trust::Anyone => f.write_str("TLS with any certificate")?,
        }
        if let Some(name) = &self.server_name {
            write!(f, " for {name}")?;
        }
        match &self.identity {
            Some(identity) => write!(f, " as {}", identity.cert.path().display()),
            None => Ok(()),
        }
    }
}

/// A file with certificates or a key. Its content is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    path: PathBuf,
    content: Option<Arc<str>>,
}

/// Marks of a key that is encrypted, which is refused.
const ENCRYPTED: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];

impl PemFile {
    /// A file, not read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's content, or an empty string until [`Self::fetch`] has read it.
    pub fn content(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }

    /// Reads it; `key` is its key in the config.
    ///
    /// # Errors
    /// The fault of the file, and what to do about it. Neither has any part of the content.
    pub fn fetch(&mut self, key: &str) -> Result<(), (String, String)> {
        let path = self.path.display();
        let (wanted, label) = if key == "key" {
            ("a private key", "PRIVATE KEY-----")
        } else {
            ("certificates", "CERTIFICATE-----")
        };
        let convert = format!(
            "convert it: openssl {} -inform der -in {path} -out FILE.pem",
            if key == "key" { "pkey" } else { "x509" }
        );
        let content = match text::read(&self.path) {
            Ok(content) => content,
            Err(text::TextError::NotUtf8 { .. }) => return Err((format!("{path} is not PEM text"), convert)),
            Err(error @ text::TextError::Io(_)) => {
                return Err((
                    format!("{path} {error}"),
                    format!("name a PEM file with {wanted} that root may read"),
                ));
            }
            Err(error) => return Err((format!("{path} {error}"), error.remedy().to_owned())),
        };
        if ENCRYPTED.iter().any(|mark| content.contains(mark)) {
            let remedy = format!("write it without one: openssl pkey -in {path} -out FILE.pem");
            return Err((format!("the key in {path} is locked by a pass phrase"), remedy));
        }
        if !content.contains("-----BEGIN ") || !content.contains(label) {
            let remedy = format!("name a PEM file with {wanted}, or {convert}");
            return Err((format!("{path} has no {} in PEM", wanted.trim_start_matches("a ")), remedy));
        }
        self.content = Some(content.into());
        Ok(())
    }
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PemFile({})", self.path.display())
    }
}

/// The answers that are successes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpExpect {
    /// The statuses of successes.
    pub status: Statuses,
    /// A text that their bodies contain.
    pub body_contains: Option<Text>,
    /// A value that their bodies have, which are JSON.
    pub json: Option<JsonValue>,
}

/// Statuses of HTTP, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub(super) Vec<Status>);

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This one.
    One(u16),
    /// All that begin with this digit: `2xx`.
    Class(u8),
}

impl Default for Statuses {
    /// Any 2xx.
    fn default() -> Self {
        Self(vec![Status::Class(2)])
    }
}

impl From<u16> for Statuses {
    fn from(status: u16) -> Self {
        Self(vec![Status::One(status)])
    }
}

impl Statuses {
    /// Whether an answer of this status is a success.
    pub fn accept(&self, status: u16) -> bool {
        self.0.iter().any(|accepted| match *accepted {
            Status::One(one) => one == status,
            Status::Class(class) => u16::from(class) == status / 100,
        })
    }

    /// These statuses in one order: equal sets are equal then.
    pub(super) fn canonical(&self) -> Self {
        let mut statuses = self.0.clone();
        statuses.sort_by_key(|status| match *status {
            Status::One(status) => (status, 0),
            Status::Class(class) => (u16::from(class) * 100, 1),
        });
        Self(statuses)
    }

    /// Whether no answer of these statuses has a body.
    pub(super) fn have_no_body(&self) -> bool {
        self.0.iter().all(|status| matches!(status, Status::One(204 | 205 | 304)))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, status) in self.0.iter().enumerate() {
            let before = if at == 0 { "" } else { " or " };
            match status {
                Status::One(status) => write!(f, "{before}{status}")?,
                Status::Class(class) => write!(f, "{before}{class}xx")?,
            }
        }
        Ok(())
    }
}

/// A value that an answer in JSON must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonValue {
    /// A JSON pointer (RFC 6901).
    pub pointer: String,
    /// The text, number or truth value there.
    pub equals: String,
}

/// Why an answer does not have a [`JsonValue`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The body is not JSON.
    #[error("the body is not JSON ({0})")]
    NotJson(String),
    /// There is nothing at the pointer.
    #[error("the body has nothing at {0}")]
    Nothing(String),
    /// Another value is at the pointer.
    #[error("{pointer} is {found}, expected \"{expected}\"")]
    Other {
        /// The pointer.
        pointer: String,
        /// The value at the pointer, shortened.
        found: String,
        /// The value that is expected.
        expected: String,
    },
}

impl JsonValue {
    /// Reads the value at the pointer and compares it with the expected one.
    ///
    /// # Errors
    /// Why the body does not match, with the value that it has instead.
    pub fn check(&self, body: &[u8]) -> Result<(), JsonError> {
        let json: Value =
            serde_json::from_slice(body).map_err(|error| JsonError::NotJson(shown(&error.to_string())))?;
        let pointer = if self.pointer.is_empty() { "the body".to_owned() } else { self.pointer.clone() };
        let value = json.pointer(&self.pointer).ok_or_else(|| JsonError::Nothing(pointer.clone()))?;
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            _ => match scalar(value) {
                Some(found) if found == self.equals => return Ok(()),
                found => format!("\"{}\"", shown(&without_secrets(&found.unwrap_or_default()))),
            },
        };
        Err(JsonError::Other { pointer, found, expected: self.equals.clone() })
    }
}

/// The bytes that are sent over a connection, and how the answer begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// The bytes that are sent; empty for servers that speak first.
    pub send: Text,
    /// The beginning of a successful answer.
    pub expect: Text,
}

/// A command that the daemon runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecCommand {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The user it runs as; `None` is the daemon's.
    pub user: Option<String>,
    /// Variables that the command's environment has beside `PATH` and those that describe the probe.
    pub env: BTreeMap<String, Text>,
}

/// A text with its placeholders filled in; an IPv6 address is put in brackets unless the text has them.
pub(super) fn fill(text: &str, peer: &str, address: IpAddr) -> String {
    let address = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    // Brackets that were written are not doubled.
    let text =
        if address.starts_with('[') { text.replace("[{address}]", "{address}") } else { text.to_owned() };
    text.replace("{seq}", "1").replace("{peer}", peer).replace("{address}", &address)
}

/// The host name of a filled `host:port`; `None` if it is an address or `localhost`, which need no resolving.
pub fn host_name(authority: &str) -> Option<String> {
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    let is_name = host != "localhost" && !host.starts_with('[') && host.parse::<IpAddr>().is_err();
    is_name.then(|| host.to_owned())
}

/// The host of a `host:port`, without brackets.
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// The host names of an authority, once for each peer that it is filled with.
pub(super) fn host_names<'a>(
    authority: &str,
    peers: impl IntoIterator<Item = (&'a str, Option<IpAddr>)>,
) -> BTreeSet<String> {
    let filled = peers.into_iter().map(|(peer, address)| {
        // Where there is no address there is no placeholder for one: that has been checked.
        fill(authority, peer, address.unwrap_or(IpAddr::from([0, 0, 0, 0])))
    });
    filled.filter_map(|authority| host_name(&authority)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_single_or_a_class() {
        let statuses = Statuses(vec![Status::Class(2), Status::One(404)]);
        assert_eq!(statuses.to_string(), "2xx or 404");
        assert!(
            statuses.accept(299) && statuses.accept(404) && !statuses.accept(300) && !statuses.accept(403)
        );
        assert!(Statuses(vec![Status::One(204), Status::One(304)]).have_no_body());
        assert!(!Statuses(vec![Status::One(204), Status::One(200)]).have_no_body());
    }

    #[test]
    fn what_json_has_instead_is_said() {
        let check = |pointer: &str, equals: &str, body: &str| {
            let value = JsonValue { pointer: pointer.to_owned(), equals: equals.to_owned() };
            value.check(body.as_bytes()).map_err(|error| error.to_string())
        };
        for (pointer, equals, body) in [
            ("/status", "ok", r#"{"status": "ok"}"#),
            ("/members/1/up", "true", r#"{"members": [{}, {"up": true}]}"#),
            ("/a~1b", "3", r#"{"a/b": 3}"#),
            ("", "ok", r#""ok""#),
        ] {
            assert_eq!(check(pointer, equals, body), Ok(()), "{body}");
        }
        for (pointer, body, said) in [
            ("/status", r#"{"status": "starting"}"#, "/status is \"starting\", expected \"ok\""),
            ("/status", r#"{"status": null}"#, "/status is null, expected \"ok\""),
            ("/status", r#"{"status": ["ok"]}"#, "/status is a list, expected \"ok\""),
            ("/status", "{}", "the body has nothing at /status"),
            ("", "{}", "the body is an object, expected \"ok\""),
            ("/status", "ok", "the body is not JSON (expected value at line 1 column 1)"),
        ] {
            assert_eq!(check(pointer, "ok", body).unwrap_err(), said, "{body}");
        }
    }

    #[test]
    fn only_names_are_resolved() {
        for address in ["10.0.0.1:80", "[fd00::1]:80", "[fd00::1]", "10.0.0.1", "localhost:80", "localhost"] {
            assert_eq!(host_name(address), None, "{address}");
        }
        assert_eq!(host_name("db.example:80").as_deref(), Some("db.example"));
        let peers = [("n1", None), ("n2", None)];
        let names: Vec<String> = host_names("{peer}.lab:80", peers).into_iter().collect();
        assert_eq!(names, ["n1.lab", "n2.lab"]);
    }

    #[test]
    fn files_are_judged_before_a_server_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pem");
        let fetch = |content: Option<&[u8]>, key: &str| {
            match content {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
            PemFile::new(&path).fetch(key)
        };
        let cert = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let key = b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
        assert_eq!(fetch(Some(cert), "ca"), Ok(()));
        assert_eq!(fetch(Some(key), "key"), Ok(()));
        for (content, of, what, remedy) in [
            (None, "ca", "can't be read", "a PEM file with certificates"),
            (Some(&b"\x30\x82\xff"[..]), "cert", "is not PEM text", "openssl x509 -inform der"),
            (Some(b"hello"), "ca", "has no certificates in PEM", "name a PEM file"),
            (Some(key), "cert", "has no certificates in PEM", "name a PEM file"),
            (Some(cert), "key", "has no private key in PEM", "openssl pkey -inform der"),
            (Some(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "key", "pass phrase", "openssl pkey -in"),
        ] {
            let (said, remedied) = fetch(content, of).unwrap_err();
            assert!(said.contains(what) && remedied.contains(remedy), "{of}: {said}: {remedied}");
        }
        assert!(
            !format!("{:?}", PemFile { path: "k".into(), content: Some("hidden".into()) }).contains("hidden")
        );
    }
}
