//! Whether our programs still judge every packet of the interfaces that they are on: they may be detached, and a foreign
//! program or chain that runs before them may send packets past them.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::entry::{Bypass, Entry};
use super::gaps::Gap;
use super::{InterfaceEvent, Interfaces};
use crate::api::types::{AttachmentView, Warning, WarningCode};
use crate::clock::MonoNs;
use crate::config::Netns;
use crate::datapath::{DatapathError, HookQuery, HookState, Names, ids, names, shown, states};

/// What was found on the hooks of the interfaces of one namespace.
#[derive(Debug)]
pub struct HooksFound {
    /// Before the hooks were read: since then something else may be on them.
    at: MonoNs,
    /// By the interface's id and index in the order of `states`,
    asked: Vec<(u32, u32)>,
    /// what is on it, `None` where the interface is gone; or why that is not known.
    states: Result<Vec<Option<HookState>>, String>,
}

impl Interfaces {
    /// Asks all namespaces what is on the hooks; the answers come back as events. A namespace that has yet to answer the
    /// last time is not asked again: whether there was none of them.
    pub fn ask_for_hooks(&mut self) -> bool {
        let mut are_all_asked = true;
        let mut groups: BTreeMap<Option<Netns>, Vec<(u32, HookQuery)>> = BTreeMap::new();
        for entry in &self.entries {
            if let Some(attachment) = &entry.attachment {
                let hooked = (entry.id, attachment.hooked());
                groups.entry(entry.interface.netns.clone()).or_default().push(hooked);
            }
        }
        for (netns, hooked) in groups {
            let Ok(worker) = self.workers.of(netns.as_ref()) else { continue };
            if !self.hooks_asked.insert(netns.clone()) {
                are_all_asked = false;
                continue;
            }
            let (news, group) = (self.news.clone(), netns.clone());
            let asked = worker.spawn(move || async move {
                let at = MonoNs::now();
                let asked = hooked.iter().map(|(id, hooked)| (*id, hooked.index)).collect();
                let states = states(hooked.into_iter().map(|(_, hooked)| hooked).collect()).await;
                let states = states.map_err(|error| error.to_string());
                let _ = news.send(InterfaceEvent::Hooks { netns, found: HooksFound { at, asked, states } });
            });
            // A thread that has ended answers nothing; its interfaces are gone.
            if asked.is_err() {
                self.hooks_asked.remove(&group);
            }
        }
        are_all_asked
    }

    /// Takes in what was found on the hooks of one namespace; what changed, for the timeline.
    pub(super) async fn hooks_found(
        &mut self,
        netns: &Option<Netns>,
        found: HooksFound,
    ) -> Vec<(String, String)> {
        self.hooks_asked.remove(netns);
        let states = match found.states {
            Ok(states) => states,
            Err(error) => {
                tracing::warn!(error, "the programs on the hooks could not be read");
                return Vec::new();
            }
        };
        let mut changes = Vec::new();
        for ((id, index), state) in found.asked.into_iter().zip(states) {
            let Some(at) =
                self.entries.iter().position(|entry| entry.id == id && entry.index() == Some(index))
            else {
                continue;
            };
            // An interface that is gone is news of its own.
            if let Some(state) = state {
                changes.extend(self.hook_state(at, found.at, &state).await);
            }
        }
        changes
    }

    /// Asks all namespaces what is on the hooks and waits for their answers; what changed, for the timeline, and what makes
    /// a cut doubtful that begins now.
    pub async fn confirm(&mut self) -> (Vec<(String, String)>, Vec<Warning>) {
        let at = MonoNs::now();
        let (found, _) = self.others().await;
        let mut changes = Vec::new();
        let mut warnings = Vec::new();
        let ids: Vec<u32> = self.entries.iter().map(|entry| entry.id).collect();
        for (id, found) in ids.into_iter().zip(found) {
            let Some(entry) = self.entries.iter().position(|entry| entry.id == id) else { continue };
            match found {
                None => {}
                Some(Ok(state)) => changes.extend(self.hook_state(entry, at, &state).await),
                Some(Err(error)) => {
                    let interface = shown(&self.entries[entry].interface);
                    let text =
                        format!("{error}; a program that runs before ours on {interface} would bypass it");
                    warnings.push(Warning::new(WarningCode::HookUnreadable, interface, text));
                }
            }
        }
        let bypassed = self.entries.iter().filter_map(|entry| {
            let bypass = entry.bypasses.last().filter(|bypass| bypass.time.until.is_none())?;
            let interface = shown(&entry.interface);
            let text = format!("{interface}: {}", bypass.why);
            Some(Warning::new(WarningCode::ForeignAhead, interface, text))
        });
        warnings.extend(bypassed);
        (changes, warnings)
    }

