//! Virtual machines on taps: the example service in guests with a kernel of their own. The daemon runs on their host, or one
//! in each guest.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use injector_lab::{Lab, Quorum, SWITCH};

use super::system::{Daemons, System};
use super::{quorum, sshd};
use crate::build::Programs;
use crate::command::{check_interrupt, find_program, words};
use crate::setup::{Need, setup};
use crate::vm::image::{self, quoted};
use crate::vm::initramfs::Initramfs;
use crate::vm::kernel::{Kernel, Series};
use crate::vm::qemu::Qemu;

/// The kernel modules that a guest needs beside what is built in, each with its parameters.
const MODULES: [(&str, &str); 2] = [("virtio_pci", ""), ("virtio_net", "")];

/// The modules that a daemon in a guest needs too, where there is no TCX.
const MODULES_OF_DAEMON: [(&str, &str); 2] = [("sch_ingress", ""), ("cls_bpf", "")];

/// The time between two probes: each costs an emulated processor about a hundred times what it costs a real
/// one.
const INTERVAL: &str = "50ms";

/// How long a kernel may take under KVM until it finds nothing to boot from.
const KVM_TRIAL: Duration = Duration::from_secs(20);

struct Guests {
    series: Series,
    service: Box<dyn System>,
    daemons: Daemons,
}

pub fn system(version: Option<&str>) -> Result<Box<dyn System>> {
    guests(version, Daemons::OnHost)
}

pub fn with_daemons_inside(version: Option<&str>) -> Result<Box<dyn System>> {
    guests(version, Daemons::InGuests)
}

fn guests(version: Option<&str>, daemons: Daemons) -> Result<Box<dyn System>> {
    let series = match version {
        None => Series::V6_1,
        Some(asked) => Series::from_str(asked, false).map_err(|why| {
            anyhow::anyhow!(
                "the version of a lab of guests is that of their kernel, 6.1, 6.12 or newer: {why}"
            )
        })?,
    };
    Ok(Box::new(Guests { series, service: quorum::with_interval(INTERVAL), daemons }))
}

impl System for Guests {
    fn version(&self) -> Result<String> {
        Ok(format!("quorum-in-vms linux-{}", self.series.fetch()?.release))
    }

    fn install(&self) -> Result<bool> {
        setup(match self.daemons {
            Daemons::OnHost => &[Need::Vm],
            Daemons::InGuests => &[Need::Vm, Need::Ssh],
        })?;
        self.series.fetch()?;
        Ok(true)
    }

    fn has_guests(&self) -> bool {
        true
    }

    fn daemons(&self) -> Daemons {
        self.daemons
    }

    fn campaign(&self) -> &'static str {
        match self.daemons {
            Daemons::OnHost => "configs/labs/campaign.yaml",
            Daemons::InGuests => "configs/labs/vms-host-and-inside.yaml",
        }
    }

    fn short_campaign(&self) -> &'static str {
        match self.daemons {
            Daemons::OnHost => "configs/labs/short.yaml",
            Daemons::InGuests => "configs/labs/short-inside.yaml",
        }
    }

    fn start(&self, lab: &mut Lab, programs: &Programs) -> Result<()> {
        let kernel = self.series.fetch()?;
        let qemu = Qemu::find().context("set-up has run, but there is no QEMU")?;
        let acceleration = acceleration(&qemu, &kernel)?;
        println!("Booting guests of Linux {} ({acceleration}).", kernel.release);
        if self.daemons == Daemons::InGuests {
            sshd::prepare(lab)?;
        }
        for peer in lab.peer_names() {
            let initramfs = lab.folder().join(format!("{peer}.initramfs"));
            self.pack(&initramfs, &kernel, lab, &peer, programs)?;
            let mut machine = machine(&qemu, &kernel, acceleration, self.memory());
            machine.arg("-initrd").arg(initramfs);
            let guest = lab.guest(&peer);
            machine.args(["-netdev", &format!("tap,id=net0,ifname={},script=no,downscript=no", guest.tap)]);
            // The device has no boot ROM, which is in a package of its own.
            machine.args(["-device", &format!("virtio-net-pci,netdev=net0,romfile=,mac={}", guest.mac)]);
            let mut command = lab.command(SWITCH, machine.get_program());
            command.args(machine.get_args());
            lab.start(&peer, &mut command)?;
        }
        Ok(())
    }

    fn ready(&self, lab: &Lab) -> Result<()> {
        self.service.ready(lab)
    }

    fn endpoints(&self, lab: &Lab) -> String {
        self.service.endpoints(lab)
    }

    fn roles(&self, lab: &Lab) -> String {
        self.service.roles(lab)
    }

    fn observe(&self) -> Duration {
        self.service.observe()
    }

    fn attempt(&self, lab: &Lab) -> String {
        self.service.attempt(lab)
    }
}

