//! `cargo xtask bench`: the benchmarks of the data plane; their results are kept as JSON.
//!
//! They are built as the user, and run as root, since they load eBPF programs and make namespaces.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::build::{artifacts, cargo};
use crate::command::{as_root, check_interrupt, is_root, output, words};
use crate::setup::{Need, setup};

/// Builds and runs the benchmarks, and says where the results are.
pub fn bench() -> Result<ExitCode> {
    setup(&[Need::Build, Need::Network])?;
    let mut kept = Vec::new();
    let built = artifacts(cargo().args(["bench", "--package", "injector", "--benches", "--no-run"]))?;
    for bench in built.iter().filter(|artifact| artifact.kind == "bench") {
        check_interrupt()?;
        println!("\n{}: median [minimum]", bench.name);
        let mut command =
            if is_root() { Command::new(&bench.executable) } else { as_root(&bench.executable)? };
        // The table goes to standard error, the result to standard output.
        let text = output(command.current_dir(&bench.package).stderr(Stdio::inherit()))?;
        let result: Value = serde_json::from_str(&text)
            .with_context(|| format!("reading the result of `{}`", words(&command)))?;
        let date = result["date"].as_str().context("the result has no date")?;
        let folder = bench.package.join("benches/results");
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        // A colon is no part of a file name everywhere.
        let file = folder.join(format!("{}-{}.json", bench.name, date.replace(':', "")));
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        kept.push(file);
    }
    println!();
    for file in kept {
        println!("Result: {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}
