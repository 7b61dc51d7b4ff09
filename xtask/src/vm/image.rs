//! The parts that the file systems of all guests share: busybox, some programs of this machine, and the
//! kernel's modules.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::initramfs::Initramfs;
use super::kernel::Kernel;
use crate::command::{find_program, output};

/// The beginning of a guest's first script. Where the script fails, the kernel panics, which ends the
/// machine.
pub const START: &str = "#!/bin/sh\nset -e\n\
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb\n\
    mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\n\
    chmod 1777 /tmp\n";

/// Adds what every guest has; answers the lines of its script that load the modules.
pub fn base<W: Write>(
    system: &mut Initramfs<W>,
    kernel: &Kernel,
    modules: &[(&str, &'static str)],
    programs: &[&str],
) -> Result<String> {
    let there =
        |name: &str| find_program(name).with_context(|| format!("set-up has run, but there is no {name}"));
    let busybox = there("busybox")?;
    system.program(&busybox, &busybox)?;
    for applet in output(Command::new(&busybox).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        system.link(&Path::new("/bin").join(applet), &busybox)?;
    }
    for name in programs {
        let program = there(name)?;
        system.program(&program, &program)?;
    }
    let mut lines = String::new();
    for module in kernel.modules(modules)? {
        system.file(&Path::new("/modules").join(&module.name), &module.bytes, 0o644)?;
        writeln!(lines, "insmod /modules/{} {}", module.name, module.parameters)?;
    }
    for folder in ["/proc", "/sys", "/dev", "/run", "/tmp", "/root"] {
        system.folder(Path::new(folder))?;
    }
    system.device(Path::new("/dev/console"), 5, 1)?;
    system.file(
        Path::new("/etc/passwd"),
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        0o644,
    )?;
    system.file(Path::new("/etc/group"), b"root:x:0:\nnogroup:x:65534:\n", 0o644)?;
    system.file(Path::new("/etc/hosts"), b"127.0.0.1 localhost\n::1 localhost\n", 0o644)?;
    Ok(lines)
}

/// Adds a built program without its symbols, which are most of it.
pub fn stripped<W: Write>(system: &mut Initramfs<W>, program: &Path, scratch: &Path) -> Result<()> {
    let stripped = scratch.join("stripped");
    output(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
    system.program(program, &stripped)
}

/// A word of a shell script.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        let said = output(Command::new("sh").args(["-c", &format!("printf %s {}", quoted("it's $x; a b"))]));
        assert_eq!(said.unwrap(), "it's $x; a b");
    }
}
