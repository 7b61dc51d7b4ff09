//! The entry points for peers on this machine, in an object of their own that is loaded only where the config has such
//! peers. On `lo`, addresses name nobody: frames are named by the sockets that send and receive them.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "aya's macros make items without documentation")]
#![allow(clippy::needless_pass_by_value, reason = "aya's macros pass contexts by value")]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value would be one more copy on the stack"
)]
#![allow(dead_code, reason = "what is shared with the other object is not all needed here")]

mod clock;
mod context;
mod emit;
mod identity;
#[path = "local/judge.rs"]
mod judge;
mod leak;
mod learn;
mod lease;
mod maps;
mod object;
mod observe;
#[path = "local/owners.rs"]
mod owners;
#[path = "local/ports.rs"]
mod ports;
#[path = "local/processes.rs"]
mod processes;
mod protect;
mod scope;
#[path = "local/sockets.rs"]
mod sockets;
mod verdict;
mod verdict_context;

use aya_ebpf::macros::{btf_tracepoint, cgroup_sock, classifier, sock_ops};
use aya_ebpf::programs::{BtfTracePointContext, SockContext, SockOpsContext, TcContext};

use crate::object::{NEXT, lose};
use crate::verdict::Verdict;

/// The answer of a program on a cgroup by which the kernel continues.
const ALLOW: i32 = 1;

/// TC egress of `lo`: on ingress a frame has no socket any more.
#[classifier]
pub fn injector_lo(ctx: TcContext) -> i32 {
    match judge::judge(&ctx) {
        Verdict::Pass => NEXT,
        Verdict::Drop => lose(),
    }
}

/// A socket is made.
#[cgroup_sock(sock_create)]
pub fn injector_sock(ctx: SockContext) -> i32 {
    sockets::created(ctx.sock);
    ALLOW
}

/// A socket has got an IPv4 port by `bind()`.
#[cgroup_sock(post_bind4)]
pub fn injector_bind4(ctx: SockContext) -> i32 {
    sockets::bound4(ctx.sock);
    ALLOW
}

/// A socket has got an IPv6 port by `bind()`.
#[cgroup_sock(post_bind6)]
pub fn injector_bind6(ctx: SockContext) -> i32 {
    sockets::bound6(ctx.sock);
    ALLOW
}

/// A TCP socket connects or listens.
#[sock_ops]
pub fn injector_connect(ctx: SockOpsContext) -> u32 {
    sockets::operates(&ctx);
    1
}

/// A process or a thread is made.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn injector_fork(ctx: BtfTracePointContext) -> i32 {
    processes::forked(ctx.arg(0), ctx.arg(1));
    0
}

/// A thread ends.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn injector_exit(ctx: BtfTracePointContext) -> i32 {
    processes::exited(ctx.arg(0));
    0
}
