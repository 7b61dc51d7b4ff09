//! Peers that are containers.

use super::*;
use crate::config::{ContainerRef, Engine, Selector};

fn peers(text: &str) -> Result<Config, String> {
    parse(&format!("peers: {{ {text} }}\ninterfaces: auto\n"))
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, "test.yaml").map_err(|errors| errors.to_string())
}

#[test]
fn a_container_is_named_by_name_or_service() {
    let config =
        peers("a: { container: restate-1 }, b: { compose: shop/restate }, c: { compose: shop/restate/2 }");
    let shown: Vec<String> = config.unwrap().containers().map(|(_, it)| it.to_string()).collect();
    assert_eq!(shown, ["restate-1", "shop/restate", "shop/restate/2"]);
}

#[test]
fn the_engine_is_a_socket() {
    let with = |engine: &str| parse(&format!("{BASE}engine: {engine}\n")).map(|config| config.engine);
    let podman = || Ok(Engine::At("/run/podman/podman.sock".into()));
    assert_eq!(parse(BASE).unwrap().engine, Engine::Usual);
    assert_eq!(with("/run/podman/podman.sock"), podman());
    assert_eq!(with("unix:///run/podman/podman.sock"), podman());
}

#[test]
fn endpoints_take_the_addresses_that_are_found() {
    let text = "\
peers: { a: { container: r }, b: { addresses: [10.0.0.2] } }
interfaces: auto
endpoints:
  - { name: e, peers: [a, b], probe: { http: { url: \"http://{address}:80/\" } } }
  - { name: f, peers: [a], family: ipv6, probe: { tcp: { target: \"{address}:80\" } } }
roles: { leader: { http: { url: \"http://{address}:80/\", pointer: /leader, equals: true } } }
";
    let mut config = parse(text).unwrap();
    let addresses =
        |config: &Config| config.endpoints.iter().map(|endpoint| endpoint.address).collect::<Vec<_>>();
    let at = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    assert_eq!(addresses(&config), [None, at("10.0.0.2"), None]);
    let found = |texts: &[&str]| {
        let all = texts.iter().map(|text| text.parse().unwrap()).collect();
        [(config_peer(), all)].into()
    };
    assert!(config.place(&found(&["10.9.0.1", "fd00::1"])));
    assert_eq!(addresses(&config), [at("10.9.0.1"), at("10.0.0.2"), at("fd00::1")]);
    assert!(!config.place(&found(&["10.9.0.1", "fd00::1"])), "nothing is new");
    assert!(!config.place(&found(&[])), "it is gone: what it had is kept");
    let RoleKind::Http { request, .. } = &config.roles["leader"].kind else { panic!("{config:?}") };
    assert_eq!(
        request.peers.iter().map(|peer| peer.address).collect::<Vec<_>>(),
        [at("10.9.0.1"), at("10.0.0.2")]
    );
}

fn config_peer() -> PeerId {
    PeerId(1)
}

#[test]
fn a_container_is_a_namespace_without_a_file() {
    let netns = Netns::Container(ContainerRef::Name("r".to_owned()));
    assert_eq!((netns.path(), netns.to_string()), (None, "container r".to_owned()));
}

const SELECTED: &str = "containers: { label: com.docker.compose.project=shop }\ninterfaces: auto\n";

fn with_engine(text: &str, names: &[&str]) -> Result<Config, String> {
    let select = |engine: &Engine, selector: &Selector| {
        assert_eq!(
            (engine, selector.to_string().as_str()),
            (&Engine::Usual, "com.docker.compose.project=shop")
        );
        Ok(names.iter().map(|name| (*name).to_owned()).collect())
    };
    Config::parse_with(text, "test.yaml", &select).map_err(|errors| errors.to_string())
}

#[test]
fn a_selector_makes_a_peer_of_each_container() {
    let text = format!(
        "{SELECTED}peers: {{ db: {{ container: shop-db-1 }}, far: {{ addresses: [10.0.0.9] }} }}\n\
         endpoints: [{{ name: e, peers: all, probe: {{ tcp: {{ target: \"{{address}}:80\" }} }} }}]\n"
    );
    let config = with_engine(&text, &["shop-db-1", "shop-web-1", "shop-web-2"]).unwrap();
    let names: Vec<&str> = config.names.peers().map(|peer| config.names.name(peer)).collect();
    assert_eq!(names, ["db", "far", "shop-web-1", "shop-web-2"]);
    let containers: Vec<String> = config.containers().map(|(_, container)| container.to_string()).collect();
    assert_eq!(containers, ["shop-db-1", "shop-web-1", "shop-web-2"]);
    assert_eq!(config.endpoints.len(), 4);
    assert_eq!(with_engine(SELECTED, &["a", "b"]).unwrap().peers.len(), 2);
}

#[test]
fn a_check_asks_no_engine() {
    let errors = parse(SELECTED).unwrap_err();
    assert!(errors.contains("no engine is asked here"), "{errors}");
}
