//! `cargo xtask vm`: the kernel's and namespaces' tests on another kernel, in a virtual machine.
//!
//! What shows only there: programs that an older verifier refuses, the way without TCX, and devices that this
//! machine may not have (802.1Q, bonding). The machine is emulated, so that no KVM is needed; it has no disk and no
//! network. The programs lie at the same paths in it as here, since tests have them compiled in.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::build::{Artifact, artifacts, cargo, programs};
use crate::command::{Interrupted, find_program, output, workspace};
use crate::setup::{Need, setup};
use crate::test::{Count, is_privileged_name};

mod guest;
mod initramfs;
mod kernel;

use guest::{Guest, Told};
use initramfs::Initramfs;
use kernel::Series;

/// The options of the chore.
#[derive(clap::Args)]
pub struct Options {
    /// Which kernel
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Series,
    /// Test programs whose name contains this, or one program's tests: `netns_cut::clsact`; without it, a short form
    filter: Option<String>,
}

/// What runs without a filter: some minutes under emulation. A program that there is not yet is left out.
const SHORT: [&str; 8] = [
    "kernel_protocols",
    "kernel_verdict",
    "kernel_model",
    "netns_cut",
    "netns_fidelity",
    "netns_interfaces",
    "netns_auto",
    "netns_auto_stacked",
];

/// What measures times to milliseconds: on an emulated processor records come out as `starved`, and these fail.
const TIMED: [&str; 3] = ["netns_campaign", "netns_planted", "netns_recovery"];

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

/// Where tests append their skips in the guest.
const SKIPS: &str = "/run/skips";

/// Boots the kernel, runs the tests in it, and counts them.
pub fn vm(options: &Options) -> Result<ExitCode> {
    setup(&[Need::Build, Need::Network, Need::Vm])?;
    let kernel = options.kernel.fetch()?;
    let selection = Selection::new(options.filter.as_deref())?;
    let mut command = cargo();
    command.args(["test", "--package", "injector", "--no-run"]);
    for program in &selection.programs {
        command.args(["--test", program]);
    }
    let built = artifacts(&mut command)?;
    let tests: Vec<&Artifact> = built.iter().filter(|artifact| artifact.is_test).collect();

    let folder = Folder::create()?;
    let image = folder.0.join("initramfs");
    pack(&image, &folder.0, &kernel, &tests, &selection)?;
    let size = fs::metadata(&image).with_context(|| format!("reading {}", image.display()))?.len();
    println!("\nBooting {} with {} MB of programs; it is emulated, so slow.", kernel.release, size >> 20);
    for program in TIMED.iter().filter(|name| selection.programs.iter().any(|program| program == *name)) {
        println!(
            "{program} measures times that an emulated processor can't keep: what fails there, proves nothing."
        );
    }

    let log = workspace().join(format!("target/vm/kernel-{}.log", options.kernel));
    let mut guest = Guest::boot(&kernel.image, &image, &log)?;
    let mut count = Count::default();
    let ended = follow(&mut guest, &mut count);
    drop(guest);
    if let Err(error) = ended {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        println!("\n{error:#}");
        count.fail("the guest did not come to its end".to_owned());
    }
    for complaint in guest::complaints(&log) {
        count.fail(format!("the kernel says: {complaint}"));
    }
    println!("\nLinux {}; the kernel's log is {}.", kernel.release, log.display());
    ensure!(!count.is_empty(), "no test is named so");
    Ok(count.tell())
}

/// Takes in what the guest says, until it is done.
fn follow(guest: &mut Guest, count: &mut Count) -> Result<()> {
    let mut failed = 0;
    loop {
        match guest.hear()? {
            Told::Begin(name) => {
                failed = 0;
                println!("\nTests of {name} (in the guest)");
            }
            Told::Line(line) => {
                println!("{line}");
                failed += count.line(&line);
            }
            Told::End(name, code) => {
                // A program that died has not told which of its tests failed.
                if code != 0 && failed == 0 {
                    count.fail(format!("`{name}` (exit code {code})"));
                }
            }
            Told::Skip(line) => count.skip(&line),
            Told::Done => return Ok(()),
        }
    }
}

/// What runs.
struct Selection {
    programs: Vec<String>,
    test: Option<String>,
}

