//! A machine with Podman, as its reader has one: the engine's API on its usual socket, and the image that a page starts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::podman::Podman;

/// The image of docs/containers.md: made of this machine's own etcd, since a test asks no registry.
const IMAGE: &str = "quay.io/coreos/etcd:v3.5.21";
/// Where engines have their sockets, and namespaces their names.
const RUN: &str = "/run";

/// The machine. Its containers end with it.
pub struct Machine {
    pub podman: Podman,
    _view: View,
}

impl Machine {
    /// Starts one; `None` if it can't run a container here, which is logged as a skip of the test.
    pub fn up(test: &str) -> Option<Self> {
        let mut podman = Podman::up(test)?;
        let tree = podman.lab.folder().join("etcd");
        pack("etcd", &tree);
        podman.import(IMAGE, &tree);
        // Its name would be hidden when it is to be taken away.
        podman.lab.hide(crate::podman::HOST);
        let view = View::open();
        symlink(podman.socket(), format!("{RUN}/podman/podman.sock")).unwrap();
        Some(Self { podman, _view: view })
    }

    /// A script that runs this Podman.
    pub fn program(&self) -> String {
        let limits = self.podman.lab.folder().join("containers.conf");
        // What Podman would raise takes a right that some machines do not give.
        fs::write(&limits, "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=2000:2000\"]\n")
            .unwrap();
        let command = self.podman.command();
        let program = injector_lab::program("podman").unwrap();
        let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let (limits, program) = (limits.display(), program.display());
        format!("CONTAINERS_CONF={limits} exec {program} {} \"$@\"", words.join(" "))
    }
}

/// Copies a program and what it is linked with into a tree.
fn pack(name: &str, tree: &Path) {
    let program = injector_lab::program(name).unwrap();
    let listed = Command::new("ldd").arg(&program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries =
        listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let programs = tree.join("usr/bin");
    fs::create_dir_all(&programs).unwrap();
    fs::copy(&program, programs.join(name)).unwrap();
    for library in libraries {
        let copy = tree.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
}

/// An empty `/run` that the calling thread alone sees, and what it starts. A lab has given it a view of mounts of its own.
struct View;

impl View {
    fn open() -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs", RUN]).status();
        assert!(mounted.unwrap().success());
        for folder in ["netns", "podman"] {
            fs::create_dir(Path::new(RUN).join(folder)).unwrap();
        }
        Self
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", RUN]).status();
    }
}
