//! `cargo xtask vm`: the kernel's and namespaces' tests on another kernel, in a virtual machine.
//!
//! What shows only there: programs that an older verifier refuses, the way without TCX, and devices that this
//! machine may not have (802.1Q, bonding). The machine is emulated, so that no KVM is needed; it has no disk and no
//! network. The programs lie at the same paths in it as here, since tests have them compiled in.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use crate::build::{Artifact, artifacts, cargo, programs};
use crate::command::{Interrupted, workspace};
use crate::setup::{Need, setup};
use crate::test::Count;
use crate::test::catalog::{self, Target};

mod guest;
pub mod image;
pub mod initramfs;
pub mod kernel;
pub mod qemu;

use guest::{Guest, GuestEvent};
use image::quoted;
use initramfs::Initramfs;
use kernel::Series;

/// The options of the chore.
#[derive(clap::Args)]
pub struct Options {
    /// Which kernel
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Series,
    /// Only the tests that declare `every_kernel`: some minutes under emulation
    #[arg(long, conflicts_with = "filter")]
    short: bool,
    /// Where the machine or the kernel is not available, say that the tests are skipped, and succeed
    #[arg(long)]
    if_available: bool,
    /// Tests with this in their name or in that of their program, such as `netns_cut::a_cut_by_clsact`; without it, the
    /// programs that declare the group `kernels`
    filter: Option<String>,
}

/// How many packets the model judges, unless the environment says it: emulation is slow.
const MODEL_CASES: (&str, &str) = ("INJECTOR_MODEL_CASES", "1024");

/// What tests, and libtest itself, take from the environment.
const VARIABLES: [&str; 7] = [
    MODEL_CASES.0,
    "INJECTOR_MODEL_SEED",
    "INJECTOR_HEALS",
    "INJECTOR_LONG",
    "RUST_BACKTRACE",
    "RUST_TEST_NOCAPTURE",
    "RUST_TEST_THREADS",
];

/// What tests need of a kernel, with the parameters that keep a module from making devices by itself. A module that is
/// built in is none.
const MODULES: [(&str, &str); 13] = [
    ("veth", ""),
    ("bridge", ""),
    ("tun", ""),
    ("8021q", ""),
    ("bonding", "max_bonds=0"),
    ("macvlan", ""),
    ("vxlan", ""),
    ("ifb", "numifbs=0"),
    ("dummy", "numdummies=0"),
    ("sch_ingress", ""),
    ("cls_bpf", ""),
    ("sch_netem", ""),
    ("tcp_diag", ""),
];

/// Where tests append their skips in the guest.
const SKIPS: &str = "/run/skips";

/// Boots the kernel, runs the tests in it, and counts them.
pub fn vm(options: &Options) -> Result<ExitCode> {
    setup(&[Need::Build, Need::Network])?;
    let kernel = match setup(&[Need::Vm]).and_then(|()| options.kernel.fetch()) {
        Err(error) if options.if_available && !Interrupted::is(&error) => return skipped(options, &error),
        kernel => kernel?,
    };
    let chosen = choose(&catalog::read()?, options)?;
    let mut command = cargo();
    command.args(["test", "--package", "injector", "--no-run"]);
    command.args(chosen.iter().flat_map(Target::arguments));
    let built = artifacts(&mut command)?;
    let tests: Vec<(&Artifact, &Target)> = built
        .iter()
        .filter(|artifact| artifact.is_test)
        .filter_map(|artifact| Some((artifact, chosen.iter().find(|target| target.name == artifact.name)?)))
        .collect();

    let folder = Folder::create()?;
    let image = folder.0.join("initramfs");
    pack(&image, &folder.0, &kernel, &tests)?;
    let size = fs::metadata(&image).with_context(|| format!("reading {}", image.display()))?.len();
    println!("\nBooting {} with {} MB of programs; it is emulated, so slow.", kernel.release, size >> 20);
    for target in chosen.iter().filter(|target| target.groups.contains("timed")) {
        println!(
            "{} measures times that an emulated processor can't keep: what fails there proves nothing.",
            target.name
        );
    }

    let log = workspace().join(format!("target/vm/kernel-{}.log", options.kernel));
    let mut guest = Guest::boot(&kernel.image, &image, &log)?;
    let mut count = Count::default();
    let ended = follow(&mut guest, &mut count);
    drop(guest);
    if let Err(error) = ended {
        if Interrupted::is(&error) {
            return Err(error);
        }
        println!("\n{error:#}");
        count.fail("the guest did not finish".to_owned());
    }
    for complaint in guest::complaints(&log) {
        count.fail(format!("the kernel says: {complaint}"));
    }
    println!("\nLinux {}; the kernel's log is {}.", kernel.release, log.display());
    ensure!(!count.is_empty(), "no test is named so");
    Ok(count.report())
}

/// Names what would have run, and why it does not.
fn skipped(options: &Options, why: &anyhow::Error) -> Result<ExitCode> {
    let mut count = Count::default();
    for target in choose(&catalog::read()?, options)? {
        for test in &target.tests {
            count.skip_uncounted(&format!("{} on Linux {}: {why:#}", target.full_path(test), options.kernel));
        }
    }
    Ok(count.report())
}

