//! What is on the hooks, asked of the kernel.

use std::process::Command;

use injector_lab::Lab;
use injector_lab::has_tcx;

/// Where the daemon's programs sit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Tcx,
    Xdp,
    Clsact,
}

impl Hook {
    /// Those that this kernel has.
    pub fn all() -> &'static [Self] {
        if has_tcx() { &[Self::Tcx, Self::Xdp, Self::Clsact] } else { &[Self::Xdp, Self::Clsact] }
    }

    /// Its word in a config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcx => "tc",
            Self::Xdp => "xdp",
            Self::Clsact => "clsact",
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Xdp => "xdp",
            Self::Clsact => "clsact",
        })
    }
}

/// What `bpf(BPF_PROG_QUERY)` takes and answers.
#[repr(C)]
#[derive(Default)]
struct Query {
    interface: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    unused: [u64; 3],
    revision: u64,
}

const PROG_QUERY: libc::c_int = 16;
const TCX: [u32; 2] = [46, 47];

/// The ids of all programs on an interface's TCX hooks.
fn tcx(lab: &Lab, node: &str) -> Vec<u32> {
    lab.within(node, || {
        // SAFETY: a string that ends with zero.
        let interface = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
        assert!(interface != 0, "{node} has no eth0");
        let mut found = Vec::new();
        for attach_type in TCX {
            let mut ids = [0_u32; 64];
            let ids_at = ids.as_mut_ptr() as u64;
            let mut query = Query { interface, attach_type, ids: ids_at, count: 64, ..Query::default() };
            // SAFETY: the attributes are as long as given and point to as many ids as given; both outlive the call.
            let answer =
                unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
            let error = std::io::Error::last_os_error();
            if answer == 0 {
                found.extend(&ids[..query.count as usize]);
            } else {
                assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "BPF_PROG_QUERY: {error}");
            }
        }
        found
    })
}

fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What may be on a node's hooks once the daemon has gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Others' programs alone.
    Others,
    /// And filters of ours that do nothing, until the next start.
    InertFilters,
}

/// What is wrong on a node's hooks, if anything is. `foreign` is the id of another's program on TCX; `filter` says whether
/// another has a filter on clsact.
pub fn fault(lab: &Lab, node: &str, foreign: Option<u32>, filter: bool, allowed: Allowed) -> Option<String> {
    if has_tcx() {
        let found = tcx(lab, node);
        let expected: Vec<u32> = foreign.into_iter().collect();
        if found != expected {
            return Some(format!("{node}: TCX has the programs {found:?}, others' are {expected:?}"));
        }
    }
    let netns = lab.netns(node);
    let link: serde_json::Value =
        serde_json::from_str(&run("ip", &["-n", &netns, "-d", "-j", "link", "show", "dev", "eth0"])).unwrap();
    if !link[0]["xdp"].is_null() {
        return Some(format!("{node}: XDP has {}", link[0]["xdp"]));
    }
    let filters = ["ingress", "egress"]
        .map(|side| run("tc", &["-n", &netns, "filter", "show", "dev", "eth0", side]))
        .concat();
    let has_qdisc = run("tc", &["-n", &netns, "qdisc", "show", "dev", "eth0"]).contains("clsact");
    if filter && !filters.contains("bytecode") {
        return Some(format!("{node}: another's filter is gone: {filters:?}"));
    }
    let ours = filters.contains("injector_");
    match allowed {
        Allowed::InertFilters if has_qdisc && !filter && !ours => {
            Some(format!("{node}: a clsact qdisc is left with nothing that says whose it is"))
        }
        Allowed::Others if ours => Some(format!("{node}: filters of ours are left: {filters}")),
        Allowed::Others if has_qdisc != filter => Some(format!("{node}: clsact is there: {has_qdisc}")),
        Allowed::InertFilters | Allowed::Others => None,
    }
}
