//! One interface: attached, lost, attached again.

use crate::datapath::{Attachment, DatapathError, Foreign, HookState, Instance, Names, Refused};
use injector_core::clock::{MonoNs, TimeRange};
use injector_core::config::shown;
use injector_core::config::{Interface, Netns};

/// How many gaps of an interface are remembered.
const GAPS: usize = 1024;

/// An interface that the daemon attaches to, or tries to.
pub struct Entry {
    /// Its id in the programs.
    pub id: u32,
    /// As configured, or found.
    pub interface: Interface,
    /// Its name now, if it was renamed while attached.
    pub renamed: Option<String>,
    /// When its name was read.
    pub named_at: MonoNs,
    /// How `auto` came to it.
    pub chosen: Option<String>,
    /// Our programs on it.
    pub attachment: Option<Attachment>,
    /// The loaded programs while they are on no interface: verified once, attached again at once.
    pub instance: Option<Instance>,
    /// Whether they are being verified.
    pub is_preparing: bool,
    /// Whether they are being attached or taken off, by its namespace's thread.
    pub is_busy: bool,
    /// When something happened meanwhile, so that the interface must be compared with the kernel's list
    /// again.
    pub look_again: Option<MonoNs>,
    /// Why it is not attached.
    pub missing: String,
    /// When it was not.
    pub gaps: Vec<TimeRange>,
    /// When something could send packets past our programs.
    pub bypasses: Vec<Bypass>,
    /// The state of its hooks when they were last read; `None` since our programs were attached.
    pub last_state: Option<HookState>,
    /// When the last reading of its hooks began that says all of what can send packets past them; `None` since our programs
    /// were attached.
    pub hooks_read_at: Option<MonoNs>,
    /// When our programs were last known to be on their hooks, with nothing before them.
    pub whole_at: MonoNs,
}

/// A time in which something could send packets past our programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// The time: from when until when.
    pub time: TimeRange,
    /// The programs that run before ours, in words,
    pub why: String,
    /// and on its hooks.
    pub ahead: Vec<Foreign>,
}

impl Entry {
    /// An interface that is attached before anything is cut.
    pub fn new(id: u32, interface: Interface, chosen: Option<String>) -> Self {
        let missing = "not attached yet".to_owned();
        Self {
            id,
            interface,
            renamed: None,
            named_at: MonoNs(0),
            chosen,
            attachment: None,
            instance: None,
            is_preparing: false,
            is_busy: false,
            look_again: None,
            missing,
            gaps: Vec::new(),
            bypasses: Vec::new(),
            last_state: None,
            hooks_read_at: None,
            whole_at: MonoNs(0),
        }
    }

    /// An interface that was found later: until it is attached, it never was.
    pub fn found_later(id: u32, interface: Interface, chosen: Option<String>) -> Self {
        Self { gaps: vec![TimeRange::ALWAYS], ..Self::new(id, interface, chosen) }
    }

    /// Takes note, at the start, that it was found and is gone: it was never attached.
    pub fn miss(&mut self, why: &str) {
        self.gaps = vec![TimeRange::ALWAYS];
        self.stay_off(why);
    }

    /// Its name now.
    pub fn name(&self) -> &str {
        self.renamed.as_deref().unwrap_or(&self.interface.name)
    }

    /// Whether it is the interface of that name in that namespace.
    pub fn is(&self, name: &str, netns: Option<&Netns>) -> bool {
        self.name() == name && self.interface.netns.as_ref() == netns
    }

    /// Takes note of its name while it is attached, as it was read at an instant, unless it was read later; what happened, if that
    /// is another one.
    pub fn rename(&mut self, name: &str, read_at: MonoNs) -> Option<(String, String)> {
        if read_at < self.named_at {
            return None;
        }
        self.named_at = read_at;
        if name == self.name() {
            return None;
        }
        self.renamed = Some(name.to_owned()).filter(|name| *name != self.interface.name);
        tracing::info!(interface = shown(&self.interface), name, "renamed; its hook stays");
        Some((shown(&self.interface), format!("renamed to {name}; its hook stays")))
    }

    /// Its index while it is attached.
    pub fn index(&self) -> Option<u32> {
        self.attachment.as_ref().map(|attachment| attachment.facts.index)
    }

