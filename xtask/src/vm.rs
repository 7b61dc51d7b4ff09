//! `cargo xtask vm`: the kernel's and namespaces' tests on another kernel, in a virtual machine.
//!
//! What shows only there: programs that an older verifier refuses, the way without TCX, and devices that this
//! machine may not have (802.1Q, bonding, netkit). With `--matrix` the devices are tried on each kernel, and
//! `docs/kernel-matrix.md` is made from that. The machine is emulated, so that no KVM is needed; it has no disk and no
//! network. The programs lie at the same paths in it as here, since tests have them compiled in.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::command::Interrupted;
use crate::setup::{Need, setup};
use crate::test::Count;
use crate::test::catalog::{self, Target};

mod cells;
mod guest;
pub mod image;
pub mod initramfs;
pub mod kernel;
mod matrix;
pub mod qemu;
mod run;

use kernel::Series;
use matrix::Asked;

/// The options of the chore.
#[derive(clap::Args)]
pub struct Options {
    /// Which kernel; without it 6.1, and with `--matrix` each that has a package
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// Only the tests that declare `every_kernel`: some minutes under emulation
    #[arg(long, conflicts_with = "filter")]
    short: bool,
    /// Try a cut on each kind of device with each hook, and write docs/kernel-matrix.md; with `--short` try some of them on
    /// one kernel, and fail where the page says better; with the name of a test of `netns_devices` that one alone
    #[arg(long)]
    matrix: bool,
    /// Where the machine or the kernel is not available, say that the tests are skipped, and succeed
    #[arg(long)]
    if_available: bool,
    /// Tests with this in their name or in that of their program, such as `netns_cut::a_cut_by_clsact`; without it, the
    /// programs that declare the group `kernels`
    filter: Option<String>,
}

/// Boots the kernel, runs the tests in it, and counts them.
pub fn vm(options: &Options) -> Result<ExitCode> {
    if options.matrix {
        return matrix::matrix(&Asked {
            kernel: options.kernel,
            is_short: options.short,
            filter: options.filter.as_deref(),
            if_available: options.if_available,
        });
    }
    setup(&[Need::Build, Need::Network])?;
    let series = options.kernel.unwrap_or(Series::V6_1);
    let mut count = Count::default();
    let kernel = match setup(&[Need::Vm]).and_then(|()| series.fetch()) {
        Err(error) if options.if_available && !Interrupted::is(&error) => {
            run::skip(&choose(&catalog::read()?, options)?, series, &error, &mut count);
            return Ok(count.report());
        }
        kernel => kernel?,
    };
    let tests = run::build(&choose(&catalog::read()?, options)?)?;
    run::run(series, &kernel, &tests, &mut count)?;
    ensure!(!count.is_empty(), "no test is named so");
    Ok(count.report())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(short: bool, filter: Option<&str>) -> Vec<String> {
        let filter = filter.map(str::to_owned);
        let options = Options { kernel: None, short, matrix: false, if_available: false, filter };
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
