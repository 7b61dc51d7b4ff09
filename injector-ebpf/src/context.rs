//! The two kinds of packets, read through the kernel's load helpers: they see linear and non-linear alike.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use injector_common::packet::{Bytes, Packet};

/// A packet on a hook.
pub trait Hooked: Bytes {
    /// How many packets it stands for on the wire: GSO segments count each.
    fn segments(&self, packet: &Packet) -> u64;
}

/// A packet on a TC hook.
pub struct Skb(*mut __sk_buff);

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0u8; N];
        // SAFETY: the helper writes exactly N bytes into an array of N, or fails.
        let result = unsafe { bpf_skb_load_bytes(self.0.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
        (result == 0).then_some(bytes)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid for the whole program run.
        unsafe { (*self.0).len }
    }
}

impl Hooked for Skb {
    #[inline(always)]
    fn segments(&self, packet: &Packet) -> u64 {
        // SAFETY: as above.
        let (segments, size, len) = unsafe { ((*self.0).gso_segs, (*self.0).gso_size, (*self.0).len) };
        if segments != 0 {
            return u64::from(segments);
        }
        // From a guest or a tap, whom the kernel does not trust to count, a super-packet has its size alone.
        if size == 0 || packet.payload_at == 0 || packet.payload_at >= len {
            return 1;
        }
        u64::from(len - packet.payload_at).div_ceil(u64::from(size))
    }
}

/// A packet on an XDP hook.
pub struct Xdp(*mut xdp_md);

impl Xdp {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self(ctx.ctx)
    }
}

impl Bytes for Xdp {
    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0u8; N];
        // SAFETY: the helper writes exactly N bytes into an array of N, or fails.
        let result = unsafe { bpf_xdp_load_bytes(self.0, at, bytes.as_mut_ptr().cast(), N as u32) };
        (result == 0).then_some(bytes)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: a plain helper call on a valid context.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }
}

impl Hooked for Xdp {
    #[inline(always)]
    fn segments(&self, _: &Packet) -> u64 {
        1
    }
}
