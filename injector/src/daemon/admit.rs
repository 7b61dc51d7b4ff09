//! Whether a partition may be cut: its links must have an end here, and pass hooks of ours.

use std::collections::BTreeSet;

use super::attachment::LinkCoverage;
use super::partition::{Covered, Partition, named, shortened};
use super::request::Answer;
use super::state::State;
use crate::server::command::Requester;
use injector_common::SLOTS;
use injector_core::api::{
    Code, CoverageState, PartitionRequest, PartitionState, Problem, Warning, WarningCode,
};
use injector_core::campaign::is_named;
use injector_core::clock::MonoNs;
use injector_core::config::Role;
use injector_core::figures::counted;
use injector_core::ledger::Life;
use injector_core::model::Link;
use injector_core::sample::EndpointId;

/// How many links a refusal names.
const SHOWN: usize = 4;
/// How many of the slots all users together may hold who are neither root nor the daemon's own: root always finds a slot for a
/// cut of its own. Each of them may hold half of what the others leave, so that the next one finds one, too.
const ALL_MEMBERS: usize = 28;

impl State {
    /// Refuses a partition of a user who holds its share of the slots already. Partitions that are healed and watched do
    /// not count: they give way.
    pub(super) fn within_share(&self, by: Requester) -> Answer<()> {
        let Requester::Member(uid) = by else { return Ok(()) };
        let holds = |life: &Life| life.state == PartitionState::Prepared || life.is_live();
        let held = self.ledger.iter().filter(|partition| holds(&partition.life));
        let (mut own, mut all) = (0, 0);
        for partition in held {
            if let Requester::Member(holder) = partition.experiment.by {
                all += 1;
                own += usize::from(holder == uid);
            }
        }
        let others = all - own;
        let what = if all >= ALL_MEMBERS {
            format!(
                "users hold {all} partitions, and the last {} are kept for root",
                SLOTS as usize - ALL_MEMBERS
            )
        } else if own >= (ALL_MEMBERS - others).div_ceil(2) {
            let beside = if others == 0 { String::new() } else { format!(" while others hold {others}") };
            format!("uid {uid} holds {own} partitions, which is the limit for one user{beside}")
        } else {
            return Ok(());
        };
        Err(Problem::new(Code::NoFreeSlot, what).remedy("heal one of them"))
    }

    /// Leaves the links with neither end here to the daemons of other hosts.
    pub(super) fn keep_here(&self, partition: &mut Partition) -> Answer<()> {
        let is_here = |link: &Link| self.config.is_here(link.src) || self.config.is_here(link.dst);
        let (here, elsewhere): (Vec<Link>, Vec<Link>) =
            partition.life.links.iter().partition(|link| is_here(link));
        if here.is_empty() && !elsewhere.is_empty() {
            let here: Vec<&str> =
                self.config.here.iter().flatten().map(|peer| self.config.names.name(*peer)).collect();
            return Err(Problem::new(
                Code::NotHere,
                format!(
                    "none of the {} links has an end here: here are {}",
                    elsewhere.len(),
                    here.join(", ")
                ),
            )
            .field("shape")
            .remedy("ask the daemons of the other hosts, or add a peer to here"));
        }
        partition.life.links = here;
        partition.experiment.not_here = elsewhere;
        Ok(())
    }

    /// The required endpoints that are not known to be healthy now: the outcome of what is cut now will be unknown.
    pub(super) fn not_healthy(&self, request: &PartitionRequest) -> Vec<String> {
        let gates = |name: &str| !request.verdict.advisory.iter().any(|advisory| is_named(name, advisory));
        let endpoints = self.config.endpoints.iter().enumerate();
        let gating =
            endpoints.filter(|(_, endpoint)| endpoint.role == Role::Required && gates(&endpoint.name));
        gating
            .filter(|(at, _)| self.healthy_now(EndpointId(*at)) != Some(true))
            .map(|(_, endpoint)| endpoint.name.clone())
            .collect()
    }

    /// Assesses the coverage of a partition's links now.
    pub(super) fn assess_coverage(&mut self, partition: &mut Partition) -> Vec<LinkCoverage> {
        partition.experiment.warnings.extend(self.confirm_hooks());
        let now = MonoNs::now();
        let names = &self.config.names;
        let links = &partition.life.links;
        let found = self.interfaces.coverage_of(
            names,
            links,
            partition.experiment.cut_links(&partition.life),
            now,
            Some(now),
        );
        partition.experiment.coverage = Covered::all(&found);
        found
    }

