//! `cargo xtask setup`: installs what is missing and says so. Run twice, it does nothing the second time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::command::{check_interrupt, output, run_for_at_most, run_shown, workspace};
use crate::toolchain::{self, BPF_LINKER_VERSION, LINKED, NIGHTLY};
use crate::unpack::unpack;
use crate::vm::qemu;
use packages::Packages;

mod guest;
pub mod packages;
mod python;
pub mod restate;
pub mod tree;

/// A need of a chore.
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
    /// Tests of the clients for other languages.
    Clients,
    /// Tests of the Python client: pytest, in a virtual environment.
    Python,
    /// Tests on another kernel: an emulated machine.
    Vm,
    /// Guests that are reached by ssh: a server, unpacked and not installed.
    Ssh,
    /// Packages: a C library that links statically.
    Dist,
    /// Trying a package out: a Debian of its own.
    Debian,
}

/// LLVM's major version, which the compilers' and `bpf-linker`'s must agree on.
const LLVM: &str = "22";

/// Installs what is missing for these needs.
pub fn setup(needs: &[Need]) -> Result<()> {
    let mut missing = false;
    for need in needs {
        missing |= match need {
            Need::Build => build()?,
            Need::Network => network()?,
            Need::Services => {
                of_tests(&["etcd", "iptables-nft", "keepalived", "nft"])?
                    .install("tests against real services")?
                    | unpacked("prometheus", &["prometheus"])?
            }
            Need::Lint => lint(),
            Need::Fuzz => Packages::default().program("c++", "g++").install("fuzzing")?,
            Need::Browser => of_tests(&["chromium"])?.install("tests of the report")?,
            Need::Clients => clients()?,
            Need::Python => python::python(),
            Need::Vm => vm()?,
            Need::Ssh => ssh()?,
            Need::Dist => dist()?,
            Need::Debian => Packages::default()
                .program("debootstrap", "debootstrap")
                // Without this keyring debootstrap verifies nothing, as on Ubuntu.
                .missing_file("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring")
                .program("ip", "iproute2")
                .install("trying packages out")?,
        };
    }
    if !missing {
        println!("Set-up: nothing is missing.");
    }
    Ok(())
}

/// The Debian packages of the programs that tests declare to need.
const OF_TESTS: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("debootstrap", "debootstrap"),
    ("etcd", "etcd-server"),
    ("go", "golang-go"),
    ("iptables-legacy", "iptables"),
    ("iptables-nft", "iptables"),
    ("keepalived", "keepalived"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("perl", "perl-base"),
    // Podman with the programs that run its containers and make their networks.
    ("podman", "podman netavark runc iptables"),
    // This program is Redis itself. The package `redis-server` has a second name of it, and starts a server
    // on this machine.
    ("redis-check-rdb", "redis-tools"),
    ("runc", "runc"),
    ("script", "bsdutils"),
    ("setpriv", "util-linux"),
    ("strace", "strace"),
    ("strip", "binutils"),
    ("systemd-analyze", "systemd"),
];

/// Asks for the packages of these programs.
fn of_tests(programs: &[&str]) -> Result<Packages> {
    programs.iter().try_fold(Packages::default(), |packages, program| {
        let known = OF_TESTS.iter().find(|(name, _)| name == program);
        let (_, package) = known.with_context(|| {
            format!("a test needs `{program}`: name its Debian package in OF_TESTS of xtask/src/setup.rs")
        })?;
        let names = package.split(' ');
        Ok(names.fold(packages, |packages, package| packages.program(program, package)))
    })
}

/// Installs programs that tests declare to need. One that is not available here is named; its tests skip themselves.
pub fn programs(wanted: &BTreeSet<&str>) -> Result<()> {
    for program in wanted {
        let installed = match *program {
            // Java takes more than a package: see `clients`.
            "java" => clients(),
            "python3" => Ok(python::python()),
            "sshd" => ssh(),
            injector_lab::BOOT_GUEST => vm().and_then(|missing| guest::guest().map(|()| missing)),
            // Installed, these would be servers on this machine.
            "prometheus" => unpacked("prometheus", &["prometheus"]),
            "dockerd" => unpacked("dockerd", &["docker.io", "containerd", "libdevmapper1.02.1"]),
            program => of_tests(&[program])?.install("tests"),
        };
        if let Err(error) = installed {
            check_interrupt()?;
            println!("  {program} is not available here ({error:#}): the tests that need it are skipped");
        }
    }
    Ok(())
}

