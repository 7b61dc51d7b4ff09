//! What docs/recipes/image.md begins with: the unpacked tarball of a release, and containers to cut apart.

use std::fs;
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_injector");
const CONTAINERFILE: &str = include_str!("../../../packaging/Containerfile");

/// The containers that the page's machine runs.
pub const CONTAINERS: [&str; 3] = ["n1", "n2", "n3"];
/// The image that the one of the page is based on: a release is static and needs none, the binary under test does.
pub const BASE: &str = "localhost/libraries";
/// Puts the test's own options behind `podman build`; what the page says is left as it is.
pub const WITH_BASE: &str = "\
if [ \"$1\" = build ]; then
    shift
    set -- build --pull-never --layers=false --build-arg BASE=localhost/libraries \"$@\"
fi";

/// Like the tarball of `cargo xtask dist`, as far as the image takes files from it.
pub fn unpack(folder: &Path) {
    let documents = folder.join("share/doc/injector");
    fs::create_dir_all(&documents).unwrap();
    fs::write(documents.join("Containerfile"), CONTAINERFILE).unwrap();
    let program = folder.join("bin/injector");
    let _ = fs::remove_file(&program);
    let stripped = Command::new("strip").args([PROGRAM, "-o"]).arg(&program).status();
    assert!(stripped.unwrap().success());
}
