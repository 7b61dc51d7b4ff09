//! The texts of a probe: with placeholders, secrets, and what an answer is compared with.

use std::net::IpAddr;

use schemars::JsonSchema;

use crate::config::probe::fill;
use crate::config::read::Node;
use crate::config::secret::Text;
use crate::model::PeerId;

/// A peer that an endpoint runs on, or that is asked for a role.
pub(in crate::config) struct Instance<'a> {
    pub id: PeerId,
    pub name: &'a str,
    /// Where its endpoints are.
    pub address: Option<IpAddr>,
    /// Whether nothing is wrong with the peer itself, so that a missing address is reported: a container's is found later.
    pub sound: bool,
}

/// Reads texts with `{seq}`, `{peer}` and `{address}` in them.
pub(in crate::config) struct Texts<'a> {
    pub instances: Option<&'a [Instance<'a>]>,
}

impl Texts<'_> {
    /// A text whose placeholders can be filled in for every instance.
    pub fn read<'n>(&self, node: &Node<'n>, usage: &str) -> Option<&'n str> {
        let text = node.text(usage)?;
        for place in ["{peer}", "{address}"] {
            if self.instances.is_none() && text.contains(place) {
                node.error(
                    format!("{place} is replaced by a peer, and no peers are named here"),
                    "name the peers, as in: peers: [n1]",
                );
            }
        }
        if text.contains("{address}") {
            let without =
                self.instances.into_iter().flatten().filter(|peer| peer.sound && peer.address.is_none());
            for peer in without {
                node.error(
                    format!("{{address}} needs a single address, and peer \"{}\" has none", peer.name),
                    format!("add one to peers.{}.addresses, or write the address out", peer.name),
                );
            }
        }
        Some(text)
    }

    /// Checks a URL or target as it will be at run time; the first that is wrong is reported.
    pub fn each(&self, node: &Node<'_>, text: &str, check: fn(&str) -> Result<(), String>, usage: &str) {
        if let Some(unknown) = unknown_place(text) {
            let what = format!("unknown placeholder {unknown}");
            node.error(what, "known are {seq}, {peer} and {address}");
            return;
        }
        let any = IpAddr::from([192, 0, 2, 1]);
        let filled = match self.instances {
            None | Some([]) => vec![fill(text, "peer", any)],
            Some(instances) => {
                instances.iter().map(|peer| fill(text, peer.name, peer.address.unwrap_or(any))).collect()
            }
        };
        if let Some((filled, problem)) =
            filled.into_iter().find_map(|filled| check(&filled).err().map(|problem| (filled, problem)))
        {
            // A query may hold a token.
            let shown =
                filled.split_once('?').map_or_else(|| filled.clone(), |(shown, _)| format!("{shown}?…"));
            node.error(format!("\"{shown}\" {problem}"), usage);
        }
    }
}

/// The first `{word}` that nothing fills in.
fn unknown_place(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let from = &rest[open..];
        let end = from.find('}').map_or(from.len(), |close| close + 1);
        if !matches!(&from[..end], "{seq}" | "{peer}" | "{address}") {
            return Some(&from[..end]);
        }
        rest = &from[end..];
    }
    None
}

/// A text with its secrets' sources.
pub(super) fn secret(node: &Node<'_>, text: &str) -> Option<Text> {
    match Text::read(text) {
        Ok(text) => Some(text),
        Err(what) => {
            node.error(what, "write ${env:NAME} or ${file:/path/to/file}");
            None
        }
    }
}

/// A JSON pointer (RFC 6901): empty, or parts that each begin with a slash.
pub(in crate::config) fn pointer(node: &Node<'_>) -> Option<String> {
    let usage = "write a JSON pointer that begins with /, as in: /leader or /members/0/name; \"\" is the whole answer";
    let text = node.text(usage)?;
    if !text.is_empty() && !text.starts_with('/') {
        node.error(format!("\"{text}\" is not a JSON pointer"), usage);
        return None;
    }
    Some(text.to_owned())
}

/// A text, a number or a boolean.
#[derive(JsonSchema)]
#[schemars(rename = "Scalar", untagged)]
#[expect(dead_code, reason = "the variants are read by the derive macro alone")]
pub(in crate::config) enum ScalarKey {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// A boolean.
    Bool(bool),
}

/// A text, number or boolean of JSON.
pub(in crate::config) fn scalar(node: &Node<'_>, usage: &str) -> Option<String> {
    let text = node.value().as_str().map(str::to_owned);
    let text = text.or_else(|| node.value().as_u64().map(|number| number.to_string()));
    let text = text.or_else(|| node.value().as_bool().map(|truth| truth.to_string()));
    if text.is_none() {
        node.error("this is neither a text nor a number", usage);
    }
    text
}