/// Unpacks packages with a program that tests run, and installs nothing.
fn unpacked(program: &str, packages: &[&str]) -> Result<bool> {
    if injector_lab::program(program).is_some() {
        return Ok(false);
    }
    let folder = workspace().join(injector_lab::UNPACKED).join(program);
    println!("Set-up: {}, to unpack into {} (nothing is installed)", packages.join(" "), folder.display());
    unpack(packages, &folder, |_| Ok(()))?;
    Ok(true)
}

fn network() -> Result<bool> {
    Packages::default().program("ip", "iproute2").program("tc", "iproute2").install("network labs")
}

/// Clojure with what the library for Jepsen needs, and an ssh server for nodes of its tests.
fn clients() -> Result<bool> {
    let missing = Packages::default()
        .program("java", "default-jre-headless")
        .missing_file("/usr/share/java/clojure.jar", "clojure")
        .missing_file("/usr/share/java/data.json.jar", "libdata-json-clojure")
        .missing_file("/usr/share/java/tools.logging.jar", "libtools-logging-clojure")
        .program("sudo", "sudo")
        .install("tests of the clients")?;
    // The test that needs it says that it is skipped, and why.
    let ssh = ssh().unwrap_or_else(|error| {
        println!("  not available here ({error:#})");
        true
    });
    Ok(missing | ssh)
}

/// A client and a server of ssh. The server's package is only unpacked: installing it would start a server on this machine.
fn ssh() -> Result<bool> {
    let missing = Packages::default()
        .program("ssh", "openssh-client")
        .missing_file(format!("/usr/lib/{}-linux-gnu/libwrap.so.0", std::env::consts::ARCH), "libwrap0")
        .install("ssh to nodes")?;
    Ok(missing | unpacked("sshd", &["openssh-server"])?)
}

/// The target that links statically, a C compiler for it, and what packs.
fn dist() -> Result<bool> {
    let missing = Packages::default()
        .program("musl-gcc", "musl-tools")
        .program("dpkg-deb", "dpkg")
        .program("readelf", "binutils")
        .install("packages")?;
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    if output(Command::new("rustup").args(["target", "list", "--installed"]))?
        .lines()
        .any(|line| line == triple)
    {
        return Ok(missing);
    }
    println!("Set-up: the Rust target {triple}");
    run_shown(Command::new("rustup").args(["target", "add", &triple]))?;
    Ok(true)
}

/// Installs QEMU, and the tools that make a file system for a kernel.
fn vm() -> Result<bool> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the virtual machine boots x86_64 kernels with programs of this machine, which is {}",
        std::env::consts::ARCH
    );
    let missing = Packages::default()
        .program("busybox", "busybox-static")
        .program("depmod", "kmod")
        .program("strip", "binutils")
        .program("xz", "xz-utils")
        .install("virtual machines")?;
    Ok(missing | qemu::install()?)
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
    // A firewall that swallows packets would have rustup try for many minutes. A slow line takes some for 150
    // MB.
    rustup.arg("--no-self-update").env("RUSTUP_MAX_RETRIES", "1").env("RUST_BACKTRACE", "0");
    run_for_at_most(Duration::from_mins(5), &mut rustup)
}

fn debian_compiler() -> Result<()> {
    Packages::default()
        .missing_file("/usr/bin/rustc", "rustc-web")
        .missing_file("/usr/bin/cargo", "cargo-web")
        .missing_file("/usr/lib/rustlib/src/rust/library/core/Cargo.toml", "rust-web-src")
        .install("the eBPF programs' compiler")?;
    run_shown(Command::new("rustup").args(["toolchain", "link", LINKED, "/usr"]))
}

/// Installs bpf-linker from its source where the distribution has the right LLVM, else the project's own
/// static release.
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
        // The linker would be built with all of its debug information; a short build is worth more here than
        // a fast linker.
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "false").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        // Without the prefix the linker would be linked against no LLVM at all.
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
    let mut curl = Command::new("curl");
    curl.args(["-fsSL", "--connect-timeout", "10", "--max-time", "120", "-o"])
        .arg(&archive)
        .arg(toolchain::linker_release());
    run_shown(&mut curl)?;
    run_shown(Command::new("tar").arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(&folder))?;
    // A release that does not run here must not pass for one that does.
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
