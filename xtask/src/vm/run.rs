//! Test programs in a guest: built here, packed into its file system with what they need, and followed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use injector_lab::late_during;

use super::guest::{self, Guest, GuestEvent};
use super::image::{self, quoted};
use super::initramfs::Initramfs;
use super::kernel::{Kernel, Series};
use crate::build::{Artifact, artifacts, cargo, programs};
use crate::command::{Interrupted, workspace};
use crate::test::Count;
use crate::test::catalog::Target;

/// How many packets the model judges, unless the environment says it: emulation is slow.
const MODEL_CASES: (&str, &str) = ("INJECTOR_MODEL_CASES", "1024");

/// The variables that tests, and libtest itself, take from the environment.
const VARIABLES: [&str; 7] = [
    MODEL_CASES.0,
    "INJECTOR_MODEL_SEED",
    "INJECTOR_HEALS",
    "INJECTOR_LONG",
    "RUST_BACKTRACE",
    "RUST_TEST_NOCAPTURE",
    "RUST_TEST_THREADS",
];

/// The kernel modules that tests need, with the parameters that keep a module from making devices by itself.
/// A module that is built in is not loaded.
const MODULES: [(&str, &str); 19] = [
    ("veth", ""),
    ("bridge", ""),
    ("tun", ""),
    ("8021q", ""),
    ("bonding", "max_bonds=0"),
    ("macvlan", ""),
    ("ipvlan", ""),
    ("vrf", ""),
    ("wireguard", ""),
    ("vxlan", ""),
    ("geneve", ""),
    ("ifb", "numifbs=0"),
    ("dummy", "numdummies=0"),
    ("sch_ingress", ""),
    ("cls_bpf", ""),
    ("sch_fq", ""),
    ("sch_fq_codel", ""),
    ("sch_netem", ""),
    ("tcp_diag", ""),
];

/// Where tests append their skips in the guest.
const SKIPS: &str = "/run/skips";
/// Where the tests of devices append what came of each try.
const CELLS: &str = "/run/cells";

/// The guest's output besides the results of its tests.
pub struct GuestOutput {
    /// The results of the tests of devices, a line each.
    pub cells: Vec<String>,
    /// The version of the kernel's package, where the kernel says it.
    pub package: Option<String>,
}

/// Builds the programs, each with the tests of it that are to run.
pub fn build(chosen: &[Target]) -> Result<Vec<(Artifact, Target)>> {
    let mut command = cargo();
    command.args(["test", "--package", "injector", "--no-run"]);
    command.args(chosen.iter().flat_map(Target::arguments));
    let built = artifacts(&mut command)?.into_iter().filter(|artifact| artifact.is_test);
    let found = built.filter_map(|artifact| {
        let at = chosen.iter().position(|target| target.name == artifact.name)?;
        Some((at, artifact))
    });
    let mut found: Vec<(usize, Artifact)> = found.collect();
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(at, artifact)| (artifact, chosen[at].clone())).collect())
}

/// How late this machine may be before tests of times fail in a guest: the daemon's lease is 2 s, and the guest's clock jumps with the
/// host's.
const LATE: Duration = Duration::from_secs(1);

/// Boots the kernel, runs the tests in it, and counts them. Where tests fail and this machine was held up meanwhile, all are run once
/// more, and only the second run counts. What the kernel complained of is never explained by that.
pub fn run(
    series: Series,
    kernel: &Kernel,
    tests: &[(Artifact, Target)],
    count: &mut Count,
) -> Result<GuestOutput> {
    let folder = Folder::create()?;
    let image = folder.0.join("initramfs");
    pack(&image, &folder.0, kernel, tests)?;
    let size = fs::metadata(&image).with_context(|| format!("reading {}", image.display()))?.len();
    println!("\nBooting {} with {} MB of programs; it is emulated, so slow.", kernel.release, size >> 20);
    for (_, target) in tests.iter().filter(|(_, target)| target.groups.contains("timed")) {
        println!(
            "{} measures times that an emulated processor can't keep: what fails there proves nothing.",
            target.name
        );
    }

    let boot = || {
        let mut count = Count::default();
        let said = boot(series, kernel, &image, &mut count)?;
        Ok::<_, anyhow::Error>((count, said))
    };
    let (first, late) = late_during(boot);
    let (counted, said) = match first? {
        (counted, _)
            if counted.has_failures() && late >= LATE && guest::complaints(&log_of(series)).is_empty() =>
        {
            println!("\nAGAIN Linux {series}: tests failed while this machine was {late:.1?} late");
            boot()?
        }
        first => first,
    };
    count.add(counted);
    Ok(said)
}

/// The kernel's log.
fn log_of(series: Series) -> PathBuf {
    workspace().join(format!("target/vm/kernel-{series}.log"))
}

/// Boots once.
fn boot(series: Series, kernel: &Kernel, image: &Path, count: &mut Count) -> Result<GuestOutput> {
    let log = log_of(series);
    let mut guest = Guest::boot(&kernel.image, image, &log)?;
    let mut cells = Vec::new();
    let ended = follow(&mut guest, count, &mut cells);
    drop(guest);
    if let Err(error) = ended {
        if Interrupted::is(&error) {
            return Err(error);
        }
        println!("\n{error:#}");
        count.fail(format!("the guest of Linux {series} did not finish"));
    }
    for complaint in guest::complaints(&log) {
        count.fail(format!("the kernel says: {complaint}"));
    }
    println!("\nLinux {}; the kernel's log is {}.", kernel.release, log.display());
    Ok(GuestOutput { cells, package: guest::package(&log) })
}

/// Names what would have run, and why it does not.
pub fn skip(chosen: &[Target], series: Series, why: &anyhow::Error, count: &mut Count) {
    for target in chosen {
        for test in &target.tests {
            count.skip_uncounted(&format!("{} on Linux {series}: {why:#}", target.full_path(test)));
        }
    }
}

/// Takes in what the guest says, until it is done.
fn follow(guest: &mut Guest, count: &mut Count, cells: &mut Vec<String>) -> Result<()> {
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
            GuestEvent::Cell(line) => cells.push(line),
            GuestEvent::Skip(line) => count.skip(&line),
            GuestEvent::Done => return Ok(()),
        }
    }
}

/// Writes the guest's file system.
fn pack(image: &Path, scratch: &Path, kernel: &Kernel, tests: &[(Artifact, Target)]) -> Result<()> {
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
fn init(modules: &str, tests: &[(Artifact, Target)]) -> Result<String> {
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
             CARGO_MANIFEST_DIR={package} {program} --color never --exact {} || code=$?\nsay end {name} $code\n\
             while read -r line; do say cell \"$line\"; done <{CELLS}\n: >{CELLS}",
            paths.join(" ")
        )?;
    }
    let mark = guest::MARK;
    Ok(format!(
        "{start}{modules}ip link set lo up\n\
         stty -F {tests} raw\nexec </dev/null >{tests} 2>&1\n\
         say() {{ echo; echo '{mark}' \"$@\"; }}\n\
         export INJECTOR_SKIP_LOG={SKIPS} INJECTOR_CELLS={CELLS}\n: >{SKIPS}\n: >{CELLS}\n{variables}{runs}\
         while read -r line; do say skip \"$line\"; done <{SKIPS}\n\
         say done\npoweroff -f\nsleep 60\n",
        start = image::START,
        tests = guest::TESTS,
    ))
}

/// The files that are written for one guest; removed when dropped.
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
        // The folder lies in cargo's folder, where nobody searches for it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
