//! `tls:` whom a probe trusts, and as whom it comes.

use std::path::Path;

use schemars::JsonSchema;

use super::host::is_host_name;
use crate::config::probe::{Identity, PemFile, Tls, Trust};
use crate::config::read::{Fields, Node};

const USAGE: &str = "write it as: { ca: /etc/lab/ca.pem }, or {} for the authorities that this host trusts";

/// Whom a probe trusts, and as whom it comes.
#[derive(JsonSchema)]
#[schemars(rename = "Tls", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the derive macro alone")]
pub(in crate::config) struct TlsKeys {
    /// The PEM file with the authorities that are trusted: an absolute path.
    ca: Option<String>,
    /// The PEM file with the client's certificate.
    cert: Option<String>,
    /// The PEM file with the certificate's private key.
    key: Option<String>,
    /// The name that the server's certificate is for; the host of the target by default.
    server_name: Option<String>,
    /// Any certificate is taken.
    insecure: Option<bool>,
}

/// TLS with what this host trusts.
pub(super) fn default() -> Tls {
    Tls { trust: Trust::Host, identity: None, server_name: None }
}

/// `tls:` of a table; the outer `None` if something is wrong with it, the inner if it is not there.
#[expect(clippy::option_option, reason = "a mistake is another thing than a key that is left out")]
pub(super) fn optional(table: &Fields<'_>) -> Option<Option<Tls>> {
    match table.get("tls") {
        Some(node) => read(&node).map(Some),
        None => Some(None),
    }
}

pub(super) fn read(node: &Node<'_>) -> Option<Tls> {
    let table = node.table(USAGE)?;
    let (ca_node, cert_node, key_node) = (table.get("ca"), table.get("cert"), table.get("key"));
    let [ca, cert, key] = [&ca_node, &cert_node, &key_node].map(|node| node.as_ref().map(file));
    let insecure = table.get("insecure");
    let is_insecure = insecure.as_ref().is_some_and(|node| {
        let given = node.value().as_bool();
        if given.is_none() {
            node.error("true or false is expected here", "write true, or leave insecure out");
        }
        given == Some(true)
    });
    if let (true, Some(ca)) = (is_insecure, &ca_node) {
        ca.key_error(
            "with insecure: true the server's certificate is not checked, and ca has no effect",
            "keep one of the two",
        );
    }
    let name = table.get("server_name").map(|node| {
        let name = node.some_text("write the name that the server's certificate is for")?;
        if !is_host_name(name) && name.parse::<std::net::IpAddr>().is_err() {
            node.error(
                format!("\"{name}\" is neither a host name nor an address"),
                "write the name that the server's certificate is for, without a port",
            );
        }
        Some(name.to_owned())
    });
    for (has, lacks, missing) in [(&cert_node, &key_node, "key"), (&key_node, &cert_node, "cert")] {
        if let (Some(node), None) = (has, lacks) {
            node.key_error(
                format!("a client's certificate needs both cert and key, and {missing} is missing"),
                "write it as: { cert: /etc/lab/client.pem, key: /etc/lab/client.key }",
            );
        }
    }
    table.finish();
    let trust = match ca {
        _ if is_insecure => Trust::Anyone,
        Some(ca) => Trust::Ca(ca?),
        None => Trust::Host,
    };
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(Identity { cert: cert?, key: key? }),
        _ => None,
    };
    let server_name = match name {
        Some(name) => Some(name?),
        None => None,
    };
    Some(Tls { trust, identity, server_name })
}

fn file(node: &Node<'_>) -> Option<PemFile> {
    let usage = "write the absolute path of a PEM file";
    let path = node.some_text(usage)?;
    if path.contains("-----BEGIN") {
        // A key that is written here must not be shown.
        node.error("the PEM itself is written here", usage);
        return None;
    }
    if !Path::new(path).is_absolute() {
        node.error(format!("the path \"{path}\" is relative"), usage);
    }
    Some(PemFile::new(path))
}
