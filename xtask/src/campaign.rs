//! `cargo xtask campaign`: a campaign on a lab of a real system; with `--short`, a test of the labs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::build::{Programs, programs};
use crate::command::{Interrupted, again_as_root};
use crate::injector::Injector;
use crate::lab::{Choice, Chosen, Cluster, SYSTEMS, names};
use crate::trials::{below_workspace, give_back, measure, report, run_folder, verdict};

mod page;
mod shape;

/// The options of the chore.
#[derive(clap::Args)]
pub struct Options {
    /// Which system; with `--short`, each real one in turn without it
    #[arg(value_parser = names(), required_unless_present = "short")]
    system: Option<String>,
    #[command(flatten)]
    choice: Choice,
    /// The campaign file, instead of configs/labs/campaign.yaml (of vms-inside: configs/labs/vms-host-and-inside.yaml)
    #[arg(long, conflicts_with = "short")]
    file: Option<PathBuf>,
    /// How many trials, instead of the file's number
    #[arg(long, conflicts_with = "short")]
    trials: Option<u32>,
    /// Seeds what is drawn, instead of the file's seed
    #[arg(long, conflicts_with = "short")]
    seed: Option<u64>,
    /// The run directory, instead of a new one in target/campaign
    #[arg(long, conflicts_with = "short")]
    out: Option<PathBuf>,
    /// Go on with the campaign in the run directory
    #[arg(long, requires = "out", conflicts_with = "short")]
    resume: bool,
    /// A few trials with short holds, and a look at their records: each trial was effective and every endpoint was
    /// measured, however slow. Then the commands of the handbook's page, if there is one of this lab
    #[arg(long)]
    short: bool,
}

#[cfg(test)]
impl Options {
    /// The system that is measured, and the campaign file if it is named.
    pub fn system_and_file(&self) -> (Option<&str>, Option<&Path>) {
        (self.system.as_deref(), self.file.as_deref())
    }
}

/// How long service must last in the short form.
const SHORT_OBSERVATION: Duration = Duration::from_secs(2);

/// Runs a campaign, or the short ones. The exit code is that of `injector measure`; of `--short`, 1 if a lab failed.
pub fn campaign(options: &Options) -> Result<ExitCode> {
    if options.short {
        return short(options);
    }
    let name = options.system.as_deref().context("a campaign needs a system")?;
    let chosen = Chosen::install(name, &options.choice)?;
    let programs = programs()?;
    if let Some(code) = again_as_root(&programs.folder)? {
        return Ok(code);
    }
    let file = options.file.clone().unwrap_or_else(|| chosen.campaign());
    let folder = match &options.out {
        Some(folder) => folder.clone(),
        None => run_folder("campaign")?,
    };
    let mut words = Vec::new();
    words.extend(options.trials.map(|trials| format!("--trials={trials}")));
    words.extend(options.seed.map(|seed| format!("--seed={seed}")));
    words.extend(options.resume.then(|| "--resume".to_owned()));
    let code = Campaign { file: &file, words, folder: &folder, observe: None, page_of: None }
        .run(chosen, &programs)?;
    Ok(ExitCode::from(code))
}

/// A campaign on a lab.
pub struct Campaign<'a> {
    /// The campaign file.
    pub file: &'a Path,
    /// Options of `injector measure` that override the file.
    pub words: Vec<String>,
    /// The run directory.
    pub folder: &'a Path,
    /// How long service must last, if not as the system says.
    pub observe: Option<Duration>,
    /// The system whose page of the handbook is run afterwards on the same lab, if it has one.
    pub page_of: Option<&'a str>,
}

