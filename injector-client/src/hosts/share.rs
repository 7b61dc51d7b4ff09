//! Which host cuts which links of a shape.

use std::collections::BTreeSet;

use injector_core::figures::counted;
use injector_core::model::NamedLink;

/// How many links an error names.
const SHOWN: usize = 4;

/// The links of a shape, or of a host's share of it.
pub type Links = BTreeSet<NamedLink>;

/// A host, and the peers that its daemon says are there.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The host, as the user names it.
    pub host: String,
    /// Its peers.
    pub here: BTreeSet<String>,
}

impl Peers {
    fn has(&self, peer: &str) -> bool {
        self.here.contains(peer)
    }
}

/// How a link is given to hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every host that has an end of it: a packet that one drops can't be dropped again.
    EachEnd,
    /// One host, that of the source where there is one: two that drop 30 % each drop 51 %.
    Once,
}

/// Why the links can't be shared out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// No host has an end of these.
    #[error(
        "{} of the shape {} an end on none of these hosts: {}; name the hosts of those peers with --host too, or add \
         the peers to `here` of the config of the host that has them",
        counted(.0.len(), "link"),
        if .0.len() == 1 { "has" } else { "have" },
        shown(.0)
    )]
    Unclaimed(Vec<NamedLink>),
    /// A link may be rolled once only, and two hosts say that they have the peer that decides where.
    #[error(
        "{peer} is on {a} and on {b}, so that both would roll for the loss of its packets; say by `here` in each \
         host's config which peers are there"
    )]
    TwoHosts {
        /// The peer.
        peer: String,
        /// A host.
        a: String,
        /// Another.
        b: String,
    },
}

/// The share of each host, in the hosts' order.
pub fn share(all: &Links, hosts: &[Peers], rule: Rule) -> Result<Vec<Links>, ShareError> {
    let mut shares = vec![Links::new(); hosts.len()];
    let mut unclaimed = Vec::new();
    for link in all {
        let who = match rule {
            Rule::EachEnd => with_an_end(link, hosts),
            Rule::Once => the_one(link, hosts)?.into_iter().collect(),
        };
        if who.is_empty() {
            unclaimed.push(link.clone());
        }
        for host in who {
            shares[host].insert(link.clone());
        }
    }
    if unclaimed.is_empty() { Ok(shares) } else { Err(ShareError::Unclaimed(unclaimed)) }
}

fn with_an_end(link: &NamedLink, hosts: &[Peers]) -> Vec<usize> {
    let has = |peers: &Peers| peers.has(&link.src) || peers.has(&link.dst);
    hosts.iter().enumerate().filter(|(_, peers)| has(peers)).map(|(at, _)| at).collect()
}

/// The source's host; without one the destination's.
fn the_one(link: &NamedLink, hosts: &[Peers]) -> Result<Option<usize>, ShareError> {
    for peer in [&link.src, &link.dst] {
        let mut with = hosts.iter().enumerate().filter(|(_, peers)| peers.has(peer));
        match (with.next(), with.next()) {
            (None, _) => {}
            (Some((at, _)), None) => return Ok(Some(at)),
            (Some((_, a)), Some((_, b))) => {
                let (a, b) = (a.host.clone(), b.host.clone());
                return Err(ShareError::TwoHosts { peer: peer.clone(), a, b });
            }
        }
    }
    Ok(None)
}

fn shown(links: &[NamedLink]) -> String {
    let names: Vec<String> = links.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = links.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::*;

    fn links(texts: &[&str]) -> Links {
        let link = |text: &&str| {
            let (src, dst) = text.split_once(':').unwrap();
            NamedLink { src: src.to_owned(), dst: dst.to_owned() }
        };
        texts.iter().map(link).collect()
    }

    fn hosts(here: &[&[&str]]) -> Vec<Peers> {
        let peers = |(at, here): (usize, &&[&str])| Peers {
            host: format!("h{at}"),
            here: here.iter().map(|peer| (*peer).to_owned()).collect(),
        };
        here.iter().enumerate().map(peers).collect()
    }

    #[test]
    fn a_full_cut_is_made_at_each_end() {
        let all = links(&["n1:n2", "n2:n1", "n3:n1"]);
        let shares = share(&all, &hosts(&[&["n1"], &["n2"], &["n4"]]), Rule::EachEnd).unwrap();
        assert_eq!(shares, [all, links(&["n1:n2", "n2:n1"]), Links::new()]);
    }

    #[test]
    fn loss_is_rolled_at_the_source_or_else_at_the_destination() {
        let all = links(&["n1:n2", "n2:n1", "n3:n1", "n1:world", "world:n2"]);
        let shares = share(&all, &hosts(&[&["n1"], &["n2"]]), Rule::Once).unwrap();
        // n3 has no daemon here, and neither has the world: the other end rolls for what they send.
        assert_eq!(shares, [links(&["n1:n2", "n3:n1", "n1:world"]), links(&["n2:n1", "world:n2"])]);
        let sum: usize = shares.iter().map(Links::len).sum();
        assert_eq!(sum, all.len(), "each link once");
    }

    #[test]
    fn a_link_of_nobody_is_an_error_that_names_it() {
        let all = links(&["n1:n2", "n3:n4", "n4:n3"]);
        for rule in [Rule::EachEnd, Rule::Once] {
            let error = share(&all, &hosts(&[&["n1"], &["n2"]]), rule).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("2 links of the shape have an end on none of these hosts: n3→n4, n4→n3;"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_peer_on_two_hosts_matters_to_loss_alone() {
        let (all, hosts) = (links(&["n1:n2"]), hosts(&[&["n1", "n2"], &["n1"]]));
        assert_eq!(share(&all, &hosts, Rule::EachEnd).unwrap(), [all.clone(), all.clone()]);
        let error = share(&all, &hosts, Rule::Once).unwrap_err();
        assert!(matches!(&error, ShareError::TwoHosts { peer, .. } if peer == "n1"), "{error}");
    }
}
