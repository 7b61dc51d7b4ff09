//! The guest that tests boot: a file system with a web server and pings, and the script that starts QEMU with it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command::workspace;
use crate::vm::image::{self, quoted};
use crate::vm::initramfs::Initramfs;
use crate::vm::kernel::{Kernel, Series};
use crate::vm::qemu::Qemu;

/// The kernel modules that the guest needs beside what is built in, each with its parameters.
const MODULES: [(&str, &str); 2] = [("virtio_pci", ""), ("virtio_net", "")];

/// The guest's script. It takes `address=ADDRESS/LENGTH` and `ping=ADDRESS,…` of the kernel's command line:
/// the kernel gives words that it does not know to the first process as variables. Each reply to a ping is a
/// line of the console.
const SERVICE: &str = "ip link set lo up\nip link set eth0 up\nip address add \"$address\" dev eth0\n\
    mkdir -p /www\necho ok >/www/index.html\nhttpd -p 8080 -h /www\n\
    exec </dev/null >/dev/console 2>&1\necho \"guest $address is up\"\n\
    for peer in $(echo \"$ping\" | tr , ' '); do\n\
    \x20 while :; do ping -i 0.2 \"$peer\"; sleep 0.2; done &\n\
    done\nwait\n";

/// Writes the script and what it boots into [`injector_lab::GUESTS`].
///
/// # Errors
/// There is no kernel to be had, or a file can't be written.
pub fn guest() -> Result<()> {
    let kernel = Series::V6_1.fetch()?;
    let qemu = Qemu::find().context("set-up has run, but there is no QEMU")?;
    let folder = workspace().join(injector_lab::GUESTS);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let initramfs = folder.join("initramfs");
    pack(&initramfs, &kernel)?;
    let script = folder.join(injector_lab::BOOT_GUEST);
    fs::write(&script, boot(&qemu, &kernel, &initramfs))
        .with_context(|| format!("writing {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", script.display()))
}

fn pack(file: &Path, kernel: &Kernel) -> Result<()> {
    let out = File::create(file).with_context(|| format!("creating {}", file.display()))?;
    let mut system = Initramfs::new(out);
    let modules = image::base(&mut system, kernel, &MODULES, &[])?;
    // A step that fails ends the machine, and with it the test's patience.
    let script = format!("{}trap 'poweroff -f' EXIT\n{modules}{SERVICE}", image::START);
    system.file(Path::new("/init"), script.as_bytes(), 0o755)?;
    system.finish()
}

/// `boot-guest TAP MAC MONITOR WORD…`: an emulated machine on a tap, with a QMP monitor on a socket, its console on the
/// standard output, and words for the kernel's command line. A reset restarts it and does not end it.
fn boot(qemu: &Qemu, kernel: &Kernel, initramfs: &Path) -> String {
    let command = qemu.command();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    let [image, initramfs] = [&*kernel.image, initramfs].map(|path| quoted(&path.to_string_lossy()));
    format!(
        "#!/bin/sh\ntap=$1 mac=$2 monitor=$3\nshift 3\nexec {qemu} \\\n\
         \x20 -machine q35 -accel tcg -cpu max -smp 1 -m 128M -nodefaults -display none -serial stdio \\\n\
         \x20 -kernel {image} -initrd {initramfs} -append \"console=ttyS0 oops=panic quiet no_timer_check $*\" \\\n\
         \x20 -qmp \"unix:$monitor,server=on,wait=off\" \\\n\
         \x20 -netdev \"tap,id=net0,ifname=$tap,script=no,downscript=no\" \\\n\
         \x20 -device \"virtio-net-pci,netdev=net0,romfile=,mac=$mac\"\n",
        qemu = words.join(" "),
    )
}
