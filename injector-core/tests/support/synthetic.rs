//! Run directories as `measure` writes them, with planted truths and a seed.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use injector_core::api::{
    Coverage, CoverageState, EndpointRecord, HealedBy, HostRecord, InForce, LinkRecord, Outcome, Phases,
    ProbeView, RECORD_SCHEMA, RecoveryRecord, ShapePair, Stamped, TcpState,
};
use injector_core::clock::{MonoNs, Span, WallNs};
use injector_core::model::{
    Connection, Direction, Draw, EndpointProbe, NamedLink, ProbeOptions, ProbeRules, Ready, Shape, Traffic,
};
use injector_core::run::dir::{CAMPAIGN_SCHEMA, Campaign, Cell, Clock, Gates, RunDir, Settings, Versions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const SECOND: u64 = 1_000_000_000;
pub const DEADLINE: u64 = 20 * SECOND;
const OBSERVE: u64 = 12 * SECOND;
const PEERS: [&str; 3] = ["n1", "n2", "n3"];

pub fn campaign(trials: u64) -> Campaign {
    let probe = |base: &str, peer: &str, required, port| EndpointProbe {
        endpoint: format!("{base}@{peer}"),
        required,
        rules: ProbeRules {
            stimulus: format!("http GET http://10.0.0.{}:{port}/", &peer[1..]),
            settings: None,
            addresses: None,
            options: ProbeOptions {
                interval: Span::millis(10),
                timeout: Span::secs(1),
                connection: Connection::Fresh,
            },
        },
    };
    Campaign {
        schema: CAMPAIGN_SCHEMA,
        settings: Settings {
            cells: vec![Cell::new(Shape::RandomNode(Draw::default()), Span::secs(5))],
            trials,
            seed: 7,
            deadline: Span::secs(20),
            cool_down: Span::secs(12),
            cycle: None,
            ready: Ready {
                consecutive: 5,
                observe: Span::secs(12),
                observe_max: Span::secs(60),
                tolerate: Span::default(),
            },
            probes: PEERS
                .iter()
                .flat_map(|peer| [probe("ingress", peer, true, 8080), probe("metadata", peer, false, 5122)])
                .collect(),
            allow_uncovered: false,
            strict: false,
            verify: None,
            gates: Gates { max_rate: 0.0, ..Gates::default() },
        },
        conduct: None,
        versions: Versions {
            injector: "0.1.0".to_owned(),
            systems: [("quorum".to_owned(), "1.2.3 <beta>".to_owned())].into(),
        },
        kernel: "6.18.0".to_owned(),
        command: ["injector", "measure", "random-node", "--hold", "5s"].map(str::to_owned).to_vec(),
        clock: Clock { mono_ns: MonoNs(1_000 * SECOND), wall: WallNs(1_760_000_000_000_000_000) },
        started: WallNs(1_760_000_000_000_000_000),
    }
}

/// The values planted into one trial.
#[derive(Clone, Debug)]
pub struct Plant {
    pub outcome: Outcome,
    pub ready_ns: Option<u64>,
    pub settled_ns: Option<u64>,
    pub relapses: u64,
    pub observed_ns: Option<u64>,
    pub isolated: &'static str,
    pub starved: bool,
}

impl Plant {
    pub fn recovered(settled_ns: u64) -> Self {
        Self {
            outcome: Outcome::Recovered,
            ready_ns: Some(settled_ns),
            settled_ns: Some(settled_ns),
            relapses: 0,
            observed_ns: Some(settled_ns + OBSERVE),
            isolated: "n1",
            starved: false,
        }
    }

    pub fn not_recovered() -> Self {
        Self {
            outcome: Outcome::NotRecovered,
            ready_ns: None,
            settled_ns: None,
            observed_ns: Some(DEADLINE),
            ..Self::recovered(0)
        }
    }

    pub fn undecided(outcome: Outcome) -> Self {
        Self {
            outcome,
            ready_ns: None,
            settled_ns: None,
            observed_ns: Some(5 * SECOND),
            ..Self::recovered(0)
        }
    }

    /// A trial as a real cluster shows it: mostly fast, a heavy tail, `beyond` of them past the deadline.
    pub fn draw(rng: &mut impl rand::Rng, beyond: f64) -> Self {
        let tail = if rng.random_bool(0.15) { 6.0 } else { 1.5 };
        let seconds = 0.3 + -tail * (1.0 - rng.random::<f64>()).ln();
        let settled = (seconds.min(19.5) * 1e9) as u64;
        let mut plant =
            if rng.random_bool(beyond) { Self::not_recovered() } else { Self::recovered(settled) };
        if plant.settled_ns.is_some() && rng.random_bool(0.1) {
            plant.ready_ns = Some(settled / 3);
            plant.relapses = rng.random_range(1..4);
        }
        plant.isolated = PEERS[rng.random_range(0..3)];
        plant.starved = rng.random_bool(0.03);
        plant
    }
}

fn links(plant: &Plant, cut: u64, heal: u64) -> Vec<LinkRecord> {
    let (ready, after) = (plant.ready_ns, |ns: Option<u64>| ns.map(|ns| MonoNs(heal + ns)));
    PEERS
        .iter()
        .filter(|peer| **peer != plant.isolated)
        .flat_map(|peer| [(plant.isolated, *peer), (*peer, plant.isolated)])
        .enumerate()
        .map(|(at, (src, dst))| {
            let later = |per_mille: u64| after(share(ready, per_mille + 10 * at as u64));
            LinkRecord {
                src: src.to_owned(),
                dst: dst.to_owned(),
                dropped_packets: Some(120 + at as u64),
                dropped_bytes: Some(90_000),
                first_drop_ns: Some(MonoNs(cut + 3_000_000)),
                last_drop_ns: Some(MonoNs(heal - 3_000_000)),
                first_packet_ns: later(200),
                first_syn_ns: later(250),
                first_synack_ns: later(300),
                first_data_ns: later(400),
                reconnected_ns: later(300),
                tcp: plant.settled_ns.is_none().then(|| vec![stuck()]),
                in_force: Some(InForce::Yes),
                proved: true,
                ..LinkRecord::default()
            }
        })
        .collect()
}

/// The state of a socket that has waited through a cut.
fn stuck() -> TcpState {
    TcpState {
        seen_ns: MonoNs(0),
        local_port: 40_000,
        remote_port: 5122,
        state: "established".to_owned(),
        rto_ns: 13_056_000_000,
        backoff: 6,
        retransmits: 7,
    }
}

fn share(of: Option<u64>, per_mille: u64) -> Option<u64> {
    of.map(|ns| ns / 1000 * per_mille)
}

/// The record of a trial into which `plant` was planted; stamps lie after the heal as planted.
pub fn record(trial: u64, plant: &Plant) -> RecoveryRecord {
    let cut = 2_000 * SECOND + trial * 60 * SECOND;
    let heal = cut + 5 * SECOND;
    let stamp = |at: u64| Stamped {
        begin_ns: MonoNs(at - 2_000),
        end_ns: MonoNs(at),
        wall: WallNs(at.cast_signed()),
    };
    let after = |ns: Option<u64>| ns.map(|ns| MonoNs(heal + ns));
    let (ready, settled) = (plant.ready_ns, plant.settled_ns);
    let links = links(plant, cut, heal);
    let endpoint = |base: &str, peer: &str, required: bool| {
        let (ready, settled) = if required { (ready, settled) } else { (Some(SECOND), Some(SECOND)) };
        EndpointRecord {
            name: format!("{base}@{peer}"),
            peer: Some(peer.to_owned()),
            address: None,
            required,
            healthy_before: Some(true),
            failure_rate_before: Some(0.0),
            impaired: Some(peer == plant.isolated),
            first_response_ns: after(share(ready, 900)),
            first_ok_ns: after(share(ready, 950)),
            ready_ns: after(ready),
            settled_ns: after(settled),
            relapses: if required && peer == "n1" { plant.relapses } else { 0 },
            probes_sent: 1200,
            probes_failed: 40,
            outage: None,
            outcome: Some(if required || plant.outcome != Outcome::NotRecovered {
                plant.outcome
            } else {
                Outcome::Recovered
            }),
        }
    };
    RecoveryRecord {
        schema: RECORD_SCHEMA,
        name: format!("trial-{trial}"),
        generation: trial as u32 + 1,
        clock: None,
        trial: Some(trial),
        attempt: Some(1),
        warnings: Vec::new(),
        shape: ShapePair {
            asked: Shape::RandomNode(Draw::default()),
            resolved: Some(Shape::Isolate(vec![plant.isolated.into()])),
            direction: Direction::Both,
            roles: std::collections::BTreeMap::new(),
        },
        traffic: Some(Traffic::default()),
        seed: Some(trial),
        hold_ns: Some(5 * SECOND + 12_345),
        deadline_ns: DEADLINE,
        observe_ns: OBSERVE,
        cut: Some(stamp(cut)),
        heal: Some(stamp(heal)),
        healed_by: Some(HealedBy::Deadline),
        links,
        endpoints: ["ingress", "metadata"]
            .iter()
            .flat_map(|base| PEERS.iter().map(move |peer| (*base, *peer)))
            .map(|(base, peer)| endpoint(base, peer, base == "ingress"))
            .collect(),
        phases: Phases {
            silence_ns: share(ready, 230),
            reconnect_ns: share(ready, 100),
            return_ns: share(ready, 670),
            relapse_ns: settled.zip(ready).and_then(|(at, before)| at.checked_sub(before)),
            relapse_out_ns: None,
            after_links_ns: settled.zip(share(ready, 330)).and_then(|(at, before)| at.checked_sub(before)),
            last_synack_ns: None,
            last_link: Some(NamedLink {
                src: plant.isolated.to_owned(),
                dst: if plant.isolated == "n2" { "n1" } else { "n2" }.to_owned(),
            }),
        },
        outage: None,
        heal_to_ready_ns: ready,
        heal_to_settled_ns: settled,
        host: HostRecord {
            probe_lateness_p99_ns: Some(900_000),
            probe_rate: Some(600.0),
            cpu_pressure: Some(if plant.starved { 0.7 } else { 0.04 }),
            io_pressure: Some(0.0),
        },
        starved: plant.starved,
        lost_events: Some(0),
        proved: plant.outcome != Outcome::HarnessFailed,
        is_final: true,
        outcome: Some(plant.outcome),
        outcome_reason: Some("planted".to_owned()),
        closed_by: None,
        observed_until_ns: after(plant.observed_ns),
    }
}

/// The probes of a trial: failing from the cut to the planted ready, and in a relapse before settled.
pub fn probes(record: &RecoveryRecord) -> Vec<ProbeView> {
    let (cut, heal) = (record.cut.unwrap().end_ns.0, record.heal.unwrap().end_ns.0);
    let end = heal + record.heal_to_settled_ns.unwrap_or(record.deadline_ns) + 2 * SECOND;
    let mut all = Vec::new();
    for endpoint in &record.endpoints {
        let ready = endpoint.ready_ns.map_or(u64::MAX, |at| at.0);
        let settled = endpoint.settled_ns.map_or(u64::MAX, |at| at.0);
        for scheduled in (cut - SECOND..end).step_by(50_000_000) {
            let relapse = (ready.saturating_add(300_000_000)..settled).contains(&scheduled);
            let fails = endpoint.impaired == Some(true) && (cut..ready).contains(&scheduled) || relapse;
            all.push(ProbeView {
                endpoint: endpoint.name.clone(),
                scheduled_ns: MonoNs(scheduled),
                begun_ns: Some(MonoNs(scheduled)),
                done_ns: MonoNs(scheduled + if fails { 40_000_000 } else { 3_000_000 }),
                error: fails.then(|| "timed out <1s>".to_owned()),
                code: None,
            });
        }
    }
    all.sort_by_key(|probe| probe.scheduled_ns);
    all
}

/// Draws the plants of a campaign.
pub fn plants(trials: u64, seed: u64, beyond: f64) -> Vec<Plant> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..trials).map(|_| Plant::draw(&mut rng, beyond)).collect()
}

