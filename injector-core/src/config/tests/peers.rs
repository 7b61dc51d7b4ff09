use super::*;

#[test]
fn prefixes_may_overlap() {
    parse("interfaces: auto\npeers:\n  n1: { addresses: [10.2.0.0/16, 10.2.0.0/24, 10.2.0.1] }\n");
}

#[test]
fn a_host_takes_1024_peers() {
    let config = |count: usize| {
        let peer = |at: usize| format!("  p{at}: {{ addresses: [10.1.{}.{}] }}\n", at / 250, at % 250 + 1);
        format!("interfaces: auto\npeers:\n{}", (0..count).map(peer).collect::<String>())
    };
    assert_eq!(parse(&config(MAX)).peers.len(), MAX);
    let errors = Config::parse(&config(MAX + 1), "lab.yaml").unwrap_err();
    let expected = "lab.yaml:3:3: peers: 1025 peers are configured, and one host takes 1024; leave peers out, or join them";
    assert!(errors.0.len() == 1 && errors.to_string().starts_with(expected), "{errors}");
}

const MAX: usize = crate::model::MAX_PEERS;

#[test]
fn the_interface_of_a_virtual_machine() {
    let device = |name: &str, netns: Option<&str>| Device {
        name: name.to_owned(),
        netns: netns.map(|netns| Netns::Name(netns.to_owned())),
    };
    let peers = "peers:\n  n1: { vm: { interface: tap1 } }\n  n2: { addresses: [10.0.0.2], vm: { interface: { name: tap1, netns: x } } }\n";
    let config = parse(&format!("{peers}interfaces: auto\n"));
    let taps: Vec<Option<Device>> = config.peers.iter().map(|peer| peer.tap.clone()).collect();
    assert_eq!(taps, [Some(device("tap1", None)), Some(device("tap1", Some("x")))]);
    // A list of interfaces has them too.
    let config = parse(&format!("{peers}interfaces: [{{ name: eth0 }}, {{ name: tap1, hook: xdp }}]\n"));
    let Interfaces::Named(named) = config.interfaces else { panic!() };
    let named: Vec<_> = named.iter().map(|named| (&*named.name, named.hook, named.peer)).collect();
    let (n1, n2) = (Some(PeerId(1)), Some(PeerId(2)));
    assert_eq!(named, [("eth0", Hook::Auto, None), ("tap1", Hook::Xdp, n1), ("tap1", Hook::Auto, n2)]);
}
