//! Every config that the project ships is valid.

use std::path::Path;

use injector::config::{Config, ProbeKind, Role};

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
        let name = entry.unwrap().file_name().into_string().unwrap();
        load(&name);
        names.push(name);
    }
    for name in ["lab.yaml", "minimal.yaml", "restate.yaml"] {
        assert!(names.iter().any(|found| found == name), "{name} is missing from {names:?}");
    }
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
        if let ProbeKind::Grpc { message, .. } = &endpoint.probe.kind {
            // Field 1, a text of 12 bytes.
            assert_eq!(message, b"\x0a\x0cnodes_config");
        }
    }
    assert_eq!(config.endpoints.len(), 9);
}