    /// Whether our programs were on it at an instant: what was read from then on says something of them.
    pub fn was_attached_at(&self, instant: MonoNs) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.since <= instant)
    }

    /// Whether a reading of its hooks that says all of them has begun since an instant.
    pub fn are_hooks_known_since(&self, since: MonoNs) -> bool {
        self.hooks_read_at.is_some_and(|read_at| read_at >= since)
    }

    /// Takes in what came of attaching.
    pub fn take(&mut self, attached: Result<Attachment, Refused>) -> Result<(), DatapathError> {
        match attached {
            Ok(attachment) => {
                let now = MonoNs::now();
                if let Some(gap) = self.gaps.last_mut().filter(|gap| gap.until_ns.is_none()) {
                    gap.until_ns = Some(now);
                }
                tracing::info!(
                    interface = shown(&self.interface),
                    index = attachment.facts.index,
                    hook = %attachment.hooks,
                    why = attachment.why(&Names::new()),
                    "attached"
                );
                crate::fault::here("attach/done");
                self.attachment = Some(attachment);
                self.whole_at = now;
                self.last_state = None;
                self.hooks_read_at = None;
                Ok(())
            }
            Err(Refused { instance, error }) => {
                self.instance = instance;
                Err(error)
            }
        }
    }

    /// Takes note that the hook is gone since an instant; what was attached is to be taken off.
    pub fn lose(&mut self, since: MonoNs, why: &str) -> (Option<Attachment>, (String, String)) {
        crate::fault::here("lose/begin");
        let attachment = self.attachment.take();
        if attachment.is_some() {
            self.begin_gap(since);
            self.end_bypass(since);
        }
        // An interface is attached again by its name in the config.
        self.renamed = None;
        let process = self.interface.netns.as_ref().and_then(Netns::process);
        self.missing = match process.filter(|pid| Netns::Pid(*pid).path().is_some_and(|path| !path.exists()))
        {
            Some(pid) => format!(
                "{why}; process {pid} has ended, and its id does not lead to what comes after it: name the namespace by a name below /run/netns, or a container by {{ container: NAME }}"
            ),
            None => format!("{why}; it is attached again as soon as it is there"),
        };
        tracing::warn!(interface = shown(&self.interface), why, "lost");
        (attachment, (shown(&self.interface), format!("lost: {why}")))
    }

    /// Notes that our programs are not on it since an instant, if that is not known.
    pub fn begin_gap(&mut self, since: MonoNs) {
        if self.gaps.last().is_some_and(|gap| gap.until_ns.is_none()) {
            return;
        }
        if self.gaps.len() == GAPS {
            self.gaps.remove(0);
        }
        self.gaps.push(TimeRange { from_ns: since, until_ns: None });
    }

    /// Whether something can send packets past our programs.
    pub fn is_bypassed(&self) -> bool {
        self.bypasses.last().is_some_and(|bypass| bypass.time.until_ns.is_none())
    }

    /// Notes that something runs before our programs.
    pub fn begin_bypass(&mut self, bypass: Bypass) {
        if self.bypasses.len() == GAPS {
            self.bypasses.remove(0);
        }
        self.bypasses.push(bypass);
    }

    /// Notes that nothing runs before our programs any more.
    pub fn end_bypass(&mut self, at: MonoNs) {
        if let Some(bypass) = self.bypasses.last_mut().filter(|bypass| bypass.time.until_ns.is_none()) {
            bypass.time.until_ns = Some(at);
        }
    }

    /// Takes note of why it is not attached; reported once, and tried again at the next notification.
    pub fn refuse(&mut self, error: &DatapathError) -> Option<(String, String)> {
        self.stay_off(&error.to_string())
    }

    /// Takes note of why it is not attached, in words; reported once.
    pub fn stay_off(&mut self, missing: &str) -> Option<(String, String)> {
        let is_new = missing != self.missing;
        missing.clone_into(&mut self.missing);
        if is_new {
            tracing::warn!(interface = shown(&self.interface), error = missing, "not attached");
        }
        is_new.then(|| (shown(&self.interface), format!("not attached: {missing}")))
    }
}
