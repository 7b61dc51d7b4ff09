//! The addresses of a lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};

/// The addresses that a lab gives to host numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    v4: Ipv4Addr,
    v4_length: u8,
    v6: Option<Ipv6Addr>,
}

impl Subnet {
    /// `10.99.0.0/16` and `fd99::/64`, the same in every lab: for daemons whose config names the interfaces.
    pub const SHARED: Self = Self {
        v4: Ipv4Addr::new(10, 99, 0, 0),
        v4_length: 16,
        v6: Some(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0)),
    };

    /// Addresses of one lab alone, for 14 hosts: for daemons that search every namespace for their peers. A
    /// process has 16 such subnets at one time; the seventeenth lab gets the addresses of the first.
    pub fn own() -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed) % 16;
        let [a, b, high, low] = std::process::id().to_be_bytes();
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Self {
            v4: Ipv4Addr::new(100, 64 + high % 64, low, number * 16),
            v4_length: 28,
            v6: Some(Ipv6Addr::new(0xfd64, word(a, b), word(high, low), number.into(), 0, 0, 0, 0)),
        }
    }

    /// This subnet without IPv6.
    #[must_use]
    pub fn v4_only(self) -> Self {
        Self { v6: None, ..self }
    }

    /// The IPv4 address of a host number.
    pub const fn ipv4(self, host: u8) -> IpAddr {
        let [a, b, c, d] = self.v4.octets();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d + host))
    }

    /// Asserts that a host number is one of this subnet's.
    ///
    /// # Panics
    /// The number is not one of the subnet's: its address would be another lab's.
    pub(crate) fn assert_has(self, host: u8) {
        let end = if self.v4_length > 24 { (1 << (32 - self.v4_length)) - 1 } else { u8::MAX };
        assert!(
            (1..end).contains(&host),
            "host {host} is not in this lab's subnet, which has hosts 1 to {}; the client is host 254. \
             Take Subnet::SHARED, or fewer peers and no client",
            end - 1
        );
    }

    /// The IPv6 address of a host number.
    ///
    /// # Panics
    /// The subnet has no IPv6 addresses.
    pub const fn ipv6(self, host: u8) -> IpAddr {
        let Some(v6) = self.v6 else { panic!("this lab has no IPv6 addresses") };
        let mut bytes = v6.octets();
        bytes[15] += host;
        IpAddr::V6(Ipv6Addr::from_octets(bytes))
    }

    /// The addresses of a host number, IPv4 first.
    pub fn addresses(self, host: u8) -> Vec<IpAddr> {
        let v6 = self.v6.map(|_| self.ipv6(host));
        [Some(self.ipv4(host)), v6].into_iter().flatten().collect()
    }

    /// `address add …` for a device, for each address of a host number. Without duplicate address detection an address
    /// can be used at once.
    pub fn commands(self, host: u8, device: &str) -> Vec<String> {
        let v4 = format!("address add {}/{} dev {device}", self.ipv4(host), self.v4_length);
        let v6 = self.v6.map(|_| format!("address add {}/64 dev {device} nodad", self.ipv6(host)));
        [Some(v4), v6].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_shared_subnet() {
        let texts = |host| Subnet::SHARED.addresses(host).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(1), ["10.99.0.1", "fd99::1"]);
        assert_eq!(texts(254), ["10.99.0.254", "fd99::fe"]);
        assert_eq!(Subnet::SHARED.v4_only().commands(3, "eth0"), ["address add 10.99.0.3/16 dev eth0"]);
    }

    #[test]
    fn a_small_subnet_has_fourteen_hosts() {
        for host in 1..=14 {
            Subnet::own().assert_has(host);
        }
        Subnet::SHARED.assert_has(254);
    }

    #[test]
    #[should_panic(expected = "host 254 is not in this lab's subnet, which has hosts 1 to 14")]
    fn a_small_subnet_has_no_place_for_a_client() {
        Subnet::own().assert_has(254);
    }

    #[test]
    fn own_subnets_differ() {
        let (one, two) = (Subnet::own(), Subnet::own());
        for host in [1, 14] {
            assert_ne!(one.ipv4(host), two.ipv4(host));
            assert_ne!(one.ipv6(host), two.ipv6(host));
        }
    }
}
