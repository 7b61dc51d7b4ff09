//! The image of `packaging/Containerfile`: built from the binary under test, and run with the rights that
//! `docs/recipes/image.md` names. Needs root.

use std::fs;
use std::path::Path;
use std::process::Command;

use injector_lab::http::{Request, over_unix};
use injector_lab::{Cli, needs, until};

use crate::config;
use crate::podman::{LIMITS, Podman};
use crate::release::{PROGRAM, copy_libraries, unpack};

const PAGE: &str = include_str!("../../../docs/recipes/image.md");
/// What the page gives a daemon whose peers are containers.
const CAPABILITIES: [&str; 7] =
    ["BPF", "PERFMON", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SETPCAP"];

/// Builds the image under a name.
fn build(podman: &Podman, tree: &Path, name: &str, options: &str) {
    let tree = tree.display();
    podman.ok(&format!(
        "build --pull-never --layers=false --tag {name} {options} \
         --file {tree}/share/doc/injector/Containerfile {tree}"
    ));
}

/// An image with the libraries that the binary under test is linked with; a release has none.
fn libraries(podman: &Podman) -> Option<&'static str> {
    let tree = podman.lab.folder().join("libraries");
    copy_libraries(Path::new(PROGRAM), &tree);
    tree.exists().then(|| {
        podman.import("libraries", &tree);
        "localhost/libraries"
    })
}

/// What the daemon in the container has logged.
fn log(podman: &Podman) -> String {
    let output = podman.podman("logs injector");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Starts the image as the page does it, with a config and a folder for the socket.
fn start(podman: &Podman, image: &str, configs: &Path, sockets: &Path) {
    let capabilities = CAPABILITIES.map(|name| format!("--cap-add {name}")).join(" ");
    let (configs, sockets, engine) = (configs.display(), sockets.display(), podman.socket());
    let engine = engine.display();
    podman.ok(&format!(
        "run --detach --name injector --network host --pid host --cap-drop ALL {capabilities} {LIMITS} \
         --log-driver k8s-file --volume {configs}:/etc/injector:ro --volume {sockets}:/run/injector \
         --volume {engine}:{engine} {image}"
    ));
}

#[test]
#[needs(root, program = "podman", program = "busybox", program = "strip", minutes = 1)]
fn the_image_runs_a_daemon_that_cuts_containers_apart() {
    let Some(podman) = crate::three("the_image_runs_a_daemon_that_cuts_containers_apart") else { return };
    let tree = podman.lab.folder().join("tarball");
    unpack(&tree);
    build(&podman, &tree, "released", "");
    let image = libraries(&podman).map_or("released", |base| {
        build(&podman, &tree, "tested", &format!("--build-arg BASE={base}"));
        "tested"
    });
    let version = Command::new(PROGRAM).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    assert_eq!(podman.ok(&format!("run --rm --network none {LIMITS} {image} --version")), version.trim());

    let [configs, sockets] = ["configs", "sockets"].map(|name| podman.lab.folder().join(name));
    fs::create_dir(&configs).unwrap();
    fs::create_dir(&sockets).unwrap();
    fs::write(configs.join("config.yaml"), config(&podman, &["a", "b", "c"])).unwrap();
    start(&podman, image, &configs, &sockets);
    let socket = sockets.join("injector.sock");
    until("the daemon in the container serves", || {
        let state = podman.ok("inspect --format {{.State.Status}} injector");
        assert_eq!(state, "running", "{}", log(&podman));
        over_unix(&socket, &Request::get("/v1/status")).is_ok_and(|(status, _)| status == 200).then_some(())
    });
    let cli = Cli::new(PROGRAM, &socket);
    until("all links are covered", || (cli.json("status")["coverage"]["covered"] == 6).then_some(()));
    let inside = podman.ok("exec injector /usr/bin/injector status --json");
    assert!(inside.contains("web@a"), "{inside}");

    podman.assert_sides(&[&["a", "b", "c"]]);
    cli.json("partition isolate a --name p --for 60s");
    podman.assert_sides(&[&["a"], &["b", "c"]]);
    cli.json("heal p");
    podman.assert_sides(&[&["a", "b", "c"]]);

    let stopped = cli.run(["stop"]);
    assert!(stopped.status.success(), "{stopped:?}\n{}", log(&podman));
    assert_eq!(podman.ok("wait injector"), "0", "{}", log(&podman));
    assert!(!socket.exists(), "the socket stays behind: {}", log(&podman));
}

#[test]
fn the_page_gives_what_the_image_is_tried_with() {
    let block = PAGE.split("podman run --detach").nth(1).unwrap().split("```").next().unwrap();
    let given = block.split("--cap-add ").skip(1).map(|rest| rest.split_whitespace().next().unwrap());
    assert_eq!(given.collect::<Vec<_>>(), CAPABILITIES);
    assert!(PAGE.contains(&format!("cap_add: [{}]", CAPABILITIES.join(", "))), "in the compose file");
    for option in ["--network host --pid host", "--cap-drop ALL", ":/etc/injector:ro ", ":/run/injector "] {
        assert!(block.contains(option), "docs/recipes/image.md lacks {option}: {block}");
    }
}
