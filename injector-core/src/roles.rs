//! Makes peers of the answer of a role's source: pure. An answer that is not clear is an error, never a
//! guess.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::answer::{scalar, shown};
use crate::config::{Config, Peer, RoleAnswer, RoleMeaning, owner, without_secrets};
use crate::model::{PeerId, PeerName, PeerNames};

/// The most bytes of an answer.
pub const MAX_ANSWER: usize = 64 * 1024;

/// Why an answer does not say who has a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// The answer names no peer.
    #[error("it names no peer")]
    Nobody,
    /// A word that is no peer.
    #[error(
        "it names \"{word}\", which is neither a peer's name nor a peer's address; the peers are {known}"
    )]
    NoPeer {
        /// The answer, shortened.
        word: String,
        /// The peers, shortened.
        known: String,
    },
    /// The answer is not UTF-8 text.
    #[error("its answer is not UTF-8 text")]
    NotText,
    /// The answer is longer than [`MAX_ANSWER`].
    #[error("its answer has more than {} KiB", MAX_ANSWER / 1024)]
    TooLong,
    /// The answer is not JSON.
    #[error("its answer is not JSON ({0})")]
    NotJson(String),
    /// There is nothing at the pointer.
    #[error("its answer has nothing at {0}")]
    NothingThere(String),
    /// The value at the pointer can't name a peer.
    #[error("its answer has {found} at {pointer}, where a text, a number or a list of them is expected")]
    WrongType {
        /// The pointer.
        pointer: String,
        /// The type of the value at the pointer.
        found: &'static str,
    },
    /// Two peers say different things.
    #[error("{a} says {a_says}, and {b} says {b_says}")]
    Disagree {
        /// A peer.
        a: String,
        /// The peer that `a` names.
        a_says: String,
        /// Another peer.
        b: String,
        /// The peer that `b` names.
        b_says: String,
    },
}

/// Finds peers by name and by address.
#[derive(Clone, Debug)]
pub struct Directory {
    names: PeerNames,
    peers: Vec<Peer>,
}

impl Directory {
    /// The peers of a config.
    pub fn of(config: &Config) -> Self {
        Self { names: config.names.clone(), peers: config.peers.clone() }
    }

    /// The peers' names.
    pub fn names(&self) -> &PeerNames {
        &self.names
    }

    /// The peer that a word names: its name, one of its addresses, an address with a port, or a URL with one.
    fn find(&self, word: &str) -> Option<PeerName> {
        let named = self.names.id(word).filter(|id| *id != PeerId::WORLD);
        let found = |address: IpAddr| self.peers.iter().find(|peer| peer.found.contains(&address));
        let by_address = |address| owner(&self.peers, address).or_else(|| Some(found(address)?.id));
        let id = named.or_else(|| by_address(address(word)?))?;
        Some(self.names.name(id).into())
    }

    fn no_peer(&self, word: &str) -> RoleError {
        let mut known: Vec<&str> = self.names.peers().take(12).map(|id| self.names.name(id)).collect();
        if self.names.peers().count() > known.len() {
            known.push("…");
        }
        RoleError::NoPeer { word: shown(&without_secrets(word)), known: known.join(", ") }
    }
}

/// The address in `10.0.0.1`, `10.0.0.1:80`, `[fd00::1]:80` or `http://10.0.0.1:80/x`.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.split_once("://").map_or(word, |(_, rest)| rest);
    let word = word.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    bare.parse::<IpAddr>().ok().or_else(|| word.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

fn sorted(mut peers: Vec<PeerName>) -> Result<Vec<PeerName>, RoleError> {
    peers.sort();
    peers.dedup();
    if peers.is_empty() { Err(RoleError::Nobody) } else { Ok(peers) }
}

/// The peers that a command printed, separated by blanks, lines or commas.
pub fn printed(output: &[u8], directory: &Directory) -> Result<Vec<PeerName>, RoleError> {
    let text = std::str::from_utf8(output).map_err(|_| RoleError::NotText)?;
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let peers = words.map(|word| directory.find(word).ok_or_else(|| directory.no_peer(word)));
    sorted(peers.collect::<Result<_, _>>()?)
}

/// Reads an answer in JSON: the peers that it names, which may be none where the asked peer does not have the
/// role.
pub fn answered(
    body: &[u8],
    answer: &RoleAnswer,
    asked: Option<&PeerName>,
    directory: &Directory,
) -> Result<Vec<PeerName>, RoleError> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| RoleError::NotJson(shown(&error.to_string())))?;
    let at = |pointer: &str| json.pointer(pointer).ok_or_else(|| RoleError::NothingThere(pointer.to_owned()));
    let value = at(&answer.pointer)?;
    let this_if = |has_role: bool| if has_role { asked.cloned().into_iter().collect() } else { Vec::new() };
    match &answer.meaning {
        RoleMeaning::Equals(text) => {
            Ok(this_if(scalar(value).ok_or_else(|| wrong_type(&answer.pointer, value))? == *text))
        }
        RoleMeaning::SameAs(other) => Ok(this_if(value == at(other)?)),
        RoleMeaning::Names(words) => {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let peers = values.iter().map(|value| {
                let word = scalar(value).ok_or_else(|| wrong_type(&answer.pointer, value))?;
                let by_word = words.get(&word).map(|id| directory.names.name(*id).into());
                by_word.or_else(|| directory.find(&word)).ok_or_else(|| directory.no_peer(&word))
            });
            sorted(peers.collect::<Result<_, _>>()?)
        }
    }
}

