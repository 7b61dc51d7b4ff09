//! The package as a user meets it: installed, run, upgraded, removed and purged in a Debian that has nothing else.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::layout::{Parts, emptied};
use super::{booted, package};
use crate::command::{as_root, run_shown};
use crate::debian::{RELEASE, Root, said};

pub fn run(parts: &Parts, deb: &Path, folder: &Path) -> Result<()> {
    let root = Root::fresh("package")?;
    emptied(&folder.join("newer"))?;
    let newer = package::deb(parts, &folder.join("newer"), &format!("{}+1", parts.version))?;
    install(&root, deb)?;
    root.expect(&["injector", "--version"], 0, &format!("injector {} (", parts.version))?;
    root.expect(&["injector", "check", "--config", "/etc/injector/config.yaml"], 0, "good: 2 peers")?;
    root.expect(&["getent", "group", "injector"], 0, "injector:")?;
    root.expect(&["cat", "/usr/share/doc/injector/copyright"], 0, "Apache-2.0")?;
    root.expect(
        &["sh", "-c", "zcat /usr/share/man/man1/injector.1.gz /usr/share/man/man1/injector-init.1.gz"],
        0,
        "lab.yaml",
    )?;
    root.expect(
        &["sh", "-c", "ls /usr/share/bash-completion/completions /usr/lib/systemd/system"],
        0,
        "injector",
    )?;
    root.expect(&["injector", "check", "--schema"], 0, "\"$schema\"")?;
    daemon(&root)?;
    booted::run(&root)?;

    // The user's changes of the config survive the upgrade and the removal, and not the purge.
    root.expect(&["sh", "-c", "echo '# mine' >> /etc/injector/config.yaml"], 0, "")?;
    install(&root, &newer)?;
    root.expect(&["dpkg-query", "--show", "injector"], 0, "+1")?;
    root.expect(&["tail", "-n1", "/etc/injector/config.yaml"], 0, "# mine")?;
    root.expect(&["dpkg", "--remove", "injector"], 0, "")?;
    root.expect(&["tail", "-n1", "/etc/injector/config.yaml"], 0, "# mine")?;
    root.expect(&["sh", "-c", "! command -v injector"], 0, "")?;
    root.expect(&["dpkg", "--purge", "injector"], 0, "")?;
    let left = root.said(&["find", "/usr", "/etc", "/var", "-name", "*injector*"])?.1;
    ensure!(left.trim().is_empty(), "the purge left:\n{left}");
    println!("Package: installed, run, upgraded, removed and purged in {RELEASE}; nothing is left.");
    Ok(())
}

/// A daemon that starts, cuts, and is stopped, with the shell of the root.
const DAEMON: &str = "
set -e
cat > /tmp/lab.yaml <<END
peers: { a: { mac: '02:00:00:00:00:01' }, b: { mac: '02:00:00:00:00:02' } }
interfaces: [{ name: a0, peer: a }, { name: b0, peer: b }]
END
injector start --config /tmp/lab.yaml --socket /tmp/run/api.sock --detach --log /tmp/log
injector --socket /tmp/run/api.sock partition isolate a --name p --for 5s
injector --socket /tmp/run/api.sock stop
rm -rf /tmp/lab.yaml /tmp/log /tmp/run
";

/// A network namespace that is gone with it.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self> {
        let made = Self(format!("inj{}-dist", std::process::id()));
        run_shown(as_root("ip")?.args(["netns", "add", &made.0]))?;
        for (port, inside) in [("a0", "a1"), ("b0", "b1")] {
            let of = ["-n", &made.0, "link"];
            let cable = ["add", port, "type", "veth", "peer", "name", inside];
            run_shown(as_root("ip")?.args(of).args(cable))?;
            run_shown(as_root("ip")?.args(of).args(["set", port, "up"]))?;
        }
        Ok(made)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let gone = as_root("ip").and_then(|mut ip| run_shown(ip.args(["netns", "delete", &self.0])));
        if let Err(error) = gone {
            println!("  the network namespace {} stays: {error:#}", self.0);
        }
    }
}

/// Installs a package in the root.
fn install(root: &Root, deb: &Path) -> Result<()> {
    let name = deb.file_name().context("a package has a name")?;
    run_shown(as_root("cp")?.arg(deb).arg(root.path().join("tmp").join(name)))?;
    let inside = Path::new("/tmp").join(name);
    root.expect(&["dpkg", "--install", &inside.to_string_lossy()], 0, "")?;
    run_shown(as_root("rm")?.arg(root.path().join("tmp").join(name)))
}

/// The daemon of the package, in a network namespace of its own. What is mounted for it is gone with its shell.
fn daemon(root: &Root) -> Result<()> {
    let namespace = Namespace::new()?;
    let mount = "mount -t proc proc \"$0/proc\" && mount -t sysfs sysfs \"$0/sys\" \
                 && exec chroot \"$0\" sh -c \"$1\"";
    println!("  in the root: injector start, partition, stop");
    let mut inside = as_root("ip")?;
    inside.args(["netns", "exec", &namespace.0, "sh", "-c", mount]).arg(root.path()).arg(DAEMON);
    let (ended, text) = said(inside.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))?;
    ensure!(
        ended == Some(0) && text.contains("stopped: pid"),
        "the daemon of the package ended with {ended:?}:\n{text}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use injector_lab::needs;

    use crate::command::{find_program, is_root};
    use crate::dist::{Options, dist};

    /// Builds the package as users get it, which takes all processors for minutes.
    #[test]
    #[needs(alone, program = "debootstrap", minutes = 15)]
    fn the_package_is_installed_run_upgraded_and_purged_in_a_clean_debian() {
        if !is_root() && find_program("sudo").is_none() {
            let test = "the_package_is_installed_run_upgraded_and_purged_in_a_clean_debian";
            injector_lab::skip(test, "needs root or sudo");
            return;
        }
        dist(&Options { try_package: true, no_build: false }).unwrap();
    }
}
