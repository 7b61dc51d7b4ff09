//! `injector init`: finds what could be peers, asks where there is a terminal, and writes a config.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::Path;

use serde_json::json;

use super::args::{Common, Init as Args};
use super::failure::{Exit, Failure};
use super::output::{print, show};
use crate::engine;
use crate::init::candidates::{Candidate, Home, candidates};
use crate::init::draft::Draft;
use crate::init::{inspect_host, services};
use crate::terminal::clean;
use injector_core::config::{Config, ConfigErrors, Engine, Netns};
use injector_core::containers::ContainerStates;
use injector_core::figures::counted;

/// Where packages put the config's schema.
const SCHEMA: &str = "/usr/share/injector/lab.schema.json";

pub(super) async fn run(common: &Common, args: &Args) -> Result<Exit, Failure> {
    if !common.host.is_empty() {
        return Err(Failure::usage("init looks at this host; run it there (`ssh HOST sudo injector init`)"));
    }
    let is_printed = args.out == Path::new("-");
    if !is_printed && args.out.symlink_metadata().is_ok() {
        return Err(exists(&args.out));
    }
    let wanted = args.engine.clone().map_or(Engine::Usual, Engine::At);
    let mut is_engine_silent = false;
    let containers = match engine::running(&wanted).await {
        Ok(containers) => containers,
        Err(error) if args.engine.is_some() => {
            return Err(Failure::usage(format!("--engine: {error}; {}", error.remedy())));
        }
        // Most hosts have none.
        Err(_) => {
            is_engine_silent = true;
            ContainerStates::default()
        }
    };
    let mut host = inspect_host(&containers).await;
    let found = candidates(&host);
    let mut all = found.candidates;
    let named = named(&args.peers, &mut all)?;
    let asks = !args.yes && !common.json && io::stdin().is_terminal() && io::stderr().is_terminal();
    let chosen = match named {
        Some(named) => named,
        None if asks => ask_peers(&all)?,
        None => likely(&all),
    };
    let (peers, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|candidate| chosen.contains(&candidate.name));
    if peers.len() < 2 {
        return Err(too_few(&peers, &others, &found.notes));
    }
    let found_names = peers.iter().map(|peer| peer.name.as_str());
    let note = if is_engine_silent { unnamed_containers(found_names) } else { None };
    let mut draft = Draft {
        schema: Path::new(SCHEMA).exists().then(|| SCHEMA.to_owned()),
        engine: args.engine.clone(),
        notes: found.notes.into_iter().chain(note.clone()).collect(),
        peers,
        others,
        services: Vec::new(),
        own: Vec::new(),
    };
    let ports = if args.ports.is_empty() { services::common_ports(&draft.peers) } else { args.ports.clone() };
    let ports = if asks && args.ports.is_empty() { ask_ports(&ports)? } else { ports };
    let clients: Vec<Netns> = draft
        .others
        .iter()
        .filter_map(|other| match &other.home {
            Home::Space(netns) => Some(netns.clone()),
            _ => None,
        })
        .collect();
    draft.services = services::find(&draft, &ports, &clients, &mut host).await;
    draft.own = services::find_own(&draft, &mut host).await;

    let text = draft.text();
    let config = Config::parse(&text, &args.out.display().to_string()).map_err(|errors| {
        Failure::new(
            Exit::UNDECIDED,
            format!("a bug: what was found makes no valid config, so nothing was written:\n{errors}\n{text}"),
        )
    })?;
    if is_printed {
        print(&text)?;
        return Ok(Exit::OK);
    }
    write(&args.out, &text)?;
    let silent: Vec<u16> =
        draft.services.iter().filter(|service| service.kind.is_none()).map(|service| service.port).collect();
    let summary = json!({
        "written": args.out,
        "peers": draft.peers.iter().map(|peer| &peer.name).collect::<Vec<_>>(),
        "others": draft.others.iter().map(|other| &other.name).collect::<Vec<_>>(),
        "endpoints": config.endpoints.len(),
        "silent_ports": silent,
        "note": note,
    });
    show(common, &summary, || {
        let path = args.out.display();
        let note = note.map(|note| format!("note: {note}\n")).unwrap_or_default();
        format!(
            "{path}: written: {}, {}\n{note}next: sudo injector doctor --config {path}\n",
            counted(draft.peers.len(), "peer"),
            counted(config.endpoints.len(), "endpoint"),
        )
    })?;
    Ok(Exit::OK)
}

