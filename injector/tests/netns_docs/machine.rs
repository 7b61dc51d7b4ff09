//! A machine with Podman, as its reader has one: the engine's API on its usual socket, and the image that a page starts.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::podman::Podman;
use crate::release::{PROGRAM, copy_libraries};

/// The image of docs/containers.md: made of this machine's own etcd, since a test asks no registry.
const IMAGE: &str = "quay.io/coreos/etcd:v3.5.21";
/// The containers that docs/recipes/image.md cuts apart.
pub const CONTAINERS: [&str; 3] = ["n1", "n2", "n3"];
/// The image that the one of that page is based on: a release is static and needs none, the binary under test does.
const BASE: &str = "localhost/libraries";
/// Puts the test's own options behind `podman build`; what the page says is left as it is.
pub const WITH_BASE: &str = "\
if [ \"$1\" = build ]; then
    shift
    set -- build --pull-never --layers=false --build-arg BASE=localhost/libraries \"$@\"
fi";
/// Where engines have their sockets, and namespaces their names.
const RUN: &str = "/run";
/// Where a machine has its configs.
const ETC: &str = "/etc";

/// The machine. Its containers end with it.
pub struct Machine {
    pub podman: Podman,
    _view: View,
}

impl Machine {
    /// Starts one that has the image of etcd; `None` if it can't run a container here, which is logged as a skip of the
    /// test.
    pub fn with_etcd(test: &str) -> Option<Self> {
        Self::up(test, |podman| {
            let tree = podman.lab.folder().join("etcd");
            let etcd = injector_lab::program("etcd").unwrap();
            fs::create_dir_all(tree.join("usr/bin")).unwrap();
            fs::copy(&etcd, tree.join("usr/bin/etcd")).unwrap();
            copy_libraries(&etcd, &tree);
            podman.import(IMAGE, &tree);
        })
    }

    /// Starts one with containers that serve, and with what the binary under test is linked with as an image; `None` as
    /// above.
    pub fn with_containers(test: &str) -> Option<Self> {
        let machine = Self::up(test, |podman| {
            let tree = podman.lab.folder().join("libraries");
            copy_libraries(Path::new(PROGRAM), &tree);
            podman.import(BASE, &tree);
        })?;
        for name in CONTAINERS {
            machine.podman.start(name, "--network net");
        }
        Some(machine)
    }

    fn up(test: &str, import: impl FnOnce(&Podman)) -> Option<Self> {
        let mut podman = Podman::up(test)?;
        import(&podman);
        // Its name would be hidden when it is to be taken away.
        podman.lab.hide(crate::podman::HOST);
        let view = View::open(podman.lab.folder());
        // A file and no link, so that a container that is given the folder has the socket.
        let usual = format!("{RUN}/podman/podman.sock");
        fs::write(&usual, "").unwrap();
        mount(&["--bind", podman.socket().to_str().unwrap(), &usual]);
        Some(Self { podman, _view: view })
    }

    /// A script that runs this Podman.
    pub fn program(&self) -> String {
        let config = self.podman.config();
        let command = self.podman.command();
        let program = injector_lab::program("podman").unwrap();
        let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let (config, program) = (config.display(), program.display());
        format!("CONTAINERS_CONF={config} exec {program} {} \"$@\"", words.join(" "))
    }
}

/// An empty `/run` and a copy of `/etc` that the calling thread alone sees, and what it starts: pages write to both. A lab has
/// given it a view of mounts of its own.
struct View;

impl View {
    fn open(folder: &Path) -> Self {
        let own = folder.join("etc");
        let copied = Command::new("cp").args(["--archive", ETC]).arg(&own).status();
        assert!(copied.unwrap().success());
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", RUN]);
        let view = Self;
        mount(&["--bind", own.to_str().unwrap(), ETC]);
        for folder in ["netns", "podman"] {
            fs::create_dir(Path::new(RUN).join(folder)).unwrap();
        }
        view
    }
}

impl Drop for View {
    fn drop(&mut self) {
        for folder in [ETC, RUN] {
            let _ = Command::new("umount").args(["--lazy", folder]).status();
        }
    }
}

fn mount(words: &[&str]) {
    let mounted = Command::new("mount").args(words).status();
    assert!(mounted.unwrap().success(), "mount {}", words.join(" "));
}
