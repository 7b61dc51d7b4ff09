//! The run directory of a campaign: written trial by trial, and opened again after a crash. [`layout`](super::layout) has
//! its files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::ReadError;
use super::file;
pub use super::layout::{
    CAMPAIGN, NOT_MADE, NotMade, OPEN, OpenTrials, PROBES, PROBES_INDEX, SUMMARY, TRIALS, TrialProbes,
};
use super::read::{self, LastLineFault, Lines};
pub use super::settings::{CAMPAIGN_SCHEMA, Campaign, Cell, Clock, Gates, Settings, StopWhen, Versions};
use crate::api::{ProbeView, RecoveryRecord, Trial};
use crate::stats::summary::Summary;

/// Why a run directory can't be made, opened or written.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The folder is there already.
    #[error("{} already holds something; continue with --resume, or choose another --out", .0.display())]
    Exists(PathBuf),
    /// There is nothing to resume.
    #[error("{} holds no campaign to resume ({CAMPAIGN} is missing); leave --resume out", .0.display())]
    NothingToResume(PathBuf),
    /// Another process writes it.
    #[error("{} is being written by another measure; wait for it, or choose another --out", .0.display())]
    Busy(PathBuf),
    /// The settings are not those it was begun with.
    #[error(
        "{} was begun with other settings; {}; use the same ones, or choose another --out",
        .path.display(), .differences.join("; ")
    )]
    Changed {
        /// The directory.
        path: PathBuf,
        /// `name: begun with, now`.
        differences: Vec<String>,
    },
    /// The content of the directory can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The operating system refuses.
    #[error(
        "can't {operation} {}: {source}{}",
        .path.display(), file::remedy(.source).map_or_else(String::new, |remedy| format!("; {remedy}"))
    )]
    Io {
        /// The operation that failed, as a verb.
        operation: &'static str,
        /// The path that the operation was on.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> RunDirError + use<'a> {
    move |source| RunDirError::Io { operation, path: path.to_owned(), source }
}

/// The trials that an opened campaign has made so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Trials with a record, and the attempt that counts.
    pub complete: BTreeMap<u64, u32>,
    /// The trials that were begun and have no record: each is to be made again, as this attempt + 1. A cycle begins a trial
    /// before the record of the one before it.
    pub open: Vec<Trial>,
    /// The number of the torn last line of `trials.jsonl` that was dropped.
    pub torn_line: Option<u64>,
}

impl Progress {
    /// The attempt with which a trial is to be made next: 1, or one more than those that were begun or recorded.
    pub fn next_attempt(&self, trial: u64) -> u32 {
        let begun = self.open.iter().filter(|open| open.index == trial).map(|open| open.attempt).max();
        self.complete.get(&trial).copied().max(begun).map_or(1, |attempt| attempt.saturating_add(1))
    }

    /// The trials of a campaign of `trials` that have no record yet, in order.
    pub fn missing(&self, trials: u64) -> impl Iterator<Item = u64> {
        (0..trials).filter(|trial| !self.complete.contains_key(trial))
    }
}

/// A run directory that is being written; one process at a time.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    trials: File,
    /// As in [`Progress::open`].
    open: Vec<Trial>,
}

impl RunDir {
    /// Makes a new run directory; a folder that is there must be empty, except for what a beginning that was cut short
    /// leaves: no records, and a `campaign.json` that never got its name.
    pub fn create(path: &Path, campaign: &Campaign) -> Result<Self, RunDirError> {
        // Which systems were tested is private to the user. A folder that existed before keeps its mode.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("make", path))?;
        let unnamed = fresh(CAMPAIGN);
        for entry in fs::read_dir(path).map_err(io_error("list", path))? {
            let entry = entry.map_err(io_error("list", path))?;
            let name = entry.file_name();
            let is_left = name == *unnamed
                || (name == TRIALS && entry.metadata().is_ok_and(|file| file.is_file() && file.len() == 0));
            if !is_left {
                return Err(RunDirError::Exists(path.to_owned()));
            }
        }
        let run = Self { path: path.to_owned(), trials: locked(path)?, open: Vec::new() };
        run.replace(CAMPAIGN, &pretty(campaign))?;
        Ok(run)
    }

