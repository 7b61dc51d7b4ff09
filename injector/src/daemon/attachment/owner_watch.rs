//! Asks whether the programs are attached that give sockets of peers on this machine their owners, and has them attached again.

use super::local::LOOPBACK;
use super::owner_programs::{DoubtBegins, Scanned};
use super::{InterfaceEvent, Interfaces};
use crate::datapath::{CgroupQuery, Reattached};
use crate::discovery::local::LocalProcesses;
use injector_core::clock::MonoNs;
use injector_core::config::Config;

impl Interfaces {
    /// Takes in the programs at the start, and the processes that the first scan found.
    pub(super) fn take_first(
        &mut self,
        query: CgroupQuery,
        before: MonoNs,
        programs: Option<&Reattached>,
        observed: LocalProcesses,
    ) {
        self.owners.query = Some(query);
        if let Some(programs) = programs {
            // Nothing is cut yet that a loss could concern.
            let _ = self.owners.scanned(before, programs);
        }
        (self.local, self.local_scan_began) = (observed, before);
        if let Some(doubt) = self.owners.doubt() {
            self.local.doubt_all(&doubt);
        }
    }

    /// Asks whether the programs are attached; `None` if the config has no peers on this machine.
    pub(super) fn owner_query(&self) -> Option<&CgroupQuery> {
        self.owners.query.as_ref()
    }

    /// Why the programs do not give all sockets their owners, if they do not.
    pub(super) fn owners_lost(&self) -> Option<String> {
        self.owners.lost().map(ToString::to_string)
    }

    /// Takes in a reading that began at an instant. Returns what changed, for the timeline.
    pub(super) fn owners_read(
        &mut self,
        config: &Config,
        at: MonoNs,
        missing: &[&'static str],
    ) -> Vec<(String, String)> {
        let lost = self.owners.read(at, missing);
        if self.owners.is_scan_due(MonoNs::now()) {
            // The daemon's task has the processes scanned, which attaches the programs first.
            let _ = self.sinks.news.send(InterfaceEvent::OwnersLost);
        }
        lost.map(|lost| self.report_lost(config, lost)).into_iter().collect()
    }

    /// Takes in what a scan that began at an instant says of the programs, and doubts the peers that it observed while programs are
    /// lost. Returns what changed, for the timeline.
    pub(super) fn owners_scanned(
        &mut self,
        config: &Config,
        begun: MonoNs,
        found: &Reattached,
        observed: &mut LocalProcesses,
    ) -> Vec<(String, String)> {
        let Scanned { lost, is_back } = self.owners.scanned(begun, found);
        let mut reported: Vec<_> = lost.map(|lost| self.report_lost(config, lost)).into_iter().collect();
        if is_back {
            let what = "attached again: the programs that give sockets their owners";
            tracing::info!(what);
            reported.push((LOOPBACK.to_owned(), what.to_owned()));
        }
        if let Some(doubt) = self.owners.doubt() {
            observed.doubt_all(&doubt);
        }
        reported
    }

    fn report_lost(&mut self, config: &Config, lost: DoubtBegins) -> (String, String) {
        let DoubtBegins { from, loss } = lost;
        self.losses.from_cgroups += u64::from(!loss.missing.is_empty());
        tracing::warn!(why = %loss, "lost");
        self.doubt_all_local(config, &loss.doubt(), from);
        (LOOPBACK.to_owned(), format!("lost: {loss}"))
    }
}
