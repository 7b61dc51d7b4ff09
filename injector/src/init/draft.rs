//! The text of a config, with what was found and why. Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::candidates::{Candidate, Home};
use injector_core::config::{Listen, Netns};
use injector_core::identity::shown_mac;

/// The kind of service that answers at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A 2xx on this path.
    Http(&'static str),
    /// The health service of gRPC.
    Grpc,
    /// A connect.
    Tcp,
}

/// A port that shows whether peers serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The TCP port.
    pub port: u16,
    /// The kind of service that answers there; `None` if nothing did.
    pub kind: Option<Kind>,
    /// Where it was asked from; `None` is the daemon's own namespace.
    pub netns: Option<Netns>,
}

/// A config before it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The peers.
    pub peers: Vec<Candidate>,
    /// Candidates that are no peers.
    pub others: Vec<Candidate>,
    /// Other findings, in words.
    pub notes: Vec<String>,
    /// Ports that all peers have.
    pub services: Vec<Service>,
    /// The ports of peers that have one each, by the peers' names.
    pub own: Vec<(String, Service)>,
    /// The place where an editor finds the config's schema.
    pub schema: Option<String>,
    /// The socket of the engine, where it is not a usual one.
    pub engine: Option<PathBuf>,
}

const HEAD: &str = "\
# Written by `injector init` from what it found on this host. Change what is wrong, then:
#   injector check --config FILE          is the file valid?
#   sudo injector doctor --config FILE    what would be attached, which links are open, does every endpoint answer?
#   sudo injector start --config FILE --detach
";

const TAIL: &str = "
# When an endpoint counts as back: 5 probes in a row served, and none failed for 12 s after that.
# ready: { consecutive: 5, observe: 12s }
# How long after a heal the cluster may take, and how long a cut without `for` lasts.
# deadline: 20s
# max_for: 10m
# What no cut drops. With a port in it, cuts keep ARP and neighbour discovery.
# protect: [tcp/22]
# Whom `isolate @leader` cuts off: a command that prints a peer's name or address.
# roles: { leader: { exec: [/usr/local/bin/who-leads] } }
";

/// Comments of an endpoint's guess: what else to write, and why. Each line has the indentation of the entry's keys.
const HTTP_ADVICE: &str = concat!(
    "    # This path answered, perhaps without the cluster: name a request that needs it, as a read that a majority must confirm,\n",
    "    # and what a good answer has, as in: expect: { status: [2xx], body_contains: ok }\n",
);
const GRPC_ADVICE: &str = "    # The health service may say `serving` without the cluster: an http or exec probe can send a request that needs it.\n";
const TCP_ADVICE: &str =
    "    # A connect says little: an http, grpc or exec probe shows that requests are served.\n";
/// For a connect beside a probe that shows more.
const ADVISORY: &str = concat!(
    "    # Advisory: it is reported, and decides no recovery. With a probe that shows service, leave this line out.\n",
    "    role: advisory\n",
);

impl Draft {
    /// The whole file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(schema) = &self.schema {
            let _ = writeln!(text, "# yaml-language-server: $schema={schema}");
        }
        text.push_str(HEAD);
        text.push_str("\n# The nodes of the cluster, and what identifies their frames.\n");
        text.push_str(&self.peers_text());
        if !self.others.is_empty() {
            text.push_str("  # Found too, and not taken for peers:\n");
            for other in &self.others {
                let doubt = other.doubt.as_deref().unwrap_or("not chosen");
                let _ = writeln!(text, "  # {}  # {}; {}", line(other), comment(&other.why), comment(doubt));
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "  # {}", comment(note));
        }
        text.push_str("\n# Attach to every device by which the peers' frames can leave, and follow peers that move.\ninterfaces: auto\n");
        if let Some(engine) = &self.engine {
            let _ = writeln!(
                text,
                "\n# The engine that runs the containers.\nengine: {}",
                quoted(&engine.display().to_string())
            );
        }
        text.push_str(&self.endpoints_text());
        text.push_str(TAIL);
        text
    }

    /// `peers:` alone.
    pub fn peers_text(&self) -> String {
        let mut text = "peers:\n".to_owned();
        for peer in &self.peers {
            let _ = writeln!(text, "  {}  # {}", line(peer), comment(&peer.why));
        }
        text
    }

    /// The names of the peers to which a probe can be sent.
    pub fn probed(&self) -> Vec<&str> {
        let probed = self.peers.iter().filter(|peer| !peer.addresses.is_empty());
        probed.map(|peer| peer.name.as_str()).collect()
    }

    fn endpoints_text(&self) -> String {
        let names = self.probed();
        let mut text = "\n# What shows whether a peer serves. Without endpoints, cuts are made and no recovery is measured.\n".to_owned();
        let (found, silent): (Vec<&Service>, Vec<&Service>) =
            self.services.iter().partition(|service| service.kind.is_some());
        if !found.is_empty() || !self.own.is_empty() {
            text.push_str("endpoints:\n");
        }
        for (peer, service) in &self.own {
            text.push_str(&entry(&quoted(peer), &[peer], service));
        }
        let shows_service = |service: &&Service| !matches!(service.kind, Some(Kind::Tcp));
        let has_better = found.iter().any(shows_service);
        for (at, service) in found.iter().enumerate() {
            let name = if at == 0 { "ingress".to_owned() } else { format!("port-{}", service.port) };
            text.push_str(&entry(&name, &names, service));
            if has_better && !shows_service(service) {
                text.push_str(ADVISORY);
            }
        }
        if found.is_empty() && self.own.is_empty() {
            text.push_str("# endpoints:\n");
            let example = Service { port: 8080, kind: Some(Kind::Http("/")), netns: None };
            text.push_str(&commented(&without_comments(&entry("ingress", &names, &example))));
        }
        for service in silent {
            let _ = writeln!(
                text,
                "  # All peers listen on port {}, and not every one answered there.",
                service.port
            );
        }
        text
    }
}

