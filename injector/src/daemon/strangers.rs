//! The strangers that the peers of a partition met during its cut, and what they mean for its links.

use injector_core::identity::{Contact, Stranger};

use super::evidence::strangers::{Strangers, StrangersFound};
use super::partition::{Partition, named};
use super::state::State;
use crate::datapath::StrangerMap;
use injector_core::api::{Bypassed, LinkRecord, Warning, WarningCode};
use injector_core::clock::TimeRange;
use injector_core::figures::counted;
use injector_core::identity::shown_mac;

/// How many warnings a record has of strangers at most.
const MOST: usize = 8;

impl State {
    /// Begins to count strangers for a cut that is about to be made.
    pub(super) fn begin_strangers(&mut self) -> Strangers {
        if !self.ledger.iter().any(|partition| partition.life.is_live()) {
            // Nobody relies on the entries that are there.
            if let Err(error) = self.kernel.forget_strangers() {
                tracing::warn!(%error, "what was seen of strangers could not be forgotten");
            }
        }
        let counts = |strangers: Vec<Stranger>| {
            strangers.into_iter().map(|stranger| (stranger.id, stranger.packets)).collect()
        };
        Strangers { before: self.read_strangers().map(counts), after: None }
    }

    /// Ends the count at the heal.
    pub(super) fn end_strangers(&mut self, generation: u32) {
        let after = self.read_strangers();
        self.experiment(generation).strangers.after = Some(after);
    }

    fn read_strangers(&self) -> StrangersFound {
        let found = self.kernel.strangers();
        found
            .inspect_err(|error| tracing::error!(%error, "what was seen of strangers could not be read"))
            .ok()
    }

    /// The strangers that the peers met during a partition's cut, and why these may not be all of them.
    fn strangers_during_cut(&self, partition: &Partition) -> (Vec<Stranger>, Option<&'static str>) {
        let Some(cut) = partition.life.cut else { return (Vec::new(), None) };
        let Strangers { before, after } = &partition.experiment.strangers;
        let after = after.clone().unwrap_or_else(|| self.read_strangers());
        let (Some(before), Some(after)) = (before, after) else {
            return (
                Vec::new(),
                Some("what peers exchanged with MAC addresses that nothing names could not be read"),
            );
        };
        let missing = (after.len() >= StrangerMap::MOST)
            .then_some("peers exchanged packets with more MAC addresses than are remembered");
        let since = |stranger: Stranger| {
            let packets = stranger.packets.saturating_sub(before.get(&stranger.id).copied().unwrap_or(0));
            Stranger {
                packets,
                first: stranger.first.max(cut.begin_ns),
                last: stranger.last.max(cut.begin_ns),
                ..stranger
            }
        };
        (after.into_iter().map(since).filter(|stranger| stranger.packets > 0).collect(), missing)
    }

    /// Notes on a partition's links what strangers passed on them, and answers what is to be warned of.
    pub(super) fn note_strangers(&self, partition: &Partition, links: &mut [LinkRecord]) -> Vec<Warning> {
        let (strangers, missing) = self.strangers_during_cut(partition);
        let names = &self.config.names;
        let mut warnings = Vec::new();
        if let Some(why) = missing {
            for link in links.iter_mut().filter(|link| !link.left_out) {
                link.unnamed_packets += 1;
            }
            let text = format!("{why}: each may be another peer's");
            warnings.push(Warning { code: WarningCode::Unnamed, subject: None, text });
        }
        let asked = &partition.life.links;
        for suspect in self.interfaces.suspects(&self.config, asked, &strangers) {
            let Ok(at) = asked.binary_search(&suspect.link) else { continue };
            let (link, stranger) = (&mut links[at], suspect.stranger);
            if link.left_out {
                continue;
            }
            let who = match stranger.address {
                Some(address) => format!("{} ({address})", shown_mac(stranger.id.mac)),
                None => shown_mac(stranger.id.mac),
            };
            if let Some(device) = suspect.device.filter(|_| partition.experiment.request.traffic.is_full()) {
                link.leaked_packets = link.leaked_packets.max(Some(stranger.packets));
                link.first_leak_ns =
                    Some(link.first_leak_ns.map_or(stranger.first, |first| first.min(stranger.first)));
                let why = format!(
                    "{} passed by it from or to {who}, an address that named nobody at the other end",
                    counted(stranger.packets, "packet")
                );
                let until = stranger.last + std::time::Duration::from_nanos(1);
                let time = TimeRange { from_ns: stranger.first, until_ns: Some(until) };
                link.bypassed.push(Bypassed { interface: device, why, time });
                continue;
            }
            link.unnamed_packets += stranger.packets;
            let other =
                if suspect.link.src == stranger.id.peer { suspect.link.dst } else { suspect.link.src };
            let name = named(names, suspect.link).to_string();
            let text = format!(
                "{name}: {} passed between {} and {who}, whom nothing names and who may be {other}; list the \
                 address, or write the `mac:` of {other} into the config",
                counted(stranger.packets, "packet"),
                names.name(stranger.id.peer),
                other = names.name(other),
            );
            warnings.push(Warning::new(WarningCode::Unnamed, name, text));
        }
        // The config says of a router that it sends for others.
        let is_news = |stranger: &&Stranger| {
            stranger.id.contact == Contact::UnlistedSource
                && !self.config.peer(stranger.id.peer).is_some_and(|peer| peer.forwards)
        };
        for stranger in strangers.iter().filter(is_news) {
            let name = names.name(stranger.id.peer);
            let address = stranger.address.map_or_else(|| "others".to_owned(), |address| address.to_string());
            let text = format!(
                "{name} speaks for {address}: {} counted as the world's; list it, or write `forwards: true` of {name}",
                counted(stranger.packets, "packet")
            );
            warnings.push(Warning::new(WarningCode::ForeignSource, name, text));
        }
        warnings.truncate(MOST);
        warnings
    }
}
