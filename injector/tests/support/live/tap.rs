//! A wire between two taps, in a namespace of its own: what is written to one end comes out at the other as the
//! kernel carried it, through the hooks of both.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use injector_lab::{Lab, SWITCH};

use super::kernel::tc;

/// How long a frame that should come out is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The payload type of the frame that ends a round: an experimental one that no peer sends.
const MARKER: [u8; 2] = [0x88, 0xb5];
/// The wire carries this, and a little more, in one piece.
pub const JUMBO: usize = 9000;

/// Where the programs sit on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// On ingress of the near end.
    Ingress,
    /// On egress of the far end.
    Egress,
    /// In the near end's driver.
    NativeXdp,
    /// In the stack, on a device whose driver takes no XDP.
    GenericXdp,
}

impl HookPoint {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Egress, Self::NativeXdp, Self::GenericXdp];

    /// The interface, and the hook as in a config.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Ingress => ["near", "tc"],
            Self::Egress => ["far", "tc"],
            Self::NativeXdp => ["near", "xdp"],
            Self::GenericXdp => ["stacked", "xdp"],
        }
    }

    /// How `status` names its hook.
    pub fn hook(self) -> String {
        let tc = tc();
        match self {
            Self::Ingress | Self::Egress => tc.to_owned(),
            Self::NativeXdp => format!("xdp-native+{tc}"),
            Self::GenericXdp => format!("xdp-generic+{tc}"),
        }
    }
}

/// A frame, and how it is handed to the kernel.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The virtio header before it.
    header: Header,
}

/// `struct virtio_net_hdr`, in the order of this machine.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Header {
    const LEN: usize = 10;

    fn bytes(self) -> Vec<u8> {
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset];
        [self.flags, self.gso_type].into_iter().chain(words.into_iter().flat_map(u16::to_ne_bytes)).collect()
    }
}

impl From<Vec<u8>> for Sent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, header: Header::default() }
    }
}

impl Sent {
    /// Leaves only so many bytes where the kernel looks first; the rest of a packet above a page is in fragments.
    pub fn paged(bytes: Vec<u8>, linear: u16) -> Self {
        assert!(bytes.len() > 4096, "a smaller one is always linear");
        Self { bytes, header: Header { hdr_len: linear, ..Header::default() } }
    }

    /// A TCP super-packet, without IP options, to be cut into segments of `size` bytes of payload.
    pub fn super_packet(mut bytes: Vec<u8>, size: u16) -> Self {
        const NEEDS_CHECKSUM: u8 = 1;
        let six = bytes[12..14] == [0x86, 0xdd];
        let tcp = 14 + if six { 40 } else { 20 };
        // The checksum begins as that of the pseudo header.
        let (addresses, length) = if six { (22..54, bytes.len() - 54) } else { (26..34, bytes.len() - 34) };
        let words =
            bytes[addresses].chunks(2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])));
        let mut sum = words.sum::<usize>() + 6 + length;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        bytes[tcp + 16..tcp + 18].copy_from_slice(&(sum as u16).to_be_bytes());
        let header = Header {
            flags: NEEDS_CHECKSUM,
            gso_type: if six { 4 } else { 1 },
            hdr_len: tcp as u16 + 20,
            gso_size: size,
            csum_start: tcp as u16,
            csum_offset: 16,
        };
        Self { bytes, header }
    }
}

/// The wire; gone when dropped.
pub struct Wire {
    // The taps go before their namespace.
    near: File,
    far: File,
    point: HookPoint,
    rounds: u32,
    lab: Lab,
}

impl Wire {
    /// Lays one with room for the programs at a point.
    pub fn new(point: HookPoint) -> Self {
        let mut lab = Lab::builder("wire").up().unwrap();
        lab.add(SWITCH);
        lab.within(SWITCH, be_silent);
        let [near, far] = ["near", "far"].map(|name| lab.tap(SWITCH, name));
        let mut ports = vec!["near", "far"];
        lab.ip(SWITCH, "link add br0 type bridge mcast_snooping 0 forward_delay 0");
        for name in &ports {
            lab.ip(SWITCH, &format!("link set {name} mtu {} up", JUMBO + 500));
        }
        if point == HookPoint::GenericXdp {
            lab.ip(SWITCH, "link add link near stacked type macvlan mode passthru");
            ports[0] = "stacked";
        }
        for port in ports {
            lab.ip(SWITCH, &format!("link set {port} master br0 up"));
        }
        lab.ip(SWITCH, "link set br0 up");
        Self { lab, near, far, point, rounds: 0 }
    }

    /// The one entry of a config's `interfaces:`.
    pub fn interfaces(&self) -> String {
        let [name, hook] = self.point.words();
        format!("interfaces:\n  - {{ name: {name}, netns: {}, hook: {hook} }}\n", self.lab.netns(SWITCH))
    }

    /// Sends frames from the near end; what came out at the far end before a frame that is sent last of all.
    pub fn carry(&mut self, frames: &[Sent]) -> Vec<Vec<u8>> {
        for frame in frames {
            self.write(frame);
        }
        self.rounds += 1;
        let mut marker = [[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9].as_slice(), &MARKER].concat();
        marker.extend(self.rounds.to_be_bytes());
        marker.resize(60, 0);
        let end = Instant::now() + PATIENCE;
        let mut carried = Vec::new();
        let mut buffer = vec![0; 1 << 17];
        self.write(&marker.clone().into());
        loop {
            match self.far.read(&mut buffer) {
                Ok(length) if buffer[Header::LEN..length] == marker => return carried,
                Ok(length) => carried.push(buffer[Header::LEN..length].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "the marker did not come: {} frames did", carried.len());
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn write(&mut self, frame: &Sent) {
        let bytes = [frame.header.bytes(), frame.bytes.clone()].concat();
        let written = self.near.write(&bytes).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        assert_eq!(written, bytes.len());
    }
}

/// Makes the kernel send nothing of its own in this thread's namespace (no IPv6; there is no address of IPv4), and a
/// bridge carry what is no proper IP packet.
fn be_silent() {
    // A kernel without IPv6, or without firewalls on bridges, lacks these files.
    for of in ["ipv6/conf/all", "ipv6/conf/default"] {
        let _ = std::fs::write(format!("/proc/sys/net/{of}/disable_ipv6"), "1");
    }
    for of in ["iptables", "ip6tables", "arptables"] {
        let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{of}"), "0");
    }
}
