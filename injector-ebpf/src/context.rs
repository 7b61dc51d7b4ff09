//! The two kinds of packets. Common headers are read in place, if they are in the linear part; all else through the
//! kernel's load helpers, which see linear and non-linear alike.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use injector_common::packet::{Bytes, Packet};

/// A packet on a hook.
pub trait Hooked: Bytes {
    /// How many packets it represents on the wire: GSO segments count each.
    fn segments(&self, packet: &Packet) -> u64;

    /// The index of the hook's interface in its namespace.
    fn device(&self) -> u32;
}

/// `N` words of a packet's linear part, or `None` past its end.
#[inline(always)]
fn linear<const N: usize>(data: u32, end: u32, at: u32) -> Option<[u32; N]> {
    let from = data as usize + at as usize;
    if from + size_of::<[u32; N]>() > end as usize {
        return None;
    }
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: within the packet, or the verifier refuses the program, as it refuses misaligned loads for a
        // processor that has none. Volatile, so that each stays one load.
        *word = unsafe { (from as *const u32).add(index).read_volatile() };
    }
    Some(words)
}

/// A packet on a TC hook.
pub struct Skb(*mut __sk_buff);

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    #[inline(always)]
    fn load<T>(&self, at: u32) -> Option<T> {
        let mut loaded = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes exactly the size of a T, or fails.
        let result = unsafe {
            bpf_skb_load_bytes(self.0.cast(), at, loaded.as_mut_ptr().cast(), size_of::<T>() as u32)
        };
        // SAFETY: written.
        (result == 0).then(|| unsafe { loaded.assume_init() })
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.load(at)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        // SAFETY: the context is valid for the whole program run.
        let (data, end) = unsafe { ((*self.0).data, (*self.0).data_end) };
        linear(data, end, at).or_else(|| self.load(at))
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid for the whole program run.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: the context is valid for the whole program run.
        unsafe { (*self.0).vlan_present != 0 }
    }
}

impl Hooked for Skb {
    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: the context is valid for the whole program run.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn segments(&self, packet: &Packet) -> u64 {
        // SAFETY: as above.
        let (segments, size, len) = unsafe { ((*self.0).gso_segs, (*self.0).gso_size, (*self.0).len) };
        if segments != 0 {
            return u64::from(segments);
        }
        // The kernel does not trust a guest or a tap to count: a super-packet from there has only its size.
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

    #[inline(always)]
    fn load<T>(&self, at: u32) -> Option<T> {
        let mut loaded = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes exactly the size of a T, or fails.
        let result =
            unsafe { bpf_xdp_load_bytes(self.0, at, loaded.as_mut_ptr().cast(), size_of::<T>() as u32) };
        // SAFETY: written.
        (result == 0).then(|| unsafe { loaded.assume_init() })
    }
}

impl Bytes for Xdp {
    #[inline(always)]
    fn read<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.load(at)
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        // SAFETY: the context is valid for the whole program run.
        let (data, end) = unsafe { ((*self.0).data, (*self.0).data_end) };
        linear(data, end, at).or_else(|| self.load(at))
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: a plain helper call on a valid context.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }
}

impl Hooked for Xdp {
    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: the context is valid for the whole program run.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn segments(&self, _: &Packet) -> u64 {
        1
    }
}
