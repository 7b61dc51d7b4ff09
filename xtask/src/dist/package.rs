//! The Debian package and the tarball.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::layout::{Parts, emptied, lay_out, put};
use crate::command::{output, run, workspace};

/// Builds `injector_VERSION_ARCH.deb`.
pub fn deb(parts: &Parts, folder: &Path, version: &str) -> Result<PathBuf> {
    let tree = folder.join("deb");
    emptied(&tree)?;
    lay_out(parts, &tree, "usr")?;
    let packaging = workspace().join("packaging");
    put(&packaging.join("injector.service"), &tree, "usr/lib/systemd/system/injector.service", 0o644)?;
    put(&packaging.join("injector.sysusers"), &tree, "usr/lib/sysusers.d/injector.conf", 0o644)?;
    put(&packaging.join("config.yaml"), &tree, "etc/injector/config.yaml", 0o644)?;
    put(&packaging.join("debian/copyright"), &tree, "usr/share/doc/injector/copyright", 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        put(&packaging.join("debian").join(script), &tree, &format!("DEBIAN/{script}"), 0o755)?;
    }
    let write = |name: &str, text: &str| {
        let path = tree.join("DEBIAN").join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("conffiles", "/etc/injector/config.yaml\n")?;
    write("control", &control(parts, version, &tree)?)?;
    fs::set_permissions(tree.join("DEBIAN"), fs::Permissions::from_mode(0o755))
        .context("the mode of DEBIAN")?;
    let file = folder.join(format!("injector_{version}_{}.deb", parts.architecture));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&file))?;
    Ok(file)
}

fn control(parts: &Parts, version: &str, tree: &Path) -> Result<String> {
    let size =
        output(Command::new("du").args(["--summarize", "--apparent-size", "--block-size=1024"]).arg(tree))?;
    let kib = size.split_whitespace().next().context("du says no size")?.to_owned();
    Ok(format!(
        "Package: injector\nVersion: {version}\nArchitecture: {}\nInstalled-Size: {kib}\nSection: net\nPriority: optional\n\
         Maintainer: The partition injector's authors <injector@localhost>\n\
         Depends: passwd | systemd | systemd-standalone-sysusers\n\
         Description: cuts cluster networks and measures how long they take to recover\n \
         A daemon attaches eBPF programs to the interfaces of a cluster's nodes, drops the packets\n \
         between the peers that one names, and measures from the heal on how long the cluster takes\n \
         to serve again. Needs Linux 6.1 or later.\n",
        parts.architecture
    ))
}

/// Packs `injector-VERSION-ARCH-linux.tar.gz`, a folder to be copied to `/usr/local`.
pub fn tarball(parts: &Parts, folder: &Path) -> Result<PathBuf> {
    let name = format!("injector-{}-{}-linux", parts.version, std::env::consts::ARCH);
    let staged = folder.join("tar");
    emptied(&staged)?;
    lay_out(parts, &staged, &name)?;
    for file in ["injector.service", "injector.sysusers", "Containerfile"] {
        put(
            &workspace().join("packaging").join(file),
            &staged,
            &format!("{name}/share/doc/injector/{file}"),
            0o644,
        )?;
    }
    let file = folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--file"]);
    run(tar.arg(&file).arg("--directory").arg(&staged).arg(&name))?;
    Ok(file)
}
