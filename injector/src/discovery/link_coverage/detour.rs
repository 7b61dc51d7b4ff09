//! Ways between two peers on which NAT gives packets other addresses than hooks see.
//!
//! Of a connection that one peer opens to the other, the opener's hooks see another destination where a rule beyond them sends
//! packets on to the other peer, and the other one's hooks see another source where a rule before them replaces it. One end whose
//! hooks see both addresses is enough. Answers carry the same addresses the other way.

use std::collections::BTreeSet;

use super::rewrite::{Detour, Rewrite, SourceRule};
use super::{Closure, CoverageAssessor, LinkAssessment, Reason, no_hook};
use crate::discovery::nat::{Router, TrafficOrigin, TranslatedDestination, Translation};
use crate::discovery::picture::{Inside, Passage, PeerEnd};
use crate::netlink::nat::Target;
use crate::netlink::nft_walk::Chance;
use injector_core::api::CoverageState;
use injector_core::model::{Link, PeerId};

impl CoverageAssessor<'_> {
    /// The effect of NAT on a link while `cut`, sorted, is cut; `None` if a hook sees both ends of every
    /// packet.
    pub(super) fn detour(&self, link: Link, cut: &[Link]) -> Option<LinkAssessment> {
        if link.src == PeerId::WORLD || link.dst == PeerId::WORLD {
            return None;
        }
        let opened = [(link.src, link.dst), (link.dst, link.src)];
        let found = opened.into_iter().filter_map(|ends| self.rewritten(link, ends, cut));
        let found = found.chain(self.without_nat(link, cut));
        found.max_by_key(|assessment| (assessment.state, assessment.is_translated()))
    }

    /// The effect of NAT on the packets of connections that one end of a link opens to the other.
    fn rewritten(&self, link: Link, (from, to): (PeerId, PeerId), cut: &[Link]) -> Option<LinkAssessment> {
        let home = self.end(from).home.as_ref();
        let sent_on: Vec<&Translation> = self
            .picture
            .translations
            .iter()
            // A peer's own translations happen before its devices send.
            .filter(|rule| Some(&rule.space) != home)
            .filter(|rule| rule.destination != TranslatedDestination::Rewritten)
            .filter(|rule| !matches!(rule.destination, TranslatedDestination::Peer(peer, _) if peer != to))
            .filter(|rule| !is_cut_too(link, (from, to), &rule.before, cut))
            .collect();
        // A rule whose destination is known comes first: it says the most.
        let unseen = |is_known: bool| {
            sent_on.iter().copied().find(|rule| {
                matches!(rule.destination, TranslatedDestination::Peer(..)) == is_known
                    && !self.sees_receiver(link, (from, to), rule)
            })
        };
        if let Some(rule) = unseen(true) {
            return Some(self.open(from, to, Chance::Surely, Rewrite::Destination(rule.clone())));
        }
        if let Some(rule) = unseen(false) {
            return Some(self.open(from, to, Chance::Perhaps, Rewrite::Destination(rule.clone())));
        }
        let everyone: BTreeSet<PeerId> = self.picture.ends.keys().copied().chain([PeerId::WORLD]).collect();
        if is_cut_too(link, (to, from), &everyone, cut) {
            return None;
        }
        let direct = self
            .replaced((from, to), TrafficOrigin::Forwarded)
            .filter(|rule| rule.snat.chance == Chance::Surely);
        if let Some(rule) = direct.filter(|rule| !self.sees_sender((from, to), rule)) {
            return Some(self.open(to, from, Chance::Surely, Rewrite::Source(rule)));
        }
        let rule = *sent_on.first()?;
        let replaced = self.replaced((from, to), TrafficOrigin::DestinationTranslated)?;
        let is_sure = replaced.snat.chance == Chance::Surely
            && matches!(rule.destination, TranslatedDestination::Peer(..));
        // A rule that depends on a mark, for example, is shown and puts no link in doubt: container engines write such rules on
        // every host, for published ports.
        let state = if is_sure { CoverageState::Unknown } else { CoverageState::Covered };
        let rewrite = Rewrite::Both(rule.clone(), replaced);
        let detour = Detour { near: from, far: to, places: Vec::new(), is_elsewhere: false, rewrite };
        Some(LinkAssessment { state, reason: Reason::Translated(Box::new(detour)) })
    }

    /// The effect of rules that write to addresses without NAT on packets of a link: whichever end is hooked, it may see
    /// another address.
    fn without_nat(&self, link: Link, cut: &[Link]) -> Option<LinkAssessment> {
        // The port of a peer that passes on nothing says whose all packets there are.
        let is_behind_port = |rule: &Translation| {
            let mut ends = [link.src, link.dst].into_iter().map(|peer| self.end(peer));
            ends.any(|end| end.is_plain && Some(&rule.space) == end.home.as_ref())
        };
        let rule = self.picture.translations.iter().find(|rule| {
            let ends = [(link.src, link.dst), (link.dst, link.src)];
            rule.destination == TranslatedDestination::Rewritten
                && !is_behind_port(rule)
                && !ends.into_iter().any(|ends| is_cut_too(link, ends, &rule.before, cut))
        })?;
        let rewrite = Rewrite::WithoutNat(rule.clone());
        let detour =
            Detour { near: link.src, far: link.dst, places: Vec::new(), is_elsewhere: false, rewrite };
        let reason = Reason::Translated(Box::new(detour));
        Some(LinkAssessment { state: CoverageState::Unknown, reason })
    }

    /// Where the far peer's hooks don't see its packets by its own address either.
    fn open(&self, near: PeerId, far: PeerId, chance: Chance, rewrite: Rewrite) -> LinkAssessment {
        let far_end = self.end(far);
        let ways = self.known(far_end);
        let unhooked: Vec<&Passage> = ways.iter().copied().filter(|path| !self.is_hooked(path)).collect();
        let places = match no_hook(&unhooked) {
            Reason::NoHook(places) => places,
            _ => Vec::new(),
        };
        // A peer that is not here may be hooked where it is, by another daemon.
        let is_elsewhere = !far_end.is_here;
        let is_hooked = is_elsewhere || (unhooked.is_empty() && !ways.is_empty());
        let state = if chance == Chance::Surely && !is_hooked {
            CoverageState::Partly
        } else {
            CoverageState::Unknown
        };
        let detour = Detour { near, far, places, is_elsewhere, rewrite };
        LinkAssessment { state, reason: Reason::Translated(Box::new(detour)) }
    }

    /// Whether the receiver's hooks see what a rule sends on to it by its own address.
    fn sees_receiver(&self, link: Link, (from, to): (PeerId, PeerId), rule: &Translation) -> bool {
        let end = self.end(to);
        let is_own = Some(&rule.space) == end.home.as_ref();
        if is_own && !end.is_plain && !rule.before.contains(&to) {
            // The peer's hooks are before the rule, and the address before is another's.
            return false;
        }
        let TranslatedDestination::Peer(_, address) = rule.destination else {
            return self.closed(to) == Closure::Closed;
        };
        let devices = |inside: &Inside| -> Vec<bool> {
            let passages = if link.dst == to {
                if inside.holds(address) { inside.devices_with(address) } else { Vec::new() }
            } else {
                // Answers leave by the route to the other peer.
                self.end(from).addresses.iter().flat_map(|address| inside.routes_to(*address)).collect()
            };
            passages.into_iter().map(|passage| self.is_hooked(passage)).collect()
        };
        self.closed(to) == Closure::Closed || !is_own && self.all_hooked(end, to, devices)
    }

    /// Whether the sender's hooks see it by its own address, ahead of a rule that replaces that.
    fn sees_sender(&self, (from, to): (PeerId, PeerId), rule: &SourceRule) -> bool {
        let end = self.end(from);
        if Some(&rule.space) == end.home.as_ref() {
            // The peer's hooks are behind the rule: all that its port sends is its own, or the address says
            // another.
            return end.is_plain && self.closed(from) == Closure::Closed;
        }
        let devices = |inside: &Inside| -> Vec<bool> {
            let routes = self.end(to).addresses.iter().flat_map(|address| inside.routes_to(*address));
            routes.map(|passage| self.is_hooked(passage)).collect()
        };
        self.closed(from) == Closure::Closed || self.all_hooked(end, from, devices)
    }

    /// Whether all devices of a peer's home that `devices` selects are hooked, and there is at least one.
    fn all_hooked(&self, end: &PeerEnd, peer: PeerId, devices: impl Fn(&Inside) -> Vec<bool>) -> bool {
        let inside = end.home.as_ref().and_then(|home| self.picture.homes.get(home));
        let hooked = inside.map(devices).unwrap_or_default();
        !matches!(self.closed(peer), Closure::Bypassed(_))
            && !hooked.is_empty()
            && hooked.iter().all(|is| *is)
    }

    /// The rule that replaces the source of packets between two peers before the receiver's hooks: the surest.
    fn replaced(&self, (from, to): (PeerId, PeerId), origin: TrafficOrigin) -> Option<SourceRule> {
        let (sender, receiver) = (self.end(from), self.end(to));
        let mut found: Option<SourceRule> = None;
        let beyond = |router: &&Router| Some(&router.space) != receiver.home.as_ref();
        for router in self.picture.routers.iter().filter(beyond) {
            let is_own = Some(&router.space) == sender.home.as_ref();
            let origin = if is_own { TrafficOrigin::LocallySent } else { origin };
            let pairs =
                sender.addresses.iter().flat_map(|from| receiver.addresses.iter().map(move |to| (from, to)));
            for snat in pairs.filter_map(|(from, to)| router.replaces(*from, *to, origin)) {
                // A peer that sends by another address of its own is still named.
                let is_itself = match snat.target {
                    Target::Own => true,
                    Target::Range(first, last) => {
                        sender.addresses.contains(&first) && sender.addresses.contains(&last)
                    }
                    Target::Computed => false,
                };
                if !(is_own && is_itself)
                    && found.as_ref().is_none_or(|known| known.snat.chance < snat.chance)
                {
                    found = Some(SourceRule { space: router.space.clone(), snat });
                }
            }
        }
        found
    }
}

/// Whether the near peer's links with all whom the address before a translation may name are cut too, in the direction of a
/// link. If it names the far peer, that is the link itself.
fn is_cut_too(link: Link, (near, far): (PeerId, PeerId), before: &BTreeSet<PeerId>, cut: &[Link]) -> bool {
    let seen = |other: PeerId| {
        if link.src == near { Link { src: near, dst: other } } else { Link { src: other, dst: near } }
    };
    let mut others = before.iter().filter(|other| **other != near && **other != far);
    others.all(|other| cut.binary_search(&seen(*other)).is_ok())
}
