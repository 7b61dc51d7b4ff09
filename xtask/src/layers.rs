//! The layers that the compiler keeps: what a crate must not depend on, so that it builds and is tested without it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::build::cargo;
use crate::command::output;

/// Crates, each with the packages that it must not depend on, directly or through others.
const LAYERS: [(&str, &[&str]); 3] = [
    ("injector-core", &["anyhow", "axum", "aya", "clap", "hyper", "injector-ebpf", "rtnetlink", "tokio"]),
    ("injector-client", &["anyhow", "axum", "aya", "clap", "injector-ebpf", "rtnetlink"]),
    ("injector-lab", &["anyhow", "aya", "clap", "injector-client", "injector-core", "tokio"]),
];

/// Fails if a crate depends on what its layer forbids; names every such pair.
pub fn check_layers() -> Result<()> {
    let mut faults = Vec::new();
    for (package, forbidden) in LAYERS {
        let tree = output(cargo().args([
            "tree",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ]))?;
        faults.extend(forbidden_in(&tree, forbidden).into_iter().map(|name| {
            format!("{package} must not depend on {name}; `cargo tree -p {package} -i {name} -e normal` shows why it does")
        }));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// The forbidden packages in the output of `cargo tree`, which has `name version` on each line.
fn forbidden_in<'a>(tree: &str, forbidden: &[&'a str]) -> BTreeSet<&'a str> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    forbidden.iter().copied().filter(|name| names.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_dependency_is_found_by_its_whole_name() {
        let tree = "injector-core v0.1.0 (/x)\naya-obj v0.2.1\nserde v1.0.0\ntokio v1.0.0 (*)\n";
        assert_eq!(forbidden_in(tree, &["aya", "tokio"]), BTreeSet::from(["tokio"]));
    }
}