/// That peers are the network namespaces of containers, whose engine did not name them. Podman and the plugins of Kubernetes
/// give such a namespace a name that ends with a UUID.
fn unnamed_containers<'a>(mut peers: impl Iterator<Item = &'a str>) -> Option<String> {
    let is_uuid =
        |id: &str| id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let of_container =
        |name: &&str| ["netns-", "cni-"].iter().any(|begin| name.strip_prefix(begin).is_some_and(is_uuid));
    let first = peers.find(of_container)?;
    Some(format!(
        "{first} looks like the namespace of a container, and no container engine answers: start its API (`sudo systemctl start \
         podman.socket`), or name its socket with --engine, and run init again, so that peers are named by containers, which \
         keep their names when they are started again"
    ))
}

fn exists(path: &Path) -> Failure {
    Failure::usage(format!(
        "{} exists and is left as it is; name another file with --out, or print the config with --out -",
        path.display()
    ))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(path)),
        Err(error) => return Err(unwritten(path, &error)),
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::UNDECIDED, format!("{} can't be written: {error}", path.display()))
}

fn too_few(peers: &[Candidate], others: &[Candidate], notes: &[String]) -> Failure {
    let root = if rustix::process::geteuid().is_root() {
        ""
    } else {
        "; only root sees into other network namespaces: run it with sudo"
    };
    let mut seen: Vec<String> = others
        .iter()
        .map(|other| format!("{} ({})", other.name, other.doubt.as_deref().unwrap_or(&other.why)))
        .collect();
    seen.extend(notes.iter().cloned());
    let seen = if seen.is_empty() { String::new() } else { format!("; it saw {}", seen.join("; ")) };
    Failure::new(
        Exit::NOT_RECOVERED,
        format!(
            "init found {} that looks like a node of a cluster, and needs two; start the nodes and let them send something, or name them with their addresses: --peer n1=10.0.0.1 --peer n2=10.0.0.2{root}{seen}",
            counted(peers.len(), "peer")
        ),
    )
}

fn likely(all: &[Candidate]) -> BTreeSet<String> {
    all.iter().filter(|candidate| candidate.doubt.is_none()).map(|candidate| candidate.name.clone()).collect()
}

/// The peers of `--peer`, those with addresses added to what was found; `None` without any.
fn named(words: &[String], all: &mut Vec<Candidate>) -> Result<Option<BTreeSet<String>>, Failure> {
    let mut chosen = BTreeSet::new();
    for word in words {
        let (name, addresses) = match word.split_once('=') {
            Some((name, addresses)) => (name, Some(addresses)),
            None => (word.as_str(), None),
        };
        if chosen.contains(name) {
            return Err(Failure::usage(format!("--peer {name} is given twice; name each peer once")));
        }
        if let Some(text) = addresses {
            let addresses = valid(word, name, text)?;
            give_name(name, addresses, &chosen, all)
                .map_err(|why| Failure::usage(format!("--peer {word}: {why}")))?;
        } else if !all.iter().any(|candidate| candidate.name == name) {
            let known: Vec<&str> = all.iter().map(|candidate| candidate.name.as_str()).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(Failure::usage(format!(
                "--peer {name}: nothing of that name was found, but {known}; write its addresses, as in {name}=10.0.0.1"
            )));
        }
        chosen.insert(name.to_owned());
    }
    Ok((!words.is_empty()).then_some(chosen))
}

/// The addresses of one `--peer`, if a config takes them and the name.
fn valid(word: &str, name: &str, text: &str) -> Result<Vec<IpAddr>, Failure> {
    let addresses: Result<Vec<IpAddr>, _> = text.split(',').map(str::trim).map(str::parse).collect();
    let addresses = addresses.map_err(|_| {
        Failure::usage(format!(
            "--peer {word}: \"{text}\" is no list of addresses; write it as n1=10.0.0.1,fd00::1"
        ))
    })?;
    // A config needs a second peer, which has none of these addresses.
    let free =
        (1..=u8::MAX).map(|host| IpAddr::from([192, 0, 2, host])).find(|free| !addresses.contains(free));
    let other = if name == "other" { "another" } else { "other" };
    let peers = json!({ name: { "addresses": addresses }, other: { "addresses": [free] } });
    let config = json!({ "peers": peers, "interfaces": "auto" }).to_string();
    match Config::parse(&config, "--peer") {
        Ok(_) => Ok(addresses),
        Err(ConfigErrors(errors)) => {
            let first = errors.first().map_or("", |error| &error.what);
            let remedy = errors.first().map_or("", |error| &error.remedy);
            Err(Failure::usage(format!("--peer {word}: {first}; {remedy}")))
        }
    }
}

