//! The parts of the binary as a `CycloneDX` document: every crate that is linked in, with version, licence
//! and checksum.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::build::cargo;
use crate::command::{output, workspace};

/// Writes `injector-VERSION.cdx.json`.
pub fn write(folder: &Path, version: &str, triple: &str) -> Result<PathBuf> {
    let metadata =
        output(cargo().args(["metadata", "--format-version=1", "--locked", "--filter-platform", triple]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo's metadata is no JSON")?;
    let lock = workspace().join("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| format!("reading {}", lock.display()))?;
    let file = folder.join(format!("injector-{version}.cdx.json"));
    let text = format!("{:#}\n", document(&metadata, &checksums(&lock), version)?);
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

fn document(
    metadata: &Value,
    checksums: &BTreeMap<(String, String), String>,
    version: &str,
) -> Result<Value> {
    let linked = linked(metadata)?;
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let linked_in = packages.iter().filter(|package| linked.contains(text(&package["id"])));
    let components: Vec<Value> = linked_in
        .filter(|package| text(&package["name"]) != "injector")
        .map(|package| component(package, checksums))
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application", "name": "injector", "version": version, "bom-ref": format!("pkg:cargo/injector@{version}"),
        } },
        "components": components,
    }))
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(&package["name"]), text(&package["version"]));
    let purl = format!("pkg:cargo/{name}@{version}");
    let mut component =
        json!({ "type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl });
    if let Some(licence) = package["license"].as_str() {
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// The ids of all packages that the binary links: what only builds or tests it is left out.
fn linked(metadata: &Value) -> Result<BTreeSet<String>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("metadata without a resolved graph")?;
    let by_id: BTreeMap<&str, &Value> = nodes.iter().map(|node| (text(&node["id"]), node)).collect();
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let root = packages
        .iter()
        .find(|package| text(&package["name"]) == "injector")
        .context("no package injector")?;
    let mut found = BTreeSet::new();
    let mut left = vec![text(&root["id"]).to_owned()];
    while let Some(id) = left.pop() {
        let node = by_id.get(id.as_str());
        if !found.insert(id.clone()) {
            continue;
        }
        for dependency in node.and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array();
            // A kind of null is a normal dependency.
            if kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null())) {
                left.push(text(&dependency["pkg"]).to_owned());
            }
        }
    }
    Ok(found)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The checksums of packages by name and version, from the text of `Cargo.lock`.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
            line.strip_suffix('"').map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (value("name"), value("version"), value("checksum"))
        {
            found.insert((name, version), checksum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_its_checksum_and_what_only_builds_is_not() {
        let package =
            |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0" });
        let dependency = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [package("injector"), package("a"), package("b"), package("builds")],
            "resolve": { "nodes": [
                { "id": "injector", "deps": [dependency("a", Value::Null), dependency("builds", json!("build"))] },
                { "id": "a", "deps": [dependency("b", Value::Null)] },
                { "id": "b", "deps": [] },
                { "id": "builds", "deps": [] },
            ] },
        });
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n";
        let made = document(&metadata, &checksums(lock), "0.1.0").unwrap();
        let names: Vec<&str> =
            made["components"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(made["components"][0]["hashes"][0]["content"], "ab");
        assert_eq!(made["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert!(made["components"][1].get("hashes").is_none());
    }
}
