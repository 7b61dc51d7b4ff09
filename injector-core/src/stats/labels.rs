//! A shape in few words, for figures of many trials.

use std::fmt::Display;

use serde::Serialize;

use crate::api::ShapePair;
use crate::model::{PeerName, Shape};
use crate::topology::Arguments;
use crate::topology::words::joined;

/// FNV-1a: stable over versions, so that runs of different builds fall into the same strata.
pub(super) fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The longest label that is shown whole.
const LABEL: usize = 120;

/// A shape as the command line writes it; very long ones are cut and end in a digest, so that equal labels are
/// equal shapes.
pub fn label<P: Display + Serialize>(shape: &Shape<P>) -> String {
    let (word, arguments) = shape.written();
    let text = match arguments {
        // Peers of a group in one order: the same cut has the same words.
        Arguments::Peers(peers) => format!("{word} {}", sorted(peers).join(",")),
        Arguments::Groups(groups) => {
            let groups: Vec<String> = groups.iter().map(|group| sorted(group).join(",")).collect();
            format!("{word} {}", groups.join(" "))
        }
        Arguments::Grudge(grudge) => {
            let drops = |(dst, srcs): (&P, &Vec<P>)| format!("{dst}<{}", joined(srcs, ","));
            format!("{word} {}", grudge.iter().map(drops).collect::<Vec<_>>().join(" "))
        }
        _ => shape.to_string(),
    };
    if text.chars().count() <= LABEL {
        return text;
    }
    format!("{}… #{:08x}", text.chars().take(LABEL - 12).collect::<String>(), digest(&text) >> 32)
}

/// The resolved shape as [`label`] shows it, or the shape as asked where a role could not be resolved.
pub fn resolved_label(shape: &ShapePair) -> String {
    match &shape.resolved {
        Some(resolved) => label(resolved),
        None => format!("{} (not resolved)", label(&shape.asked)),
    }
}

fn sorted<P: Display>(peers: &[P]) -> Vec<String> {
    let mut peers: Vec<String> = peers.iter().map(P::to_string).collect();
    peers.sort_unstable();
    peers
}

/// The peers that a shape cuts off from all others, if it cuts off one group.
pub(super) fn isolated(resolved: &Shape<PeerName>) -> Option<String> {
    match resolved {
        Shape::Isolate(peers) if !peers.is_empty() => Some(sorted(peers).join(",")),
        Shape::Split(groups) => {
            let mut alone = groups.iter().filter(|group| group.len() == 1);
            let first = alone.next()?;
            alone.next().is_none().then(|| first[0].to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_tell_shapes_apart() {
        let many = |last: &str| {
            let names = (0..300).map(|at| format!("n{at}")).chain([last.to_owned()]);
            Shape::Isolate(names.map(PeerName).collect())
        };
        let (a, b) = (label(&many("x")), label(&many("y")));
        assert!(a != b && a.chars().count() <= LABEL, "{a}");
        assert_eq!(
            label::<PeerName>(&Shape::Split(vec![vec!["n1".into(), "n2".into()], vec!["n3".into()]])),
            "split n1,n2 n3"
        );
        assert_eq!(
            isolated(&Shape::Split(vec![vec!["n1".into(), "n2".into()], vec!["n3".into()]])),
            Some("n3".into())
        );
        assert_eq!(isolated(&Shape::Split(vec![vec!["n1".into()], vec!["n3".into()]])), None);
    }
}
