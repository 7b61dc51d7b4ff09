//! Whether our programs still judge every packet of the interfaces that they are on: they may be detached, and a foreign
//! program or chain that runs before them may send packets past them.

use injector_core::config::shown;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::check::NO_ANSWER;
use super::entry::{Bypass, Entry};
use super::hook_answers::HooksAnswer;
use super::hook_reading::{HookScope, HooksFound, LESS, PATIENCE, RECENT, Read, UNANSWERED, Wanted};
use super::pending::PendingAnswer;
use super::reasons::place;
use super::{InterfaceEvent, Interfaces};
use crate::datapath::{Foreign, HookState, Names, ids, names};
use crate::netlink::news::News;
use crate::netlink::nft::EgressChain;
use crate::netns::Identity;
use injector_core::api::{AttachmentView, Warning, WarningCode};
use injector_core::clock::{MonoNs, TimeRange};
use injector_core::config::{Config, Hook, Netns};
use injector_core::identity::End;
use injector_core::metrics::{AttachmentsLost, InterfaceHook};

/// Up to this age a reading is no reason for a warning. While a cut lasts, hooks are read ten times a second, or once a second
/// where all interfaces of a namespace have to be searched, and on a busy host a reading may take two turns. What came in
/// between is known from the next one, and is in the record.
const FRESH: Duration = Duration::from_millis(200);
/// How long after a reading failed there is another one for commands that wait.
const AGAIN: Duration = Duration::from_millis(100);

