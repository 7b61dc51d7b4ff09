//! The results of the tests of devices on each kernel: as they are stored, and as `docs/kernel-matrix.md`
//! shows them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::command::workspace;

/// The stored cells, a line each: the series of the kernel, its version, the day, the device, the hook, the outcome, and
/// what there is to say of it, between tabs.
const STORED: &str = "docs/kernel-matrix.tsv";
/// The page that is made from them.
const PAGE: &str = "docs/kernel-matrix.md";

/// The outcome of a trial; `injector/tests/netns_devices/cell.rs` says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Cut,
    Refused,
    NoHook,
    NoDevice,
    NotAttached,
    NoTraffic,
    Leaks,
    Loud,
    Harms,
    Miscounts,
    StaysCut,
}

impl Outcome {
    const ALL: [Self; 11] = [
        Self::Cut,
        Self::Refused,
        Self::NoHook,
        Self::NoDevice,
        Self::NotAttached,
        Self::NoTraffic,
        Self::Leaks,
        Self::Loud,
        Self::Harms,
        Self::Miscounts,
        Self::StaysCut,
    ];

    /// The outcome as the test reports it and as the page shows it, and its worth: more is better.
    fn row(self) -> (&'static str, &'static str, u8) {
        match self {
            Self::Cut => ("cut", "cut", 3),
            Self::Refused => ("refused", "refused", 2),
            Self::NoHook => ("no-hook", "no such hook", 1),
            Self::NoDevice => ("no-device", "no such device", 1),
            Self::NotAttached => ("not-attached", "not attached", 0),
            Self::NoTraffic => ("no-traffic", "no traffic", 0),
            Self::Leaks => ("leaks", "leaks", 0),
            Self::Loud => ("loud", "the sender notices", 0),
            Self::Harms => ("harms", "others are cut", 0),
            Self::Miscounts => ("miscounts", "miscounts", 0),
            Self::StaysCut => ("stays-cut", "stays cut", 0),
        }
    }

    fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.row().0 == word)
    }
}

/// A trial of one hook on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The kind of device that the hook is on.
    pub device: String,
    /// `tcx`, `clsact` or `xdp`.
    pub hook: String,
    outcome: Outcome,
    /// The hook in force of a cut, else the reason.
    detail: String,
}

impl Cell {
    /// Reads a line that the test printed.
    pub fn read(line: &str) -> Result<Self> {
        let mut words = line.split('\t').map(|word| word.trim().to_owned());
        let (Some(device), Some(hook), Some(outcome)) = (words.next(), words.next(), words.next()) else {
            bail!("a cell has at least three words, not `{line}`");
        };
        let outcome = Outcome::read(&outcome).with_context(|| format!("no outcome is named `{outcome}`"))?;
        Ok(Self { device, hook, outcome, detail: words.next().unwrap_or_default() })
    }

    fn line(&self) -> String {
        let Self { device, hook, outcome, detail } = self;
        format!("{device}\t{hook}\t{}\t{detail}", outcome.row().0)
    }

    /// Whether another try of the same came out better.
    pub fn is_worse_than(&self, other: &Self) -> bool {
        self.outcome.row().2 < other.outcome.row().2
    }

    /// The outcome as the page shows it.
    pub fn shown(&self) -> &'static str {
        self.outcome.row().1
    }

    /// The reason; for a cut, the hook in force.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// A column of the matrix: a kernel on which all was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelColumn {
    /// The series of kernels that it represents, such as `6.12`.
    pub series: String,
    /// Its version, as the page shows it.
    pub version: String,
    /// The day.
    pub date: String,
    /// The results.
    pub cells: Vec<Cell>,
}

impl KernelColumn {
    fn cell(&self, device: &str, hook: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.device == device && cell.hook == hook)
    }

    /// The numbers of its version, by which kernels are in order.
    fn numbers(&self) -> Vec<u32> {
        self.version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    }

    /// The heading of its column: `6.12`.
    fn name(&self) -> String {
        self.numbers().iter().take(2).map(u32::to_string).collect::<Vec<_>>().join(".")
    }
}

/// All kernels.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matrix(Vec<KernelColumn>);