/// A machine without a disk and without a network, whose console is its standard output.
fn machine(qemu: &Qemu, kernel: &Kernel, acceleration: &str, memory: &str) -> Command {
    let mut command = qemu.command();
    command.args(["-machine", "q35", "-accel", acceleration, "-cpu", "max", "-smp", "1", "-m", memory]);
    command.args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]);
    command.arg("-kernel").arg(&kernel.image);
    // A panic ends the machine, and the lab sees that one of its programs has ended. On a busy host the kernel may take an emulated
    // timer for a broken one, and panic.
    command.args(["-append", "console=ttyS0 panic=-1 oops=panic quiet no_timer_check"]);
    command
}

/// `kvm` where a kernel boots with it in time, else emulation. On a host that is a virtual machine itself, `/dev/kvm` may be
/// there and not work.
fn acceleration(qemu: &Qemu, kernel: &Kernel) -> Result<&'static str> {
    const EMULATED: &str = "tcg,thread=multi";
    let flags = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let can_virtualise = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    if !can_virtualise || File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(EMULATED);
    }
    // A kernel without a root file system panics, and the panic ends the machine.
    let mut command = machine(qemu, kernel, "kvm", "256M");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut trial = command.spawn().with_context(|| format!("starting `{}`", words(&command)))?;
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = trial.try_wait().context("waiting for a machine under KVM")? {
            break Some(status);
        }
        if begun.elapsed() > KVM_TRIAL || check_interrupt().is_err() {
            break None;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if ended.is_none() {
        // The trial may end in this moment; after `wait` it is gone either way.
        let _ = trial.kill();
        trial.wait().context("waiting for a machine under KVM")?;
    }
    check_interrupt()?;
    Ok(if ended.is_some_and(|status| status.success()) { "kvm" } else { EMULATED })
}

impl Guests {
    /// The memory of each guest. A guest has no disk: its programs are in memory too, and a daemon is a large
    /// one.
    const fn memory(&self) -> &'static str {
        match self.daemons {
            Daemons::OnHost => "256M",
            Daemons::InGuests => "384M",
        }
    }

    /// Writes a guest's file system: its network device, a node of the example service as its first process, and what a
    /// daemon in it needs.
    fn pack(&self, file: &Path, kernel: &Kernel, lab: &Lab, peer: &str, programs: &Programs) -> Result<()> {
        let out = File::create(file).with_context(|| format!("creating {}", file.display()))?;
        let mut system = Initramfs::new(out);
        let mut wanted = MODULES.to_vec();
        let mut reached = "";
        if self.daemons == Daemons::InGuests {
            wanted.extend(MODULES_OF_DAEMON);
            let injector = programs.injector();
            image::stripped(&mut system, &injector, lab.folder())?;
            system.link(Path::new("/usr/bin/injector"), &injector)?;
            sshd::pack(&mut system, lab)?;
            reached = sshd::START;
        }
        let modules = image::base(&mut system, kernel, &wanted, &["ip"])?;
        let program = programs.quorum();
        image::stripped(&mut system, &program, lab.folder())?;
        // `ip` is called by its path: the shell would take an `ip` of its own, which knows less.
        let ip = find_program("ip").context("set-up has run, but there is no ip")?;
        let commands = lab.guest(peer).commands;
        let addresses: Vec<String> =
            commands.iter().map(|words| format!("{} {words}", ip.display())).collect();
        let node = Quorum { program: &program, seed: 7, faults: &[], join: 0, listen: 2 };
        let arguments: Vec<String> = node.arguments(lab, peer).iter().map(|word| quoted(word)).collect();
        // Where a step fails, the step's own words are the last ones, and not a panic's.
        let script = format!(
            "{start}trap 'poweroff -f' EXIT\n{modules}hostname {peer}\nip link set lo up\nip link set eth0 up\n{addresses}\n\
             {reached}exec {program} {arguments} </dev/null >/dev/console 2>&1\n",
            start = image::START,
            addresses = addresses.join("\n"),
            program = quoted(&program.to_string_lossy()),
            arguments = arguments.join(" "),
        );
        system.file(Path::new("/init"), script.as_bytes(), 0o755)?;
        system.finish()
    }
}
