//! Every config that the project ships is valid.

use std::path::Path;

use injector_core::campaign;
use injector_core::config::{Config, GrpcProbe, ProbeKind, Role};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs"))
}

fn load(name: &str) -> Config {
    Config::load(folder().join(name)).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_shipped_config_is_valid() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() || name == "lab.schema.json" {
            // Files for the systems under test, and the schema that editors use, are no configs of the
            // injector.
            continue;
        }
        if name == "campaign.yaml" {
            campaign::file::read(&entry.path()).unwrap_or_else(|errors| panic!("{errors}"));
        } else {
            load(&name);
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(
                text.starts_with("# yaml-language-server: $schema=lab.schema.json\n"),
                "{name} names no schema"
            );
        }
        names.push(name);
    }
    for name in ["campaign.yaml", "etcd.yaml", "lab.yaml", "local.yaml", "minimal.yaml", "restate.yaml"] {
        assert!(names.iter().any(|found| found == name), "{name} is missing from {names:?}");
    }
}

/// The campaigns of `cargo xtask campaign` and `cargo xtask results`, each a whole number of blocks.
#[test]
fn every_campaign_of_a_lab_is_valid_and_balanced() {
    let mut files = 0;
    for entry in std::fs::read_dir(folder().join("labs")).unwrap() {
        let path = entry.unwrap().path();
        let spec = campaign::file::read(&path).unwrap_or_else(|errors| panic!("{errors}"));
        spec.check().unwrap();
        assert_eq!(spec.trials.unwrap() % spec.cells.len() as u64, 0, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 7);
}

#[test]
fn the_lab_gates_on_ingress_of_every_peer() {
    let config = load("lab.yaml");
    let names: Vec<_> = config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(names, ["ingress@n1", "ingress@n2", "ingress@n3"]);
    assert!(config.endpoints.iter().all(|endpoint| endpoint.role == Role::Required));
}

#[test]
fn restate_gates_on_ingress_and_reports_metadata() {
    let config = load("restate.yaml");
    for endpoint in &config.endpoints {
        let required = endpoint.role == Role::Required;
        assert_eq!(required, endpoint.base.starts_with("ingress"), "{}", endpoint.name);
        if let ProbeKind::Grpc(GrpcProbe { message, .. }) = &endpoint.probe.kind {
            // Field 1, a text of 12 bytes.
            assert_eq!(message, b"\x0a\x0cnodes_config");
        }
    }
    assert_eq!(config.endpoints.len(), 9);
}

#[test]
fn the_campaign_is_a_whole_number_of_blocks() {
    let wish =
        campaign::file::read(&folder().join("campaign.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
    wish.check().unwrap();
    assert_eq!(wish.cells.len(), 6);
    assert_eq!(wish.trials.unwrap() % 6, 0);
}
