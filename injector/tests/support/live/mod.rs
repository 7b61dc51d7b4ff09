//! The real daemon on real namespaces, as root.

pub mod daemon;
pub mod foreign;
#[path = "../kernel.rs"]
pub mod kernel;
pub mod lab;
#[path = "../links.rs"]
pub mod links;
pub mod tap;
pub mod traffic;

/// A lab of so many peers, and a daemon with its programs on their own interfaces.
pub fn up(peers: u8) -> (lab::Lab, daemon::Daemon) {
    let lab = lab::Lab::new(peers);
    let daemon = daemon::Daemon::start(&lab.config(lab::AttachPoint::OwnNic, "auto"));
    (lab, daemon)
}

/// What the command line said, but not that hooks were not read in time.
pub fn without_unread_hooks(said: &str) -> String {
    said.split_inclusive('\n').filter(|line| !injector_lab::is_late_reading(line)).collect()
}

/// Two peers, a service on n1 that n2 probes, and a daemon that knows the service to be healthy. Bound in
/// this order, the daemon ends first.
pub fn up_with_service() -> (lab::Lab, traffic::Server, daemon::Daemon) {
    let lab = lab::Lab::new(2);
    let server = traffic::Server::start(&lab, "n1");
    let config = format!(
        "{}endpoints:\n  - {{ name: web, peers: [n1], netns: {}, probe: {{ http: {{ url: \"http://{{address}}:{}/\" }}, interval: 20ms, timeout: \
         2s }} }}\nready: {{ consecutive: 5, observe: 500ms, observe_max: 5s }}\n",
        lab.config(lab::AttachPoint::OwnNic, "auto"),
        lab.netns("n2"),
        server.port()
    );
    let daemon = daemon::Daemon::start(&config);
    daemon.wait_healthy();
    (lab, server, daemon)
}

/// n1 and n2 with a daemon that hooks the NIC of n1 alone. Other devices of n1 lead nowhere and have no hook, so that it is not
/// known whether a cut of n1 is in force.
pub fn up_with_unknown_coverage() -> (lab::Lab, daemon::Daemon) {
    let lab = lab::Lab::new(2);
    lab.ip("n1", "link add x0 type veth peer name x1");
    lab.ip("n1", "link set x0 up");
    lab.ip("n1", "link set x1 up");
    let config = lab.config(lab::AttachPoint::OwnNic, "auto");
    let (peers, _) = config.split_once("interfaces:").unwrap();
    let hooked = lab.interface("n1", lab::AttachPoint::OwnNic, "auto");
    let daemon = daemon::Daemon::start(&format!("{peers}interfaces:\n{hooked}"));
    (lab, daemon)
}
