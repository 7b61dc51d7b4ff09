//! The commands of a page of the handbook, run in the lab of a short campaign: blocks that are marked `sh lab SYSTEM`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fmt, fs};

use anyhow::{Context as _, Result, bail, ensure};
use injector_lab::{Lab, SWITCH, late_during};

use crate::build::Programs;
use crate::command::check_interrupt;
use crate::lab::Cluster;
use crate::page::{Block, blocks};

/// The pages, by the system whose lab they are run in.
const PAGES: [(&str, &str); 1] = [("vms", "docs/recipes/vms.md")];
/// The beginning of the addresses in pages.
const NETWORK: &str = "10.0.0.";
/// The host number that the bridge has in the guests' network: a host probes its guests from there.
const HOST: u8 = 253;
/// The longest that a block may take, in seconds.
const LIMIT: &str = "240";

/// A system with its page, if it has one.
pub fn of(system: &str) -> Option<(&'static str, &'static str)> {
    PAGES.into_iter().find(|(of, _)| *of == system)
}

/// Runs the blocks of a system's page on its guests. The lab's own daemon has ended.
///
/// # Errors
/// A command of the page fails.
pub fn run(system: &str, page: &str, cluster: &Cluster, programs: &Programs) -> Result<()> {
    let host = Host::of(&cluster.lab, programs)?;
    for attempt in 1.. {
        let (ended, late) = late_during(|| host.blocks(system, page));
        match ended {
            Err(error) if attempt < ATTEMPTS && late >= LATE && error.is::<NotGood>() => {
                println!(
                    "\nAGAIN {page}, attempt {attempt}, while this machine was {late:.1?} late: {error:#}"
                );
                host.begin_again()?;
            }
            ended => return ended,
        }
    }
    unreachable!("the last attempt returns")
}

/// How often a page is gone through where the host is held up: an endpoint may then be late for `doctor`, or a recovery late or
/// undecided.
const ATTEMPTS: usize = 3;
/// How late this machine is where it is held up.
const LATE: Duration = Duration::from_secs(1);

/// A block exited with 1 or 2: the injector's answer is not good, or not known.
#[derive(Debug)]
struct NotGood(String);

impl fmt::Display for NotGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotGood {}

/// The guests' host, as its user sees it.
struct Host<'a> {
    lab: &'a Lab,
    programs: &'a Programs,
    folder: PathBuf,
}

impl<'a> Host<'a> {
    /// Gives the taps the names that pages use, and the bridge an address.
    fn of(lab: &'a Lab, programs: &'a Programs) -> Result<Self> {
        let host = Self { lab, programs, folder: lab.folder().join("page") };
        fs::create_dir(&host.folder).with_context(|| format!("creating {}", host.folder.display()))?;
        // This is root already.
        host.write("sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755)?;
        for (number, peer) in (1..).zip(lab.peer_names()) {
            lab.ip(SWITCH, &format!("link set {} name tap{number}", lab.guest(&peer).tap));
        }
        lab.give(SWITCH, "br0", HOST);
        Ok(host)
    }

    fn write(&self, file: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.folder.join(file);
        let written = fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        written.with_context(|| format!("writing {}", path.display()))
    }

    /// A config whose guests have the lab's addresses.
    fn with_own_addresses(&self, text: &str) -> String {
        let first = self.lab.ipv4(1).to_string();
        text.replace(NETWORK, first.strip_suffix('1').unwrap_or(&first))
    }

    /// Goes through the page once.
    fn blocks(&self, system: &str, page: &str) -> Result<()> {
        let (mut count, mark) = (0, format!("sh lab {system}"));
        for Block { info, text } in blocks(page)? {
            if let Some(file) = info.strip_prefix("yaml config ") {
                self.write(file, &self.with_own_addresses(&text), 0o644)?;
            } else if info == mark {
                count += 1;
                println!("\n{page}:\n{text}");
                self.sh(&text).with_context(|| format!("a block of {page}"))?;
            }
        }
        ensure!(count > 0, "{page} has no block that is marked `{mark}`");
        Ok(())
    }

    /// Takes away what an attempt has left: the daemon that the page has started, and its files.
    fn begin_again(&self) -> Result<()> {
        if self.socket().exists() {
            self.sh("injector stop")?;
        }
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != "sudo" {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("injector.sock")
    }

    /// Runs a script up to its first failure. Namespaces of others have no name there: it is a machine of its own.
    fn sh(&self, script: &str) -> Result<()> {
        let own = [self.folder.as_path(), &self.programs.folder];
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let folders = own.into_iter().map(Path::to_path_buf).chain(std::env::split_paths(&usual));
        let mut command = Command::new("timeout");
        command.args([
            "--kill-after=5",
            LIMIT,
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
        ]);
        command.arg(format!("mount -t tmpfs tmpfs /run/netns\n{script}"));
        command.env("PATH", std::env::join_paths(folders).context("the folders of programs")?);
        command.env("INJECTOR_SOCKET", self.socket()).env_remove("INJECTOR_HOST");
        command.current_dir(&self.folder).stdin(Stdio::null());
        let output = self.lab.within(SWITCH, || command.output()).context("starting a shell")?;
        check_interrupt()?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let shown = || format!("{}:\n{script}\n{}", output.status, said.concat().trim());
        match output.status.code() {
            Some(0) => {}
            Some(1 | 2) => return Err(NotGood(shown()).into()),
            _ => bail!(shown()),
        }
        println!("{}", said.concat().trim());
        Ok(())
    }
}

impl Drop for Host<'_> {
    /// Ends the daemon that a page has started and, where a block failed, has not stopped.
    fn drop(&mut self) {
        if self.socket().exists()
            && let Err(error) = self.sh("injector stop")
        {
            eprintln!("the daemon continues: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::marked;

    #[test]
    fn each_page_has_a_block_for_its_lab() {
        for (system, page) in PAGES {
            let found = marked(page, &format!("sh lab {system}")).unwrap();
            assert!(found.iter().any(|text| text.contains("injector ")), "{page}");
        }
    }
}
