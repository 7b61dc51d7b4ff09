//! The injector with faults built in.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Built once, in a folder of its own: the injector that users run is not touched. `None` where it can't be built.
pub fn find() -> Option<PathBuf> {
    if let Some(binary) = std::env::var_os("INJECTOR_FAULTS") {
        return Some(binary.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = workspace.join("target/fault-injection");
    let mut cargo = Command::new(option_env!("CARGO").filter(|cargo| Path::new(cargo).exists())?);
    cargo.args(["build", "--package", "injector", "--bin", "injector", "--features", "fault-injection"]);
    let built = cargo.current_dir(workspace).arg("--target-dir").arg(&target).status().unwrap();
    assert!(built.success(), "the injector with faults does not build");
    Some(target.join("debug/injector"))
}
