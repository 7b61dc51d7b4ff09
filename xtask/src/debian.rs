//! A Debian root that has nothing but what a chore puts there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::command::{as_root, output, run, run_shown, words, workspace};
use crate::setup::{self, Need};

/// A Debian older than this machine's may be.
pub const RELEASE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";

/// A root of its own, removed when dropped.
pub struct Root(PathBuf);

impl Root {
    /// A copy of a Debian that is made once, below `target/debian`.
    ///
    /// # Errors
    /// There is no debootstrap, or it fails.
    pub fn fresh(name: &str) -> Result<Self> {
        setup::setup(&[Need::Debian])?;
        let folder = workspace().join("target/debian");
        let (root, base) =
            (Self(folder.join(format!("{name}-{}", std::process::id()))), folder.join(RELEASE));
        if !base.exists() {
            std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
            // The root has another name until it is whole.
            let part = base.with_extension("part");
            run_shown(as_root("rm")?.arg("-rf").arg(&part))?;
            run_shown(as_root("debootstrap")?.arg("--variant=minbase").arg(RELEASE).arg(&part).arg(MIRROR))?;
            run_shown(as_root("mv")?.arg(&part).arg(&base))?;
        }
        run_shown(as_root("cp")?.args(["--archive", "--reflink=auto"]).arg(&base).arg(&root.0))?;
        Ok(root)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file of root's.
    ///
    /// # Errors
    /// Its folder is not there.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        run(as_root("sh")?.args(["-c", "printf %s \"$1\" > \"$0\""]).arg(self.0.join(path)).arg(text))
    }

    /// Gives it what this machine reaches the network by: its name servers, its proxies, the authorities that it trusts.
    ///
    /// # Errors
    /// There is no `apt-config`, or a file can't be copied.
    pub fn reach_the_network(&self) -> Result<()> {
        let settings = output(Command::new("apt-config").args(["dump", "Acquire"]))?;
        self.write("etc/apt/apt.conf.d/90network", &settings)?;
        for path in ["etc/resolv.conf", "etc/pip.conf", "usr/local/share/ca-certificates"] {
            let here = Path::new("/").join(path);
            if here.exists() {
                let there = self.0.join(path);
                run_shown(as_root("rm")?.arg("-rf").arg(&there))?;
                run_shown(as_root("cp")?.args(["--recursive", "--dereference"]).arg(&here).arg(&there))?;
            }
        }
        Ok(())
    }

    /// Runs a command inside the root. Returns its exit code and its output.
    ///
    /// # Errors
    /// The command does not start.
    pub fn said(&self, words: &[&str]) -> Result<(Option<i32>, String)> {
        let mut chroot: Command = as_root("chroot")?;
        chroot.arg(&self.0).args(words).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        said(&mut chroot)
    }

    /// Runs a command inside the root, which must end with an exit code and print a text.
    ///
    /// # Errors
    /// The command ends otherwise, or prints something else.
    pub fn expect(&self, words: &[&str], code: i32, says: &str) -> Result<()> {
        println!("  in the root: {}", words.join(" "));
        let (ended, text) = self.said(words)?;
        ensure!(
            ended == Some(code) && text.contains(says),
            "`{}` ended with {ended:?}, and was to say {says:?}:\n{text}",
            words.join(" ")
        );
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Mounts that a part of a chore made in the root are gone with that part's view of mounts.
        let gone =
            as_root("rm").and_then(|mut rm| run_shown(rm.args(["-rf", "--one-file-system"]).arg(&self.0)));
        if let Err(error) = gone {
            println!("  {} stays: {error:#}", self.0.display());
        }
    }
}

/// The exit code and the output of a command, where a failure is expected.
pub fn said(command: &mut Command) -> Result<(Option<i32>, String)> {
    let shown = words(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting `{shown}`"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text))
}
