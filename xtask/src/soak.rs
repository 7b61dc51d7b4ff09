//! `cargo xtask soak`: the long forms of tests that wear the daemon down; their tables are kept in `docs/results`.
//!
//! Each is a test of the injector, which `cargo xtask test` runs in a short form.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::build::{artifacts, cargo};
use crate::command::{as_root, check_interrupt, is_root, output, run, workspace};
use crate::setup::{Need, setup};

/// A load that runs for long.
#[derive(Clone, Copy, ValueEnum)]
pub enum Soak {
    /// 210 faults at drawn steps of the daemon's life
    Crash,
    /// 1,000 interfaces that come up
    Scale,
    /// 10,000 cuts and heals
    Cycles,
    /// 10,000 cuts and heals, and readers that do not read
    Stalled,
    /// 1,000 cuts and heals, and floods on the links that are cut
    Flood,
    /// 2,000 interfaces that are made and removed
    Interfaces,
    /// 1,024 peers and 32 overlapping cuts
    Peers,
    /// A polite client's answers and the daemon's memory under each kind of attack, for ten seconds each
    Attacks,
}

/// A soak as a test: its program, its name, and the variables of its long form, where the environment says nothing else.
struct Form {
    program: &'static str,
    test: &'static str,
    variables: &'static [(&'static str, &'static str)],
}

impl Soak {
    fn form(self) -> Form {
        match self {
            Self::Crash => Form {
                program: "netns_crash",
                test: "whatever_step_the_daemon_dies_or_fails_at_traffic_flows_and_the_next_start_works",
                variables: &[("INJECTOR_CRASH_POINTS", "210")],
            },
            Self::Scale => Form {
                program: "netns_scale",
                test: "a_daemon_on_very_many_interfaces_is_soon_ready_idle_and_quick",
                variables: &[("INJECTOR_SCALE", "1000"), ("INJECTOR_SCALE_PATIENCE", "1")],
            },
            Self::Cycles => Form {
                program: "netns_soak",
                test: "cuts_and_heals_by_the_thousand_wear_nothing_down",
                variables: &[("INJECTOR_SOAK_CYCLES", "10000")],
            },
            Self::Stalled => Form {
                program: "netns_soak",
                test: "readers_that_stall_wear_nothing_down",
                variables: &[("INJECTOR_SOAK_TOGGLES", "10000")],
            },
            Self::Flood => Form {
                program: "netns_soak",
                test: "floods_on_cut_links_wear_nothing_down",
                variables: &[("INJECTOR_SOAK_FLOODED", "1000")],
            },
            Self::Interfaces => Form {
                program: "netns_soak",
                test: "interfaces_that_come_and_go_wear_nothing_down",
                variables: &[("INJECTOR_SOAK_INTERFACES", "2000")],
            },
            Self::Peers => Form {
                program: "netns_peers",
                test: "very_many_peers_and_cuts_are_answered_soon_and_briefly",
                variables: &[("INJECTOR_PEERS_ISOLATED", "2")],
            },
            Self::Attacks => Form {
                program: "netns_attacks",
                test: "under_every_attack_a_polite_client_is_answered_soon_and_memory_is_bounded",
                variables: &[("INJECTOR_ATTACK_SECONDS", "10"), ("INJECTOR_SOAK_PATIENCE", "1")],
            },
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Runs one soak, or all of them, with a debug build or with one as users run it.
///
/// # Errors
/// A soak fails, or can't be run.
pub fn soak(which: &[Soak], is_release: bool) -> Result<ExitCode> {
    let profile: &[&str] = if is_release { &["--release"] } else { &[] };
    setup(&[Need::Build, Need::Network])?;
    let folder = workspace().join("docs/results");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    for soak in if which.is_empty() { Soak::value_variants() } else { which } {
        check_interrupt()?;
        // A developer who continues meanwhile has other code at its end.
        let commit = output(
            Command::new("git")
                .args(["describe", "--always", "--dirty", "--abbrev=7"])
                .current_dir(workspace()),
        )?;
        let form = soak.form();
        // The examples are built apart: `cargo test --examples` makes tests of them, not the programs that
        // the soaks start.
        run(cargo().args(["build", "--package", "injector", "--examples"]).args(profile))?;
        let mut command = cargo();
        command.args(["test", "--package", "injector", "--test", form.program, "--no-run"]).args(profile);
        let built = artifacts(&mut command)?;
        let program = built.iter().find(|artifact| artifact.is_test && artifact.name == form.program);
        let program = program.with_context(|| format!("cargo built no {}", form.program))?;
        let table = workspace().join(format!("target/soak-{}.md", std::process::id()));
        let mut command = if is_root() { Command::new("env") } else { as_root("env")? };
        command.args(form.variables.iter().map(|(name, value)| {
            let value = std::env::var(name).unwrap_or_else(|_| (*value).to_owned());
            format!("{name}={value}")
        }));
        command.arg(format!("INJECTOR_SOAK_RESULTS={}", table.display()));
        command.arg(&program.executable).args(["--exact", form.test, "--nocapture"]);
        run(command.current_dir(&program.package))?;
        let text =
            std::fs::read_to_string(&table).with_context(|| format!("{} wrote no table", form.test))?;
        let _ = std::fs::remove_file(&table);
        ensure!(!text.is_empty(), "{} wrote no table", form.test);
        let file = folder.join(format!("soak-{}.md", soak.name()));
        let notes =
            std::fs::read_to_string(&file).map_or_else(|_| String::new(), |old| notes(&old).to_owned());
        std::fs::write(&file, format!("{}{text}{notes}", head(*soak, is_release, commit.trim())?))
            .with_context(|| format!("writing {}", file.display()))?;
        println!("Result: {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The head of a result: what was run, when and where.
fn head(soak: Soak, is_release: bool, commit: &str) -> Result<String> {
    let reported = |program: &str, words: &[&str]| {
        output(Command::new(program).args(words).current_dir(workspace())).map(|text| text.trim().to_owned())
    };
    let (date, kernel) = (reported("date", &["-u", "+%F"])?, reported("uname", &["-r"])?);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let set = soak.form().variables.iter().map(|(name, _)| name);
    let set: String = set.filter_map(|name| Some(format!("{name}={} ", std::env::var(name).ok()?))).collect();
    let load = std::fs::read_to_string("/proc/loadavg").context("reading the load")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    let name = soak.name();
    let (option, build) = if is_release { (" --release", "release") } else { ("", "debug") };
    Ok(format!(
        "# Soak: {name}\n\n`{set}cargo xtask soak{option} {name}` on {date}, commit {commit}, Linux {kernel}, {cpus} CPUs (load {load} at the end), {build} build.\n\n"
    ))
}

/// What people have written below the table of a result, which the next run keeps: from the first heading of the second level on.
fn notes(result: &str) -> &str {
    result.find("\n## ").map_or("", |begin| &result[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_begin_at_their_heading() {
        assert_eq!(
            notes("# Soak: a\n\n| a |\n\n## What it waits for\n\nA lock.\n"),
            "\n## What it waits for\n\nA lock.\n"
        );
        assert_eq!(notes("# Soak: a\n\n| ## |\n"), "");
    }
}
