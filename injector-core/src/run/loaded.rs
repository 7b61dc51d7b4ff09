//! A run directory in memory: what statistics and reports need of each record, not the records.

use std::path::{Path, PathBuf};

use super::dir::NotMade;
use super::error::ReadError;
use super::probes::ProbeFile;
use super::read;
use super::settings::{Campaign, Settings};
use crate::api::{LinkRecord, RECORD_SCHEMA, RecoveryRecord};
use crate::clock::{MonoNs, Span};
use crate::figures::time;
use crate::measure::again::{again, upgraded};
use crate::model::{EndpointProbe, Ready};
use crate::stats::summary::{Plan, Summary, summarize};
use crate::stats::trial::Trial;

/// The links of a trial that a report can show; of a larger shape, those that came back last.
const LINKS: usize = 24;

/// The times of a trial's link: nanoseconds from the heal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTimes {
    /// The sender.
    pub src: String,
    /// The receiver.
    pub dst: String,
    /// Dropped packets.
    pub dropped: Option<u64>,
    /// First packet, SYN, SYN-ACK, payload.
    pub firsts_ns: [Option<u64>; 4],
}

/// The facts that a timeline shows of a trial beyond [`Trial`].
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// The line of `trials.jsonl` that holds the record, from 1.
    pub line: u64,
    /// The heal, on the monotonic clock.
    pub heal: Option<MonoNs>,
    /// How long before the heal the cut took effect.
    pub cut_before_ns: Option<u64>,
    /// Links, those that came back last first.
    pub links: Vec<LinkTimes>,
    /// Links that are not in `links`.
    pub links_left_out: usize,
    /// TCP sockets that were stuck just before the deadline, in words; at most as many as links.
    pub stuck: Vec<String>,
    /// Dropped packets, all links.
    pub dropped_packets: Option<u64>,
    /// 99th percentile of the probes' lateness.
    pub lateness_p99_ns: Option<u64>,
    /// The share of time in which some task waited for a CPU.
    pub cpu_pressure: Option<f64>,
    /// The share of time in which some task waited for I/O.
    pub io_pressure: Option<f64>,
    /// Lost events.
    pub lost_events: Option<u64>,
}

impl Detail {
    pub(crate) fn new(record: &RecoveryRecord, line: u64) -> Self {
        let heal = record.heal.as_ref();
        let after = |at: Option<MonoNs>| {
            let heal = heal?;
            at.filter(|&at| at >= heal.begin_ns).map(|at| at.0.saturating_sub(heal.end_ns.0))
        };
        // A time that never came sorts last.
        let late = |link: &&LinkRecord| std::cmp::Reverse(link.first_packet_ns.unwrap_or(MonoNs(u64::MAX)));
        let mut links: Vec<&LinkRecord> = record.links.iter().collect();
        links.sort_by_key(late);
        Self {
            line,
            heal: heal.map(|heal| heal.end_ns),
            cut_before_ns: heal
                .zip(record.cut.as_ref())
                .and_then(|(heal, cut)| heal.end_ns.since(cut.end_ns)),
            links_left_out: links.len().saturating_sub(LINKS),
            links: links
                .into_iter()
                .take(LINKS)
                .map(|link| LinkTimes {
                    src: link.src.clone(),
                    dst: link.dst.clone(),
                    dropped: link.dropped_packets,
                    firsts_ns: [
                        link.first_packet_ns,
                        link.first_syn_ns,
                        link.first_synack_ns,
                        link.first_data_ns,
                    ]
                    .map(after),
                })
                .collect(),
            stuck: record
                .links
                .iter()
                .flat_map(|link| {
                    let sockets = link.tcp.iter().flatten().filter(|socket| socket.is_stuck());
                    sockets.map(move |socket| {
                        format!(
                            "{}:{} → {}:{} {}, RTO {}, backoff {}, {} retransmits",
                            link.src,
                            socket.local_port,
                            link.dst,
                            socket.remote_port,
                            socket.state,
                            time(socket.rto_ns),
                            socket.backoff,
                            socket.retransmits
                        )
                    })
                })
                .take(LINKS)
                .collect(),
            dropped_packets: record.links.iter().map(|link| link.dropped_packets).sum(),
            lateness_p99_ns: record.host.probe_lateness_p99_ns,
            cpu_pressure: record.host.cpu_pressure,
            io_pressure: record.host.io_pressure,
            lost_events: record.lost_events,
        }
    }
}