/// A peer, as one line of `peers:`.
fn line(peer: &Candidate) -> String {
    if let Home::Space(Netns::Container(container)) = &peer.home {
        // All else is found in it, and is another after a restart.
        return format!("{}: {{ container: {} }}", quoted(&peer.name), quoted(&container.to_string()));
    }
    if let Home::Process(listens) = &peer.home {
        let listens: Vec<String> = listens.iter().map(|listen| listening(*listen)).collect();
        return format!("{}: {{ listens: [{}] }}", quoted(&peer.name), listens.join(", "));
    }
    let mut keys = Vec::new();
    if !peer.addresses.is_empty() {
        let addresses = peer.addresses.iter().map(|address| match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"{v6}\""),
        });
        keys.push(format!("addresses: [{}]", addresses.collect::<Vec<_>>().join(", ")));
    }
    if let Some(mac) = peer.mac {
        keys.push(format!("mac: \"{}\"", shown_mac(mac)));
    }
    if let Home::Guest(interface) = &peer.home {
        keys.push(format!("vm: {{ interface: {} }}", quoted(interface)));
    }
    format!("{}: {{ {} }}", quoted(&peer.name), keys.join(", "))
}

/// An entry of `listens`.
fn listening(listen: Listen) -> String {
    match listen {
        Listen::Port(port) => port.to_string(),
        Listen::Address(address) => format!("\"{address}\""),
        Listen::At(address, port) => format!("\"{}\"", SocketAddr::new(address, port)),
    }
}

/// Writes an entry of `endpoints:`.
pub fn entry(name: &str, peers: &[&str], service: &Service) -> String {
    let port = service.port;
    let (probe, wire) = match service.kind.unwrap_or(Kind::Tcp) {
        Kind::Http(path) => (format!("http: {{ url: \"http://{{address}}:{port}{path}\" }}"), "http"),
        Kind::Grpc => (format!("grpc: {{ target: \"{{address}}:{port}\" }}"), "grpc"),
        Kind::Tcp => (format!("tcp: {{ target: \"{{address}}:{port}\" }}"), "payload"),
    };
    let peers: Vec<String> = peers.iter().map(|peer| quoted(peer)).collect();
    let mut text = format!(
        "  - name: {name}\n    peers: [{}]\n    probe: {{ {probe}, interval: 10ms, timeout: 1s }}\n",
        peers.join(", ")
    );
    text.push_str(match service.kind.unwrap_or(Kind::Tcp) {
        Kind::Http(_) => HTTP_ADVICE,
        Kind::Grpc => GRPC_ADVICE,
        Kind::Tcp => TCP_ADVICE,
    });
    if wire != "payload" {
        let _ = writeln!(text, "    wire: {{ port: {port}, success: {wire} }}");
    }
    match &service.netns {
        Some(Netns::Name(name)) => {
            let _ = writeln!(text, "    netns: {}", quoted(name));
        }
        Some(Netns::Path(path)) => {
            let _ = writeln!(text, "    netns: {}", quoted(&path.display().to_string()));
        }
        Some(Netns::Pid(pid)) => {
            let _ =
                writeln!(text, "    netns: {{ pid: {pid} }}  # changes when the process is started again");
        }
        Some(Netns::Container(container)) => {
            let _ = writeln!(text, "    netns: {{ container: {} }}", quoted(&container.to_string()));
        }
        None => {}
    }
    text
}

/// A text as YAML reads it as a text: in quotes, unless it is surely a plain one.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A text that stays within its comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn without_comments(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.trim_start().starts_with('#')).collect()
}

