//! Faults injected at every step of the daemon: whatever ends it, or fails it, traffic flows within the lease, nothing of ours stays on
//! the hooks, nothing of others is touched, and the next start works. Needs root.
//!
//! The program is the example `fault_injected` (see `injector/src/fault.rs`). A run that is only recorded
//! shows which steps each hook passes; the faults to inject are drawn from those. The long form is `cargo xtask soak crash`.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../support/live/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part")]
mod live;

mod hooks;
mod process;
mod scenario;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use hooks::Hook;
use injector_lab::needs;
use process::Plan;
use scenario::{Fixture, PassedSteps};
use table::Row;

/// How many faults are injected by default.
const POINTS: usize = 20;
/// What they are drawn with: the same in each run, so that a run that fails can be repeated. The long form draws others.
const SEED: u64 = 3_518_845_065_801_673_498;
/// How many labs have faults injected side by side.
const LANES: usize = 2;

/// A number of the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

/// Draws points: the first for as many different steps as there can be, the rest at random.
fn draw(hook: Hook, passed: &PassedSteps, count: usize, random: &mut ChaCha8Rng) -> Vec<Plan> {
    let mut steps: Vec<&String> = passed.keys().collect();
    steps.shuffle(random);
    let mut points = Vec::new();
    while points.len() < count {
        let step = steps.get(points.len()).copied().or_else(|| steps.choose(random).copied()).unwrap();
        let (times, can_fail) = passed[step];
        let kinds: &[&str] =
            if can_fail { &["kill", "panic", "ENOMEM", "EPERM", "ENOSPC"] } else { &["kill", "panic"] };
        let kind = (*kinds.choose(random).unwrap()).to_owned();
        points.push(Plan { hook, step: step.clone(), pass: random.random_range(1..=times), kind });
    }
    points
}

#[test]
#[needs(root, minutes = 2, example = "fault_injected")]
fn whatever_step_the_daemon_dies_or_fails_at_traffic_flows_and_the_next_start_works() {
    let binary = Path::new(env!("CARGO_BIN_EXE_injector")).with_file_name("examples/fault_injected");
    let count = number("INJECTOR_CRASH_POINTS", POINTS as u64) as usize;
    let seed = number("INJECTOR_CRASH_SEED", if count == POINTS { SEED } else { rand::random() });
    println!("INJECTOR_CRASH_SEED={seed}");
    let hooks = Hook::all();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut points = Vec::new();
    for (at, hook) in hooks.iter().enumerate() {
        let passed = Fixture::new(*hook, &binary).record();
        let share = count / hooks.len() + usize::from(at < count % hooks.len());
        println!("{hook}: {} steps, {share} points", passed.len());
        points.extend(draw(*hook, &passed, share, &mut random));
    }
    points.shuffle(&mut random);
    if let Ok(point) = std::env::var("INJECTOR_CRASH_POINT") {
        points = vec![Plan::parse(&point)];
    }

    let (queue, rows) = (Mutex::new(points), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let mut fixtures: BTreeMap<Hook, Fixture> = BTreeMap::new();
                loop {
                    let Some(plan) = queue.lock().unwrap().pop() else { return };
                    // A lab that a failure has left behind is not used again.
                    let mut fixture =
                        fixtures.remove(&plan.hook).unwrap_or_else(|| Fixture::new(plan.hook, &binary));
                    let row = fixture.inject(&plan);
                    println!("{row}");
                    if row.failure.is_none() {
                        fixtures.insert(plan.hook, fixture);
                    }
                    rows.lock().unwrap().push(row);
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap();
    table::store(seed, &rows);
    let failed: Vec<&Row> = rows.iter().filter(|row| row.failure.is_some()).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), rows.len());
    // Points near the end of what was recorded may not be reached again.
    let injected = rows.iter().filter(|row| row.was_injected).count();
    assert!(injected * 10 >= rows.len() * 7, "only {injected} of {} faults were injected", rows.len());
}

#[test]
fn what_users_run_has_no_faults_built_in() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_injector")).unwrap();
    let has = |word: &[u8]| binary.windows(word.len()).any(|part| part == word);
    assert!(has(b"INJECTOR_LOG"), "its own variables are found in it");
    assert!(!has(b"INJECTOR_FAULT"));
}