/// Gives a peer's name to what was found at its addresses, or adds it. Others that were found under this name get another.
fn give_name(
    name: &str,
    addresses: Vec<IpAddr>,
    chosen: &BTreeSet<String>,
    all: &mut Vec<Candidate>,
) -> Result<(), String> {
    let shared = |candidate: &Candidate| {
        candidate.addresses.iter().find(|address| addresses.contains(address)).copied()
    };
    let at = all.iter().position(|candidate| shared(candidate).is_some());
    if let Some(at) = at
        && chosen.contains(&all[at].name)
        && let Some(address) = shared(&all[at])
    {
        let other = &all[at].name;
        return Err(format!("{address} is an address of {other} too; give each peer addresses of its own"));
    }
    let names: BTreeSet<String> = all.iter().map(|candidate| candidate.name.clone()).collect();
    let others = all.iter_mut().enumerate().filter(|(other, _)| Some(*other) != at);
    for (_, other) in others.filter(|(_, other)| other.name == name) {
        let free =
            (2..=names.len() + 2).map(|count| format!("{name}-{count}")).find(|free| !names.contains(free));
        other.name = free.unwrap_or_default();
    }
    match at {
        Some(at) => {
            name.clone_into(&mut all[at].name);
            all[at].addresses = addresses;
        }
        None => all.push(Candidate {
            name: name.to_owned(),
            addresses,
            mac: None,
            home: Home::Named,
            why: "named on the command line".to_owned(),
            ports: None,
            doubt: None,
        }),
    }
    Ok(())
}

/// Shows what was found, and asks which of it are peers.
fn ask_peers(all: &[Candidate]) -> Result<BTreeSet<String>, Failure> {
    let mut text = "Found on this host:\n".to_owned();
    for (number, candidate) in (1..).zip(all) {
        let addresses: Vec<String> = candidate.addresses.iter().map(ToString::to_string).collect();
        let ports = candidate.ports.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let ports = if ports.is_empty() { String::new() } else { format!("; listens on {ports}") };
        let doubt = candidate.doubt.as_ref().map_or_else(String::new, |doubt| format!(" ({doubt})"));
        let _ = writeln!(
            text,
            "{number:>3}  {}  {}  {}{ports}{doubt}",
            candidate.name,
            addresses.join(", "),
            candidate.why
        );
    }
    let default = likely(all);
    let numbers: Vec<String> = (1..)
        .zip(all)
        .filter(|(_, candidate)| default.contains(&candidate.name))
        .map(|(number, _): (usize, _)| number.to_string())
        .collect();
    say(&text)?;
    loop {
        let answer = ask(&format!("Which of them are peers? Numbers or names [{}]: ", numbers.join(" ")))?;
        if answer.is_empty() {
            return Ok(default);
        }
        let words = answer.split([' ', ',']).filter(|word| !word.is_empty());
        let chosen: Result<BTreeSet<String>, &str> = words
            .map(|word| {
                let by_name = all.iter().find(|candidate| candidate.name == word);
                let by_number = word.parse::<usize>().ok().and_then(|number| all.get(number.checked_sub(1)?));
                by_name.or(by_number).map(|candidate| candidate.name.clone()).ok_or(word)
            })
            .collect();
        match chosen {
            Ok(chosen) if chosen.len() > 1 => return Ok(chosen),
            Ok(_) => say("At least two are needed.\n")?,
            Err(word) => say(&format!("\"{word}\" is none of them.\n"))?,
        }
    }
}