    /// What makes a cut doubtful that begins now: who is on the hooks, or that nobody knows.
    pub(super) fn confirm_hooks(&mut self) -> Vec<Warning> {
        // A scan attaches programs again that are missing; it comes after the reading that is to find them.
        self.scan_local_peers();
        let warnings = self.interfaces.doubts_since(self.hooks_since);
        for warning in &warnings {
            tracing::warn!(warning = warning.text);
        }
        warnings
    }

    /// Refuses a partition with links that are known not to be covered, unless they are left out on purpose; warns of
    /// those for which it is not known.
    pub(super) fn admit(&self, partition: &mut Partition, found: &[LinkCoverage]) -> Answer<()> {
        let links = partition.life.links.iter().zip(found);
        let mut bad: Vec<(&Link, &LinkCoverage)> = links
            .clone()
            .filter(|(_, found)| matches!(found.state, CoverageState::Not | CoverageState::Partly))
            .collect();
        let unknown = |is_translated: bool| -> Vec<String> {
            let is_one = |found: &LinkCoverage| {
                found.state == CoverageState::Unknown && found.is_translated == is_translated
            };
            let links = links.clone().filter(|(_, found)| is_one(found));
            links.map(|(link, _)| named(&self.config.names, *link).to_string()).collect()
        };
        let (unknown, translated) = (unknown(false), unknown(true));
        bad.sort_by_key(|(_, found)| std::cmp::Reverse(found.state));
        if !bad.is_empty() && !partition.experiment.request.verdict.allow_uncovered {
            return Err(self.refusal(&bad, partition.life.links.len()));
        }
        if !bad.is_empty() {
            let names: Vec<String> =
                bad.iter().map(|(link, _)| named(&self.config.names, **link).to_string()).collect();
            let links = shortened(&names);
            let text = format!("{links} may continue: they are not covered, and are left out on purpose");
            partition.experiment.warnings.push(Warning::new(WarningCode::LeftOut, links, text));
        }
        let left_out: BTreeSet<Link> = bad.iter().map(|(link, _)| **link).collect();
        if !unknown.is_empty() {
            let links = shortened(&unknown);
            let text = format!(
                "coverage is unknown for {links}: what is known of their paths is hooked, but not all devices of either end are known; see `injector peers`"
            );
            partition.experiment.warnings.push(Warning::new(WarningCode::CoverageUnknown, links, text));
        }
        if !translated.is_empty() {
            let links = shortened(&translated);
            let text = format!(
                "coverage is unknown for {links}: rules of NAT may give packets of theirs other addresses than a hook sees, so that no drop proves the cut; `--dry-run` shows the rules"
            );
            partition.experiment.warnings.push(Warning::new(WarningCode::CoverageUnknown, links, text));
        }
        partition.experiment.left_out = left_out;
        Ok(())
    }

    /// One line for what is refused, for each link, and for each remedy: each of them may be long.
    fn refusal(&self, bad: &[(&Link, &LinkCoverage)], all: usize) -> Problem {
        let mut lines = vec![format!(
            "nothing was cut: of {}, {} would let packets pass that no hook sees",
            counted(all, "link"),
            bad.len()
        )];
        for (link, found) in bad.iter().take(SHOWN) {
            lines.push(format!(
                "  {} is {}: {}",
                named(&self.config.names, **link),
                found.state,
                found.reason
            ));
        }
        if bad.len() > SHOWN {
            let more: Vec<String> = bad[SHOWN..]
                .iter()
                .map(|(link, found)| format!("{} ({})", named(&self.config.names, **link), found.state))
                .collect();
            lines.push(format!("  and {}", shortened(&more)));
        }
        let mut remedies: Vec<&str> = Vec::new();
        for remedy in bad.iter().filter_map(|(_, found)| found.remedy.as_deref()) {
            if !remedies.contains(&remedy) && remedies.len() < SHOWN {
                remedies.push(remedy);
            }
        }
        remedies.push("or continue without these links by --allow-uncovered (allow_uncovered: true)");
        Problem::new(Code::NotCovered, lines.join("\n")).field("shape").remedy(remedies.join("\n"))
    }
}
