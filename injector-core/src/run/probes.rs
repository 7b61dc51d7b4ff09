//! Reading `probes.jsonl`: one trial's probes at a time, wherever they are in the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{ReadError, io_error};
use super::file;
use super::layout::{PROBES, PROBES_INDEX, TrialProbes};
use crate::api::ProbeView;

/// Probes by the index of their trial.
pub type Probes = HashMap<u64, Vec<ProbeView>>;

/// The place where a line begins, and the line's length.
type LineExtent = (u64, u64);

/// The result of reading the place of a trial's probes.
enum Lookup {
    Probes(Vec<ProbeView>),
    /// The place of the probes is not known.
    Nothing,
    /// The line there is not of the wanted trial and attempt.
    Other,
}

/// A `probes.jsonl` whose lines are known.
#[derive(Debug)]
pub struct ProbeFile {
    path: PathBuf,
    file: File,
    places: HashMap<(u64, u32), LineExtent>,
}

impl ProbeFile {
    /// Opens the file of a run directory; `None` if it has none. Without an index that fits, the file is read once.
    pub fn open(directory: &Path) -> Result<Option<Self>, ReadError> {
        let path = directory.join(PROBES);
        if !path.exists() {
            return Ok(None);
        }
        let file = file::open(&path)?;
        let length = file.metadata().map_err(io_error(&path))?.len();
        let index = file::whole(&directory.join(PROBES_INDEX)).ok();
        let index = index.and_then(|text| String::from_utf8(text).ok());
        let places = match index.and_then(|text| indexed(&text, length)) {
            Some(places) => places,
            None => scanned(&path)?,
        };
        Ok(Some(Self { path, file, places }))
    }

    /// The probes of an attempt at a trial; `None` if the file has none.
    pub fn of(&mut self, trial: u64, attempt: u32) -> Result<Option<Vec<ProbeView>>, ReadError> {
        let found = match self.read(trial, attempt)? {
            // The index fits the file's length and not its lines.
            Lookup::Other => {
                self.places = scanned(&self.path)?;
                self.read(trial, attempt)?
            }
            found => found,
        };
        Ok(match found {
            Lookup::Probes(probes) => Some(probes),
            Lookup::Nothing | Lookup::Other => None,
        })
    }

    fn read(&mut self, trial: u64, attempt: u32) -> Result<Lookup, ReadError> {
        let Some(&(begins, length)) = self.places.get(&(trial, attempt)) else { return Ok(Lookup::Nothing) };
        if length > file::LONGEST {
            return Ok(Lookup::Other);
        }
        let mut line = vec![0; length as usize];
        self.file
            .seek(SeekFrom::Start(begins))
            .and_then(|_| self.file.read_exact(&mut line))
            .map_err(io_error(&self.path))?;
        Ok(match serde_json::from_slice::<TrialProbes>(&line) {
            Ok(found) if (found.trial, found.attempt) == (trial, attempt) => Lookup::Probes(found.probes),
            _ => Lookup::Other,
        })
    }
}

/// The lines' places by the index; `None` where it does not fit a file of this length.
fn indexed(text: &str, file_length: u64) -> Option<HashMap<(u64, u32), LineExtent>> {
    let mut places = HashMap::new();
    let mut end = 0;
    for line in text.lines() {
        let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [trial, attempt, begins, length] = numbers[..] else { return None };
        places.insert((trial, u32::try_from(attempt).ok()?), (begins, length));
        end = end.max(begins.checked_add(length)?);
    }
    (end == file_length).then_some(places)
}

/// The lines' places by reading all of the file.
fn scanned(path: &Path) -> Result<HashMap<(u64, u32), LineExtent>, ReadError> {
    #[derive(Deserialize)]
    struct Head {
        trial: u64,
        attempt: u32,
    }
    let mut lines = BufReader::with_capacity(1 << 16, file::open(path)?);
    let (mut places, mut line, mut begins) = (HashMap::new(), Vec::new(), 0);
    for number in 1.. {
        line.clear();
        let length = file::next_line(&mut lines, &mut line).map_err(io_error(path))?;
        if length == 0 {
            break;
        }
        match serde_json::from_slice::<Head>(&line) {
            Ok(head) => places.insert((head.trial, head.attempt), (begins, length)),
            // A torn last line belongs to a trial without a record.
            Err(_) if !line.ends_with(b"\n") => break,
            Err(source) => return Err(ReadError::Line { path: path.to_owned(), line: number, source }),
        };
        begins += length;
    }
    Ok(places)
}

/// The probes of some trials, given with the attempt that counts; trials without any are left out.
pub fn probes(directory: &Path, wanted: &[(u64, u32)]) -> Result<Probes, ReadError> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let Some(mut file) = ProbeFile::open(directory)? else { return Ok(found) };
    for &(trial, attempt) in wanted {
        if let Some(probes) = file.of(trial, attempt)? {
            found.insert(trial, probes);
        }
    }
    Ok(found)
}
