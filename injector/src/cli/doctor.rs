//! `injector doctor`: can this host do it; who else is on the hooks; leftovers. Needs no daemon.

use std::fmt::Write as _;

use super::args::{Common, Doctor as Args};
use super::failure::{Exit, Failure};
use super::human::{NONE, or_none};
use super::show;
use crate::datapath::Sweep;
use crate::doctor::{self, Findings, Verdict};
use injector_core::config::Config;

pub(super) async fn run(common: &Common, args: Args) -> Result<Exit, Failure> {
    if common.host.is_some() {
        return Err(Failure::usage(
            "doctor looks at this host; run it there (`ssh HOST sudo injector doctor`)",
        ));
    }
    let config = args.config.map(Config::load).transpose()?;
    let what = if args.clean { Sweep::Remove } else { Sweep::FactsReading };
    let findings = doctor::examine(config.as_ref(), what).await;
    show(common, &findings, || describe(&findings))?;
    Ok(if findings.prevents() { Exit::NOT_RECOVERED } else { Exit::OK })
}

fn describe(findings: &Findings) -> String {
    let mut text = String::new();
    for check in &findings.checks {
        let mark = match check.verdict {
            Verdict::Fine => "ok      ",
            Verdict::Note => "note    ",
            Verdict::Prevents => "PREVENTS",
        };
        let _ = write!(text, "{mark}  {}: {}", check.what, check.found);
        let _ = writeln!(text, "{}", check.remedy.map_or_else(String::new, |remedy| format!("; {remedy}")));
    }
    for hooked in &findings.interfaces {
        let mark = if hooked.error.is_some() { "PREVENTS" } else { "ok      " };
        let programs = if hooked.programs.is_empty() { NONE.to_owned() } else { hooked.programs.join(", ") };
        let found = hooked.error.clone().unwrap_or_else(|| {
            format!("on its TC hooks: {programs}; on XDP: {}", or_none(hooked.xdp.as_deref()))
        });
        let _ = writeln!(text, "{mark}  interface {}: {found}", hooked.interface);
    }
    if findings.leftovers.is_empty() {
        text.push_str("ok        no filters of other daemons\n");
    }
    for leftover in &findings.leftovers {
        let _ = writeln!(text, "found     {leftover}");
    }
    for unseen in &findings.unseen {
        let _ = writeln!(text, "unseen    {unseen}");
    }
    text
}