impl Matrix {
    /// The stored matrix; empty if there is no such file.
    pub fn load() -> Result<Self> {
        let file = workspace().join(STORED);
        match fs::read_to_string(&file) {
            Ok(text) => Self::read(&text).with_context(|| format!("reading {}", file.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    fn read(text: &str) -> Result<Self> {
        let mut matrix = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(4, '\t').map(str::to_owned);
            let (Some(series), Some(version), Some(date), Some(cell)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                bail!("a line has at least six words, not `{line}`");
            };
            let cell = Cell::read(&cell)?;
            match matrix.0.iter_mut().find(|tried| tried.series == series) {
                Some(tried) => tried.cells.push(cell),
                None => matrix.0.push(KernelColumn { series, version, date, cells: vec![cell] }),
            }
        }
        Ok(matrix)
    }

    /// The result of an earlier trial on a series of kernels.
    pub fn cell(&self, series: &str, device: &str, hook: &str) -> Option<&Cell> {
        self.0.iter().find(|tried| tried.series == series)?.cell(device, hook)
    }

    /// Takes in what was found on a kernel, in place of what was known of its series; of the same kernel, what was not tried
    /// again stays.
    pub fn take(&mut self, mut tried: KernelColumn) {
        if let Some(known) = self.0.iter().find(|known| known.version == tried.version) {
            let is_new = |cell: &&Cell| tried.cell(&cell.device, &cell.hook).is_none();
            let others: Vec<Cell> = known.cells.iter().filter(is_new).cloned().collect();
            tried.cells.extend(others);
        }
        tried.cells.sort_by_key(order);
        self.0.retain(|known| known.series != tried.series);
        self.0.push(tried);
        self.0.sort_by_key(KernelColumn::numbers);
    }

    /// Stores it, and writes the page.
    pub fn store(&self) -> Result<PathBuf> {
        let page = workspace().join(PAGE);
        for (file, text) in [(workspace().join(STORED), self.text()), (page.clone(), self.page())] {
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(page)
    }

    fn text(&self) -> String {
        let lines = self.0.iter().flat_map(|KernelColumn { series, version, date, cells }| {
            cells.iter().map(move |cell| format!("{series}\t{version}\t{date}\t{}\n", cell.line()))
        });
        lines.collect()
    }

    fn page(&self) -> String {
        let mut text = HEAD.to_owned();
        for tried in &self.0 {
            let _ = writeln!(text, "- Linux {}: {}, tried on {}", tried.name(), tried.version, tried.date);
        }
        let names: Vec<String> = self.0.iter().map(|tried| format!("Linux {}", tried.name())).collect();
        let _ = writeln!(text, "\n| device | hook | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|---{}|", "|---".repeat(names.len()));
        let cells = self.0.iter().flat_map(|tried| &tried.cells);
        let rows: BTreeSet<_> = cells.map(order).collect();
        let mut reasons: Vec<String> = Vec::new();
        for (_, device, hook) in &rows {
            let columns = self.0.iter().map(|tried| shown(tried.cell(device, hook), hook, &mut reasons));
            let columns: Vec<String> = columns.collect();
            let _ = writeln!(text, "| {device} | {hook} | {} |", columns.join(" | "));
        }
        if !reasons.is_empty() {
            text += "\n## Reasons\n\n";
        }
        for (reason, number) in reasons.iter().zip(1..) {
            let _ = writeln!(text, "{number}. {reason}");
        }
        text
    }
}

/// The order of cells: by the device, whatever the size of its letters, then by the hook.
fn order(cell: &Cell) -> (String, String, String) {
    (cell.device.to_lowercase(), cell.device.clone(), cell.hook.clone())
}

/// A cell of the table; a reason gets a number.
fn shown(cell: Option<&Cell>, hook: &str, reasons: &mut Vec<String>) -> String {
    let Some(cell) = cell else { return "not run".to_owned() };
    let (word, detail) = (cell.shown(), cell.detail());
    if detail.is_empty() || (cell.outcome == Outcome::Cut && detail == hook) {
        return word.to_owned();
    }
    if cell.outcome == Outcome::Cut {
        return format!("{word} ({detail})");
    }
    let number = reasons.iter().position(|known| known == detail).unwrap_or_else(|| {
        reasons.push(detail.to_owned());
        reasons.len() - 1
    });
    format!("{word} ({})", number + 1)
}

/// The beginning of the page.
const HEAD: &str = "# On which devices a cut works

Each cell of the table is one try in a virtual machine that boots the kernel: a real daemon attaches to
devices of three peers in network namespaces, and cuts the first and the second off from each other. *cut* means that all of this
held:

- before the cut, traffic flowed between all three;
- the cut stopped every datagram between the two, both ways, over IPv4 and IPv6, and counted it;
- no sender saw an error: no call failed, not even with `ENOBUFS` or `EPERM`;
- the third peer's traffic with both of them went on;
- the heal brought the traffic back.

In brackets is the hook in force, where that is not the one that was asked for: `xdp-generic` is XDP in the network stack, since
the driver has none; where the kernel has no TCX, XDP has clsact for what leaves. A number leads to the reason below the table.
*refused* means that the daemon says why it does not cut there, and does nothing. *not run* means that nobody has tried.

A VLAN, macvlan, ipvlan or tunnel lies on a device of another namespace, as a container's does, and is hooked itself. Netkit is in
its default mode, L3. A queueing discipline is the root one of each peer's veth.

`cargo xtask vm --matrix` makes this page, with one kernel after the other; `cargo xtask vm --matrix --kernel 6.12 netkit` tries one device
again, and `cargo xtask vm --matrix --short` some of them on Linux 6.12, where it fails if one is worse than here. The kernels are
Debian's, for clouds, and were emulated:

";

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(series: &str, version: &str, lines: &[&str]) -> KernelColumn {
        let cells = lines.iter().map(|line| Cell::read(line).unwrap()).collect();
        KernelColumn {
            series: series.to_owned(),
            version: version.to_owned(),
            date: "2026-01-02".to_owned(),
            cells,
        }
    }

    #[test]
    fn the_page_is_what_is_stored() {
        let page = fs::read_to_string(workspace().join(PAGE)).unwrap();
        assert_eq!(Matrix::load().unwrap().page(), page, "run `cargo xtask vm --matrix`");
    }

    #[test]
    fn a_run_replaces_its_own_series_and_is_read_back() {
        let mut matrix = Matrix::default();
        matrix.take(tried("newer", "7.0.1-cloud-amd64", &["bond\ttcx\tcut\ttcx"]));
        matrix.take(tried("6.1", "6.1.0-1-cloud-amd64", &["bond\ttcx\tno-device\treplaced later"]));
        let lines = [
            "VXLAN\txdp\tcut\txdp-generic+clsact",
            "bond\ttcx\tno-hook\tno TCX",
            "veth\ttcx\tno-hook\tno TCX",
        ];
        matrix.take(tried("6.1", "6.1.0-2-cloud-amd64", &lines));
        assert_eq!(Matrix::read(&matrix.text()).unwrap(), matrix);
        matrix.take(tried("6.1", "6.1.0-2-cloud-amd64", &["bond\ttcx\tno-hook\tno TCX"]));
        assert_eq!(matrix.cell("6.1", "veth", "tcx").unwrap().detail(), "no TCX", "it was not tried again");
        let page = matrix.page();
        for line in [
            "| device | hook | Linux 6.1 | Linux 7.0 |",
            "| bond | tcx | no such hook (1) | cut |",
            "| veth | tcx | no such hook (1) | not run |",
            "| VXLAN | xdp | cut (xdp-generic+clsact) | not run |",
            "1. no TCX",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(page.find("| veth |").unwrap() < page.find("| VXLAN |").unwrap(), "{page}");
        assert!(!page.contains("replaced later"), "{page}");
    }

    #[test]
    fn what_is_worse() {
        let cell = |word: &str| Cell::read(&format!("bond\ttcx\t{word}\twhy")).unwrap();
        for (one, other) in [("refused", "cut"), ("no-device", "refused"), ("leaks", "no-hook")] {
            assert!(cell(one).is_worse_than(&cell(other)), "{one}, {other}");
            assert!(!cell(other).is_worse_than(&cell(one)), "{other}, {one}");
        }
        assert!(!cell("cut").is_worse_than(&cell("cut")));
        assert!(Cell::read("bond\ttcx\tmagic").is_err() && Cell::read("bond\ttcx").is_err());
    }
}
