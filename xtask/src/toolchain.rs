//! The toolchain that builds the eBPF programs. Shared with `injector/build.rs`, so: the standard library
//! alone.

use std::env;
use std::path::{Path, PathBuf};

/// Names a toolchain to use instead of the ones below.
pub const OVERRIDE: &str = "INJECTOR_EBPF_TOOLCHAIN";

/// The pinned nightly. Its LLVM (22.1) must not be newer than the one that `bpf-linker` is built with.
pub const NIGHTLY: &str = "nightly-2026-05-20";

/// The distribution's own compiler, linked into rustup: the way where rustup can't fetch components.
pub const LINKED: &str = "debian";

/// The version of `bpf-linker` that set-up installs.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// The tools that build for `bpfel-unknown-none`.
pub struct EbpfToolchain {
    /// The toolchain's name, for `rustup run`.
    pub name: String,
    /// The folder of `bpf-linker`.
    pub linker_dir: PathBuf,
}

/// Finds an eBPF toolchain, or says in words what is missing. Nothing is downloaded or run.
pub fn find() -> Result<EbpfToolchain, String> {
    let name = match env::var(OVERRIDE) {
        Ok(name) if !name.is_empty() => name,
        _ => find_compiler().ok_or_else(|| {
            format!(
                "there is no Rust toolchain with the source of `core` (looked for `{NIGHTLY}` with rust-src, \
                 and for `{LINKED}`, in {})",
                rustup_home().join("toolchains").display()
            )
        })?,
    };
    let linker_dir = find_linker().ok_or_else(|| {
        format!("there is no `bpf-linker` (looked on PATH and in {})", installed_linker_dir().display())
    })?;
    Ok(EbpfToolchain { name, linker_dir })
}

/// The name of the first toolchain that carries the source of `core`.
pub fn find_compiler() -> Option<String> {
    [NIGHTLY, LINKED]
        .into_iter()
        .find(|name| toolchain_root(name).is_some_and(|root| has_core_source(&root)))
        .map(str::to_owned)
}

/// The folder that holds `bpf-linker`: one of PATH's, or where set-up installs it.
pub fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = installed_linker_dir();
    env::split_paths(&path).chain([installed.join("bin")]).find(|dir| dir.join("bpf-linker").is_file())
}

/// Where set-up installs `bpf-linker` (`cargo install --root`).
pub fn installed_linker_dir() -> PathBuf {
    cache_dir().join(format!("bpf-linker-{BPF_LINKER_VERSION}"))
}

/// Where its project publishes `bpf-linker` for this machine: one program, linked with its LLVM.
pub fn linker_release() -> String {
    format!(
        "https://github.com/aya-rs/bpf-linker/releases/download/v{BPF_LINKER_VERSION}/bpf-linker-{}-unknown-linux-musl.tar.zst",
        env::consts::ARCH
    )
}

/// This project's folder in the user's cache.
pub fn cache_dir() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| home().join(".cache"), PathBuf::from);
    cache.join("partition-injector")
}

fn has_core_source(root: &Path) -> bool {
    root.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

/// The folder of a toolchain that is installed: rustup appends the host's triple unless it was linked.
pub fn toolchain_root(name: &str) -> Option<PathBuf> {
    let toolchains = rustup_home().join("toolchains");
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    [name.to_owned(), format!("{name}-{triple}")]
        .into_iter()
        .map(|folder| toolchains.join(folder))
        .find(|folder| folder.is_dir())
}

fn rustup_home() -> PathBuf {
    env::var_os("RUSTUP_HOME")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| home().join(".rustup"), PathBuf::from)
}

fn home() -> PathBuf {
    PathBuf::from(env::var_os("HOME").unwrap_or_default())
}