/// Takes in what the guest says, until it is done.
fn follow(guest: &mut Guest, count: &mut Count) -> Result<()> {
    let mut failed = 0;
    loop {
        match guest.next_event()? {
            GuestEvent::Begin(name) => {
                failed = 0;
                println!("\nTests of {name} (in the guest)");
            }
            GuestEvent::Line(line) => {
                println!("{line}");
                failed += count.line(&line);
            }
            GuestEvent::End(name, code) => {
                // A program that died has not reported which of its tests failed.
                if code != 0 && failed == 0 {
                    count.fail(format!("`{name}` (exit code {code})"));
                }
            }
            GuestEvent::Skip(line) => count.skip(&line),
            GuestEvent::Done => return Ok(()),
        }
    }
}

/// The programs of the `injector` package, with the tests that are to run.
fn choose(targets: &[Target], options: &Options) -> Result<Vec<Target>> {
    let programs: Vec<Target> =
        targets.iter().filter(|target| target.is_ebpf && target.kind == "test").cloned().collect();
    let chosen: Vec<Target> = match &options.filter {
        Some(filter) => catalog::select(&programs, Some(filter))?,
        None if options.short => {
            programs.iter().filter_map(|target| target.with(|test| test.needs.every_kernel)).collect()
        }
        None => programs.into_iter().filter(|target| target.groups.contains("kernels")).collect(),
    };
    let privileged: Vec<Target> =
        chosen.iter().filter_map(|target| target.with(|test| test.needs.root)).collect();
    ensure!(!privileged.is_empty(), "none of these tests needs root: they show nothing of a kernel");
    Ok(privileged)
}

/// Writes the guest's file system.
fn pack(image: &Path, scratch: &Path, kernel: &kernel::Kernel, tests: &[(&Artifact, &Target)]) -> Result<()> {
    let file = File::create(image).with_context(|| format!("creating {}", image.display()))?;
    let mut system = Initramfs::new(file);
    let modules = image::base(&mut system, kernel, &MODULES, &["ip", "tc", "bridge"])?;
    let built = programs()?;
    let ours = [built.injector(), built.quorum(), built.talker()];
    for program in ours.iter().chain(tests.iter().map(|(artifact, _)| &artifact.executable)) {
        image::stripped(&mut system, program, scratch)?;
    }
    system.tree(&workspace().join("fuzz/corpus"))?;
    system.file(Path::new("/init"), init(&modules, tests)?.as_bytes(), 0o755)?;
    system.finish()
}

/// The guest's first and only script. Where it fails, the kernel panics, which is distinguished from being done.
fn init(modules: &str, tests: &[(&Artifact, &Target)]) -> Result<String> {
    let mut variables = String::new();
    for name in VARIABLES {
        let value =
            std::env::var(name).ok().or_else(|| (name == MODEL_CASES.0).then(|| MODEL_CASES.1.to_owned()));
        if let Some(value) = value {
            writeln!(variables, "export {name}={}", quoted(&value))?;
        }
    }
    let mut runs = String::new();
    for (test, target) in tests {
        let [package, program] =
            [&test.package, &test.executable].map(|path| quoted(&path.to_string_lossy()));
        let paths: Vec<String> = target.tests.iter().map(|test| quoted(&test.path)).collect();
        let name = &test.name;
        writeln!(
            runs,
            "mkdir -p {package}\ncd {package}\nsay begin {name}\ncode=0\n\
             CARGO_MANIFEST_DIR={package} {program} --color never --exact {} || code=$?\nsay end {name} $code",
            paths.join(" ")
        )?;
    }
    let mark = guest::MARK;
    Ok(format!(
        "{start}{modules}ip link set lo up\n\
         stty -F {tests} raw\nexec </dev/null >{tests} 2>&1\n\
         say() {{ echo; echo '{mark}' \"$@\"; }}\n\
         export INJECTOR_SKIP_LOG={SKIPS}\n: >{SKIPS}\n{variables}{runs}\
         while read -r line; do say skip \"$line\"; done <{SKIPS}\n\
         say done\npoweroff -f\nsleep 60\n",
        start = image::START,
        tests = guest::TESTS,
    ))
}

/// What is written for one guest; gone with it.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let path = workspace().join(format!("target/vm/{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies in cargo's folder, where nobody looks for it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(short: bool, filter: Option<&str>) -> Vec<String> {
        let options =
            Options { kernel: Series::V6_1, short, if_available: false, filter: filter.map(str::to_owned) };
        let chosen = choose(&catalog::read().unwrap(), &options).unwrap();
        chosen.iter().flat_map(|target| target.tests.iter().map(|test| target.full_path(test))).collect()
    }

    #[test]
    fn tests_are_chosen_by_what_they_declare() {
        let (short, usual) = (names(true, None), names(false, None));
        assert!(short.len() >= 5 && short.len() < usual.len(), "{short:?}");
        assert!(usual.iter().any(|name| name.starts_with("kernel_model::")), "{usual:?}");
        assert!(!usual.iter().any(|name| name.starts_with("netns_planted::")), "{usual:?}");
        assert_eq!(names(false, Some("netns_cut::a_cut_by_clsact")), ["netns_cut::a_cut_by_clsact"]);
    }
}
