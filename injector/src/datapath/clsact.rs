//! Our filters on the clsact qdiscs of interfaces: the only thing of ours that stays when the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use aya::Ebpf;

use super::chain;
use super::object::{INGRESS, classifier};
use crate::fault;
use crate::netlink::filters::{Filter, NewFilter, Qdisc, Side, Tc};
use crate::netns::Identity;
use injector_core::config::{Interface, shown};

/// The priority of our filters: before all others.
const PRIORITY: u16 = 1;
/// The handle of our filters where the qdisc was there before us. Handles outlive a daemon, and say so.
const FOUND_QDISC: u32 = 0x1a01;
/// The handle of our filters where we made the qdisc: it goes with the last filter.
pub(super) const MADE_QDISC: u32 = 0x1a02;

/// The interfaces, for people, on which filters of this process may still be, by the number of their [`Clsact`]. One list for the
/// whole process: filters stay when it ends, whichever config attached them.
static MAY_HAVE_FILTERS: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());

/// How long a namespace's thread may still take to remove filters once nobody waits for it: the kernel holds it up while
/// namespaces are deleted.
const LATE: Duration = Duration::from_secs(2);
/// The pause between two looks at the list.
const POLL: Duration = Duration::from_millis(10);

/// The interfaces, for people, on which filters of this process may stay. Waits a little for those that are being removed.
pub async fn filters_that_may_stay() -> BTreeSet<String> {
    let end = Instant::now() + LATE;
    while !may_have_filters().is_empty() && Instant::now() < end {
        tokio::time::sleep(POLL).await;
    }
    may_have_filters().values().cloned().collect()
}

fn may_have_filters() -> MutexGuard<'static, BTreeMap<u64, String>> {
    MAY_HAVE_FILTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our filters on an interface's clsact qdisc; taken off when dropped, if that is in their namespace.
pub(super) struct Clsact {
    number: u64,
    netns: Option<Identity>,
    index: u32,
    filters: Vec<Filter>,
    qdisc: Qdisc,
}

impl Clsact {
    /// Adds the filters, and the qdisc with them where there is none; another's serves as well.
    pub fn attach(
        ebpf: &mut Ebpf,
        interface: &Interface,
        index: u32,
        names: &[&'static str],
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("clsact: {error}");
        fault::at("attach/clsact").map_err(failed)?;
        let tc = Tc::open().map_err(failed)?;
        let qdisc = qdisc_of(&tc, index)?;
        let handle = if qdisc == Qdisc::Made { MADE_QDISC } else { FOUND_QDISC };
        let mut programs = Vec::new();
        for name in names {
            let program = classifier(ebpf, name)?;
            let id = program.info().map_err(|error| chain(&error))?.id();
            let fd = program.fd().map_err(|error| chain(&error))?;
            let fd = fd.try_clone().map_err(failed)?;
            programs.push((if *name == INGRESS { Side::Ingress } else { Side::Egress }, *name, id, fd));
        }
        let filters: Vec<NewFilter<'_>> = programs
            .iter()
            .map(|(side, name, id, fd)| NewFilter {
                side: *side,
                priority: PRIORITY,
                handle,
                program: fd.as_fd(),
                id: *id,
                name,
            })
            .collect();
        // Noted before they are added: a thread that is held up may add them while the process ends. After an error it is dropped,
        // which takes off what was added.
        let mut clsact = Self::noted(interface, index, filters.iter().map(NewFilter::made).collect(), qdisc);
        tc.add(index, qdisc, &filters).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                // What is there may be ours, of another attachment to this interface.
                clsact.filters.clear();
                "another injector holds its clsact hook; stop that one, or see `injector doctor`".to_owned()
            }
            std::io::ErrorKind::Unsupported => {
                "its clsact qdisc takes no filters of ours, as where another has given it a shared block of filters (see `tc qdisc show`); \
                 attach by `hook: tc` (Linux 6.6), or remove the block"
                    .to_owned()
            }
            _ => failed(error),
        })?;
        Ok(clsact)
    }

    fn noted(interface: &Interface, index: u32, filters: Vec<Filter>, qdisc: Qdisc) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        may_have_filters().insert(number, shown(interface));
        Self { number, netns: Identity::of_thread(), index, filters, qdisc }
    }

    /// Takes the filters off; whether they are gone.
    fn take_off(&self) -> bool {
        // In another namespace, the same index is another interface.
        if self.netns.is_none() || self.netns != Identity::of_thread() {
            return false;
        }
        fault::here("detach/clsact");
        let index = self.index;
        match Tc::open().and_then(|tc| tc.remove_all(index, &self.filters, self.qdisc)) {
            Ok(_) => true,
            // An interface or a qdisc that is gone took them along.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) =>
            {
                tracing::debug!(index, %error, "the clsact filters had gone before");
                true
            }
            Err(error) => {
                tracing::warn!(index, %error, "the clsact filters are not known to be removed");
                false
            }
        }
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        if self.take_off() {
            may_have_filters().remove(&self.number);
        }
    }
}

/// Why an interface can't be attached to over clsact; `None` if nothing speaks against it.
pub fn clsact_refusal(index: u32) -> Option<String> {
    let tc = Tc::open().map_err(|error| format!("clsact: {error}"));
    tc.and_then(|tc| qdisc_of(&tc, index)).err()
}

/// Whether an interface has a clsact qdisc, or is to get one.
fn qdisc_of(tc: &Tc, index: u32) -> Result<Qdisc, String> {
    match tc.ingress_qdisc(index).map_err(|error| format!("clsact: {error}"))?.as_deref() {
        None => Ok(Qdisc::Made),
        Some("clsact") => Ok(Qdisc::Found),
        Some(other) => Err(format!(
            "it has another's {other} qdisc, which takes the place of clsact and no filters of egress; replace that one by \
             clsact, which takes its filters too, or attach by `hook: tc` (Linux 6.6)"
        )),
    }
}