fn wrong_type(pointer: &str, value: &Value) -> RoleError {
    let found = match value {
        Value::Null => "null",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        _ => "a value",
    };
    RoleError::WrongType { pointer: pointer.to_owned(), found }
}

/// The joint answer of several peers. Where each speaks for itself, the peers that have the role; else all
/// must name the same peers.
pub fn together(
    answers: &BTreeMap<PeerName, Vec<PeerName>>,
    meaning: &RoleMeaning,
) -> Result<Vec<PeerName>, RoleError> {
    if let RoleMeaning::Equals(_) | RoleMeaning::SameAs(_) = meaning {
        return sorted(answers.values().flatten().cloned().collect());
    }
    let mut all = answers.iter();
    let (a, first) = all.next().ok_or(RoleError::Nobody)?;
    match all.find(|(_, other)| *other != first) {
        None => sorted(first.clone()),
        Some((b, other)) => {
            let says = |peers: &[PeerName]| crate::topology::words::joined(peers, ", ");
            Err(RoleError::Disagree {
                a: a.to_string(),
                a_says: says(first),
                b: b.to_string(),
                b_says: says(other),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn directory() -> Directory {
        let config = "\
peers:
  n1: { addresses: [10.0.0.1, \"fd00::1\"] }
  n2: { addresses: [10.0.0.2, 10.2.0.0/16] }
  n3: { addresses: [10.0.0.3, 10.2.7.0/24] }
interfaces: auto
";
        Directory::of(&Config::parse(config, "test.yaml").unwrap())
    }

    fn words(peers: Result<Vec<PeerName>, RoleError>) -> Result<String, String> {
        peers.map(|peers| crate::topology::words::joined(&peers, " ")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_prints_names_and_addresses() {
        let said = |text: &str| words(printed(text.as_bytes(), &directory()));
        for (text, expected) in [
            ("n1\n", "n1"),
            ("n3 n1,n3\n\tn2", "n1 n2 n3"),
            ("10.0.0.2\r\n", "n2"),
            ("10.0.0.2:2380", "n2"),
            ("[fd00::1]:80 http://10.0.0.3:8080/x?y#z", "n1 n3"),
            ("10.2.1.1 10.2.7.1", "n2 n3"),
        ] {
            assert_eq!(said(text), Ok(expected.to_owned()), "{text:?}");
        }
        assert_eq!(said(" \n"), Err("it names no peer".to_owned()));
        assert_eq!(
            said("n1 n9").unwrap_err(),
            "it names \"n9\", which is neither a peer's name nor a peer's address; the peers are n1, n2, n3"
        );
        assert!(said("world").unwrap_err().contains("names \"world\""));
        assert!(said("10.0.0.9").is_err() && said("leader: n1").is_err());
        assert_eq!(printed(&[0xff, b'n'], &directory()), Err(RoleError::NotText));
        // The part of the answer that an error shows is short and free of control characters.
        let shown = said(&format!("\u{1b}[2J{}", "x".repeat(500))).unwrap_err();
        assert!(shown.contains("\\u{1b}[2Jxxx") && shown.len() < 250, "{shown}");
    }

    fn read(body: &str, pointer: &str, meaning: RoleMeaning) -> Result<String, String> {
        let answer = RoleAnswer { pointer: pointer.to_owned(), meaning };
        words(answered(body.as_bytes(), &answer, Some(&"n2".into()), &directory()))
    }

    #[test]
    fn an_answer_names_peers_by_name_by_address_or_by_a_word_of_the_config() {
        let meaning = || RoleMeaning::Names(BTreeMap::from([("8e9e".to_owned(), PeerId(3))]));
        let named = |body: &str, pointer: &str| read(body, pointer, meaning());
        assert_eq!(named(r#"{"leader": "n1"}"#, "/leader"), Ok("n1".to_owned()));
        assert_eq!(named(r#"{"leader": "8e9e"}"#, "/leader"), Ok("n3".to_owned()));
        assert_eq!(named(r#"{"a": [{"b/c": "http://10.0.0.2:2380"}]}"#, "/a/0/b~1c"), Ok("n2".to_owned()));
        assert_eq!(named(r#"["n3", "10.0.0.1", "n3"]"#, ""), Ok("n1 n3".to_owned()));
        for (body, pointer, expected) in [
            ("{", "", "its answer is not JSON (EOF while parsing"),
            ("{}", "/leader", "its answer has nothing at /leader"),
            (r#"{"leader": null}"#, "/leader", "its answer has null at /leader, where a text"),
            (r#"{"leader": {}}"#, "/leader", "its answer has an object at /leader"),
            (r#"{"leader": [["n1"]]}"#, "/leader", "its answer has a list at /leader"),
            (r#"{"leader": []}"#, "/leader", "it names no peer"),
            (r#"{"leader": ""}"#, "/leader", "it names \"\", which is neither"),
            (r#"{"leader": 7}"#, "/leader", "it names \"7\", which is neither"),
        ] {
            let error = named(body, pointer).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn a_peer_may_speak_for_itself() {
        let equals = |body: &str, text: &str| read(body, "/state", RoleMeaning::Equals(text.to_owned()));
        assert_eq!(equals(r#"{"state": "leader"}"#, "leader"), Ok("n2".to_owned()));
        assert_eq!(equals(r#"{"state": "follower"}"#, "leader"), Ok(String::new()));
        assert_eq!(equals(r#"{"state": true}"#, "true"), Ok("n2".to_owned()));
        assert!(equals(r#"{"state": null}"#, "leader").is_err());
        let same = |body: &str| read(body, "/leader", RoleMeaning::SameAs("/header/member_id".to_owned()));
        assert_eq!(same(r#"{"header": {"member_id": "7"}, "leader": "7"}"#), Ok("n2".to_owned()));
        assert_eq!(same(r#"{"header": {"member_id": "7"}, "leader": "8"}"#), Ok(String::new()));
        assert!(same(r#"{"leader": "8"}"#).unwrap_err().contains("nothing at /header/member_id"));
    }

    #[test]
    fn peers_that_name_others_must_agree() {
        let answers = |said: [&str; 3]| {
            let of = |names: &str| names.split_whitespace().map(PeerName::from).collect::<Vec<_>>();
            [("n1", said[0]), ("n2", said[1]), ("n3", said[2])]
                .into_iter()
                .map(|(peer, said)| (PeerName::from(peer), of(said)))
                .collect::<BTreeMap<_, _>>()
        };
        let names = RoleMeaning::Names(BTreeMap::new());
        assert_eq!(words(together(&answers(["n2", "n2", "n2"]), &names)), Ok("n2".to_owned()));
        assert_eq!(
            words(together(&answers(["n2", "n2", "n1 n3"]), &names)),
            Err("n1 says n2, and n3 says n1, n3".to_owned())
        );
        let own = RoleMeaning::Equals("follower".to_owned());
        assert_eq!(words(together(&answers(["n1", "", "n3"]), &own)), Ok("n1 n3".to_owned()));
        assert_eq!(together(&answers(["", "", ""]), &own), Err(RoleError::Nobody));
        assert_eq!(together(&BTreeMap::new(), &names), Err(RoleError::Nobody));
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_peers_or_an_error(bytes: Vec<u8>, pointer in "(/[a-c~01]{0,2}){0,3}") {
            let is_known = |peers: Vec<PeerName>| peers.iter().all(|peer| ["n1", "n2", "n3"].contains(&peer.0.as_str()));
            if let Ok(peers) = printed(&bytes, &directory()) {
                prop_assert!(is_known(peers));
            }
            let answer = RoleAnswer { pointer, meaning: RoleMeaning::Names(BTreeMap::new()) };
            if let Ok(peers) = answered(&bytes, &answer, None, &directory()) {
                prop_assert!(is_known(peers));
            }
        }
    }
}
