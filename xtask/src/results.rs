//! `cargo xtask results`: the campaigns whose raw runs and reports are kept in `docs/results`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::build::{Programs, programs};
use crate::campaign::Campaign;
use crate::command::{again_as_root, check_interrupt, output, run_shown, workspace};
use crate::lab::{Choice, Chosen, Probes};
use crate::trials::{below_workspace, give_back};

mod host_and_inside;
mod leader;

/// A series: campaigns that are compared with each other.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Series {
    /// Restate 1.6.1 and 1.7.12 on three and on five peers; about two hours
    Restate,
    /// Three virtual machines, cut by a daemon on their host and by the daemons inside them; about ten minutes
    Vms,
}

/// The options of the chore.
#[derive(clap::Args)]
pub struct Options {
    /// Which
    #[arg(value_enum)]
    series: Series,
    /// How many trials of each campaign, instead of its file's number
    #[arg(long)]
    trials: Option<u32>,
    /// Only the campaigns with this in their name, such as 1.7.12 or 3-peers
    #[arg(long)]
    only: Option<String>,
    /// Keep the results in another folder than docs/results
    #[arg(long)]
    out: Option<PathBuf>,
    /// Run nothing: write the reports of the kept runs anew, from their records and with this version's figures and words
    #[arg(long, conflicts_with = "trials")]
    report_again: bool,
}

#[cfg(test)]
impl Options {
    /// The systems that are measured, each with its campaign file.
    pub fn systems_and_files(&self) -> Vec<(&'static str, &'static str)> {
        self.series.parts().iter().map(|part| (part.system, part.file)).collect()
    }
}

/// A campaign of a series.
struct SeriesCampaign {
    /// Its folder's name.
    name: &'static str,
    system: &'static str,
    version: Option<&'static str>,
    peers: u8,
    file: &'static str,
    probes: Probes,
}

const RESTATE: [SeriesCampaign; 4] = [
    SeriesCampaign::of_restate("1.7.12-3-peers", "1.7.12", 3, "configs/labs/restate-3.yaml"),
    SeriesCampaign::of_restate("1.6.1-3-peers", "1.6.1", 3, "configs/labs/restate-3.yaml"),
    SeriesCampaign::of_restate("1.7.12-5-peers", "1.7.12", 5, "configs/labs/restate-5.yaml"),
    SeriesCampaign::of_restate("1.6.1-5-peers", "1.6.1", 5, "configs/labs/restate-5.yaml"),
];

const VMS: [SeriesCampaign; 2] =
    [SeriesCampaign::of_vms("host", "vms"), SeriesCampaign::of_vms("inside", "vms-inside")];

impl SeriesCampaign {
    const fn of_restate(name: &'static str, version: &'static str, peers: u8, file: &'static str) -> Self {
        Self { name, system: "restate", version: Some(version), peers, file, probes: Probes::OfSystem }
    }

    const fn of_vms(name: &'static str, system: &'static str) -> Self {
        let probes = Probes::OfFirstGuest;
        Self { name, system, version: None, peers: 3, file: "configs/labs/vms-host-and-inside.yaml", probes }
    }
}

impl Series {
    /// Its folder's name.
    const fn name(self) -> &'static str {
        match self {
            Self::Restate => "restate",
            Self::Vms => "vms",
        }
    }

    const fn parts(self) -> &'static [SeriesCampaign] {
        match self {
            Self::Restate => &RESTATE,
            Self::Vms => &VMS,
        }
    }

    /// Parts to compare, the first with the second.
    const fn pairs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Restate => &[("1.6.1-3-peers", "1.7.12-3-peers"), ("1.6.1-5-peers", "1.7.12-5-peers")],
            Self::Vms => &[("host", "inside")],
        }
    }
}

/// Runs what a series lacks. A campaign that was interrupted continues where it was; one whose result is kept is not run.
///
/// # Errors
/// A lab does not come up, or a campaign can't be run.
pub fn results(options: &Options) -> Result<ExitCode> {
    let series = options.series;
    let wanted = |part: &&SeriesCampaign| options.only.as_deref().is_none_or(|only| part.name.contains(only));
    let parts: Vec<&SeriesCampaign> = series.parts().iter().filter(wanted).collect();
    ensure!(!parts.is_empty(), "no campaign of the series has {:?} in its name", options.only);
    let kept = options.out.clone().unwrap_or_else(|| Path::new("docs/results").join(series.name()));
    let kept = workspace().join(kept);
    if options.report_again {
        let programs = programs()?;
        for part in parts {
            report_again(&programs, series, part.name, &kept)?;
        }
        return compare_pairs(&programs, series, &kept);
    }
    let chosen = |part: &SeriesCampaign| {
        let choice =
            Choice { peers: part.peers, version: part.version.map(str::to_owned), probes: part.probes };
        Chosen::install(part.system, &choice)
    };
    // Packages are installed as the user.
    for part in &parts {
        chosen(part)?;
    }
    let programs = programs()?;
    if let Some(code) = again_as_root(&programs.folder)? {
        return Ok(code);
    }
    fs::create_dir_all(&kept).with_context(|| format!("creating {}", kept.display()))?;
    for part in parts {
        check_interrupt()?;
        let folder = kept.join(part.name);
        if folder.exists() {
            println!("{} is there already; remove it to run it again.", folder.display());
            continue;
        }
        println!("\n{} {} on {} peers", part.system, part.version.unwrap_or_default(), part.peers);
        let run = workspace().join("target/results").join(series.name()).join(part.name);
        let words = [
            options.trials.map(|trials| format!("--trials={trials}")),
            run.join("campaign.json").exists().then(|| "--resume".to_owned()),
        ];
        let words = words.into_iter().flatten().collect();
        let file = workspace().join(part.file);
        let campaign = Campaign { file: &file, words, folder: &run, observe: None, page_of: None };
        campaign.run(chosen(part)?, &programs)?;
        keep(&programs, &run, &folder)?;
    }
    compare_pairs(&programs, series, &kept)
}

