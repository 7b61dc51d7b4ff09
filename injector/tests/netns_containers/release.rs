//! The unpacked tarball of a release, made of the binary under test, and what that binary is linked with.

use std::fs;
use std::path::Path;
use std::process::Command;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_injector");
const CONTAINERFILE: &str = include_str!("../../../packaging/Containerfile");

/// Like the tarball of `cargo xtask dist`, as far as the image takes files from it.
pub fn unpack(tree: &Path) {
    let documents = tree.join("share/doc/injector");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::create_dir_all(&documents).unwrap();
    let program = tree.join("bin/injector");
    // Never through a link to the binary under test.
    let _ = fs::remove_file(&program);
    // Each layer and each container is a copy of all of it.
    let stripped = Command::new("strip").args([PROGRAM, "-o"]).arg(&program).status();
    assert!(stripped.unwrap().success());
    fs::write(documents.join("Containerfile"), CONTAINERFILE).unwrap();
}

/// Copies what a program is linked with into a tree; a release is linked with nothing.
pub fn copy_libraries(program: &Path, tree: &Path) {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries =
        listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    for library in libraries {
        let copy = tree.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
}