impl Selection {
    fn new(filter: Option<&str>) -> Result<Self> {
        let folder = workspace().join("injector/tests");
        let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        let mut there: Vec<String> = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            // A folder with a `main.rs` is a test program too.
            let is_program =
                path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file();
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
            there.extend(name.filter(|name| is_program && is_privileged_name(name)));
        }
        there.sort();
        let selection = Self::among(&there, filter);
        ensure!(
            !selection.programs.is_empty(),
            "no test program that needs a kernel is named so; there are {}",
            there.join(", ")
        );
        Ok(selection)
    }

    fn among(there: &[String], filter: Option<&str>) -> Self {
        let Some(filter) = filter else {
            let short = SHORT.iter().map(|name| (*name).to_owned());
            return Self { programs: short.filter(|name| there.contains(name)).collect(), test: None };
        };
        let (program, test) = filter
            .split_once("::")
            .map_or((filter, None), |(program, test)| (program, Some(test.to_owned())));
        let programs = there.iter().filter(|name| name.contains(program)).cloned().collect();
        Self { programs, test }
    }
}

/// Writes the guest's file system.
fn pack(
    image: &Path,
    scratch: &Path,
    kernel: &kernel::Kernel,
    tests: &[&Artifact],
    selection: &Selection,
) -> Result<()> {
    let file = File::create(image).with_context(|| format!("creating {}", image.display()))?;
    let mut system = Initramfs::new(file);
    let busybox = find_program("busybox").context("set-up has run, but there is no busybox")?;
    system.program(&busybox, &busybox)?;
    for applet in output(Command::new(&busybox).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        system.link(&Path::new("/bin").join(applet), &busybox)?;
    }
    for name in ["ip", "tc", "bridge"] {
        let program =
            find_program(name).with_context(|| format!("set-up has run, but there is no {name}"))?;
        system.program(&program, &program)?;
    }
    let built = programs()?;
    let ours = [built.injector(), built.quorum()];
    for program in ours.iter().chain(tests.iter().map(|test| &test.executable)) {
        let stripped = scratch.join("stripped");
        output(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
        system.program(program, &stripped)?;
    }
    system.tree(&workspace().join("fuzz/corpus"))?;
    let mut modules = String::new();
    for module in kernel.modules()? {
        system.file(&Path::new("/modules").join(&module.name), &module.bytes, 0o644)?;
        writeln!(modules, "insmod /modules/{} {}", module.name, module.parameters)?;
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
    system.file(Path::new("/init"), init(&modules, tests, selection)?.as_bytes(), 0o755)?;
    system.finish()
}

/// The guest's first and only script. Where it fails, the kernel panics, and that is told from being done.
fn init(modules: &str, tests: &[&Artifact], selection: &Selection) -> Result<String> {
    let mut variables = String::new();
    for name in VARIABLES {
        let value =
            std::env::var(name).ok().or_else(|| (name == MODEL_CASES.0).then(|| MODEL_CASES.1.to_owned()));
        if let Some(value) = value {
            writeln!(variables, "export {name}={}", quoted(&value))?;
        }
    }
    let mut runs = String::new();
    for test in tests {
        let [package, program] =
            [&test.package, &test.executable].map(|path| quoted(&path.to_string_lossy()));
        let filter = selection.test.as_deref().map(quoted).unwrap_or_default();
        let name = &test.name;
        writeln!(
            runs,
            "mkdir -p {package}\ncd {package}\nsay begin {name}\ncode=0\n\
             CARGO_MANIFEST_DIR={package} {program} --color never {filter} || code=$?\nsay end {name} $code"
        )?;
    }
    let mark = guest::MARK;
    Ok(format!(
        "#!/bin/sh\nset -e\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb\n\
         mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\n\
         chmod 1777 /tmp\n\
         {modules}ip link set lo up\n\
         stty -F {tests} raw\nexec </dev/null >{tests} 2>&1\n\
         say() {{ echo; echo '{mark}' \"$@\"; }}\n\
         export INJECTOR_SKIP_LOG={SKIPS}\n: >{SKIPS}\n{variables}{runs}\
         while read -r line; do say skip \"$line\"; done <{SKIPS}\n\
         say done\npoweroff -f\nsleep 60\n",
        tests = guest::TESTS,
    ))
}

/// A word of a shell script.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
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

    #[test]
    fn a_filter_names_programs_or_tests_of_one() {
        let there: Vec<String> =
            ["kernel_model", "netns_cut", "netns_exact", "netns_interfaces"].map(str::to_owned).into();
        let programs = |filter| Selection::among(&there, filter).programs;
        assert_eq!(programs(None), ["kernel_model", "netns_cut", "netns_interfaces"]);
        assert_eq!(programs(Some("exact")), ["netns_exact"]);
        assert!(programs(Some("api")).is_empty());
        let one = Selection::among(&there, Some("netns_cut::clsact"));
        assert_eq!((one.programs, one.test.as_deref()), (vec!["netns_cut".to_owned()], Some("clsact")));
    }

    #[test]
    fn a_word_stays_one_word() {
        let said = output(Command::new("sh").args(["-c", &format!("printf %s {}", quoted("it's $x; a b"))]));
        assert_eq!(said.unwrap(), "it's $x; a b");
    }
}