    /// Opens a run directory to continue: its settings must be those of `campaign`, a torn last line is dropped.
    pub fn open(path: &Path, campaign: &Campaign) -> Result<(Self, Progress), RunDirError> {
        if !path.join(CAMPAIGN).exists() {
            return Err(RunDirError::NothingToResume(path.to_owned()));
        }
        let begun = read::campaign(path)?;
        let mut differences = begun.settings.differences(&campaign.settings);
        differences.extend(begun.versions.other_systems(&campaign.versions));
        if !differences.is_empty() {
            return Err(RunDirError::Changed { path: path.to_owned(), differences });
        }
        let mut run = Self { path: path.to_owned(), trials: locked(path)?, open: Vec::new() };
        let mut progress = run.recover_trials()?;
        run.recover_probes()?;
        let noted: Option<OpenTrials> = match file::whole(&path.join(OPEN)) {
            Ok(text) => serde_json::from_slice(&text).ok(),
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let is_open = |open: &Trial| progress.complete.get(&open.index).is_none_or(|&a| a < open.attempt);
        run.open = noted.map(OpenTrials::all).into_iter().flatten().filter(is_open).collect();
        progress.open.clone_from(&run.open);
        Ok((run, progress))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that a trial is about to be made, so that a crash during it is known afterwards.
    pub fn begin(&mut self, trial: Trial) -> Result<(), RunDirError> {
        self.open.retain(|open| open.index != trial.index);
        self.replace(OPEN, &pretty(&OpenTrials::new(trial, self.open.clone())))?;
        self.open.push(trial);
        Ok(())
    }

    /// Notes why a trial was not made.
    pub fn not_made(&self, not_made: &NotMade) -> Result<(), RunDirError> {
        let mut line = serde_json::to_vec(not_made).expect("it has string keys");
        line.push(b'\n');
        let path = self.path.join(NOT_MADE);
        appending(&path)?.write_all(&line).map_err(io_error("append to", &path))
    }

    /// Appends a record, in one write, and hands it to the disk.
    pub fn append(&mut self, record: &RecoveryRecord) -> Result<(), RunDirError> {
        let mut line = serde_json::to_vec(record).expect("a record has string keys");
        line.push(b'\n');
        let path = self.path.join(TRIALS);
        self.trials.write_all(&line).map_err(io_error("append to", &path))?;
        self.trials.sync_data().map_err(io_error("flush", &path))?;
        // Of the file it is left out when the next trial begins: until then its record says that it is not open.
        self.open.retain(|open| record.trial != Some(open.index));
        Ok(())
    }

    /// Appends a trial's probes. To be called before [`Self::append`], so that a record never lacks its probes.
    pub fn append_probes(
        &mut self,
        trial: u64,
        attempt: u32,
        probes: Vec<ProbeView>,
    ) -> Result<(), RunDirError> {
        let mut line =
            serde_json::to_vec(&TrialProbes { trial, attempt, probes }).expect("probes have string keys");
        line.push(b'\n');
        let path = self.path.join(PROBES);
        let mut file = appending(&path)?;
        let begins = file.seek(SeekFrom::End(0)).map_err(io_error("seek in", &path))?;
        file.write_all(&line).map_err(io_error("append to", &path))?;
        let index = self.path.join(PROBES_INDEX);
        let entry = format!("{trial} {attempt} {begins} {}\n", line.len());
        appending(&index)?.write_all(entry.as_bytes()).map_err(io_error("append to", &index))
    }

    /// Writes `summary.json`.
    pub fn finish(&self, summary: &Summary) -> Result<(), RunDirError> {
        self.replace(SUMMARY, &pretty(summary))
    }

    /// Removes the note of the trials that were begun: every trial has its record, and none is to be made again.
    pub fn close(&self) -> Result<(), RunDirError> {
        let path = self.path.join(OPEN);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Writes a file whole or not at all.
    fn replace(&self, name: &str, text: &[u8]) -> Result<(), RunDirError> {
        let (path, fresh) = (self.path.join(name), self.path.join(fresh(name)));
        let options = &mut File::options();
        let file = file::open_with(options.create(true).write(true).truncate(true), &fresh);
        let mut file = file.map_err(io_error("write", &fresh))?;
        file.write_all(text).and_then(|()| file.sync_data()).map_err(io_error("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(io_error("replace", &path))
    }

    fn recover_trials(&mut self) -> Result<Progress, RunDirError> {
        let path = self.path.join(TRIALS);
        let mut progress = Progress::default();
        let mut lines = Lines::open(&path)?;
        let mut whole = 0;
        while let Some(line) = lines.next_record()? {
            match line {
                Ok(record) => {
                    whole = lines.offset();
                    let (Some(trial), attempt) = (record.trial, record.attempt.unwrap_or(1)) else {
                        continue;
                    };
                    let known = progress.complete.entry(trial).or_insert(attempt);
                    *known = attempt.max(*known);
                }
                Err(LastLineFault::Torn) => progress.torn_line = Some(lines.number()),
                Err(LastLineFault::Unfinished(record)) => {
                    // All of it is there but the line's end: that is all that has to be repaired.
                    self.trials.write_all(b"\n").map_err(io_error("append to", &path))?;
                    whole = lines.offset() + 1;
                    if let Some(trial) = record.trial {
                        progress.complete.insert(trial, record.attempt.unwrap_or(1));
                    }
                }
            }
        }
        self.trials.set_len(whole).map_err(io_error("cut", &path))?;
        Ok(progress)
    }

    /// Cuts what a crash left of a line off; the index is a convenience, so that it is simply cut at its last line.
    fn recover_probes(&self) -> Result<(), RunDirError> {
        for name in [PROBES, PROBES_INDEX, NOT_MADE] {
            let path = self.path.join(name);
            if path.exists() {
                let file = file::open_with(File::options().read(true).write(true), &path);
                let mut file = file.map_err(io_error("open", &path))?;
                cut_after_last_newline(&mut file).map_err(io_error("cut", &path))?;
            }
        }
        Ok(())
    }
}

/// The name of a file until it is whole.
fn fresh(name: &str) -> String {
    format!(".{name}.new")
}

fn cut_after_last_newline(file: &mut File) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return file.set_len(begin + at as u64 + 1);
        }
        end = begin;
    }
    file.set_len(0)
}

fn appending(path: &Path) -> Result<File, RunDirError> {
    file::open_with(File::options().create(true).append(true), path).map_err(io_error("open", path))
}

/// `trials.jsonl`, opened to append and locked against a second writer.
fn locked(directory: &Path) -> Result<File, RunDirError> {
    let path = directory.join(TRIALS);
    let file = appending(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(RunDirError::Busy(directory.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("string keys and finite numbers");
    text.push(b'\n');
    text
}