fn commented(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "# {line}");
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::config::{Config, ContainerRef, Role};

    fn peer(name: &str, address: &str, home: Home) -> Candidate {
        Candidate {
            name: name.to_owned(),
            addresses: address
                .split(' ')
                .filter(|text| !text.is_empty())
                .map(|text| text.parse().unwrap())
                .collect(),
            mac: address.is_empty().then_some([2, 0, 0, 0, 0, 9]),
            home,
            why: "found\nthere".to_owned(),
            ports: None,
            doubt: None,
        }
    }

    fn draft() -> Draft {
        let space = |name: &str| Home::Space(Netns::Name(name.to_owned()));
        Draft {
            peers: vec![
                peer("no", "10.0.0.1 fd00::1", space("lab-no")),
                peer("7", "10.0.0.2", space("lab-7")),
                peer("tap1", "", Home::Guest("tap1".to_owned())),
            ],
            others: vec![Candidate {
                doubt: Some("nothing listens there".to_owned()),
                ..peer("c", "10.0.0.9", space("lab-c"))
            }],
            notes: vec!["seen:\r 10.0.0.7".to_owned()],
            ..Draft::default()
        }
    }

    #[test]
    fn what_is_written_is_a_config_with_every_peer() {
        let text = draft().text();
        let config = Config::parse(&text, "draft").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let names: Vec<&str> = config.names.peers().map(|peer| config.names.name(peer)).collect();
        assert_eq!(names, ["7", "no", "tap1"]);
        assert_eq!(config.peers[2].mac, Some([2, 0, 0, 0, 0, 9]));
        assert!(config.peers[2].tap.is_some() && config.endpoints.is_empty());
    }

    #[test]
    fn a_process_is_written_by_its_ports_and_has_an_endpoint_of_its_own() {
        let at = Listen::At("127.0.0.3".parse().unwrap(), 80);
        let mut draft = Draft {
            peers: vec![
                peer("etcd-1", "", Home::Process(vec![Listen::Port(2379), Listen::Port(2380)])),
                peer("etcd-2", "", Home::Process(vec![at])),
            ],
            ..Draft::default()
        };
        let service = Service { port: 2379, kind: Some(Kind::Http("/health")), netns: None };
        draft.own.push(("etcd-1".to_owned(), service));
        let text = draft.text();
        let config = Config::parse(&text, "draft").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let listens: Vec<String> = config.local_peers().map(|(_, local)| local.by.to_string()).collect();
        assert_eq!(listens, ["port 2379, port 2380", "127.0.0.3:80"]);
        assert_eq!(config.endpoints.len(), 1);
    }

    #[test]
    fn a_container_is_written_by_its_name_alone() {
        let container = Netns::Container(ContainerRef::Name("shop-db-1".to_owned()));
        let mut draft = Draft { engine: Some("/run/e.sock".into()), ..draft() };
        draft.peers.push(peer("db", "10.0.0.8", Home::Space(container)));
        let config = Config::parse(&draft.text(), "draft").unwrap();
        assert_eq!(config.engine, injector_core::config::Engine::At("/run/e.sock".into()));
        let containers: Vec<String> = config.containers().map(|(_, it)| it.to_string()).collect();
        assert_eq!(containers, ["shop-db-1"]);
        assert!(draft.text().contains("  db: { container: shop-db-1 }  # "), "{}", draft.text());
    }

    #[test]
    fn services_become_endpoints_and_silent_ones_comments() {
        let client = Some(Netns::Name("lab-client".to_owned()));
        let services = vec![
            Service { port: 8080, kind: Some(Kind::Http("/")), netns: client.clone() },
            Service { port: 5122, kind: Some(Kind::Grpc), netns: client },
            Service { port: 7000, kind: Some(Kind::Tcp), netns: Some(Netns::Pid(7)) },
            Service { port: 9, kind: None, netns: None },
        ];
        let mut draft = Draft { services, schema: Some("/s.json".to_owned()), ..draft() };
        // A peer without an address has nothing that a probe could be sent to.
        draft.peers.pop();
        let text = draft.text();
        let config = Config::parse(&text, "draft").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let names: Vec<&str> = config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        assert_eq!(
            names,
            ["ingress@no", "ingress@7", "port-5122@no", "port-5122@7", "port-7000@no", "port-7000@7"]
        );
        // A connect decides nothing beside a probe that shows service, and says how it could.
        let advisory = config.endpoints.iter().filter(|endpoint| endpoint.role == Role::Advisory);
        let advisory: Vec<&str> = advisory.map(|endpoint| endpoint.name.as_str()).collect();
        assert_eq!(advisory, ["port-7000@no", "port-7000@7"]);
        assert!(
            text.contains("    # Advisory: it is reported") && text.contains("name a request that needs it"),
            "{text}"
        );
        assert!(text.starts_with("# yaml-language-server: $schema=/s.json\n"), "{text}");
        assert!(text.contains("All peers listen on port 9, and not every one answered"), "{text}");
        // Where there are only connects, they decide.
        draft.services.retain(|service| service.kind == Some(Kind::Tcp));
        let text = draft.text();
        let config = Config::parse(&text, "draft").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let roles: Vec<Role> = config.endpoints.iter().map(|endpoint| endpoint.role).collect();
        assert_eq!(roles, [Role::Required, Role::Required]);
        assert!(text.contains("    # A connect says little"), "{text}");
        // Uncommented, the example of a config without endpoints is one.
        draft.services.clear();
        let text = draft.text().replace("# endpoints:", "endpoints:").replace("#   - name", "  - name");
        let text = text.replace("#     ", "    ");
        let config = Config::parse(&text, "draft").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert_eq!(config.endpoints.len(), 2);
    }
}
