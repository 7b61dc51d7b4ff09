//! What a benchmark leaves: every sample, with what is needed to run it again. JSON to standard output, a table for
//! people to standard error.

use std::process::Command;
use std::time::SystemTime;

use serde::Serialize;

/// `cargo test --bench` builds without, `cargo bench` with.
const OPTIMISED: bool = !cfg!(debug_assertions);

/// One run of a benchmark.
#[derive(Serialize)]
pub struct Run {
    /// The benchmark's name.
    bench: &'static str,
    /// How to run it again.
    command: String,
    /// The commit that was measured; ends with `-dirty` if the tree had changes; `null` without git.
    commit: Option<String>,
    /// Whether the part in user space was optimised.
    optimised: bool,
    /// The kernel's release.
    kernel: String,
    /// The processor's model; `null` if the kernel does not say.
    cpu: Option<String>,
    /// How many processors there were.
    cpus: usize,
    /// The load average over one minute before the run: others may have been busy.
    load: Option<f64>,
    /// When it began, UTC.
    date: String,
    /// What was measured.
    measurements: Vec<Measurement>,
}

/// Samples of one quantity.
#[derive(Serialize)]
struct Measurement {
    name: String,
    unit: &'static str,
    median: f64,
    min: f64,
    /// In the order of measuring.
    samples: Vec<f64>,
}

impl Run {
    /// Begins a run; ends the process if it can't be one.
    pub fn begin(bench: &'static str) -> Self {
        if !rustix::process::geteuid().is_root() {
            eprintln!("error: {bench} loads eBPF programs: run it as root, or by `cargo xtask bench`");
            std::process::exit(1);
        }
        let system = rustix::system::uname();
        Self {
            bench,
            command: format!(
                "cargo {} --package injector --bench {bench}",
                if OPTIMISED { "bench" } else { "test" }
            ),
            commit: commit(),
            optimised: OPTIMISED,
            kernel: system.release().to_string_lossy().into_owned(),
            cpu: first_field("/proc/cpuinfo", "model name"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            load: std::fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split(' ').next()?.parse().ok()),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            measurements: Vec::new(),
        }
    }

    /// Adds the samples of a quantity.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, samples: Vec<f64>) {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let (middle, min) = (sorted[sorted.len() / 2], sorted[0]);
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[sorted.len() / 2 - 1], middle)
        } else {
            middle
        };
        let name = name.into();
        eprintln!("{name:<68} {median:>12.2} [{min:.2}] {unit}");
        self.measurements.push(Measurement { name, unit, median, min, samples });
    }

    /// Writes it out.
    pub fn end(self) {
        println!("{}", serde_json::to_string(&self).unwrap());
    }
}

fn commit() -> Option<String> {
    // As root, git is shy of a tree that is somebody else's.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn first_field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