/// Compares the kept runs of a series.
fn compare_pairs(programs: &Programs, series: Series, kept: &Path) -> Result<ExitCode> {
    for (one, two) in series.pairs() {
        if kept.join(one).exists() && kept.join(two).exists() {
            compare(programs, kept, one, two)?;
            if matches!(series, Series::Vms) {
                let file = kept.join("host-and-inside.txt");
                let text = host_and_inside::table(&kept.join(one), &kept.join(two))?;
                fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            }
        }
    }
    give_back(kept)?;
    println!("The results are in {}.", kept.display());
    Ok(ExitCode::SUCCESS)
}

/// Writes the reports of a kept run anew; its records stay as they are.
fn report_again(programs: &Programs, series: Series, name: &str, kept: &Path) -> Result<()> {
    let folder = kept.join(name);
    let run = workspace().join("target/results-again").join(series.name()).join(name);
    let _ = fs::remove_dir_all(&run);
    fs::create_dir_all(&run).with_context(|| format!("creating {}", run.display()))?;
    for file in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let file = file?;
        fs::copy(file.path(), run.join(file.file_name()))
            .with_context(|| format!("copying {}", file.path().display()))?;
    }
    run_shown(Command::new("gzip").arg("-d").arg(run.join("probes.jsonl.gz")))?;
    let mut report = Command::new(programs.injector());
    report.args(["--json", "report"]).arg(below_workspace(&run)).arg("--html").arg(run.join("report.html"));
    let said: Value =
        serde_json::from_str(&output(report.current_dir(workspace()))?).context("the report is not JSON")?;
    let summary = serde_json::to_vec_pretty(&said["summary"]).context("the summary is not JSON")?;
    fs::write(run.join("summary.json"), summary).context("writing the summary")?;
    fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    keep(programs, &run, &folder)
}

/// The files of a run that are kept; the probes compressed, since they are many times as large as all the others.
const KEPT: [&str; 4] = ["campaign.json", "trials.jsonl", "summary.json", "report.html"];

/// Copies what is kept of a run, with its report as text.
fn keep(programs: &Programs, run: &Path, to: &Path) -> Result<()> {
    // The files are under another name until they are complete.
    let part = to.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
    for file in KEPT {
        fs::copy(run.join(file), part.join(file)).with_context(|| format!("keeping {file}"))?;
    }
    // A stored result names no folder of the machine that made it.
    let page = part.join("report.html");
    let text = fs::read_to_string(&page).context("reading the report")?;
    fs::write(&page, text.replace(&format!("{}/", workspace().display()), ""))
        .context("keeping the report")?;
    // A trial that was not made is a part of the result.
    for file in ["not_made.jsonl", leader::LEADERS] {
        if run.join(file).exists() {
            fs::copy(run.join(file), part.join(file)).with_context(|| format!("keeping {file}"))?;
        }
    }
    if run.join(leader::LEADERS).exists() {
        fs::write(part.join("by-leader.txt"), leader::table(run)?).context("keeping who led")?;
    }
    let packed = fs::File::create(part.join("probes.jsonl.gz")).context("keeping the probes")?;
    run_shown(Command::new("gzip").args(["-9", "-n", "-c"]).arg(run.join("probes.jsonl")).stdout(packed))?;
    let mut report = Command::new(programs.injector());
    report.arg("report").arg(below_workspace(run)).current_dir(workspace());
    let report = output(&mut report)?;
    fs::write(part.join("report.txt"), report).context("keeping the report")?;
    fs::rename(&part, to).with_context(|| format!("moving a result to {}", to.display()))
}

/// Writes what `injector compare` says of two kept runs.
fn compare(programs: &Programs, kept: &Path, one: &str, two: &str) -> Result<()> {
    let mut compare = Command::new(programs.injector());
    compare.arg("compare").args([one, two]).current_dir(kept);
    let said = compare.output().context("comparing two runs")?;
    // 1 and 2 are answers too: worse, and undecided.
    ensure!(
        said.status.code().is_some_and(|code| code <= 2),
        "injector compare {one} {two}: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    let file = kept.join(format!("{one}-to-{two}.txt"));
    fs::write(&file, said.stdout).with_context(|| format!("writing {}", file.display()))?;
    Ok(())
}
