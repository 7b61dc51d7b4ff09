//! `cargo xtask bare`: what README.md has a newcomer install, in a Debian root that has what it asks for and nothing else.
//! A run on a machine that has been worked on hides a missing step.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{as_root, check_interrupt, run_shown, workspace};
use crate::debian::{RELEASE, Root};
use crate::page::marked;

/// The pages, whose blocks marked [`MARK`] are run in order.
const PAGES: [&str; 2] = ["README.md", "docs/recipes/image.md"];
/// The beginning of a block that is run in the root.
const MARK: &str = "sh bare";
/// The packages that the README asks for, beside rustup, and those that a checkout and `sudo` take.
const PACKAGES: [&str; 4] = ["build-essential", "ca-certificates", "git", "sudo"];
/// Where the checkout is, inside.
const CHECKOUT: &str = "root/injector";
/// The package sources of an installed Debian; debootstrap writes the first of them only.
const SOURCES: &str = "\
deb http://deb.debian.org/debian RELEASE main
deb http://deb.debian.org/debian RELEASE-updates main
deb http://deb.debian.org/debian-security RELEASE-security main
";
/// The programs that rustup installs as proxies.
const PROXIES: [&str; 5] = ["cargo", "rustc", "rustdoc", "rustfmt", "cargo-clippy"];
/// Variables that say how this machine reaches the network: how their names begin or end.
const BEGINNINGS: [&str; 5] = ["CARGO_HTTP_", "CARGO_NET_", "RUSTUP_", "SSL_CERT_", "PIP_"];
const ENDINGS: [&str; 4] = ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY"];

/// Runs a command of the root in a view of mounts of its own, so that nothing of it has to be unmounted: the root `$1`, the
/// toolchains `$2`, the command `$3`.
const ENTER: &str = r#"
set -e
mount --bind "$1" "$1"
for folder in proc sys dev; do mount --rbind "/$folder" "$1/$folder"; done
mount -t tmpfs tmpfs "$1/run"
mkdir -p "$1/root/.rustup"
mount --bind "$2" "$1/root/.rustup"
exec chroot "$1" /bin/bash -e -c "cd /root; $3"
"#;

/// Runs all of them.
///
/// # Errors
/// A command fails, there is no rustup here, or a page has no such block.
pub fn bare() -> Result<()> {
    let machine = Machine::new()?;
    for page in PAGES {
        let blocks = marked(page, MARK)?;
        ensure!(!blocks.is_empty(), "{page} has no block that is marked `{MARK}`");
        for block in blocks {
            println!("\n{page}:\n{block}");
            machine.run(&format!("cd /{CHECKOUT}\n{block}")).with_context(|| format!("a block of {page}"))?;
        }
    }
    for program in ["/usr/bin/injector", "/root/.cargo/bin/injector"] {
        machine.run(&format!("{program} --version"))?;
    }
    println!("Bare: each of these commands works in a {RELEASE} with {} and rustup.", PACKAGES.join(", "));
    Ok(())
}

/// A machine that has been used for nothing yet.
struct Machine {
    root: Root,
    toolchains: PathBuf,
}

impl Machine {
    fn new() -> Result<Self> {
        let home = PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?);
        let toolchains = std::env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from);
        let programs = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
        let rustup = programs.join("bin/rustup");
        if !rustup.exists() || !toolchains.exists() {
            bail!("there is no rustup in {}: install it from https://rustup.rs", rustup.display());
        }
        let machine = Self { root: Root::fresh("bare")?, toolchains };
        let path = machine.root.path();
        machine.root.write("etc/apt/sources.list", &SOURCES.replace("RELEASE", RELEASE))?;
        machine.root.reach_the_network()?;
        let programs = path.join("root/.cargo/bin");
        run_shown(as_root("mkdir")?.arg("-p").arg(&programs))?;
        run_shown(as_root("cp")?.arg(&rustup).arg(&programs))?;
        for proxy in PROXIES {
            run_shown(as_root("ln")?.args(["-s", "rustup"]).arg(programs.join(proxy)))?;
        }
        let checkout = path.join(CHECKOUT);
        run_shown(as_root("git")?.args(["clone", "--quiet"]).arg(workspace()).arg(&checkout))?;
        machine.run(&format!(
            "apt-get update --quiet=2; apt-get install --quiet=2 --yes {} >/dev/null; update-ca-certificates",
            PACKAGES.join(" ")
        ))?;
        Ok(machine)
    }

    /// Runs commands as a shell of root does after login.
    fn run(&self, commands: &str) -> Result<()> {
        check_interrupt()?;
        let mut inside = as_root("env")?;
        inside.arg("--ignore-environment").args(variables());
        inside.args(["unshare", "--mount", "sh", "-c", ENTER, "sh"]);
        inside.arg(self.root.path()).arg(&self.toolchains).arg(commands);
        let ended = inside.status().context("starting `unshare`")?;
        check_interrupt()?;
        ensure!(ended.success(), "in the root, `{commands}` ended with {ended}");
        Ok(())
    }
}

/// The variables of such a shell's environment.
fn variables() -> Vec<String> {
    let kept = std::env::vars().filter(|(name, _)| {
        BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
            || ENDINGS.iter().any(|ending| name.ends_with(ending))
    });
    let own = [
        ("HOME", "/root"),
        ("TERM", "dumb"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("PATH", "/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // rustup's own folder is another inside.
    let all: BTreeMap<String, String> = kept.filter(|(name, _)| name != "RUSTUP_HOME").chain(own).collect();
    all.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use injector_lab::needs;

    use super::*;
    use crate::command::{find_program, is_root};

    #[test]
    fn each_page_has_blocks() {
        for page in PAGES {
            assert!(!marked(page, MARK).unwrap().is_empty(), "{page}");
        }
        assert!(marked("README.md", MARK).unwrap()[0].starts_with("cargo xtask demo"));
    }

    /// Builds everything from nothing, twice.
    #[test]
    #[needs(alone, program = "debootstrap", minutes = 40)]
    fn a_newcomer_gets_through_the_readme() {
        if !is_root() && find_program("sudo").is_none() {
            injector_lab::skip("a_newcomer_gets_through_the_readme", "needs root or sudo");
            return;
        }
        bare().unwrap();
    }
}