fn ask_ports(common: &[u16]) -> Result<Vec<u16>, Failure> {
    let shown: Vec<String> = common.iter().map(ToString::to_string).collect();
    loop {
        let answer =
            ask(&format!("TCP ports by which they show that they serve, or none [{}]: ", shown.join(" ")))?;
        if answer.is_empty() {
            return Ok(common.to_vec());
        }
        if answer == "none" {
            return Ok(Vec::new());
        }
        let words = answer.split([' ', ',']).filter(|word| !word.is_empty());
        let ports: Result<Vec<u16>, &str> =
            words.map(|word| word.parse().ok().filter(|port| *port > 0).ok_or(word)).collect();
        match ports {
            Ok(ports) => return Ok(ports),
            Err(word) => say(&format!("\"{word}\" is no port.\n"))?,
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    let mut stderr = io::stderr().lock();
    let said = stderr.write_all(clean(text).as_bytes()).and_then(|()| stderr.flush());
    said.map_err(|error| Failure::new(Exit::UNDECIDED, format!("standard error: {error}")))
}

/// An answer without blanks around it; the end of the input is no answer.
fn ask(question: &str) -> Result<String, Failure> {
    say(question)?;
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(Failure::usage("no answer came; `--yes` takes what looks right")),
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(Failure::new(Exit::UNDECIDED, format!("standard input: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, address: &str) -> Candidate {
        Candidate {
            name: name.to_owned(),
            addresses: vec![address.parse().unwrap()],
            mac: None,
            home: Home::Space(Netns::Name(name.to_owned())),
            why: String::new(),
            ports: None,
            doubt: None,
        }
    }

    fn taken(words: &[&str]) -> Result<Vec<(String, String)>, String> {
        let mut all = vec![found("n1", "10.9.0.1"), found("n2", "10.9.0.2")];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let chosen = named(&words, &mut all).map_err(|failure| failure.message)?.unwrap();
        all.retain(|candidate| chosen.contains(&candidate.name));
        Ok(all.into_iter().map(|candidate| (candidate.name, candidate.addresses[0].to_string())).collect())
    }

    #[test]
    fn peers_that_are_named_are_found_by_their_addresses_or_added() {
        let pair = |name: &str, address: &str| (name.to_owned(), address.to_owned());
        assert_eq!(taken(&["a=10.9.0.1", "n2"]), Ok(vec![pair("a", "10.9.0.1"), pair("n2", "10.9.0.2")]));
        let both = ["n1=10.5.0.1", "n2=10.5.0.2"];
        assert_eq!(taken(&both), Ok(vec![pair("n1", "10.5.0.1"), pair("n2", "10.5.0.2")]), "not those found");
        assert_eq!(
            taken(&["n2=10.9.0.1", "b=10.9.0.2"]),
            Ok(vec![pair("n2", "10.9.0.1"), pair("b", "10.9.0.2")])
        );
    }

    #[test]
    fn namespaces_that_an_engine_has_named_are_taken_for_containers() {
        for name in ["netns-122ea98e-1f0c-4d3a-9d5e-0c8b6a7f5e21", "cni-122ea98e-1f0c-4d3a-9d5e-0c8b6a7f5e21"]
        {
            let note = unnamed_containers(["n1", name].into_iter()).unwrap();
            assert!(note.starts_with(name) && note.contains("systemctl start podman.socket"), "{note}");
        }
        assert_eq!(
            unnamed_containers(
                ["n1", "netns-1", "cni-", "netns-of-some-36-letters-which-are-words"].into_iter()
            ),
            None
        );
    }

    #[test]
    fn what_no_config_takes_is_said_of_the_argument() {
        for (words, wanted) in [
            (&["a:b=10.0.0.1"][..], "--peer a:b=10.0.0.1: "),
            (&["world=10.0.0.1"], "--peer world=10.0.0.1: "),
            (&["a=224.0.0.1"], "224.0.0.1 is multicast; give the address that the peer sends from"),
            (&["a=10.0.0.1", "b=10.0.0.1"], "--peer b=10.0.0.1: 10.0.0.1 is an address of a too"),
            (&["a=10.9.0.1", "b=10.9.0.1"], "--peer b=10.9.0.1: 10.9.0.1 is an address of a too"),
            (&["a=10.0.0.1", "a=10.0.0.2"], "--peer a is given twice"),
            (&["a=here"], "\"here\" is no list of addresses"),
        ] {
            let said = taken(words).unwrap_err();
            assert!(said.contains(wanted), "{words:?}: {said}");
        }
    }
}
