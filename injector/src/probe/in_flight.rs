//! The limit of probes under way over all endpoints. Each probe holds a descriptor, a socket and the buffers of its connection,
//! and an endpoint that does not answer keeps as many open as fit into its timeout: the limit of one endpoint alone would
//! allow a thousand endpoints a million sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The most probes under way of all endpoints together: as many as 40 endpoints leave open that never answer, with the default
/// interval and timeout.
pub const MOST: usize = 4096;

/// The probes of this process.
pub(super) static ALL: Limit = Limit::new(MOST);

/// A number of probes under way, and its limit.
pub(super) struct Limit {
    under_way: AtomicUsize,
    most: AtomicUsize,
}

/// A probe that counts as under way until this is dropped.
pub(super) struct UnderWay(&'static Limit);

impl Limit {
    pub(super) const fn new(most: usize) -> Self {
        Self { under_way: AtomicUsize::new(0), most: AtomicUsize::new(most) }
    }

    /// Counts another probe of an endpoint that has `own` under way. One of each endpoint is always allowed, so that endpoints
    /// that hang keep no other one from being probed.
    ///
    /// # Errors
    /// The limit, where it is reached.
    pub(super) fn take(&'static self, own: usize) -> Result<UnderWay, usize> {
        let most = self.most.load(Ordering::Relaxed);
        let more = |count| (own == 0 || count < most).then_some(count + 1);
        match self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(UnderWay(self)),
            Err(_) => Err(most),
        }
    }

    /// The part of a number of bytes that is one probe's if the probes under way share it evenly.
    pub(super) fn share_of(&self, bytes: usize) -> usize {
        bytes / self.under_way.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lowers the limit of all endpoints to the descriptors that there are for probes; [`MOST`] at most.
pub fn allow(most: usize) {
    ALL.most.store(most.min(MOST), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_share_the_limit_and_each_has_one_probe() {
        static LIMIT: Limit = Limit::new(3);
        let hanging: Vec<UnderWay> = (0..3).map_while(|own| LIMIT.take(own).ok()).collect();
        assert_eq!(hanging.len(), 3);
        assert_eq!(LIMIT.take(3).err(), Some(3));
        let other = LIMIT.take(0);
        assert!(other.is_ok(), "another endpoint is kept from being probed");
        assert_eq!(LIMIT.take(1).err(), Some(3));
        assert_eq!(LIMIT.share_of(4000), 1000);
        drop((hanging, other));
        assert!(LIMIT.take(3).is_ok());
        assert_eq!(LIMIT.share_of(4000), 4000);
    }
}
