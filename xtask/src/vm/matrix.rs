//! `cargo xtask vm --matrix`: a cut on each kind of device with each hook, on one kernel after the other.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use super::cells::{Cell, KernelColumn, Matrix};
use super::kernel::{Kernel, Series};
use super::run;
use crate::command::{Interrupted, output};
use crate::setup::{Need, setup};
use crate::test::Count;
use crate::test::catalog::{self, Target};

/// The program whose tests report what they find.
const DEVICES: &str = "netns_devices";
/// Another program, whose tests need devices that few machines have.
const STACKED: &str = "netns_auto_stacked";

/// The trials that the user asks for.
pub struct Asked<'a> {
    /// The only kernel; each that has a package without it.
    pub kernel: Option<Series>,
    /// Whether to run some tests on one kernel, and compare them with the stored results; else all run, and
    /// are stored.
    pub is_short: bool,
    /// Tests of devices with this in their name, and no others; what is stored of the others stays.
    pub filter: Option<&'a str>,
    /// Whether kernels that are not available here are skipped.
    pub if_available: bool,
}

impl Asked<'_> {
    fn series(&self) -> Vec<Series> {
        match self.kernel {
            Some(series) => vec![series],
            // This kernel has TCX, and the features that most machines lack.
            None if self.is_short => vec![Series::V6_12],
            None => Series::ALL.to_vec(),
        }
    }

    /// Whether it is no fault that a kernel is not available.
    fn may_lack(&self, series: Series) -> bool {
        self.if_available || (series == Series::Newer && self.kernel.is_none())
    }
}

/// Tries it, and stores or compares what came of it.
pub fn matrix(asked: &Asked<'_>) -> Result<ExitCode> {
    setup(&[Need::Build, Need::Network])?;
    let chosen = choose(&catalog::read()?, asked)?;
    let mut count = Count::default();
    let mut kernels: Vec<(Series, Kernel)> = Vec::new();
    for series in asked.series() {
        match setup(&[Need::Vm]).and_then(|()| series.fetch()) {
            Ok(kernel) => kernels.push((series, kernel)),
            Err(error) if !Interrupted::is(&error) && asked.may_lack(series) => {
                run::skip(&chosen, series, &error, &mut count);
            }
            Err(error) => return Err(error),
        }
    }
    if kernels.is_empty() {
        return Ok(count.report());
    }
    let tests = run::build(&chosen)?;
    for (series, kernel) in &kernels {
        let said = run::run(*series, kernel, &tests, &mut count)?;
        // The matrix is read only now: another kernel may have been tried meanwhile.
        let mut matrix = Matrix::load()?;
        let cells = said.cells.iter().map(|line| Cell::read(line)).collect::<Result<Vec<Cell>>>()?;
        if cells.is_empty() {
            count.fail(format!("no device was tried on Linux {series}"));
        } else if asked.is_short {
            compare(*series, &cells, &matrix, &mut count);
        } else {
            let package = said.package.map(|version| format!(", of the package's version {version}"));
            matrix.take(KernelColumn {
                series: series.to_string(),
                version: format!("{}{}", kernel.release, package.unwrap_or_default()),
                date: output(Command::new("date").args(["-u", "+%F"]))?.trim().to_owned(),
                cells,
            });
            println!("Written: {}", matrix.store()?.display());
        }
    }
    Ok(count.report())
}

/// The tests that are to run.
fn choose(targets: &[Target], asked: &Asked<'_>) -> Result<Vec<Target>> {
    let named = |name: &str| -> Result<Target> {
        let target = targets.iter().find(|target| target.name == name && target.kind == "test");
        target.cloned().with_context(|| format!("there is no test program {name}"))
    };
    if let Some(filter) = asked.filter {
        let matching = named(DEVICES)?.matching(filter);
        return Ok(vec![
            matching.with_context(|| format!("no test of {DEVICES} has `{filter}` in its name"))?,
        ]);
    }
    if !asked.is_short {
        return Ok(vec![named(DEVICES)?, named(STACKED)?]);
    }
    let short = named(DEVICES)?.with(|test| test.needs.every_kernel);
    ensure!(short.is_some(), "no test of {DEVICES} declares `every_kernel`");
    Ok(short.into_iter().collect())
}

/// Counts what is worse than before, or new.
fn compare(series: Series, cells: &[Cell], known: &Matrix, count: &mut Count) {
    let mut worse = 0;
    for cell in cells {
        let place = format!("{} over {} on Linux {series}", cell.device, cell.hook);
        let found = format!("{} ({})", cell.shown(), cell.detail());
        match known.cell(&series.to_string(), &cell.device, &cell.hook) {
            None => count.fail(format!(
                "{place} is not in docs/kernel-matrix.md: run `cargo xtask vm --matrix --kernel {series}`"
            )),
            Some(before) if cell.is_worse_than(before) => {
                worse += 1;
                count.fail(format!("{place}: {found}; docs/kernel-matrix.md says {}", before.shown()));
            }
            Some(_) => println!("{place}: {found}"),
        }
    }
    println!("\n{worse} of {} cells are worse than docs/kernel-matrix.md says.", cells.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_tries_some_devices_on_one_kernel() {
        let targets = catalog::read().unwrap();
        let chosen = |is_short: bool| {
            let asked = Asked { kernel: None, is_short, filter: None, if_available: false };
            let tests: usize =
                choose(&targets, &asked).unwrap().iter().map(|target| target.tests.len()).sum();
            (asked.series().len(), tests)
        };
        let ((few_kernels, few), (kernels, all)) = (chosen(true), chosen(false));
        assert_eq!((few_kernels, kernels), (1, Series::ALL.len()));
        assert!(few > 1 && few < all / 3, "{few} of {all}");
        let asked =
            |filter| Asked { kernel: None, is_short: false, filter: Some(filter), if_available: false };
        assert_eq!(choose(&targets, &asked("netkit")).unwrap()[0].tests.len(), 1);
        assert!(choose(&targets, &asked("no_such_device")).is_err());
    }

    #[test]
    fn a_cell_that_is_worse_or_unknown_fails() {
        let read = |line: &str| Cell::read(line).unwrap();
        let mut known = Matrix::default();
        let cells = vec![read("bond\ttcx\tcut\ttcx"), read("veth\ttcx\trefused\twhy")];
        let version = "6.12.1-cloud-amd64".to_owned();
        known.take(KernelColumn { series: "6.12".to_owned(), version, date: String::new(), cells });
        let failed = |line: &str| {
            let mut count = Count::default();
            compare(Series::V6_12, &[read(line)], &known, &mut count);
            count.numbers().1
        };
        assert_eq!(failed("bond\ttcx\tcut\ttcx"), 0);
        assert_eq!(failed("veth\ttcx\tcut\ttcx"), 0);
        assert_eq!(failed("bond\ttcx\tleaks\t1 of 10"), 1);
        assert_eq!(failed("netkit\ttcx\tcut\ttcx"), 1);
    }
}
