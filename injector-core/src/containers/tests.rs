use super::*;

fn listed(id: &str, name: &str, is_running: bool) -> Listed {
    Listed { id: id.to_owned(), names: vec![name.to_owned()], is_running, ..Listed::default() }
}

fn service(id: &str, number: u32) -> Listed {
    let labels = [(PROJECT, "shop"), (SERVICE, "restate"), (NUMBER, &number.to_string())];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
    Listed { labels: labels.into(), ..listed(id, &format!("shop-restate-{number}"), true) }
}

fn named(name: &str) -> ContainerRef {
    ContainerRef::Name(name.to_owned())
}

fn compose(number: Option<u32>) -> ContainerRef {
    ContainerRef::Compose { project: "shop".to_owned(), service: "restate".to_owned(), number }
}

const LONG_ID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_container_is_found_by_name_id_or_service() {
    let all = [listed("aaa", "restate-1", true), listed(LONG_ID, "restate-2", true), service("ccc", 1)];
    let id = |wanted: &ContainerRef| find(wanted, None, &all).map(|found| found.id.clone());
    assert_eq!(id(&named("restate-1")), Ok("aaa".to_owned()));
    assert_eq!(id(&named(LONG_ID)), Ok(LONG_ID.to_owned()));
    assert_eq!(id(&named("0123456789ab")), Ok(LONG_ID.to_owned()));
    assert_eq!(id(&compose(None)), Ok("ccc".to_owned()));
    let known = ["restate-1", "restate-2", "shop-restate-1"].map(str::to_owned).to_vec();
    assert_eq!(id(&named("0123456789a")), Err(Trouble::Unknown(known.clone())), "too short for an id");
    assert_eq!(id(&named("restate")), Err(Trouble::Unknown(known)));
}

#[test]
fn a_service_of_several_containers_needs_a_number() {
    let all = [service("a", 1), service("b", 2)];
    let several = ["shop-restate-1", "shop-restate-2"].map(str::to_owned).to_vec();
    assert_eq!(find(&compose(None), None, &all), Err(Trouble::Several(several)));
    assert_eq!(find(&compose(Some(2)), None, &all).unwrap().id, "b");
}

#[test]
fn a_name_comes_before_the_beginning_of_an_id() {
    let all = [listed(LONG_ID, "other", true), listed("b", "0123456789ab", true)];
    assert_eq!(find(&named("0123456789ab"), None, &all).unwrap().id, "b");
}

#[test]
fn a_container_is_followed_under_another_name_until_another_one_takes_its_place() {
    let follow = |all: &[Listed]| find(&named("r"), Some("a"), all).map(|found| found.id.clone());
    let a = "a".to_owned();
    assert_eq!(follow(&[listed("a", "renamed", true), listed("b", "r", true)]), Ok(a.clone()), "renamed");
    assert_eq!(follow(&[listed("a", "renamed", false)]), Ok(a.clone()), "stopped");
    assert_eq!(follow(&[listed("a", "old_r", false), listed("b", "r", true)]), Ok("b".to_owned()));
    assert_eq!(follow(&[listed("b", "r", true)]), Ok("b".to_owned()), "made anew");
    assert_eq!(follow(&[]), Err(Trouble::Unknown(Vec::new())));
}

fn inspected(network: &str, pid: Option<u32>) -> Inspected {
    Inspected {
        id: "a".to_owned(),
        name: "r".to_owned(),
        state: "exited".to_owned(),
        pid,
        network: network.to_owned(),
    }
}

#[test]
fn a_container_without_a_network_of_its_own_is_no_peer() {
    assert_eq!(judge(inspected("bridge", Some(7))).unwrap().pid, 7);
    assert_eq!(judge(inspected("host", Some(7))), Err(Trouble::HostNetwork));
    assert_eq!(judge(inspected("none", Some(7))), Err(Trouble::NoNetwork));
    let stopped = Trouble::Stopped("r".to_owned(), "exited".to_owned());
    assert_eq!(judge(inspected("bridge", None)), Err(stopped));
}

fn states(containers: &[(&str, Result<Running, Trouble>)]) -> ContainerStates {
    ContainerStates(containers.iter().map(|(name, standing)| (named(name), standing.clone())).collect())
}

fn running(id: &str, name: &str, pid: u32) -> Running {
    Running { id: id.to_owned(), name: name.to_owned(), pid }
}

#[test]
fn each_fault_has_its_place_and_its_remedy() {
    let text =
        "peers: { n1: { container: a }, n2: { container: b }, n3: { container: c } }\ninterfaces: auto\n";
    let config = Config::parse(text, "lab.yaml").unwrap();
    let same = running("1", "a", 7);
    let seen = states(&[("a", Ok(same.clone())), ("b", Ok(same)), ("c", Err(Trouble::HostNetwork))]);
    let errors = seen.admit(&config, "lab.yaml").unwrap_err().to_string();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(
        lines[0],
        "lab.yaml: peers.n2.container: container a is another peer's too, at peers.n1.container; a container is one \
         peer: keep one of the two"
    );
    assert!(
        lines[1].starts_with("lab.yaml: peers.n3.container: container c has the host's network"),
        "{errors}"
    );
    assert!(lines[1].ends_with("see docs/local.md"), "{errors}");
}

#[test]
fn changes_are_told_once_in_words() {
    let first = states(&[("r", Ok(running("0123456789abcdef", "r", 7)))]);
    assert_eq!(first.changes(&first), []);
    let reported =
        |after: &ContainerStates| first.changes(after).into_iter().map(|(_, what)| what).collect::<Vec<_>>();
    let renamed = states(&[("r", Ok(running("0123456789abcdef", "q", 7)))]);
    assert_eq!(reported(&renamed), ["its name is q now; it is still followed"]);
    let restarted = states(&[("r", Ok(running("0123456789abcdef", "r", 8)))]);
    assert_eq!(reported(&restarted), ["it runs as process 8 (id 0123456789ab)"]);
    let anew = states(&[("r", Ok(running("f", "r", 8)))]);
    assert_eq!(reported(&anew), ["another container of this name runs as process 8 (id f)"]);
    let stopped = states(&[("r", Err(Trouble::Stopped("r".to_owned(), "exited".to_owned())))]);
    assert_eq!(reported(&stopped), ["container r does not run (its state: exited)"]);
}

#[test]
fn a_selector_means_what_runs_and_has_all_its_labels() {
    let selector = |labels: &[(&str, Option<&str>)]| {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), value.map(str::to_owned)));
        Selector { labels: labels.collect() }
    };
    let stopped = Listed { is_running: false, ..service("c", 3) };
    let all = [service("b", 2), service("a", 1), stopped, listed("d", "other", true)];
    let names = |labels: &[(&str, Option<&str>)]| select(&selector(labels), &all);
    assert_eq!(names(&[(PROJECT, Some("shop"))]), ["shop-restate-1", "shop-restate-2"]);
    assert_eq!(names(&[(PROJECT, None), (NUMBER, Some("2"))]), ["shop-restate-2"]);
    assert_eq!(names(&[(PROJECT, Some("other"))]), [""; 0]);
}
