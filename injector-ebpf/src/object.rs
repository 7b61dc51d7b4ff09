//! The parts of every object of ours: its licence, its panic handler, and how its TC programs pass and drop
//! packets.

use aya_ebpf::helpers::generated::bpf_redirect;

/// `TCX_NEXT`, and `TC_ACT_UNSPEC` for clsact: the next program decides. Never `TC_ACT_OK`, which would
/// bypass the programs after ours.
pub const NEXT: i32 = -1;
/// An interface index that the kernel never assigns.
const NO_INTERFACE: u32 = 0;

/// Loses a packet on egress. `TC_ACT_SHOT` there would be reported to the local TCP stack, which then retries without backoff;
/// a redirect to an interface that cannot exist loses the packet in silence, as a cut cable does.
#[inline(always)]
pub fn lose() -> i32 {
    // SAFETY: a plain helper call; it only records where the packet is to go.
    unsafe { bpf_redirect(NO_INTERFACE, 0) as i32 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