    /// Compares what is on an interface's hooks with what was there; what changed, for the timeline.
    async fn hook_state(&mut self, at: usize, when: MonoNs, state: &HookState) -> Vec<(String, String)> {
        if !state.missing.is_empty() {
            let since = self.entries[at].whole_at;
            let lost = self.entries[at].lose(since, "another process detached our program").await;
            let again = self.try_again(at).await;
            return [lost].into_iter().chain(again).collect();
        }
        let ahead: Vec<_> = state.foreign.iter().filter(|foreign| foreign.is_ahead).collect();
        let is_bypassed = self.entries[at].is_bypassed();
        if ahead.is_empty() {
            self.entries[at].whole_at = when;
            if !is_bypassed {
                return Vec::new();
            }
            let entry = &mut self.entries[at];
            entry.end_bypass(when);
            return vec![(shown(&entry.interface), "nothing runs before our programs any more".to_owned())];
        }
        if is_bypassed {
            return Vec::new();
        }
        let known = self.names_of(ids(ahead.iter().copied())).await;
        let programs: Vec<String> = ahead.iter().map(|foreign| foreign.shown(&known)).collect();
        let why = format!("{} runs before our program and can bypass it", programs.join(", "));
        let entry = &mut self.entries[at];
        let from = entry.whole_at;
        entry.begin_bypass(Bypass { time: Gap { from, until: None }, why: why.clone() });
        tracing::warn!(interface = shown(&entry.interface), why, "bypassed");
        vec![(shown(&entry.interface), why)]
    }

    /// Who else is on the hooks, by entry: all namespaces are asked at once.
    async fn others(&self) -> (Vec<Option<Result<HookState, DatapathError>>>, Names) {
        let asked = self.entries.iter().map(async |entry| match &entry.attachment {
            Some(attachment) => Some(attachment.state().await),
            None => None,
        });
        let found = join_all(asked).await;
        let mut wanted = ids(found.iter().flatten().flatten().flat_map(|state| &state.foreign));
        wanted.extend(self.entries.iter().filter_map(|entry| entry.attachment.as_ref()?.xdp_holder));
        let names = self.names_of(wanted).await;
        (found, names)
    }

    /// The names of programs, as far as they are known: of later ones the supervisor's rights decide.
    async fn names_of(&self, wanted: Vec<u32>) -> Names {
        let mut named = self.met.clone();
        if let Some(supervisor) = self.workers.privileged()
            && !wanted.is_empty()
        {
            named.extend(supervisor.ask(move || names(&wanted)).await.unwrap_or_default());
        }
        named
    }

    /// What `status` shows.
    pub async fn views(&self) -> Vec<AttachmentView> {
        let (found, names) = self.others().await;
        self.entries.iter().zip(found).map(|(entry, found)| view(entry, found, &names)).collect()
    }
}

fn view(entry: &Entry, found: Option<Result<HookState, DatapathError>>, names: &Names) -> AttachmentView {
    let mut why = entry.chosen.iter().cloned().collect::<Vec<_>>();
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
        Some(Err(error)) => why.push(error.to_string()),
    }
    AttachmentView {
        interface: entry.interface.name.clone(),
        netns: entry.interface.netns.as_ref().map(ToString::to_string),
        hook: entry.attachment.as_ref().map(|attachment| attachment.hooks.to_string()),
        why: why.join("; "),
        others,
    }
}
