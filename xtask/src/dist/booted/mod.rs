//! The package's unit, started, reloaded, killed and stopped by the systemd of a Debian root. The root is booted as a container
//! is: in namespaces and a group of cgroups of its own.

use anyhow::{Result, ensure};

use crate::command::{as_root, check_interrupt};
use crate::debian::{Root, said};

/// What makes the group of cgroups, and removes it;
const AROUND: &str = include_str!("around.sh");
/// what makes the machine's view of files, and becomes systemd;
const INSIDE: &str = include_str!("inside.sh");
/// what the machine does once it is up,
const TRIAL: &str = include_str!("trial.sh");
/// and the unit that does it and then ends the machine.
const UNIT: &str = include_str!("trial.service");

/// The Debian packages of a machine with systemd.
const PACKAGES: [&str; 4] = ["iproute2", "procps", "systemd", "systemd-sysv"];

/// Boots a root in which the package is installed, and tries its unit.
///
/// # Errors
/// The machine does not come up, or a step of the trial fails.
pub fn run(root: &Root) -> Result<()> {
    root.reach_the_network()?;
    let install = format!(
        "apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends {}",
        PACKAGES.join(" ")
    );
    root.expect(&["sh", "-c", &install], 0, "")?;
    root.write("trial.sh", TRIAL)?;
    root.write("etc/systemd/system/trial.service", UNIT)?;
    root.expect(&["systemctl", "set-default", "multi-user.target"], 0, "")?;
    root.expect(&["systemctl", "add-wants", "multi-user.target", "trial.service"], 0, "")?;
    println!("  in the root: systemd, which starts, reloads and stops the unit");
    let mut machine = as_root("unshare")?;
    machine.args(["--mount", "--propagation", "private", "sh", "-c", AROUND, "sh"]).arg(root.path());
    machine.arg(format!("inj{}-dist", std::process::id())).arg(INSIDE);
    let (ended, console) = said(&mut machine)?;
    check_interrupt()?;
    let out = root.path().join("trial.out");
    let trial = std::fs::read_to_string(&out).unwrap_or_default();
    ensure!(
        ended == Some(0) && trial.ends_with("ended 0\n"),
        "the machine ended with {ended:?}; its console:\n{console}\nits trial:\n{trial}"
    );
    Ok(())
}
