//! Reading a run directory: as a stream, so that memory does not grow with the raw records.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{ReadError, SupportedVersions, io_error};
use super::file;
use super::layout::{CAMPAIGN, NOT_MADE, NotMade, SUMMARY, TRIALS};
use super::settings::{CAMPAIGN_SCHEMA, Campaign};
use crate::api::RecoveryRecord;
use crate::stats::summary::{SUMMARY_SCHEMA, Summary};

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u64,
}

/// Reads text with a schema: another version is reported as such even where its layout can't be read.
fn versioned<T: DeserializeOwned>(
    text: &[u8],
    known: SupportedVersions,
    path: &Path,
    line: u64,
) -> Result<T, ReadError> {
    match serde_json::from_slice::<SchemaOnly>(text) {
        Ok(SchemaOnly { schema }) if !u32::try_from(schema).is_ok_and(|schema| known.contains(schema)) => {
            Err(ReadError::Schema { path: path.to_owned(), found: schema, known })
        }
        _ => serde_json::from_slice(text).map_err(|source| ReadError::Line {
            path: path.to_owned(),
            line,
            source,
        }),
    }
}

fn whole<T: DeserializeOwned>(
    directory: &Path,
    name: &str,
    known: SupportedVersions,
) -> Result<T, ReadError> {
    let path = directory.join(name);
    versioned(&file::whole(&path)?, known, &path, 1)
}

/// Reads `campaign.json`.
pub fn campaign(directory: &Path) -> Result<Campaign, ReadError> {
    whole(directory, CAMPAIGN, SupportedVersions::only(CAMPAIGN_SCHEMA))
}

/// Reads `summary.json`.
pub fn summary(directory: &Path) -> Result<Summary, ReadError> {
    whole(directory, SUMMARY, SupportedVersions::only(SUMMARY_SCHEMA))
}

/// Reads `not_made.jsonl`, if it is there. A torn last line is left out.
pub fn not_made(directory: &Path) -> Result<Vec<NotMade>, ReadError> {
    let path = directory.join(NOT_MADE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = file::whole(&path)?;
    let mut found = Vec::new();
    for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(not_made) => found.push(not_made),
            Err(_) if !line.ends_with(b"\n") => {}
            Err(source) => return Err(ReadError::Line { path, line: at as u64 + 1, source }),
        }
    }
    Ok(found)
}

/// The fault of a last line.
#[derive(Debug)]
pub enum LastLineFault {
    /// The line is the beginning of a record.
    Torn,
    /// The line lacks only its end of line.
    Unfinished(Box<RecoveryRecord>),
}

/// The records of a `trials.jsonl`, one at a time.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    offset: u64,
}

impl Lines {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(1 << 16, file::open(path)?),
            line: vec![],
            number: 0,
            offset: 0,
        })
    }

    /// The number of the line that was read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The offset of what follows it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; a broken last line is reported, a broken line before it is an error.
    pub fn next_record(&mut self) -> Result<Option<Result<Box<RecoveryRecord>, LastLineFault>>, ReadError> {
        loop {
            self.line.clear();
            let read = file::next_line(&mut self.file, &mut self.line).map_err(io_error(&self.path))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.offset += read;
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let ended = self.line.ends_with(b"\n");
        match self.parse() {
            Ok(record) if ended => Ok(Some(Ok(record))),
            Ok(record) => Ok(Some(Err(LastLineFault::Unfinished(record)))),
            Err(ReadError::Line { source, .. }) if !source.is_data() && self.at_end()? => {
                Ok(Some(Err(LastLineFault::Torn)))
            }
            Err(error) => Err(error),
        }
    }

    fn parse(&self) -> Result<Box<RecoveryRecord>, ReadError> {
        // The common case is parsed once; only a line that does not fit is read again for its schema.
        match serde_json::from_slice::<Box<RecoveryRecord>>(&self.line) {
            Ok(record) if SupportedVersions::RECORDS.contains(record.schema) => Ok(record),
            _ => versioned(&self.line, SupportedVersions::RECORDS, &self.path, self.number),
        }
    }

    fn at_end(&mut self) -> Result<bool, ReadError> {
        Ok(self.file.fill_buf().map_err(io_error(&self.path))?.is_empty())
    }
}

/// Folds the record that counts of each trial (that of its last attempt), with its line, into `keep`; answers what was kept by
/// trial, and notices about the file.
pub fn trials<T>(
    directory: &Path,
    mut keep: impl FnMut(u64, Box<RecoveryRecord>, u64) -> Result<T, ReadError>,
) -> Result<(BTreeMap<u64, T>, Vec<String>), ReadError> {
    let path = directory.join(TRIALS);
    let mut lines = Lines::open(&path)?;
    let mut kept: BTreeMap<u64, (u32, T)> = BTreeMap::new();
    let mut notes = Vec::new();
    let mut repeated = 0_u64;
    while let Some(line) = lines.next_record()? {
        let record = match line {
            Ok(record) | Err(LastLineFault::Unfinished(record)) => record,
            Err(LastLineFault::Torn) => {
                notes.push(format!(
                    "The last line of {TRIALS} (line {}) is torn and was left out: the campaign was interrupted while it wrote.",
                    lines.number()
                ));
                continue;
            }
        };
        let index =
            record.trial.ok_or_else(|| ReadError::NoTrial { path: path.clone(), line: lines.number() })?;
        let attempt = record.attempt.unwrap_or(1);
        if let Some((before, _)) = kept.get(&index) {
            repeated += 1;
            if *before > attempt {
                continue;
            }
        }
        kept.insert(index, (attempt, keep(index, record, lines.number())?));
    }
    if repeated > 0 {
        notes.push(format!(
            "{repeated} earlier attempts were made again; only the last attempt of a trial counts."
        ));
    }
    Ok((kept.into_iter().map(|(index, (_, kept))| (index, kept)).collect(), notes))
}
