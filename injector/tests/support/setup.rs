//! Configs for the property test of the verdict, each as text and as the model has it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector_core::config::Config;
use injector_core::identity::Mac;
use injector_core::model::{PeerId, Scope};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

use super::model::verdict_config::{Response, VerdictConfig};
use super::pool::Pool;

/// A config, as text and as the model has it.
pub struct Setup {
    pub text: String,
    pub config: Config,
    pub verdict: VerdictConfig,
    pub pool: Pool,
    /// Addresses that move, each with its holder.
    pub moved: BTreeMap<IpAddr, PeerId>,
    /// Routable addresses that frames have and the config does not list.
    pub unlisted: Vec<IpAddr>,
    /// Unicast MAC addresses that frames have.
    pub macs: Vec<Mac>,
}

/// A peer's addresses, prefixes and MAC.
type Member = (Vec<IpAddr>, Vec<IpNet>, Option<Mac>);

/// What a config is made of.
#[derive(Clone, Debug)]
pub struct Draft {
    peers: Vec<Member>,
    /// Peers whose first address moves, and its holders.
    moved: Vec<(usize, u16)>,
    protected_addresses: Vec<IpAddr>,
    protected_scopes: Vec<Scope>,
    endpoints: Vec<(usize, u16, u8)>,
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..4_u8, 1..12_u8).prop_map(|(c, d)| Ipv4Addr::new(10, 0, c, d).into());
    let near = (0..3_u16, 1..6_u16).prop_map(|(c, d)| Ipv6Addr::new(0xfd00, 0, 0, c, 0, 0, 0, d).into());
    let low = (1..4_u16, 1..6_u16).prop_map(|(c, d)| Ipv6Addr::new(0, 0, 0, 0, 0, c, 0x0a00, d).into());
    prop_oneof![5 => v4, 4 => near, 1 => low]
}

fn nets() -> impl Strategy<Value = IpNet> {
    let v4 = select(vec![8_u8, 15, 22, 23, 24, 28, 30, 31]);
    let v6 = select(vec![1_u8, 8, 16, 32, 63, 64, 80, 96, 120, 126, 127]);
    (addresses(), v4, v6).prop_map(|(address, v4, v6)| {
        IpNet::new(address, if address.is_ipv4() { v4 } else { v6 }).unwrap().trunc()
    })
}

fn macs() -> impl Strategy<Value = Mac> {
    (1..6_u8).prop_map(|last| [2, 0, 0, 0, 0, last])
}

pub fn scopes() -> impl Strategy<Value = Scope> {
    let texts = [
        "tcp",
        "udp",
        "icmp",
        "tcp/5122",
        "tcp/5122:src",
        "tcp/5122:dst",
        "udp/7000-7010",
        "udp/7005:src",
        "tcp/1-79",
        "tcp/8080",
        "udp/1-65535:dst",
        "tcp/80-5121:src",
        "sctp",
        "sctp/5122",
        "sctp/80-7000:src",
        "proto/112",
        "proto/2",
        "proto/47",
    ];
    select(texts.to_vec()).prop_map(|text| text.parse().unwrap())
}

/// Drafts, each without what its number says, so that every lookup is also tried alone.
pub fn drafts(number: u32) -> impl Strategy<Value = Draft> {
    let without = |bit: u32| (number % 12) & bit != 0;
    let peer = (
        vec(addresses(), if without(1) { 0..=0 } else { 0..=4 }),
        vec(nets(), if without(2) { 0..=0 } else { 0..=2 }),
        if without(4) { Just(None).boxed() } else { weighted(0.6, macs()).boxed() },
    );
    let protected = if without(8) { 0..=0 } else { 0..=3 };
    (
        (vec(peer, 2..=9), vec((0..9_usize, 1..3_u16), 0..=2)),
        vec(addresses(), protected.clone()),
        vec(scopes(), protected),
        vec((0..9_usize, select(vec![80_u16, 8080]), 0..4_u8), if number % 3 == 2 { 0..=0 } else { 1..=6 }),
    )
        .prop_map(|((peers, moved), protected_addresses, protected_scopes, endpoints)| Draft {
            peers,
            moved,
            protected_addresses,
            protected_scopes,
            endpoints,
        })
}

