//! `cargo xtask bench`: the benchmarks of the packages that have some.

use std::process::ExitCode;

use anyhow::Result;

use crate::build::cargo;
use crate::command::run;
use crate::setup::{Need, setup};

/// Runs `cargo bench`.
pub fn bench() -> Result<ExitCode> {
    setup(&[Need::Build, Need::Network])?;
    run(cargo().args(["bench", "--workspace", "--exclude", "injector-ebpf"]))?;
    Ok(ExitCode::SUCCESS)
}
