//! Sockets get their owners when they are made, and when they bind a port of the config. Processes get theirs when they listen on
//! such a port, or bind it for UDP: whoever asks by `bind()` whether a port is free is nobody's.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TCP_LISTEN_CB, bpf_sock, bpf_sock_ops};
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_pid_tgid,
    bpf_get_current_task, bpf_get_netns_cookie,
};
use aya_ebpf::programs::SockOpsContext;
use injector_common::key::{Address, BY_PORT, NOBODY, mapped};
use injector_common::packet::protocol;
use injector_common::record::Wakeup;

use crate::emit;
use crate::identity::WORLD;
use crate::owners::{CGROUPS, PROCESSES, give, owner};
use crate::ports::{ANY, listed, note, space};
use crate::processes::id_of;

/// Ancestor cgroups of levels below this one are searched for a peer.
const DEEPEST: i32 = 12;
/// `AF_INET`.
const INET: u32 = 2;
/// `SOCK_RAW`.
const RAW: u32 = 3;
/// `IPPROTO_MPTCP`: sockets of the kernel's own send and receive for such a one.
const MPTCP: u32 = 262;
/// The process that starts the services of a machine, and binds ports for them.
const INIT: u32 = 1;

/// The running process.
#[inline(always)]
fn process() -> u32 {
    // SAFETY: a plain helper call.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

/// The running process's peer, by itself or by its cgroup.
#[inline(always)]
fn current() -> u32 {
    // SAFETY: one word.
    if let Some(peer) = unsafe { PROCESSES.get(&process()) } {
        return *peer & !BY_PORT;
    }
    // SAFETY: a plain helper call, and one word.
    if let Some(peer) = unsafe { CGROUPS.get(&bpf_get_current_cgroup_id()) } {
        return *peer;
    }
    for level in 1..DEEPEST {
        // SAFETY: a plain helper call.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        // SAFETY: one word.
        if let Some(peer) = unsafe { CGROUPS.get(&id) } {
            return *peer;
        }
    }
    WORLD
}

/// Whether the socket is one of TCP or UDP: raw ones have no ports.
#[inline(always)]
fn has_ports(socket: *mut bpf_sock) -> bool {
    // SAFETY: the context is valid for the whole program run.
    unsafe { (*socket).type_ != RAW }
}

/// A socket was made.
#[inline(always)]
pub fn created(socket: *mut bpf_sock) {
    let peer = current();
    if peer == WORLD || !has_ports(socket) {
        return;
    }
    give(socket, peer);
    // SAFETY: the context is valid for the whole program run.
    if peer != NOBODY && unsafe { (*socket).protocol } == MPTCP {
        emit::ring(Wakeup::MULTIPATH, peer);
    }
}

/// A socket was bound over IPv4.
#[inline(always)]
pub fn bound4(socket: *mut bpf_sock) {
    // SAFETY: the context is valid for the whole program run.
    let address = unsafe { (*socket).src_ip4 };
    bound(socket, &if address == 0 { ANY } else { mapped(address) });
}

/// A socket was bound over IPv6.
#[inline(always)]
pub fn bound6(socket: *mut bpf_sock) {
    // SAFETY: the context is valid for the whole program run; each word is read by itself, as the verifier wants it.
    let word = |at: usize| unsafe { core::ptr::addr_of!((*socket).src_ip6[at]).read_volatile() };
    bound(socket, &[word(0), word(1), word(2), word(3)]);
}

#[inline(always)]
fn bound(socket: *mut bpf_sock, address: &Address) {
    // SAFETY: the context is valid for the whole program run.
    let (port, kind) = unsafe { ((*socket).src_port, (*socket).protocol) };
    // SAFETY: a plain helper call.
    let space = space(unsafe { bpf_get_netns_cookie(socket.cast()) });
    if space == 0 || port == 0 || !has_ports(socket) {
        return;
    }
    let listed = listed(space, address, port);
    if listed != WORLD {
        give(socket, listed);
        if kind != u32::from(protocol::TCP) && kind != MPTCP {
            became(listed, process());
        }
    }
    let owner = if listed == WORLD { owner(socket).unwrap_or(WORLD) } else { listed };
    note(space, kind, address, port, owner);
}

/// A process listens on a port of a peer: it is that peer's.
#[inline(always)]
fn became(peer: u32, process: u32) {
    if process == INIT {
        return;
    }
    // SAFETY: one word.
    let before = unsafe { PROCESSES.get(&process) }.copied().unwrap_or(WORLD);
    if before & !BY_PORT == peer {
        return;
    }
    // The other packets of a process that has ports of two peers could be either's.
    let now = if before == WORLD { peer | BY_PORT } else { NOBODY | before & BY_PORT };
    let _ = PROCESSES.insert(&process, &now, 0);
    emit::ring(Wakeup::BOUND, process);
}

/// Handles a change of a TCP socket.
#[inline(always)]
pub fn operates(ctx: &SockOpsContext) {
    let operation = ctx.op();
    if operation != BPF_SOCK_OPS_TCP_CONNECT_CB && operation != BPF_SOCK_OPS_TCP_LISTEN_CB {
        return;
    }
    // SAFETY: a plain helper call.
    let space = space(unsafe { bpf_get_netns_cookie(ctx.as_ptr()) });
    if space == 0 {
        return;
    }
    if operation == BPF_SOCK_OPS_TCP_LISTEN_CB {
        let listed = listed(space, &local(ctx), ctx.local_port());
        // SAFETY: a plain helper call. Before Linux 6.10, programs of this type may not ask for the process id.
        let task = unsafe { bpf_get_current_task() } as *const c_void;
        if let (true, Some(process)) = (listed != WORLD, id_of(task)) {
            became(listed, process);
        }
        return;
    }
    let ops: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: the context is valid for the whole program run.
    let socket = unsafe { (*ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return;
    }
    let owner = owner(socket).unwrap_or(WORLD);
    // The socket is about to send its first packet, and has its port.
    note(space, u32::from(protocol::TCP), &local(ctx), ctx.local_port(), owner);
}

/// The address of a TCP socket.
#[inline(always)]
fn local(ctx: &SockOpsContext) -> Address {
    if ctx.family() == INET {
        let address = ctx.local_ip4();
        return if address == 0 { ANY } else { mapped(address) };
    }
    let ops: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: as in `bound6`.
    let word = |at: usize| unsafe { core::ptr::addr_of!((*ops).local_ip6[at]).read_volatile() };
    [word(0), word(1), word(2), word(3)]
}