impl Setup {
    pub fn of(draft: Draft) -> Self {
        use std::fmt::Write as _;

        let mut text = "peers:\n".to_owned();
        let mut seen = HashSet::new();
        let mut peers = Vec::new();
        for (index, (mut addresses, mut nets, mut mac)) in draft.peers.into_iter().enumerate() {
            addresses.retain(|address| seen.insert(address.to_string()));
            nets.retain(|net| seen.insert(net.to_string()));
            mac = mac.filter(|mac| seen.insert(format!("{mac:?}")));
            if addresses.is_empty() && nets.is_empty() && mac.is_none() {
                nets.push(IpNet::new(Ipv4Addr::new(172, 16, index as u8, 0).into(), 24).unwrap());
            }
            let all = addresses.iter().map(ToString::to_string).chain(nets.iter().map(ToString::to_string));
            let all: Vec<_> = all.map(|text| format!("\"{text}\"")).collect();
            let mut entries = Vec::new();
            if !all.is_empty() {
                entries.push(format!("addresses: [{}]", all.join(", ")));
            }
            if let Some(mac) = mac {
                let mac: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
                entries.push(format!("mac: \"{}\"", mac.join(":")));
            }
            let _ = writeln!(text, "  n{index}: {{ {} }}", entries.join(", "));
            peers.push((addresses, nets, mac));
        }
        let scopes = draft.protected_scopes.iter().map(ToString::to_string);
        let protected: BTreeSet<_> =
            draft.protected_addresses.iter().map(ToString::to_string).chain(scopes).collect();
        if !protected.is_empty() {
            let protected: Vec<_> = protected.iter().map(|text| format!("\"{text}\"")).collect();
            let _ = writeln!(text, "protect: [{}]", protected.join(", "));
        }
        let mut endpoints = Vec::new();
        let mut sockets = HashSet::new();
        for (peer, port, kind) in draft.endpoints {
            let peer = peer % peers.len();
            let Some(address) = peers[peer].0.first().copied() else { continue };
            if !sockets.insert((address, port)) {
                continue;
            }
            if endpoints.is_empty() {
                text.push_str("endpoints:\n");
            }
            let (success, response) = match kind {
                0 => ("http", Some(Response::Http)),
                1 => ("{ prefix: \"+PONG\" }", Some(Response::Prefix(b"+PONG".to_vec()))),
                2 => ("payload", Some(Response::Any)),
                _ => ("grpc", None),
            };
            let _ = writeln!(
                text,
                "  - {{ name: e{}, peers: [n{peer}], role: advisory, probe: {{ http: {{ url: \"http://{{address}}:{port}/\" }} }}, wire: {{ port: {port}, success: {success} }} }}",
                endpoints.len()
            );
            endpoints.push(((address, port), response));
        }
        let config = super::programs::config(&text);
        let mut verdict = VerdictConfig { peers: peers.len(), ..VerdictConfig::default() };
        for (index, (addresses, nets, mac)) in peers.iter().enumerate() {
            let id = config.names.id(&format!("n{index}")).unwrap().0;
            verdict.exact.extend(addresses.iter().map(|address| (*address, id)));
            verdict.nets.extend(nets.iter().map(|net| (*net, id)));
            verdict.macs.extend(mac.map(|mac| (mac, id)));
        }
        for (id, (socket, response)) in endpoints.into_iter().enumerate() {
            if let Some(response) = response {
                verdict.endpoints.insert(socket, (id as u32, response));
            }
        }
        verdict.protected_addresses.extend(draft.protected_addresses);
        verdict.protected_scopes = draft.protected_scopes;
        let inside = verdict.nets.iter().flat_map(|(net, _)| [net.network(), net.broadcast()]);
        let pool = Pool::of(
            verdict.exact.keys().copied().chain(inside).chain(verdict.protected_addresses.iter().copied()),
            verdict.macs.keys().copied(),
            verdict.endpoints.keys().copied().collect(),
        );
        // The first address of a peer, or one in its prefix.
        let of = |(addresses, nets, _): &Member| {
            addresses.first().copied().or_else(|| nets.first().map(IpNet::broadcast))
        };
        let moved = draft.moved.into_iter().filter_map(|(peer, holder)| {
            // The last address of an IPv6 prefix may be an IPv4-mapped one, which no NIC has.
            let address = of(peers.get(peer)?)?.to_canonical();
            Some((Some(address).filter(|at| is_routable(*at))?, PeerId(holder)))
        });
        let all = pool.v4.iter().copied().map(IpAddr::from).chain(pool.v6.iter().copied().map(IpAddr::from));
        let unlisted = all.map(|address| address.to_canonical()).filter(|address| {
            let is_listed = verdict.exact.contains_key(address)
                || verdict.nets.iter().any(|(net, _)| net.contains(address));
            !is_listed && is_routable(*address)
        });
        Self {
            moved: moved.collect(),
            unlisted: unlisted.collect(),
            macs: pool.macs.iter().copied().filter(|mac| mac[0] % 2 == 0 && *mac != [0; 6]).collect(),
            text,
            config,
            verdict,
            pool,
        }
    }
}

fn is_routable(address: IpAddr) -> bool {
    let is_on_link = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_on_link && !address.is_unspecified() && !address.is_multicast()
}
