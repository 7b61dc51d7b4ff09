//! The entry points of the data plane: TC ingress and egress, XDP ingress. One verdict serves them all.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "aya's macros make items without documentation")]
#![allow(clippy::needless_pass_by_value, reason = "aya's macros pass contexts by value")]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value would be one more copy on the stack"
)]

mod clock;
mod context;
mod emit;
mod identity;
mod leak;
mod learn;
mod lease;
mod maps;
mod object;
mod observe;
mod protect;
mod scope;
mod verdict;
mod verdict_context;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::context::{Skb, Xdp};
use crate::identity::Direction;
use crate::object::{NEXT, lose};
use crate::verdict::Verdict;

/// `TC_ACT_SHOT`: silent on ingress only.
const SHOT: i32 = 2;

/// TC ingress.
#[classifier]
pub fn injector_in(ctx: TcContext) -> i32 {
    match verdict::judge(&Skb::new(&ctx), Direction::Ingress) {
        Verdict::Pass => NEXT,
        Verdict::Drop => SHOT,
    }
}

/// TC egress.
#[classifier]
pub fn injector_out(ctx: TcContext) -> i32 {
    match verdict::judge(&Skb::new(&ctx), Direction::Egress) {
        Verdict::Pass => NEXT,
        Verdict::Drop => lose(),
    }
}

/// XDP ingress.
#[xdp(frags)]
pub fn injector_xdp(ctx: XdpContext) -> u32 {
    match verdict::judge(&Xdp::new(&ctx), Direction::Ingress) {
        Verdict::Pass => XDP_PASS,
        Verdict::Drop => XDP_DROP,
    }
}