impl Interfaces {
    /// The hooks to read in some namespaces.
    pub(super) fn hooks_wanted(
        &self,
        is_one: impl Fn(&Option<Netns>) -> bool,
    ) -> BTreeMap<Option<Netns>, Wanted> {
        let mut groups: BTreeMap<Option<Netns>, Wanted> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| is_one(&entry.interface.netns)) {
            let Some(attachment) = &entry.attachment else { continue };
            let wanted = groups.entry(entry.interface.netns.clone()).or_insert_with(|| Wanted {
                hooked: Vec::new(),
                on_all: false,
                own: self.instances.own(),
                owners: None,
            });
            wanted.hooked.push((entry.id, attachment.hooked()));
            wanted.on_all |= self.is_host_end(entry.id);
            if entry.interface.hook == Hook::Local {
                wanted.owners = self.owner_query().cloned();
            }
        }
        groups
    }

    /// Whether news may be of the hooks of an interface that our programs are on: XDP comes as news of the interface, what is
    /// on clsact as that of a filter. Of TCX there is none.
    pub(super) fn is_of_hooks(&self, netns: Option<&Netns>, news: &News) -> bool {
        let index = match news {
            News::Hooks(index) => *index,
            News::Link(link) => link.index,
            News::EgressChain(_) | News::Chains => {
                let mut here = self.entries.iter().filter(|entry| entry.interface.netns.as_ref() == netns);
                return here.any(|entry| entry.attachment.is_some());
            }
            _ => return false,
        };
        let mut here = self.entries.iter().filter(|entry| entry.interface.netns.as_ref() == netns);
        here.any(|entry| entry.index() == Some(index))
    }

    /// Takes note of a chain of nftables that came before our programs: by the next reading it may be gone.
    /// Returns what happened, for the timeline.
    pub(super) fn chain_came(&mut self, netns: Option<&Netns>, chain: &EgressChain) -> Vec<(String, String)> {
        let is_on = |entry: &&mut Entry| {
            entry.interface.netns.as_ref() == netns
                && entry.attachment.is_some()
                && !entry.is_bypassed()
                && chain.is_on(entry.name())
        };
        let begin = |entry: &mut Entry| {
            let ahead = Foreign::egress_chain(chain);
            let why = runs_before(&[ahead.shown(&Names::new())]);
            let time = TimeRange { from_ns: entry.whole_at, until_ns: None };
            entry.begin_bypass(Bypass { time, why: why.clone(), ahead: vec![ahead] });
            tracing::warn!(interface = shown(&entry.interface), why, "bypassed");
            (shown(&entry.interface), why)
        };
        self.entries.iter_mut().filter(is_on).map(begin).collect()
    }

    /// Whether an interface is the host end of a peer's link.
    fn is_host_end(&self, id: u32) -> bool {
        self.identity().ports.get(&id).is_some_and(|port| port.end == End::Host)
    }

    /// Asks all namespaces what is on the hooks; the answers come back as events. A namespace that has yet to answer the
    /// last time is not asked again: whether there was none of them.
    pub fn ask_for_hooks(&mut self, scope: HookScope) -> bool {
        self.ask_these_for_hooks(scope, |_| true)
    }

    /// Asks the namespaces whose hooks a command waits for that came at an instant, unless they have yet to answer.
    pub fn ask_for_hooks_since(&mut self, since: MonoNs) {
        let now = MonoNs::now();
        let is_to_be_asked = |netns: &&Option<Netns>| {
            let failed = self.hooks_failed.get(*netns);
            !self.hooks_asked.contains_key(*netns)
                && failed.is_none_or(|(at, _)| now.saturating_since(*at) >= AGAIN)
        };
        let unread = self.with_programs().filter(|entry| !entry.are_hooks_known_since(since));
        let unread: BTreeSet<Option<Netns>> =
            unread.map(|entry| &entry.interface.netns).filter(is_to_be_asked).cloned().collect();
        if !unread.is_empty() {
            self.ask_these_for_hooks(HookScope::All, |netns| unread.contains(netns));
        }
    }

    fn ask_these_for_hooks(&mut self, scope: HookScope, is_one: impl Fn(&Option<Netns>) -> bool) -> bool {
        let mut are_all_asked = true;
        for (netns, mut wanted) in self.hooks_wanted(is_one) {
            wanted.on_all &= scope == HookScope::All;
            let Ok(worker) = self.workers.running(netns.as_ref()) else { continue };
            if self.hooks_asked.contains_key(&netns) {
                are_all_asked = false;
                continue;
            }
            let identity = worker.identity();
            let none =
                InterfaceEvent::Hooks { netns: netns.clone(), identity, found: HooksFound::none(NO_ANSWER) };
            let pending = PendingAnswer::new(&self.sinks.hooks, none);
            let of = netns.clone();
            let asked = worker.spawn_awaited(move || async move {
                crate::fault::here("hooks/ask");
                let found = wanted.read().await;
                pending.answer(InterfaceEvent::Hooks { netns: of, identity, found });
            });
            // A thread that has ended finds nothing; its interfaces are gone.
            if asked.is_ok() {
                self.hooks_asked.insert(netns, MonoNs::now());
            }
        }
        are_all_asked
    }

    /// The hooks that a command waits for were all read since this instant. A namespace that has not answered for long is
    /// not waited for.
    pub fn hooks_known_since(&self) -> MonoNs {
        let is_awaited = |entry: &&Entry| {
            let netns = &entry.interface.netns;
            !self.was_asked_before(netns, PATIENCE) && self.workers.identity(netns.as_ref()).is_some()
        };
        let awaited = self.with_programs().filter(is_awaited);
        awaited.map(|entry| entry.hooks_read_at.unwrap_or(MonoNs(0))).min().unwrap_or(MonoNs(u64::MAX))
    }

    /// The interfaces that our programs are on.
    pub fn hooked_now(&self) -> BTreeSet<u32> {
        self.with_programs().map(|entry| entry.id).collect()
    }

    /// Whether the hooks of an interface were read since an instant, and its programs are the same as then.
    pub fn are_hooks_known_since(&self, id: u32, since: MonoNs) -> bool {
        self.entry(id).is_some_and(|entry| entry.was_attached_at(since) && entry.are_hooks_known_since(since))
    }

    /// Whether a namespace was asked for its hooks so long ago, and has yet to answer.
    #[expect(clippy::ref_option, reason = "the key of a map")]
    pub(super) fn was_asked_before(&self, netns: &Option<Netns>, span: Duration) -> bool {
        self.hooks_asked.get(netns).is_some_and(|asked| MonoNs::now().saturating_since(*asked) >= span)
    }

    /// How long a command that came at an instant waits for readings.
    pub fn patience_for_hooks(&self, since: MonoNs) -> Duration {
        let are_recent = self.with_programs().all(|entry| {
            self.hooks_read.get(&entry.interface.netns).is_some_and(|(_, read_at)| *read_at >= since - RECENT)
        });
        if are_recent { LESS } else { PATIENCE }
    }

    /// The interfaces that our programs are on.
    fn with_programs(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.attachment.is_some())
    }

    /// Takes in what was found on the hooks of one namespace that was asked; what changed, for the timeline.
    pub(super) async fn hooks_found(
        &mut self,
        config: &Config,
        netns: Option<&Netns>,
        identity: Identity,
        found: HooksFound,
    ) -> Vec<(String, String)> {
        // A late answer of a namespace that is gone, or of a thread that had ended when it was asked, is dropped.
        let is_current = self.workers.identity(netns) == Some(identity);
        if !is_current || self.hooks_asked.remove(&netns.cloned()).is_none() {
            return Vec::new();
        }
        let cost = found.cost;
        let begun = MonoNs::now();
        let reported = self.take_hooks(config, netns, found).await;
        self.hooks_cost = cost.max(MonoNs::now().saturating_since(begun));
        reported_or_warned(reported)
    }

    /// How long the last reading of a namespace's hooks took.
    pub fn hooks_cost(&self) -> Duration {
        self.hooks_cost
    }

    async fn take_hooks(
        &mut self,
        config: &Config,
        netns: Option<&Netns>,
        found: HooksFound,
    ) -> Result<Vec<(String, String)>, String> {
        let read = found.read.inspect_err(|why| {
            self.hooks_failed.insert(netns.cloned(), (found.at, why.clone()));
        })?;
        self.hooks_failed.remove(&netns.cloned());
        if let Some(identity) = self.workers.identity(netns) {
            self.hooks_read.insert(netns.cloned(), (identity, found.at));
        }
        let Read { states, foreign, missing_owners } = read;
        let are_others_known = foreign.is_some();
        if let Some(foreign) = foreign {
            let here = self.entries.iter().filter(|entry| entry.interface.netns.as_ref() == netns);
            let is_past = |entry: &&Entry| {
                self.is_host_end(entry.id) && foreign.iter().any(|index| Some(*index) != entry.index())
            };
            let (past, rest): (Vec<&Entry>, Vec<&Entry>) = here.partition(is_past);
            let (past, rest): (Vec<u32>, Vec<u32>) =
                (past.iter().map(|entry| entry.id).collect(), rest.iter().map(|entry| entry.id).collect());
            self.redirected.extend(past);
            self.redirected.retain(|id| !rest.contains(id));
        }
        let mut changes =
            missing_owners.map_or_else(Vec::new, |missing| self.owners_read(config, found.at, &missing));
        for ((id, index), state) in found.asked.into_iter().zip(states) {
            let is_it = |entry: &Entry| {
                entry.id == id && entry.index() == Some(index) && entry.was_attached_at(found.at)
            };
            // The interface may have been lost, and attached again, since its hooks were asked for.
            let Some(at) = self.entries.iter().position(is_it) else { continue };
            // Nothing was read of an interface that is gone.
            if state.is_some() && (are_others_known || !self.is_host_end(id)) {
                let entry = &mut self.entries[at];
                entry.hooks_read_at = entry.hooks_read_at.max(Some(found.at));
            }
            // An interface that is gone is news of its own.
            if let Some(state) = state {
                changes.extend(self.hook_state(at, found.at, &state, are_others_known).await);
            }
        }
        Ok(changes)
    }

    /// The interfaces that have some of these programs on their hooks beside ours, by what the programs are mapped to.
    pub async fn beside(&mut self, programs: &BTreeMap<u32, u32>) -> BTreeMap<u32, BTreeSet<String>> {
        let mut found: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for (_, answer) in self.read_hooks().await {
            // Hooks that can't be read are named when a cut begins.
            let HooksAnswer::Read(HooksFound { asked, read: Ok(Read { states, .. }), .. }) = answer else {
                continue;
            };
            for ((id, _), state) in asked.into_iter().zip(states) {
                let Some(entry) = self.entry(id) else { continue };
                let on_hooks = state.iter().flat_map(|state| &state.foreign).filter_map(Foreign::program);
                for whose in on_hooks.filter_map(|program| programs.get(&program)) {
                    found.entry(*whose).or_default().insert(shown(&entry.interface));
                }
            }
        }
        found
    }

    /// Reads what is on the hooks now, and takes it in; what changed, for the timeline.
    pub async fn read_hooks_again(&mut self, config: &Config) -> Vec<(String, String)> {
        let mut changes = Vec::new();
        for (netns, answer) in self.read_hooks().await {
            if let HooksAnswer::Read(found) = answer {
                changes.extend(reported_or_warned(self.take_hooks(config, netns.as_ref(), found).await));
            }
        }
        changes
    }

    /// What makes a cut doubtful that begins now, and for which hooks had to be read since an instant.
    pub fn doubts_since(&self, since: MonoNs) -> Vec<Warning> {
        let since = since.min(MonoNs::now() - FRESH);
        let mut unread: BTreeMap<&Option<Netns>, Option<MonoNs>> = BTreeMap::new();
        for entry in self.with_programs().filter(|entry| !entry.are_hooks_known_since(since)) {
            let last = unread.entry(&entry.interface.netns).or_insert(entry.hooks_read_at);
            *last = (*last).min(entry.hooks_read_at);
        }
        let unread = unread.into_iter().map(|(netns, last)| {
            let place = place(netns.as_ref());
            let why = self.why_unread(netns.as_ref(), since);
            let age = last.map(|at| MonoNs::now().saturating_since(at).as_millis());
            let age = age.map_or_else(String::new, |age| format!("; they were last read {age} ms before"));
            let text = format!(
                "the hooks in {place} could not be read: {why}{age}. A program that runs before ours there would bypass it"
            );
            Warning::new(WarningCode::HookUnreadable, place, text)
        });
        let bypassed = self.entries.iter().filter_map(|entry| {
            let bypass = entry.bypasses.last().filter(|bypass| bypass.time.until_ns.is_none())?;
            let interface = shown(&entry.interface);
            let text = format!("{interface}: {}", bypass.why);
            Some(Warning::new(WarningCode::ForeignAhead, interface, text))
        });
        unread.chain(bypassed).collect()
    }

    /// Why hooks of a namespace were not read since an instant.
    fn why_unread(&self, netns: Option<&Netns>, since: MonoNs) -> String {
        let key = netns.cloned();
        let failed = self.hooks_failed.get(&key).filter(|(at, _)| *at >= since);
        match (self.workers.running(netns), failed) {
            (Err(error), _) => error.to_string(),
            (Ok(_), Some((_, why))) => why.clone(),
            (Ok(_), None) if self.was_asked_before(&key, PATIENCE) => UNANSWERED.to_owned(),
            (Ok(_), None) => "the namespace has not answered in time".to_owned(),
        }
    }

    /// Compares the state of an interface's hooks with the one before. Returns what changed, for the
    /// timeline. Whether something may redirect past the interface is known again only if all interfaces of
    /// its namespace were read.
    async fn hook_state(
        &mut self,
        at: usize,
        when: MonoNs,
        state: &HookState,
        are_others_known: bool,
    ) -> Vec<(String, String)> {
        if !state.missing.is_empty() {
            let since = self.entries[at].whole_at;
            self.losses.from_interfaces += 1;
            // The programs that are left are taken off, and all are attached again.
            return vec![self.lose(at, since, "another process detached our program")];
        }
        let mut changes = Vec::new();
        let entry = &mut self.entries[at];
        let before = entry.last_state.replace(state.clone());
        let has_come_and_gone =
            |before: HookState| before.revisions != state.revisions && before.foreign == state.foreign;
        if before.is_some_and(has_come_and_gone) && !entry.is_bypassed() {
            let why =
                "programs came or went on its TCX hooks between two looks, and may have run before ours";
            let time = TimeRange { from_ns: entry.whole_at, until_ns: Some(when) };
            entry.begin_bypass(Bypass { time, why: why.to_owned(), ahead: Vec::new() });
            changes.push((shown(&entry.interface), why.to_owned()));
        }
        let ahead: Vec<Foreign> = state.foreign.iter().filter(|foreign| foreign.is_ahead).cloned().collect();
        let is_bypassed = self.entries[at].is_bypassed();
        let id = self.entries[at].id;
        let is_redirected = self.redirected.contains(&id);
        if ahead.is_empty() && !is_redirected {
            if are_others_known || !self.is_host_end(id) {
                self.entries[at].whole_at = when;
            }
            if is_bypassed {
                let entry = &mut self.entries[at];
                entry.end_bypass(when);
                changes
                    .push((shown(&entry.interface), "nothing runs before our programs any more".to_owned()));
            }
            return changes;
        }
        // What else comes, or goes, is another reason from then on.
        let known = self.entries[at].bypasses.last().filter(|_| is_bypassed);
        if known.is_some_and(|known| known.ahead == ahead) {
            return changes;
        }
        let why = if ahead.is_empty() {
            "a program of others on another interface of its namespace may redirect past it".to_owned()
        } else {
            let known = self.names_of(ids(&ahead)).await;
            let programs: Vec<String> = ahead.iter().map(|foreign| foreign.shown(&known)).collect();
            runs_before(&programs)
        };
        let entry = &mut self.entries[at];
        let from = if is_bypassed { when } else { entry.whole_at };
        entry.end_bypass(when);
        entry.begin_bypass(Bypass {
            time: TimeRange { from_ns: from, until_ns: None },
            why: why.clone(),
            ahead,
        });
        tracing::warn!(interface = shown(&entry.interface), why, "bypassed");
        changes.push((shown(&entry.interface), why));
        changes
    }

    /// The names of programs, as far as they are known: of later ones the supervisor's rights decide.
    async fn names_of(&self, wanted: Vec<u32>) -> Names {
        let mut named = self.initial_names.clone();
        if let Some(supervisor) = self.workers.privileged()
            && !wanted.is_empty()
        {
            named.extend(supervisor.ask(move || names(&wanted)).await.unwrap_or_default());
        }
        named
    }

    /// The attachments, as `status` shows them, and whether one of our programs is no longer on its hook.
    pub async fn views(&mut self) -> (Vec<AttachmentView>, bool) {
        let mut states: BTreeMap<u32, Result<HookState, String>> = BTreeMap::new();
        let mut ages: BTreeMap<u32, Duration> = BTreeMap::new();
        let mut are_owners_lost = false;
        for (netns, answer) in self.read_hooks().await {
            let of_space = self.entries.iter().filter(|entry| entry.interface.netns == netns);
            let read = match answer {
                HooksAnswer::Read(HooksFound { asked, read, .. }) => read.map(|read| {
                    are_owners_lost |= read.missing_owners.is_some_and(|missing| !missing.is_empty());
                    (asked, read.states)
                }),
                HooksAnswer::Old(age) => {
                    for entry in of_space {
                        states.extend(entry.last_state.clone().map(|state| (entry.id, Ok(state))));
                        ages.insert(entry.id, age);
                    }
                    continue;
                }
                HooksAnswer::None(error) => Err(error),
            };
            match read {
                Ok((asked, read)) => states.extend(
                    asked
                        .into_iter()
                        .zip(read)
                        .map(|((id, _), state)| (id, state.ok_or_else(|| "it is gone".to_owned()))),
                ),
                Err(error) => {
                    let error = format!("its hooks could not be read: {error}");
                    states.extend(of_space.map(|entry| (entry.id, Err(error.clone()))));
                }
            }
        }
        let mut wanted = ids(states.values().flatten().flat_map(|state| &state.foreign));
        wanted.extend(self.entries.iter().filter_map(|entry| entry.attachment.as_ref()?.xdp_holder));
        let names = self.names_of(wanted).await;
        let is_lost = states.values().flatten().any(|state| !state.missing.is_empty())
            || are_owners_lost && self.owners_lost().is_none();
        let view = |entry: &Entry| {
            let state = states.remove(&entry.id).filter(|_| entry.attachment.is_some());
            let mut view = view(entry, state, &names);
            if let Some(age) = ages.get(&entry.id).filter(|_| entry.attachment.is_some()) {
                let _ = write!(view.why, "; its hooks were last read {} ms before", age.as_millis());
            }
            if let Some(why) = self.owners_lost().filter(|_| entry.interface.hook == Hook::Local) {
                let _ = write!(view.why, "; {why}");
            }
            view
        };
        (self.entries.iter().map(view).collect(), is_lost)
    }

    /// How often another process was found to have detached programs since this was last asked.
    pub fn take_losses(&mut self) -> AttachmentsLost {
        std::mem::take(&mut self.losses)
    }

    /// The hooks as they were last read; nobody is asked whether they are still there.
    pub fn hooks_in_force(&self) -> Vec<InterfaceHook> {
        let hook = |entry: &Entry| InterfaceHook {
            interface: entry.interface.name.clone(),
            netns: entry.interface.netns.as_ref().map(ToString::to_string),
            hook: entry.attachment.as_ref().map(|attachment| attachment.hooks.to_string()),
        };
        self.entries.iter().map(hook).collect()
    }
}

