//! Builds the eBPF programs and leaves the object in `$OUT_DIR/injector`, or fails with the remedy.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use aya_build::{Package, Toolchain};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> ExitCode {
    for variable in [toolchain::OVERRIDE, "RUSTUP_HOME", "XDG_CACHE_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../xtask/src/toolchain.rs");
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nthe eBPF programs can't be built: {message}\n");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    // aya-build can be told to skip, and would leave nothing to embed.
    if env::var_os("AYA_BUILD_SKIP").is_some() {
        return Err("AYA_BUILD_SKIP is set; unset it: there is no injector without them".into());
    }
    let found = toolchain::find()
        .map_err(|missing| format!("{missing}.\nThis installs what is missing: cargo xtask setup"))?;

    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([found.linker_dir].into_iter().chain(env::split_paths(&path)))
        .map_err(|error| format!("PATH can't be extended: {error}"))?;
    // SAFETY: a build script is a process of its own, and this one has no second thread yet.
    unsafe {
        env::set_var("PATH", path);
        // A released compiler builds `core` for a tier-3 target only when told to behave like a nightly.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // aya-build makes a warning of each line that cargo says, and cargo shows them again at every build.
        env::set_var("CARGO_TERM_QUIET", "true");
    }

    let root_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../injector-ebpf");
    let root_dir = root_dir.to_str().ok_or("the path of this folder is not valid UTF-8")?;
    let package = Package { name: "injector-ebpf", root_dir, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom(&found.name))
        .map_err(|error| format!("{error:#} (toolchain `{}`)", found.name))?;

    let object = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("injector");
    match object.metadata() {
        Ok(object) if object.len() > 0 => Ok(()),
        _ => Err(format!("{} is missing or empty after the build", object.display())),
    }
}
