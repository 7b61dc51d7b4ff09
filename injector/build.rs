//! Builds the eBPF programs and leaves the objects in `$OUT_DIR`, or fails with the remedy.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aya_build::{Package, Toolchain};
use object::build::elf::{Builder, SectionData};
use object::elf;

/// Set where one builds from a source without its history, such as a package's.
const COMMIT: &str = "INJECTOR_COMMIT";

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> ExitCode {
    for variable in [toolchain::OVERRIDE, "RUSTUP_HOME", "XDG_CACHE_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../xtask/src/toolchain.rs");
    println!("cargo:rerun-if-env-changed={COMMIT}");
    println!(
        "cargo:rustc-env=INJECTOR_VERSION={} ({}, abi {})",
        env!("CARGO_PKG_VERSION"),
        origin(),
        injector_common::ABI_VERSION
    );
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nthe eBPF programs can't be built: {message}\n");
            ExitCode::FAILURE
        }
    }
}

/// What installs what is missing: in a checkout, and where there is only this package.
fn remedy() -> String {
    format!(
        "In a checkout, this installs what is missing: cargo xtask setup\nAnywhere else, do this by hand:\n  \
         rustup toolchain install {} --profile minimal --component rust-src\n  \
         mkdir -p {bin} && curl -fsSL {} | tar --zstd -xf - -C {bin}",
        toolchain::NIGHTLY,
        toolchain::linker_release(),
        bin = toolchain::installed_linker_dir().join("bin").display(),
    )
}

/// The commit of a release build. A debug build has none: it would be rebuilt with each commit.
fn origin() -> String {
    if let Some(commit) = env::var(COMMIT).ok().filter(|commit| !commit.is_empty()) {
        return format!("commit {commit}");
    }
    if env::var("PROFILE").as_deref() != Ok("release") {
        return "debug build".to_owned();
    }
    // The log of HEAD grows with each commit and each checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) if git(&["status", "--porcelain", "--untracked-files=no"]).is_none() => {
            format!("commit {commit}")
        }
        Some(commit) => format!("commit {commit}, changed"),
        None => "commit unknown".to_owned(),
    }
}

/// What git says, if it says anything.
fn git(arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}

fn build() -> Result<(), String> {
    // aya-build can be configured to skip, and would leave nothing to embed.
    if env::var_os("AYA_BUILD_SKIP").is_some() {
        return Err("AYA_BUILD_SKIP is set; unset it: there is no injector without them".into());
    }
    let found = toolchain::find().map_err(|missing| format!("{missing}.\n{}", remedy()))?;

    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([found.linker_dir].into_iter().chain(env::split_paths(&path)))
        .map_err(|error| format!("PATH can't be extended: {error}"))?;
    // SAFETY: a build script is a process of its own, and this one has no second thread yet.
    unsafe {
        env::set_var("PATH", path);
        // A released compiler builds `core` for a tier-3 target only when it is set to behave like a nightly.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // aya-build makes a warning of each line that cargo says, and cargo shows them again at every build.
        env::set_var("CARGO_TERM_QUIET", "true");
    }

    let root_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../injector-ebpf");
    let root_dir = root_dir.to_str().ok_or("the path of this folder is not valid UTF-8")?;
    let package = Package { name: "injector-ebpf", root_dir, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(&found.name))
        .map_err(|error| format!("{error:#} (toolchain `{}`)", found.name))?;

    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    for object in ["injector", "injector-local"].map(|name| folder.join(name)) {
        match object.metadata() {
            Ok(object) if object.len() > 0 => {}
            _ => return Err(format!("{} is missing or empty after the build", object.display())),
        }
        strip(&object).map_err(|error| format!("stripping {}: {error}", object.display()))?;
    }
    Ok(())
}

/// Removes the DWARF sections, three quarters of an object: the linker makes BTF of them, which is what the kernel reads.
fn strip(path: &Path) -> Result<(), Box<dyn Error>> {
    let data = fs::read(path)?;
    let mut object = Builder::read(data.as_slice())?;
    for section in &mut object.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    object.delete_orphans();
    // LLVM keeps the names of sections and of symbols in one table; the builder wants two.
    let names = object.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped)?;
    Ok(fs::write(path, stripped)?)
}