fn reported_or_warned(reported: Result<Vec<(String, String)>, String>) -> Vec<(String, String)> {
    reported.unwrap_or_else(|error| {
        tracing::warn!(error, "the programs on the hooks could not be read");
        Vec::new()
    })
}

fn runs_before(programs: &[String]) -> String {
    format!("{} runs before our program and can bypass it", programs.join(", "))
}

fn view(entry: &Entry, found: Option<Result<HookState, String>>, names: &Names) -> AttachmentView {
    let mut why = entry.chosen.iter().cloned().collect::<Vec<_>>();
    why.extend(entry.renamed.as_ref().map(|name| format!("its name is {name} now")));
    let mut others = Vec::new();
    match &entry.attachment {
        None => why.push(entry.missing.clone()),
        Some(attachment) => {
            why.push(attachment.why(names));
        }
    }
    match found {
        None => {}
        Some(Ok(state)) => {
            let ahead = state.foreign.iter().filter(|foreign| foreign.is_ahead);
            let ahead: Vec<String> = ahead.map(|foreign| foreign.shown(names)).collect();
            if !ahead.is_empty() {
                why.push(format!("{} runs before us", ahead.join(", ")));
            }
            if !state.missing.is_empty() {
                why.push("our program is no longer on its hook".to_owned());
            }
            others = state.foreign.iter().map(|foreign| foreign.shown(names)).collect();
        }
        Some(Err(error)) => why.push(error),
    }
    AttachmentView {
        interface: entry.interface.name.clone(),
        netns: entry.interface.netns.as_ref().map(ToString::to_string),
        hook: entry.attachment.as_ref().map(|attachment| attachment.hooks.to_string()),
        why: why.join("; "),
        others,
    }
}
