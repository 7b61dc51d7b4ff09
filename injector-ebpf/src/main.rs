//! The entry points of the data plane: TC ingress and egress, XDP ingress. One verdict serves them all.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "aya's macros make items without documentation")]
#![allow(clippy::needless_pass_by_value, reason = "aya's macros pass contexts by value")]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value would be one more copy on the stack"
)]

mod context;
mod emit;
mod identity;
mod leak;
mod learn;
mod maps;
mod observe;
mod verdict;
mod verdict_context;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::context::{Skb, Xdp};
use crate::identity::Way;
use crate::verdict::Verdict;

/// `TCX_NEXT`, and `TC_ACT_UNSPEC` for clsact: the next program decides. Never `TC_ACT_OK`, which would
/// bypass the programs after ours.
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`: silent on ingress only.
const SHOT: i32 = 2;
/// An interface index that the kernel never assigns.
const NO_INTERFACE: u32 = 0;

/// TC ingress.
#[classifier]
pub fn injector_in(ctx: TcContext) -> i32 {
    match verdict::judge(&Skb::new(&ctx), Way::In) {
        Verdict::Pass => NEXT,
        Verdict::Drop => SHOT,
    }
}

/// TC egress. `TC_ACT_SHOT` here would be told to the local TCP stack, which then retries without backoff;
/// a redirect to an interface that cannot exist loses the packet in silence, as a cut cable does.
#[classifier]
pub fn injector_out(ctx: TcContext) -> i32 {
    match verdict::judge(&Skb::new(&ctx), Way::Out) {
        Verdict::Pass => NEXT,
        // SAFETY: a plain helper call; it only records where the packet is to go.
        Verdict::Drop => unsafe { bpf_redirect(NO_INTERFACE, 0) as i32 },
    }
}

/// XDP ingress.
#[xdp(frags)]
pub fn injector_xdp(ctx: XdpContext) -> u32 {
    match verdict::judge(&Xdp::new(&ctx), Way::In) {
        Verdict::Pass => XDP_PASS,
        Verdict::Drop => XDP_DROP,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
