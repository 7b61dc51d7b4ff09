//! Three etcd members on 127.0.0.1 that run before the daemon does.

use std::net::SocketAddr;
use std::time::Duration;

use injector_lab::http::{Request, over_tcp};
use injector_lab::{Lab, needs};
use serde_json::{Value, json};

use super::support::{Daemon, until};
use super::{assert_proved, machine, record};

/// The config that users get, with ports as these members have them.
const SHIPPED: &str = include_str!("../../../configs/local.yaml");

/// The ports of each member, for clients and for the others.
const PORTS: [(u16, u16); 3] = [(2379, 2380), (22379, 22380), (32379, 32380)];

struct Cluster(Lab);

impl Cluster {
    fn start() -> Self {
        let mut lab = machine();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<String> =
            PORTS.iter().zip(1..).map(|((_, peer), number)| format!("e{number}={}", url(*peer))).collect();
        for ((client, peer), number) in PORTS.into_iter().zip(1..) {
            let name = format!("e{number}");
            let mut command = lab.command("m", "etcd");
            command.args(["--name", &name, "--initial-cluster", &all.join(",")]);
            command.arg("--data-dir").arg(lab.folder().join(&name));
            command.args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)]);
            command.args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)]);
            lab.start(&name, &mut command).unwrap();
        }
        let cluster = Self(lab);
        until("a leader is elected", || {
            let leaders: Vec<u64> = (0..3).filter_map(|member| cluster.leader(member)).collect();
            (leaders.len() == 3 && leaders.iter().all(|leader| *leader == leaders[0] && *leader != 0))
                .then_some(())
        });
        cluster
    }

    /// What a member answers to a call of its JSON gateway; `None` if it does not within 5 s, or refuses.
    fn call(&self, member: usize, path: &str, body: &Value) -> Option<Value> {
        let to = SocketAddr::from(([127, 0, 0, 1], PORTS[member].0));
        let json = body.to_string();
        let request = Request { method: "POST", path, json: json.as_bytes() };
        let (status, answer) = self.0.within("m", || over_tcp(to, &request)).ok()?;
        let body = answer.split_once("\r\n\r\n")?.1;
        (status == 200)
            .then(|| serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }

    /// The id of the leader that a member knows, 0 for none.
    fn leader(&self, member: usize) -> Option<u64> {
        let status = self.call(member, "/v3/maintenance/status", &json!({}))?;
        Some(status["leader"].as_str().map_or(0, |leader| leader.parse().unwrap()))
    }

    /// The member that leads.
    fn leads(&self) -> usize {
        let is_leader = |member: &usize| {
            let status = self.call(*member, "/v3/maintenance/status", &json!({})).unwrap();
            status["leader"] == status["header"]["member_id"]
        };
        (0..3).find(is_leader).unwrap()
    }

    fn put(&self, member: usize) -> bool {
        self.call(member, "/v3/kv/put", &json!({ "key": "a2V5", "value": "dmFsdWU=" })).is_some()
    }

    fn config(&self) -> String {
        let netns = self.0.netns("m");
        let peers = PORTS.iter().zip(1..).map(|((client, peer), number)| {
            format!("  e{number}: {{ listens: [{client}, {peer}], netns: {netns} }}\n")
        });
        let endpoints = PORTS.iter().zip(1..).map(|((client, _), number)| {
            format!(
                "  - {{ name: health, peers: [e{number}], netns: {netns}, probe: {{ http: {{ url: \"http://{{address}}:{client}/health\" }}, interval: 50ms }} }}\n"
            )
            .replace("name: health", &format!("name: health{number}"))
        });
        format!(
            "peers:\n{}interfaces: auto\nready: {{ consecutive: 3, observe: 1s }}\nendpoints:\n{}",
            peers.collect::<String>(),
            endpoints.collect::<String>()
        )
    }
}

