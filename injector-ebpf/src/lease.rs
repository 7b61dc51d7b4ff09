//! The lease: without its renewal nothing is cut.

use aya_log_ebpf::warn;
use injector_common::record::Wakeup;

use crate::maps::LEASE;
use crate::verdict_context::VerdictContext;
use crate::{emit, identity};

/// Whether the lease ran out. That is final: the latch outlives a late renewal, until the daemon has disabled
/// every slot. It is asked only where a slot could decide something, so that packets of other links do not pay for it: a
/// lapse that no such packet met has changed nothing.
#[inline(always)]
pub fn lapsed(context: &mut VerdictContext) -> bool {
    let Some(lease) = LEASE.get_ptr_mut(0) else { return true };
    // SAFETY: aligned words in a map value; races with userspace are by design and each word is whole.
    let (expires, latched) = unsafe {
        (
            core::ptr::addr_of!((*lease).expires).read_volatile(),
            core::ptr::addr_of!((*lease).lapsed).read_volatile(),
        )
    };
    if latched != 0 {
        return true;
    }
    if !context.clock.reached(expires) {
        return false;
    }
    // SAFETY: as above.
    unsafe { core::ptr::addr_of_mut!((*lease).lapsed).write_volatile(expires) };
    report_lapse(identity::interface(context), expires);
    true
}

/// Tells the daemon and the log that the lease ran out. A global function of plain numbers, which one packet calls: the
/// verifier checks it once, and not at each place where the lease is asked for.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_lapse(interface: u32, expires: u64) -> u32 {
    emit::ring(Wakeup::LEASE, 0);
    warn!((), "interface {}: the lease expired at {}, everything passes", interface, expires);
    0
}
