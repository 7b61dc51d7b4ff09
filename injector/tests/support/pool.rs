//! What frames are drawn from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::frame::{Body, Frame, Header, Length, Transport};

/// The addresses that frames are drawn from.
#[derive(Clone, Debug)]
pub struct Pool {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
    pub macs: Vec<[u8; 6]>,
    pub ports: Vec<u16>,
    /// Where responses come from.
    pub servers: Vec<(IpAddr, u16)>,
}

impl Pool {
    /// A pool with these peers' addresses, and with groups, strangers and what is nobody's.
    pub fn of(
        addresses: impl IntoIterator<Item = IpAddr>,
        macs: impl IntoIterator<Item = [u8; 6]>,
        servers: Vec<(IpAddr, u16)>,
    ) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(address),
                IpAddr::V6(address) => v6.push(address),
            }
        }
        let v4_others = [
            [10, 0, 3, 200],
            [192, 0, 2, 1],
            [192, 0, 2, 2],
            [224, 0, 0, 251],
            [255, 255, 255, 255],
            [0, 0, 0, 0],
            [169, 254, 0, 1],
        ];
        v6.extend(v4.iter().take(2).map(Ipv4Addr::to_ipv6_mapped));
        v4.extend(v4_others.map(Ipv4Addr::from));
        let v6_others = [
            "2001:db8::1",
            "2001:db8::2",
            "ff02::1",
            "ff02::1:ff00:1",
            "::",
            "::1",
            "64::ffff:e000:1",
            "fe80::1",
            "fe80::2",
        ];
        v6.extend(v6_others.map(|text| text.parse::<Ipv6Addr>().unwrap()));
        let mut all = vec![
            [2, 9, 9, 9, 9, 9],
            [0xff; 6],
            [0x33, 0x33, 0, 0, 0, 1],
            [0; 6],
            [0x01, 0x80, 0xc2, 0, 0, 0x0e],
            [0x01, 0x80, 0xc2, 0, 0, 0x10],
        ];
        all.extend(macs);
        // Around the ports that scopes, protected ports and endpoints are drawn from.
        let ports = vec![1, 22, 80, 5121, 5122, 5123, 7000, 7005, 7010, 7011, 8080, 65535];
        Self { v4, v6, macs: all, ports, servers }
    }

    /// Frames.
    pub fn frames(&self) -> impl Strategy<Value = Frame> + use<> {
        let mac = || prop_oneof![2 => Just([2, 0, 0, 0, 0, 7]), 3 => select(self.macs.clone())];
        let tag = (select(vec![0x8100_u16, 0x88a8]), any::<u16>());
        let tags = prop_oneof![6 => Just(Vec::new()).boxed(), 1 => vec(tag, 1..=3).boxed()];
        let edits =
            prop_oneof![6 => Just(Vec::new()).boxed(), 1 => vec((0..90_u16, any::<u8>()), 1..3).boxed()];
        let padding = prop_oneof![5 => Just(0_u8), 1 => 0..40_u8];
        (mac(), mac(), tags, self.bodies(), edits, weighted(0.1, any::<u8>()), padding).prop_map(
            |(to, from, tags, body, edits, cut, padding)| Frame { to, from, tags, body, edits, cut, padding },
        )
    }

    fn bodies(&self) -> BoxedStrategy<Body> {
        let transports = self.transports(2);
        let other = (select(vec![0x88b5_u16, 0x88cc, 0x8847, 0x8864, 0x9000]), vec(any::<u8>(), 0..60))
            .prop_map(|(ethertype, bytes)| Body::Other { ethertype, bytes });
        prop_oneof![
            4 => self.responses(),
            10 => self.v4(transports.clone()),
            10 => self.v6(transports),
            3 => self.arp(),
            1 => other,
            1 => vec(any::<u8>(), 2..100).prop_map(Body::Random),
        ]
        .boxed()
    }

    fn responses(&self) -> BoxedStrategy<Body> {
        let (v4, v6) = (select(self.v4.clone()), select(self.v6.clone()));
        let server = match &self.servers[..] {
            [] => return self.arp(),
            servers => select(servers.to_vec()),
        };
        (server, v4, v6, self.tcp(), lengths())
            .prop_map(|((address, port), v4, v6, mut transport, length)| {
                if let Transport::Tcp { sport, .. } = &mut transport {
                    *sport = port;
                }
                match address {
                    IpAddr::V4(src) => {
                        let (options, offset, authentications) = (0, 0, 0);
                        Body::V4 {
                            src,
                            dst: v4,
                            options,
                            more: false,
                            offset,
                            authentications,
                            length,
                            transport,
                        }
                    }
                    IpAddr::V6(src) => Body::V6 { src, dst: v6, headers: Vec::new(), length, transport },
                }
            })
            .boxed()
    }

    fn arp(&self) -> BoxedStrategy<Body> {
        let address = || select(self.v4.clone());
        (any::<bool>(), address(), address())
            .prop_map(|(reply, sender, target)| Body::Arp { reply, sender, target })
            .boxed()
    }

    fn v4(&self, transport: BoxedStrategy<Transport>) -> BoxedStrategy<Body> {
        let address = || select(self.v4.clone());
        let options = prop_oneof![5 => Just(0_u8), 1 => 0..11_u8];
        let authentications = prop_oneof![8 => Just(0_u8), 1 => 1..4_u8];
        let fragment = weighted(0.15, (any::<bool>(), 0..3_u16));
        (address(), address(), options, fragment, authentications, lengths(), transport)
            .prop_map(|(src, dst, options, fragment, authentications, length, transport)| {
                let (more, offset) = fragment.unwrap_or((false, 0));
                Body::V4 { src, dst, options, more, offset, authentications, length, transport }
            })
            .boxed()
    }

    fn v6(&self, transport: BoxedStrategy<Transport>) -> BoxedStrategy<Body> {
        let address = || select(self.v6.clone());
        let header = prop_oneof![
            3 => (select(vec![0_u8, 43, 60, 135, 139, 140]), 0..4_u8).prop_map(|(kind, more)| Header::Plain(kind, more)),
            2 => (0..3_u16, any::<bool>()).prop_map(|(offset, more)| Header::Fragment { offset, more }),
            1 => Just(Header::Authentication),
        ];
        let headers = prop_oneof![
            6 => Just(Vec::new()).boxed(),
            3 => vec(header.clone(), 1..3).boxed(),
            1 => vec(header, 7..10).boxed(),
        ];
        (address(), address(), headers, lengths(), transport)
            .prop_map(|(src, dst, headers, length, transport)| Body::V6 {
                src,
                dst,
                headers,
                length,
                transport,
            })
            .boxed()
    }

    fn neighbour(&self) -> BoxedStrategy<Transport> {
        let flags = select(vec![0_u8, 0x20, 0x60, 0xe0]);
        let hops = prop_oneof![5 => Just(255_u8), 1 => Just(64)];
        (prop_oneof![4 => select(vec![135_u8, 136]), 1 => 133..138_u8], flags, hops, select(self.v6.clone()))
            .prop_map(|(kind, flags, hops, target)| Transport::Neighbour { kind, flags, hops, target })
            .boxed()
    }

    fn tcp(&self) -> BoxedStrategy<Transport> {
        let port = || select(self.ports.clone());
        let flags = select(vec![0x02_u8, 0x12, 0x10, 0x18, 0x11, 0x04]);
        (port(), port(), flags, payloads())
            .prop_map(|(sport, dport, flags, payload)| Transport::Tcp { sport, dport, flags, payload })
            .boxed()
    }

    /// What is above IP, with bodies in it to a depth.
    fn transports(&self, depth: u32) -> BoxedStrategy<Transport> {
        let port = || select(self.ports.clone());
        let flat = prop_oneof![
            6 => self.tcp(),
            3 => (port(), port(), payloads()).prop_map(|(sport, dport, payload)| Transport::Udp { sport, dport, payload }),
            1 => (port(), port()).prop_map(|(sport, dport)| Transport::Sctp { sport, dport }),
            1 => (select(vec![1_u8, 58]), any::<u8>()).prop_map(|(protocol, kind)| Transport::Icmp { protocol, kind, quote: None }),
            4 => self.neighbour(),
            1 => (prop_oneof![any::<u8>(), select(vec![2_u8, 112])], vec(any::<u8>(), 0..30)).prop_map(|(protocol, bytes)| Transport::Other { protocol, bytes }),
        ];
        if depth == 0 {
            return flat.boxed();
        }
        let inner = prop_oneof![self.v4(self.transports(depth - 1)), self.v6(self.transports(depth - 1))]
            .prop_map(Box::new)
            .boxed();
        let kinds =
            select(vec![(1_u8, 3_u8), (1, 11), (1, 12), (1, 5), (1, 4), (58, 1), (58, 2), (58, 3), (58, 4)]);
        prop_oneof![
            12 => flat,
            3 => (kinds, inner.clone()).prop_map(|((protocol, kind), quote)| Transport::Icmp { protocol, kind, quote: Some(quote) }),
            1 => inner.clone().prop_map(Transport::Gre),
            1 => inner.prop_map(Transport::Vxlan),
        ]
        .boxed()
    }
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let starts =
        vec![&b""[..], b"x", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 No\r\n", b"+PONG\r\n", b"+PON"];
    select(starts).prop_map(<[u8]>::to_vec)
}

fn lengths() -> impl Strategy<Value = Length> {
    prop_oneof![
        12 => Just(Length::True),
        1 => Just(Length::Zero),
        1 => (0..100_u16).prop_map(Length::Wrong),
    ]
}
