//! The verdict on `lo`: the same as elsewhere, between ends that are named by their sockets.

use core::mem::size_of;

use aya_ebpf::bindings::{__sk_buff, bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_fullsock, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};
use aya_ebpf::programs::TcContext;
use injector_common::Word;
use injector_common::feature;
use injector_common::key::{Address, NOBODY, is_mapped};
use injector_common::packet::{Bytes as _, Packet, flag, parse, protocol};

use crate::context::{Hooked as _, Skb};
use crate::identity::{Side, WORLD};
use crate::maps::{COMMIT, CONTEXT, FEATURES};
use crate::observe;
use crate::owners::owner;
use crate::ports::{self, PORT_SPACE};
use crate::verdict::{DROPPED, IGNORED, Verdict, judge_named};

/// `SOCK_RAW`: the sockets by which the kernel itself answers are of this kind.
const RAW: u32 = 3;
/// The namespace of the frame's device.
const THIS_NAMESPACE: u64 = u64::MAX;

/// Judges one frame, and records what it saw.
#[inline(always)]
pub fn judge(ctx: &TcContext) -> Verdict {
    let Some(commit) = COMMIT.get_ptr(0) else { return Verdict::Pass };
    // SAFETY: one aligned word that userspace stores atomically; the volatile read takes it once.
    let word = Word(unsafe { commit.read_volatile() });
    if word.0 == 0 {
        return Verdict::Pass;
    }
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return Verdict::Pass };
    // SAFETY: this CPU's own value, and programs of one CPU do not interrupt each other on these hooks.
    let context = unsafe { &mut *context };
    context.clock.reset();
    let bytes = Skb::new(ctx);
    let is_parsed = parse(&bytes, &mut context.packet).is_ok();
    context.judged += 1;
    (context.sender, context.receiver) = (WORLD, WORLD);
    if !is_parsed || !has_ends(&context.packet) {
        return Verdict::Pass;
    }
    context.src = sender(ctx.skb.skb, &context.packet);
    context.dst = receiver(ctx.skb.skb, &context.packet);
    let answer = judge_between(word.live(), word.watched());
    if answer == DROPPED {
        observe::drops(bytes.segments(&context.packet), u64::from(bytes.len()));
        return Verdict::Drop;
    }
    if answer != IGNORED && FEATURES.load() & feature::WIRE != 0 {
        observe::response(&bytes, &context.packet, word);
    }
    Verdict::Pass
}

/// Judges the current frame, whose ends are in the context. A global function of plain numbers: the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_between(live: u32, watched: u32) -> u32 {
    let Some(context) = CONTEXT.get_ptr_mut(0) else { return IGNORED };
    // SAFETY: this CPU's own value; the caller holds no other reference while it calls.
    let context = unsafe { &mut *context };
    judge_named(context, Side { sender: WORLD, receiver: WORLD, flags: 0 }, live, watched)
}

/// Whether a frame's ends are sockets with ports: those of one sender and one receiver.
#[inline(always)]
fn has_ends(packet: &Packet) -> bool {
    let is_known = matches!(packet.protocol, protocol::TCP | protocol::UDP | protocol::UDP_LITE);
    is_known && packet.flags & (flag::PORTS | flag::GROUP) == flag::PORTS
}

/// A port of the packet, of one end.
struct End<'a> {
    address: &'a Address,
    port: u16,
}

/// The sending peer, or `WORLD`.
#[inline(always)]
fn sender(skb: *mut __sk_buff, packet: &Packet) -> u32 {
    let (from, to) =
        (End { address: &packet.src, port: packet.sport }, End { address: &packet.dst, port: packet.dport });
    // SAFETY: the context is valid for the whole program run.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if packet.flags & flag::ICMP == 0 && !socket.is_null() {
        // SAFETY: the verifier knows that it is a socket.
        let socket = unsafe { bpf_sk_fullsock(socket) };
        // A request socket is no full one, and a reset comes from a socket of the kernel's own.
        // SAFETY: fields of a socket, checked by the verifier.
        if !socket.is_null() && unsafe { (*socket).type_ } != RAW {
            let peer = whose(owner(socket));
            // A TCP socket's port is noted when it connects. One of UDP-Lite can't be looked up: its port is nobody's once
            // nobody's socket sends from it.
            if packet.protocol == protocol::UDP_LITE || peer != WORLD && packet.protocol == protocol::UDP {
                ports::note(
                    PORT_SPACE.load(),
                    u32::from(packet.protocol),
                    from.address,
                    from.port.into(),
                    peer,
                );
            }
            return peer;
        }
    }
    looked_up(skb, packet, &to, &from)
}

/// The receiving peer, or `WORLD`.
#[inline(always)]
fn receiver(skb: *mut __sk_buff, packet: &Packet) -> u32 {
    let (from, to) =
        (End { address: &packet.src, port: packet.sport }, End { address: &packet.dst, port: packet.dport });
    looked_up(skb, packet, &from, &to)
}

/// The peer of a socket by its owner.
#[inline(always)]
fn whose(owner: Option<u32>) -> u32 {
    match owner {
        Some(NOBODY) | None => WORLD,
        Some(peer) => peer,
    }
}

/// The peer of the socket that a packet from one end to the other would reach; where there is none, or its protocol has no
/// lookup, that of the port.
#[inline(always)]
fn looked_up(skb: *mut __sk_buff, packet: &Packet, from: &End<'_>, to: &End<'_>) -> u32 {
    // SAFETY: plain numbers, for which all bytes are valid.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if is_mapped(to.address) {
        tuple.__bindgen_anon_1.ipv4.saddr = from.address[3];
        tuple.__bindgen_anon_1.ipv4.daddr = to.address[3];
        tuple.__bindgen_anon_1.ipv4.sport = from.port.to_be();
        tuple.__bindgen_anon_1.ipv4.dport = to.port.to_be();
        12
    } else {
        tuple.__bindgen_anon_1.ipv6.saddr = *from.address;
        tuple.__bindgen_anon_1.ipv6.daddr = *to.address;
        tuple.__bindgen_anon_1.ipv6.sport = from.port.to_be();
        tuple.__bindgen_anon_1.ipv6.dport = to.port.to_be();
        size_of::<bpf_sock_tuple>() as u32
    };
    let tuple = &raw mut tuple;
    let socket: *mut bpf_sock = if packet.protocol == protocol::TCP {
        // SAFETY: the tuple is as long as given, and the context valid for the whole program run.
        unsafe { bpf_sk_lookup_tcp(skb.cast(), tuple, size, THIS_NAMESPACE, 0) }
    } else if packet.protocol == protocol::UDP {
        // SAFETY: as above.
        unsafe { bpf_sk_lookup_udp(skb.cast(), tuple, size, THIS_NAMESPACE, 0) }
    } else {
        core::ptr::null_mut()
    };
    if !socket.is_null() {
        let peer = whose(owner(socket));
        // SAFETY: the reference that the lookup took is given back once, and not used again.
        unsafe { bpf_sk_release(socket.cast()) };
        return peer;
    }
    let (space, protocol) = (PORT_SPACE.load(), u32::from(packet.protocol));
    match ports::listed(space, to.address, to.port.into()) {
        WORLD => ports::used(space, protocol, to.address, to.port.into()),
        peer => peer,
    }
}
