//! What a daemon takes, how long its answers take, and both as a table.

use std::fmt::Write as _;
use std::time::Duration;

/// What a process takes at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub memory_kib: u64,
    /// Of that, what is not pages of files: the program's own are many in a debug build.
    pub own_kib: u64,
    pub descriptors: usize,
    pub bpf_maps: usize,
    /// Areas of its address space.
    pub areas: usize,
    pub threads: usize,
}

impl Usage {
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        // One that was closed meanwhile leads nowhere.
        let targets: Vec<_> = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok()).collect();
        Self {
            memory_kib: number("VmRSS:"),
            own_kib: number("RssAnon:"),
            descriptors: targets.len(),
            bpf_maps: targets.iter().filter(|target| target.ends_with("anon_inode:bpf-map")).count(),
            areas: std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines().count(),
            threads: number("Threads:") as usize,
        }
    }

    /// What a process takes, without the descriptors and the rest that it has for a moment only: on a busy machine, the connections
    /// of clients that have gone.
    fn at_rest(pid: u32) -> Self {
        let mut least = Self::of(pid);
        for _ in 0..9 {
            std::thread::sleep(Duration::from_millis(100));
            let now = Self::of(pid);
            least = Self {
                descriptors: least.descriptors.min(now.descriptors),
                bpf_maps: least.bpf_maps.min(now.bpf_maps),
                areas: least.areas.min(now.areas),
                threads: least.threads.min(now.threads),
                ..now
            };
        }
        least
    }
}

/// The most memory that a process has had since the last [`reset_peak`].
pub fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Has the peak count from now on.
pub fn reset_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// How long answers took.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that this share of the answers did not exceed, in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted[at.clamp(1, sorted.len()) - 1].as_secs_f64() * 1e3
    }
}

/// A soak under way: how often it takes stock, and what it found.
pub struct Soak {
    unit: &'static str,
    rounds: usize,
    rows: Vec<(usize, Usage)>,
    text: String,
    /// Applies and heals since stock was last taken,
    applies: Times,
    heals: Times,
    /// and all heals.
    all_heals: Times,
}

/// What the daemon may take without pages of files: some 12 MiB after its start in a debug build, and what it keeps.
const OWN_KIB: u64 = 40 * 1024;

/// How many records the daemon keeps, and by then as many events as it keeps.
const KEPT: usize = 1000;

/// How often stock is taken in one soak: each time the network is looked at, too, which takes a second or two.
const STOCKS: usize = 10;
/// The same in a short form, and up to how many rounds that is.
const FEW: (usize, usize) = (2, 100);

impl Soak {
    pub fn new(unit: &'static str, rounds: usize) -> Self {
        let text = format!(
            "| {unit} | memory | without files | descriptors | BPF maps | memory areas | threads | apply, median | apply, p99 | heal, \
             median | heal, p99 |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
        );
        let (rows, applies, heals, all_heals) = Default::default();
        Self { unit, rounds, rows, text, applies, heals, all_heals }
    }

    pub fn applied(&mut self, took: Duration) {
        self.applies.add(took);
    }

    pub fn healed(&mut self, took: Duration) {
        self.heals.add(took);
        self.all_heals.add(took);
    }

    /// Whether stock is to be taken after so many rounds.
    pub fn is_due(&self, round: usize) -> bool {
        let stocks = if self.rounds < FEW.1 { FEW.0 } else { STOCKS };
        round.is_multiple_of(self.rounds.div_ceil(stocks)) || round == self.rounds
    }

    /// Takes stock; `count` is in the soak's unit.
    pub fn take_stock(&mut self, count: usize, pid: u32) {
        let usage = Usage::at_rest(pid);
        let Usage { memory_kib, own_kib, descriptors, bpf_maps, areas, threads } = usage;
        let (applies, heals) = (std::mem::take(&mut self.applies), std::mem::take(&mut self.heals));
        writeln!(
            self.text,
            "| {count} | {:.1} MiB | {:.1} MiB | {descriptors} | {bpf_maps} | {areas} | {threads} | {:.2} ms | {:.2} ms | {:.2} ms | \
             {:.2} ms |",
            memory_kib as f64 / 1024.0,
            own_kib as f64 / 1024.0,
            applies.quantile(0.5),
            applies.quantile(0.99),
            heals.quantile(0.5),
            heals.quantile(0.99),
        )
        .unwrap();
        self.rows.push((count, usage));
    }

    /// Writes the table where `INJECTOR_SOAK_RESULTS` says, and fails if the daemon took more and more.
    pub fn end(mut self, remark: &str) {
        let heals = self.all_heals.0.len();
        writeln!(
            self.text,
            "\nOf {heals} heals the slowest took {:.1} ms. {remark}",
            self.all_heals.quantile(1.0)
        )
        .unwrap();
        println!("{}", self.text);
        if let Some(path) = std::env::var_os("INJECTOR_SOAK_RESULTS") {
            std::fs::write(path, &self.text).unwrap();
        }
        let (_, last) = self.rows[self.rows.len() - 1];
        // What is kept grows until then, in a soak that goes so far.
        let full = self.rows[..self.rows.len() - 1].iter().find(|(count, _)| *count >= KEPT);
        let (begun, first) = *full.unwrap_or(&self.rows[0]);
        let since = format!("since {begun} {}:\n{}", self.unit, self.text);
        assert!(last.memory_kib < first.memory_kib + 16 * 1024, "memory grew {since}");
        assert!(last.own_kib < OWN_KIB, "{}", self.text);
        assert!(last.descriptors <= first.descriptors + 8, "descriptors grew {since}");
        assert_eq!(last.bpf_maps, first.bpf_maps, "BPF maps {since}");
        assert!(last.areas <= first.areas + 64, "memory areas grew {since}");
        assert!(last.threads <= first.threads + 4, "threads grew {since}");
        // One in a hundred may, and one of fewer: a busy machine holds up one now and then.
        let bound = Duration::from_millis(100).mul_f64(patience());
        let late = self.all_heals.0.iter().filter(|took| **took >= bound).count();
        assert!(late <= (heals / 100).max(1), "{late} heals took {bound:?} or longer:\n{}", self.text);
        let slowest = Duration::from_secs_f64(self.all_heals.quantile(1.0) / 1000.0);
        assert!(slowest < bound * 10, "{slowest:?}:\n{}", self.text);
    }
}

/// How many times as long a busy machine may take.
fn patience() -> f64 {
    std::env::var("INJECTOR_SOAK_PATIENCE").map_or(4.0, |value| value.parse().unwrap())
}