/// Writes a run directory whose records are changed before they are written.
pub fn write_with(
    path: &Path,
    campaign: &Campaign,
    plants: &[Plant],
    change: impl Fn(u64, &mut RecoveryRecord),
) {
    let mut run = RunDir::create(path, campaign).unwrap();
    for (trial, plant) in (0..).zip(plants) {
        let mut record = record(trial, plant);
        change(trial, &mut record);
        run.append(&record).unwrap();
    }
}

/// Writes a run directory; with `probes` every trial's too.
pub fn write(path: &Path, campaign: &Campaign, plants: &[Plant], with_probes: bool) {
    let mut run = RunDir::create(path, campaign).unwrap();
    for (trial, plant) in plants.iter().enumerate() {
        let record = record(trial as u64, plant);
        if with_probes {
            run.append_probes(trial as u64, 1, probes(&record)).unwrap();
        }
        run.append(&record).unwrap();
    }
}

/// Writes a large run directory without flushing each record to the disk.
pub fn write_unsynced(path: &Path, campaign: &Campaign, plants: &[Plant]) {
    drop(RunDir::create(path, campaign).unwrap());
    let mut out = BufWriter::new(File::create(path.join("trials.jsonl")).unwrap());
    for (trial, plant) in plants.iter().enumerate() {
        serde_json::to_writer(&mut out, &record(trial as u64, plant)).unwrap();
        out.write_all(b"\n").unwrap();
    }
    out.flush().unwrap();
}

/// Appends a text to a file, as a writer does that is cut short.
pub fn append_to(path: &Path, text: &str) {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    std::fs::write(path, before + text).unwrap();
}

/// Writes a run of so many planted trials, and gives its directory.
pub fn written(folder: &Path, name: &str, settings: &Campaign, seed: u64, beyond: f64) -> PathBuf {
    let path = folder.join(name);
    let trials = settings.settings.trials;
    write(&path, settings, &plants(trials, seed, beyond), false);
    path
}

/// Links left out, links of unknown coverage, and one cut that nothing proves.
pub fn doubtful(trial: u64, record: &mut RecoveryRecord) {
    record.links[0].left_out = true;
    record.links[1].coverage =
        Some(Coverage { state: CoverageState::Unknown, reason: None, is_translated: false });
    record.proved = trial != 0;
}

/// What a report says of [`doubtful`] trials.
pub const LEFT_OPEN: [&str; 3] = [
    "1 trial is of a cut that is not proved",
    "Links of 90 trials are not covered and were left out on purpose",
    "Coverage is unknown for links of 90 trials",
];
