//! Taps: network devices whose frames a test writes and reads.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use crate::error::Error;

/// Makes a tap in the network namespace of the calling thread; it goes with the file. Frames have a virtio header before
/// them, so that a test can send what a real device would hand over in pieces. Reading does not block.
///
/// # Errors
/// The kernel has no tun device, or refuses the name.
pub fn open_tap(name: &str) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(Error::io("a tap needs the kernel's tun device"))?;
    // SAFETY: plain numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the request is what this call reads and writes.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if answer != 0 {
        return Err(Error::io(format!("making the tap {name}"))(io::Error::last_os_error()));
    }
    Ok(file)
}