impl Campaign<'_> {
    /// Brings the lab up, runs the campaign and writes its report; answers the exit code of `injector measure`.
    ///
    /// # Errors
    /// The lab does not come up or breaks, or the campaign could not be run.
    pub fn run(&self, chosen: Chosen, programs: &Programs) -> Result<u8> {
        let mut cluster = Cluster::up(chosen, programs, self.observe)?;
        let injector = Injector { program: &programs.injector(), at: cluster.daemon() };
        cluster.start_daemon(&injector)?;
        let file = below_workspace(self.file).to_string_lossy();
        let mut words = vec!["--campaign".to_owned(), file.into_owned()];
        words.push(format!("--system={}", cluster.version.replacen(' ', "=", 1)));
        words.extend(self.words.iter().cloned());
        let code = measure(&injector, &words, self.folder, &mut cluster.lab)?;
        println!("\n{}: {}.", cluster.version, verdict(code));
        let page = report(&injector, self.folder)?;
        give_back(self.folder)?;
        println!("The report is in {}.", page.display());
        if let Some((system, page)) = self.page_of.and_then(page::of) {
            // The page starts one of its own on the same taps.
            injector.ask(&["stop"])?.succeeded()?;
            page::run(system, page, &cluster, programs)?;
        }
        Ok(code)
    }
}

/// Systems that the short form leaves out, unless they are asked for: the example service, which other tests
/// run already, and three further guests, which take some minutes.
const ONLY_ASKED_FOR: [&str; 2] = ["quorum", "vms-inside"];

/// Whether `--short` without a name runs this system too, as continuous integration does.
pub fn is_in_short_form(system: &str) -> bool {
    !ONLY_ASKED_FOR.contains(&system)
}

/// The short form: of one system, or of each.
fn short(options: &Options) -> Result<ExitCode> {
    let wanted = |name: &&str| match &options.system {
        Some(asked) => asked == name,
        None => is_in_short_form(name),
    };
    let wanted: Vec<&str> = SYSTEMS.iter().map(|(name, _)| *name).filter(wanted).collect();
    // Packages are installed as the user.
    let mut chosen = Vec::new();
    let mut skipped = Vec::new();
    for name in wanted {
        match Chosen::install(name, &options.choice) {
            Ok(system) => chosen.push((name, system)),
            Err(error) if Interrupted::is(&error) => return Err(error),
            Err(error) => skipped.push(format!("SKIP the campaign on {name}: {error:#}")),
        }
    }
    let programs = programs()?;
    if let Some(code) = again_as_root(&programs.folder)? {
        return Ok(code);
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, system) in chosen {
        match run_short(name, system, &options.choice, &programs) {
            Ok(()) => passed += 1,
            Err(error) if Interrupted::is(&error) => return Err(error),
            Err(error) => failed.push(format!("FAIL the campaign on {name}: {error:#}")),
        }
    }
    println!();
    for line in skipped.iter().chain(&failed) {
        println!("{line}");
    }
    println!("Campaigns: {passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How often a short campaign is made where the injector does not decide a trial, because the machine was held up, say.
const ATTEMPTS: usize = 3;

fn run_short(name: &str, mut system: Chosen, choice: &Choice, programs: &Programs) -> Result<()> {
    println!("\nA short campaign on {name}");
    for attempt in 1..=ATTEMPTS {
        let (file, required) = (system.short_campaign(), system.required_peers());
        let folder = run_folder(&format!("campaign-short/{name}"))?;
        let (words, observe) = (Vec::new(), Some(SHORT_OBSERVATION));
        let campaign = Campaign { file: &file, words, folder: &folder, observe, page_of: Some(name) };
        let code = campaign.run(system, programs)?;
        let shown = |faults: &[String]| format!("see {}:\n  {}", folder.display(), faults.join("\n  "));
        match shape::judge(&folder, code, required)? {
            shape::Verdict::Fine => {
                return std::fs::remove_dir_all(&folder)
                    .with_context(|| format!("removing {}", folder.display()));
            }
            shape::Verdict::Undecided(faults) if attempt < ATTEMPTS => {
                println!(
                    "\nAGAIN the campaign on {name}, attempt {attempt} was not decided: {}",
                    shown(&faults)
                );
                system = Chosen::install(name, choice)?;
            }
            shape::Verdict::Undecided(faults) | shape::Verdict::Faulty(faults) => bail!(shown(&faults)),
        }
    }
    unreachable!("the last attempt returns")
}
