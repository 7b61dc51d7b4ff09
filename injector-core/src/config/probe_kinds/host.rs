//! Hosts and paths that probes connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use http::Uri;
use http::uri::Authority;

use super::texts::Texts;
use crate::config::probe::Target;
use crate::config::read::{Fields, Node};

pub(super) const URL_USAGE: &str = "write it as \"http://{address}:8080/health\"; \
                                    an IPv6 {address} is put in brackets by itself";
const TARGET_USAGE: &str = "write host and port, as in \"{address}:8080\", or \"unix:/run/app.sock\"; \
                            an IPv6 {address} is put in brackets by itself";
const UNIX_USAGE: &str = "write the socket's absolute path, as in /run/app.sock";

/// `target:` of a probe.
pub(super) fn target(table: &Fields<'_>, texts: &Texts<'_>) -> Option<Target> {
    let node = table.require("target", TARGET_USAGE)?;
    let target = texts.read(&node, TARGET_USAGE)?;
    if let Some(path) = target.strip_prefix("unix:") {
        return Some(Target::Unix(unix_path(&node, texts, path)));
    }
    texts.each(&node, target, check_target, TARGET_USAGE);
    no_number(&node, target, TARGET_USAGE);
    Some(Target::Host(target.to_owned()))
}

/// `unix:` of an `http` probe.
pub(super) fn unix(table: &Fields<'_>, texts: &Texts<'_>) -> Option<String> {
    let node = table.get("unix")?;
    let path = texts.read(&node, UNIX_USAGE)?;
    Some(unix_path(&node, texts, path))
}

fn unix_path(node: &Node<'_>, texts: &Texts<'_>, path: &str) -> String {
    texts.each(node, path, check_path, UNIX_USAGE);
    path.to_owned()
}

fn check_path(path: &str) -> Result<(), String> {
    // The kernel's sun_path holds 108 bytes with the final zero.
    match path.len() {
        _ if !Path::new(path).is_absolute() => Err("is a relative path".to_owned()),
        108.. => Err(format!("has {} bytes, and a socket's address holds 107", path.len())),
        _ if path.contains('\0') => Err("has a zero byte".to_owned()),
        _ => Ok(()),
    }
}

/// A host that each probe has another one of could not be resolved at the start.
pub(super) fn no_number(node: &Node<'_>, authority: &str, usage: &str) {
    if authority.contains("{seq}") {
        node.error("the host changes with {seq}", usage);
    }
}

pub(super) fn check_url(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("is not a URL ({error})"))?;
    match uri.scheme_str() {
        // The code that sends the request compares with these letters, in lower case.
        Some("http" | "https") if !url.starts_with("http") => {
            return Err("has a scheme in capitals".to_owned());
        }
        Some("http" | "https") => {}
        Some(scheme) => return Err(format!("has the scheme {scheme}, and probes speak http and https")),
        None => return Err("has no scheme".to_owned()),
    }
    let authority = uri.authority().ok_or("has no host")?;
    check_authority(authority).map(|_| ())
}

fn check_target(target: &str) -> Result<(), String> {
    let authority: Authority =
        target.parse().map_err(|error| format!("is not a host with a port ({error})"))?;
    match check_authority(&authority)? {
        Some(_) => Ok(()),
        None => Err("has no port".to_owned()),
    }
}

/// Checks the host; answers the port, if there is one.
fn check_authority(authority: &Authority) -> Result<Option<u16>, String> {
    let host = authority.host();
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    // `Authority` gives the same answer for a port that is absent and for one that is too large.
    let port = match authority.as_str().strip_prefix(host) {
        None => return Err("names a user, which probes do not send".to_owned()),
        Some("") => None,
        Some(port) => {
            let port = port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port > 0);
            Some(port.ok_or("has a port that is not from 1 to 65535")?)
        }
    };
    check_host(host)?;
    Ok(port)
}

/// Whether a probe can be sent there: some addresses are no one's.
fn check_host(host: &str) -> Result<(), String> {
    let address: IpAddr = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => match inner.parse::<Ipv6Addr>() {
            Ok(address) => address.into(),
            Err(_) => return Err(format!("has a host {host} that is not an IPv6 address")),
        },
        None => match host.parse::<Ipv4Addr>() {
            Ok(address) => address.into(),
            Err(_) if is_host_name(host) => return Ok(()),
            Err(_) => {
                return Err(format!("has the host {host}, which is neither an address nor a host name"));
            }
        },
    };
    let why = match address.to_canonical() {
        address if address.is_unspecified() => "is not an address that can be sent to",
        address if address.is_multicast() => "is a multicast address, and probes need one peer's",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address, and probes need one peer's",
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            "is link-local, which takes an interface that a probe can't name: write another address of the peer"
        }
        _ => return Ok(()),
    };
    Err(format!("has the host {host}, which {why}"))
}

/// Labels of letters, digits, hyphens and underscores; the last is no number, which would be a mistyped address.
pub(super) fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len())
            && label.chars().all(word)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && !last.chars().all(|c| c.is_ascii_digit())
}