/// A campaign as a report sees it.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where it is.
    pub path: PathBuf,
    /// How it was run.
    pub campaign: Campaign,
    /// Its trials in order, the last attempt of each.
    pub trials: Vec<Trial>,
    /// The details of these trials, in the same order.
    pub details: Vec<Detail>,
    /// Notices about the directory.
    pub notes: Vec<String>,
    /// Trials that were not made, and why, in the order in which they were tried.
    pub not_made: Vec<NotMade>,
    /// The bound that the records were judged by, where it is not the timeouts.
    pub served_within: Option<Span>,
    /// Its figures.
    pub summary: Summary,
}

/// Judges records again that need it: those of an older schema, and all of them for another bound.
struct Reassessment<'a> {
    path: &'a Path,
    ready: Ready,
    endpoints: Vec<EndpointProbe>,
    served_within: Option<Span>,
    probes: Option<ProbeFile>,
}

impl<'a> Reassessment<'a> {
    /// # Errors
    /// If the probes can't be read, or if no probe waited long enough to see whether an answer came within the bound.
    fn open(path: &'a Path, settings: &Settings, served_within: Option<Span>) -> Result<Self, ReadError> {
        let longest = settings.probes.iter().map(|probe| probe.rules.options.timeout).max();
        if let (Some(bound), Some(longest)) = (served_within, longest) {
            if bound.0.is_zero() {
                return Err(ReadError::BoundOfZero { longest });
            }
            if bound > longest {
                return Err(ReadError::BoundAboveTimeouts { bound, longest });
            }
        }
        Ok(Self {
            path,
            ready: settings.ready,
            endpoints: settings.probes.clone(),
            served_within,
            probes: ProbeFile::open(path)?,
        })
    }

    /// Names the endpoints whose probes gave up before the bound: it is their timeout that they are judged by.
    fn shorter_timeouts(&self) -> Option<String> {
        let bound = self.served_within?;
        let shorter = self.endpoints.iter().filter(|probe| probe.rules.options.timeout < bound);
        let names: Vec<String> =
            shorter.map(|probe| format!("{} ({})", probe.endpoint, probe.rules.options.timeout)).collect();
        (!names.is_empty()).then(|| {
            format!(
                "Some probes waited less than {bound}, and their timeout is the bound for them: {}.",
                names.join(", ")
            )
        })
    }

    fn judged(&mut self, trial: u64, record: Box<RecoveryRecord>) -> Result<RecoveryRecord, ReadError> {
        if record.schema == RECORD_SCHEMA && self.served_within.is_none() {
            return Ok(*record);
        }
        let probes = match &mut self.probes {
            Some(file) => file.of(trial, record.attempt.unwrap_or(1))?,
            None => None,
        };
        let judged = probes
            .and_then(|probes| again(&record, &probes, &self.ready, &self.endpoints, self.served_within));
        match judged {
            Some(judged) => Ok(judged),
            None if self.served_within.is_some() && record.heal.is_some() => {
                Err(ReadError::NoProbes { path: self.path.to_owned(), trial })
            }
            None => Ok(upgraded(&record)),
        }
    }
}

impl Run {
    /// Reads a run directory, also one whose campaign is still running.
    pub fn load(path: &Path) -> Result<Self, ReadError> {
        Self::load_within(path, None)
    }

    /// The records of a run directory, the last attempt of each trial, judged as [`Self::load_within`] does.
    pub fn records(path: &Path, served_within: Option<Span>) -> Result<Vec<RecoveryRecord>, ReadError> {
        let campaign = read::campaign(path)?;
        let mut again = Reassessment::open(path, &campaign.settings, served_within)?;
        let (kept, _) = read::trials(path, |index, record, _| again.judged(index, record))?;
        Ok(kept.into_values().collect())
    }

    /// The name of the run: that of its directory.
    pub fn name(&self) -> String {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| "campaign".to_owned())
    }

    /// Reads a run directory, with every record judged again from its probes: an answer counts as served if
    /// it came within `served_within` of the instant at which its probe was sent.
    pub fn load_within(path: &Path, served_within: Option<Span>) -> Result<Self, ReadError> {
        let campaign = read::campaign(path)?;
        let mut again = Reassessment::open(path, &campaign.settings, served_within)?;
        let (kept, mut notes) = read::trials(path, |index, record, line| {
            let record = again.judged(index, record)?;
            Ok((campaign.settings.trial(index, &record), Detail::new(&record, line)))
        })?;
        notes.extend(again.shorter_timeouts());
        let (trials, details): (Vec<Trial>, Vec<Detail>) = kept.into_values().unzip();
        // The records do not say why there are no more of them.
        let given_up = read::summary(path).ok().and_then(|summary| summary.given_up);
        let summary = summarize(&trials, &Plan { given_up, ..campaign.settings.plan() });
        let not_made = read::not_made(path)?;
        Ok(Self { path: path.to_owned(), campaign, trials, details, notes, not_made, served_within, summary })
    }
}
