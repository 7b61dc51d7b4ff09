//! A program of somebody else on an egress hook, where it answers `TC_ACT_OK`, which ends the chain, or on XDP.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::lab::Lab;

/// Where in the chain it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before all that are there.
    First,
    /// Behind them.
    Last,
}

/// The program on a node's own interface; gone when dropped.
pub struct Foreign {
    /// The program's id.
    pub id: u32,
    _link: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

const PROG_LOAD: libc::c_int = 5;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
const ON_XDP: u32 = 37;
const TCX_EGRESS: u32 = 47;
const BEFORE: u32 = 1 << 3;
/// XDP in the stack, which every device has.
const GENERIC: u32 = 1 << 1;
const TC_ACT_OK: u64 = 0;
const XDP_PASS: u64 = 2;

fn bpf<T>(command: libc::c_int, attributes: &T) -> i32 {
    // SAFETY: the attributes are as long as given, and what they point to outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    assert!(answer >= 0, "bpf command {command}: {}", std::io::Error::last_os_error());
    i32::try_from(answer).unwrap()
}

impl Foreign {
    /// Loads one and attaches it to the egress hook.
    pub fn attach(lab: &Lab, node: &str, position: Position) -> Self {
        let flags = if position == Position::First { BEFORE } else { 0 };
        Self::answering(TC_ACT_OK, SCHED_CLS, lab, node, (TCX_EGRESS, flags))
    }

    /// Loads one that lets everything pass and attaches it to XDP.
    pub fn attach_to_xdp(lab: &Lab, node: &str) -> Self {
        Self::answering(XDP_PASS, XDP, lab, node, (ON_XDP, GENERIC))
    }

    /// Loads one with one answer to all, and attaches it.
    fn answering(
        answer: u64,
        program_type: u32,
        lab: &Lab,
        node: &str,
        (attach_type, flags): (u32, u32),
    ) -> Self {
        // r0 = answer; exit
        let instructions: [u64; 2] = [0xb7 | answer << 32, 0x95];
        let mut load = ProgLoadAttr {
            program_type,
            instruction_count: 2,
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..ProgLoadAttr::default()
        };
        load.name[..7].copy_from_slice(b"foreign");
        // SAFETY: a new descriptor that nobody else has.
        let program = unsafe { OwnedFd::from_raw_fd(bpf(PROG_LOAD, &load)) };
        let mut info = [0_u32; 2];
        let ask = InfoByFd {
            fd: program.as_raw_fd().cast_unsigned(),
            length: size_of_val(&info) as u32,
            info: info.as_mut_ptr() as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &ask);
        let link = lab.within(node, || {
            // SAFETY: a string that ends with zero.
            let index = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
            let create = LinkCreateAttr {
                program: program.as_raw_fd().cast_unsigned(),
                interface: index,
                attach_type,
                flags,
                ..LinkCreateAttr::default()
            };
            // SAFETY: as above.
            unsafe { OwnedFd::from_raw_fd(bpf(LINK_CREATE, &create)) }
        });
        Self { id: info[1], _link: link }
    }
}