#[test]
#[needs(root, program = "etcd")]
fn the_leader_of_three_etcd_members_on_one_address_is_cut_off() {
    let cluster = Cluster::start();
    let daemon = Daemon::start(&cluster.0, "lab", &cluster.config());
    let old = cluster.leads();
    let others: Vec<usize> = (0..3).filter(|member| *member != old).collect();
    let id = cluster.leader(old).unwrap();
    until("every endpoint is healthy", || {
        let status = daemon.cli("status");
        let endpoints = status["endpoints"].as_array().unwrap().clone();
        endpoints.iter().all(|endpoint| endpoint["healthy"] == true).then_some(())
    });
    daemon.cli(&format!("partition isolate e{} --name p --for 60s", old + 1));
    until("the others have a new leader", || {
        let new: Vec<u64> = others.iter().filter_map(|member| cluster.leader(*member)).collect();
        (new.len() == 2 && new[0] == new[1] && new[0] != 0 && new[0] != id).then_some(())
    });
    until("the old leader knows that it leads no more", || (cluster.leader(old) == Some(0)).then_some(()));
    assert!(cluster.put(others[0]), "the majority takes writes");
    assert!(!cluster.put(old), "who is cut off does not");
    // The witness looks once a second: let it see the connections.
    std::thread::sleep(Duration::from_secs(2));
    daemon.cli("heal p");
    let record = record(&daemon, "p");
    assert_eq!(record["outcome"], "recovered", "{record}");
    assert_proved(&record);
    for link in record["links"].as_array().unwrap() {
        assert_eq!(link["crossed_bytes"], 0, "{link}");
    }
    until("all have one leader", || {
        let leaders: Vec<u64> = (0..3).filter_map(|member| cluster.leader(member)).collect();
        (leaders.len() == 3 && leaders.iter().all(|leader| *leader == leaders[0])).then_some(())
    });
    assert!(cluster.put(old));
}

#[test]
#[needs(root, program = "etcd", program = "curl")]
fn the_shipped_config_finds_the_members_and_who_leads() {
    let cluster = Cluster::start();
    // Without a word about namespaces: the daemon runs where the members do.
    let daemon = cluster.0.within("m", || Daemon::start(&cluster.0, "shipped", SHIPPED));
    let peers = daemon.cli("peers");
    for name in ["e1", "e2", "e3"] {
        let names = peers[name]["names"].as_array().unwrap();
        let processes = names.iter().filter(|name| name["source"] == "process");
        assert_eq!(processes.count(), 1, "{peers}");
        assert_eq!(peers[name]["is_closed"], true, "{peers}");
    }
    let old = cluster.leads();
    for round in 0..2 {
        let name = format!("p{round}");
        let words = format!("partition isolate @leader --name {name} --for 60s --json");
        // After a heal, the members may elect once more: while nobody leads, nothing is cut.
        let cut: Value = until("the members agree who leads, and the daemon cuts it off", || {
            let output = injector_lab::Daemon::cli(&daemon).run(words.split(' '));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() || said.contains("leader"), "{said}");
            output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
        });
        let leader = cut["roles"]["leader"][0].as_str().unwrap_or_else(|| panic!("{cut}"));
        let leader: usize = leader.strip_prefix('e').unwrap().parse::<usize>().unwrap() - 1;
        assert!(round > 0 || leader == old, "{cut}");
        until("another one leads", || {
            let others = (0..3).filter(|member| *member != leader);
            let known: Vec<u64> = others.filter_map(|member| cluster.leader(member)).collect();
            (known.len() == 2 && known[0] == known[1] && known[0] != 0 && cluster.leader(leader) == Some(0))
                .then_some(())
        });
        daemon.cli(&format!("heal {name}"));
        until("all have one leader", || {
            let leaders: Vec<u64> = (0..3).filter_map(|member| cluster.leader(member)).collect();
            (leaders.len() == 3 && leaders.iter().all(|leader| *leader == leaders[0] && *leader != 0))
                .then_some(())
        });
    }
}
