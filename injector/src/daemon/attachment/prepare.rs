//! Programs for interfaces: verified beside the daemon's task, which has other things to do meanwhile.

use futures_util::future::try_join_all;
use injector_core::config::shown;

use super::entry::Entry;
use super::{InterfaceEvent, Interfaces, StartError};
use crate::datapath::{DatapathError, Instance};
use injector_core::config::{Hook, Interface};

/// Programs for the next interface that `auto` finds: what comes by it is not to pass until they are verified.
pub enum Spare {
    /// There are none, and none are on their way.
    None,
    /// They are being verified, for this id.
    Awaited(u32),
    /// They are there, for this id.
    Ready(u32, Instance),
}

impl Interfaces {
    /// Attaches to every interface; if one refuses, to none.
    pub(super) async fn attach_all(&mut self) -> Result<(), StartError> {
        let made =
            self.entries.iter().map(|entry| self.instances.clone().make(entry.id, entry.interface.hook));
        let made = try_join_all(made).await?;
        for (at, instance) in made.into_iter().enumerate() {
            if let Err(error) = self.entries[at].attach(instance, &mut self.workers).await {
                self.detach().await;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Tries to attach what is not, at once if its programs are verified; else [`Self::prepared`] goes on.
    pub(super) async fn try_again(&mut self, at: usize) -> Option<(String, String)> {
        let entry = &mut self.entries[at];
        let Some(instance) = entry.instance.take() else {
            if !std::mem::replace(&mut entry.is_preparing, true) {
                let (id, hook) = (entry.id, entry.interface.hook);
                self.prepare(id, hook);
            }
            return None;
        };
        let name = shown(&entry.interface);
        match entry.attach(instance, &mut self.workers).await {
            Ok(()) => {
                let attachment = entry.attachment.as_ref()?;
                Some((name, format!("attached: {} (index {})", attachment.hooks, attachment.facts.index)))
            }
            Err(error) => entry.refuse(&error),
        }
    }

    /// Takes programs in, and attaches them.
    pub(super) async fn prepared(
        &mut self,
        id: u32,
        instance: Result<Box<Instance>, DatapathError>,
    ) -> Option<(String, String)> {
        if matches!(self.spare, Spare::Awaited(awaited) if awaited == id) {
            self.spare = match instance {
                Ok(instance) => Spare::Ready(id, *instance),
                Err(error) => {
                    tracing::warn!(%error, "no programs are kept ready for new interfaces");
                    Spare::None
                }
            };
            return None;
        }
        // An interface that is forgotten meanwhile needs none.
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        let entry = &mut self.entries[at];
        entry.is_preparing = false;
        match instance {
            Ok(instance) => {
                entry.instance = Some(*instance);
                if entry.attachment.is_some() { None } else { self.try_again(at).await }
            }
            Err(error) => entry.refuse(&error),
        }
    }

    /// An interface that was found later, with the programs that were kept ready.
    pub(super) fn found_later(&mut self, interface: Interface, why: String) -> Entry {
        match std::mem::replace(&mut self.spare, Spare::None) {
            Spare::Ready(id, instance) => {
                self.prepare_spare();
                Entry { instance: Some(instance), ..Entry::found_later(id, interface, Some(why)) }
            }
            other => {
                self.spare = other;
                let id = self.id();
                Entry::found_later(id, interface, Some(why))
            }
        }
    }

    /// Has programs made ahead.
    pub(super) fn prepare_spare(&mut self) {
        let id = self.id();
        self.spare = Spare::Awaited(id);
        self.prepare(id, Hook::Auto);
    }

    fn prepare(&self, id: u32, hook: Hook) {
        let (made, news) = (self.instances.clone().make(id, hook), self.news.clone());
        tokio::spawn(async move {
            let instance = made.await.map(Box::new);
            let _ = news.send(InterfaceEvent::Prepared { id, instance });
        });
    }
}
