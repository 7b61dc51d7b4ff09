//! A recovery record as text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::human::{
    NONE, Table, after, healer, lower_bound, or_none, span, span_or_none, wall, word, yes_no,
};
use injector_core::api::{
    CheckForm, CoverageState, FailOver, HostRecord, InForce, LinkCheck, LinkRecord, Outage, Outcome,
    RecoveryRecord,
};
use injector_core::figures::counted;
use injector_core::measure::{LinkEvent, STARVED_REMEDY};
use injector_core::model::{NamedLink, Traffic};

/// The verdict first, then what happened when; every time counts from the heal.
pub(super) fn text(record: &RecoveryRecord) -> String {
    let mut text = format!("{}: {}\n", record.name, verdict(record));
    starved(&mut text, record);
    coverage(&mut text, record);
    lost_by_heal(&mut text, record);
    cut_and_heal(&mut text, record);
    if record.heal.is_some() {
        phases(&mut text, record);
        endpoints(&mut text, record);
        outages(&mut text, record);
    }
    links(&mut text, record);
    doubts(&mut text, record);
    text
}

fn verdict(record: &RecoveryRecord) -> String {
    let deadline = span(record.deadline_ns);
    let reason = record.outcome_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match record.outcome {
        None if record.cut.is_none() => "not cut yet, nothing is decided".to_owned(),
        None if record.heal.is_none() => "still cut, nothing is decided".to_owned(),
        None => "healed, not yet decided".to_owned(),
        Some(Outcome::Recovered) => format!("recovered (deadline {deadline}){reason}"),
        Some(Outcome::NotRecovered) => format!("NOT recovered within {deadline} of the heal{reason}"),
        Some(outcome) => format!("{}{reason}", word(&outcome)),
    }
}

/// What makes every time below doubtful, and what to do.
fn starved(text: &mut String, record: &RecoveryRecord) {
    if !record.starved {
        return;
    }
    let HostRecord { probe_lateness_p99_ns: late, cpu_pressure: pressure, .. } = &record.host;
    let lateness = late.map(|late| format!("probe lateness p99 {}", span_or_none(Some(late))));
    let pressure = pressure.map(|share| format!("CPU pressure {share:.2}"));
    let signs: Vec<String> = lateness.into_iter().chain(pressure).collect();
    let signs = if signs.is_empty() { String::new() } else { format!(" ({})", signs.join(", ")) };
    let is_in_verdict = record.outcome_reason.as_ref().is_some_and(|reason| reason.contains(STARVED_REMEDY));
    let remedy = if is_in_verdict { String::new() } else { format!("; {STARVED_REMEDY}") };
    let _ = writeln!(text, "  starved  this host was too busy to measure well{signs}{remedy}");
}

/// The endpoints that served at the heal and were out after it: there the heal was the fault, not the cut.
fn lost_by_heal(text: &mut String, record: &RecoveryRecord) {
    let lost: Vec<(&str, u64, bool)> = record
        .endpoints
        .iter()
        .filter_map(|endpoint| {
            let outage = endpoint.outage.as_ref()?;
            let ns = outage.lost_by_heal_ns.filter(|&ns| ns > 0)?;
            Some((endpoint.name.as_str(), ns, outage.open))
        })
        .collect();
    let Some(&(_, most, _)) = lost.iter().max_by_key(|(_, ns, _)| ns) else { return };
    let names: Vec<&str> = lost.iter().take(NAMED).map(|&(name, ..)| name).collect();
    let more = lost.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let were = if lost.len() == 1 { "was" } else { "were" };
    let time = match (lost.iter().any(|&(_, _, open)| open), lost.len()) {
        (true, _) => format!("at least {}", lower_bound(most)),
        (false, 1) => span(most),
        (false, _) => format!("up to {}", span(most)),
    };
    let _ = writeln!(
        text,
        "  lost     {}{more} served at the heal and {were} out after it, {time}",
        names.join(", ")
    );
}

/// The links that the verdict does not speak of, or speaks of with less than certainty.
fn coverage(text: &mut String, record: &RecoveryRecord) {
    let names = |is: &dyn Fn(&LinkRecord) -> bool| -> Option<String> {
        let links: Vec<String> = record.links.iter().filter(|link| is(link)).map(name).collect();
        let more = links.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!links.is_empty()).then(|| format!("{}{more}", links[..links.len().min(NAMED)].join(", ")))
    };
    let state = |link: &LinkRecord| link.coverage.as_ref().map(|coverage| coverage.state);
    if let Some(links) = names(&|link| link.left_out) {
        let _ = writeln!(
            text,
            "  left out {links}: not covered, left out on purpose, and no part of the verdict"
        );
    }
    if let Some(links) = names(&|link| !link.left_out && state(link) == Some(CoverageState::Unknown)) {
        let _ = writeln!(text, "  coverage unknown for {links}: not all devices of either end are known");
    }
    // Covered links have a reason too where the config leaves a device out, or NAT translates between the peers.
    let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for link in record.links.iter().filter(|link| state(link) == Some(CoverageState::Covered)) {
        if let Some(reason) = link.coverage.as_ref().and_then(|coverage| coverage.reason.as_deref()) {
            told.entry(reason).or_default().push(name(link));
        }
    }
    for (reason, links) in told.into_iter().take(NAMED) {
        let more = links.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {}", counted(more, "other link")) } else { String::new() };
        let _ = writeln!(text, "  coverage of {}{more}: {reason}", links[0]);
    }
}

/// The links, or endpoints, that a line names.
const NAMED: usize = 6;

fn name(link: &LinkRecord) -> String {
    NamedLink { src: link.src.clone(), dst: link.dst.clone() }.to_string()
}

fn cut_and_heal(text: &mut String, record: &RecoveryRecord) {
    let seed = record.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    let shape = record.shape.words();
    let _ = writeln!(text, "  shape    {shape} (generation {}{seed})", record.generation);
    // Records of older versions have the direction alone.
    let traffic = record.traffic.as_ref().map(Traffic::describe);
    let traffic =
        traffic.unwrap_or_else(|| format!("direction {}, the rest not recorded", record.shape.direction));
    let _ = writeln!(text, "  traffic  {traffic}");
    let cut = record.cut.map(|cut| wall(cut.wall));
    let _ = writeln!(text, "  cut      {}, held {}", or_none(cut), span_or_none(record.hold_ns));
    let by = record.healed_by.map(|by| format!(", {}", healer(by))).unwrap_or_default();
    let _ = writeln!(text, "  heal     {}{by}", or_none(record.heal.map(|heal| wall(heal.wall))));
    let after_heal = |ns: Option<u64>| {
        or_none(ns.map(|ns| match ns {
            0 => "at the heal".to_owned(),
            ns => format!("{} after the heal", span(ns)),
        }))
    };
    let _ = writeln!(text, "  ready    {}", after_heal(record.heal_to_ready_ns));
    let _ = writeln!(text, "  settled  {}", after_heal(record.heal_to_settled_ns));
}

fn phases(text: &mut String, record: &RecoveryRecord) {
    let phases = &record.phases;
    let last = phases.last_link.as_ref().map(|link| format!("last first packet on {link}"));
    let settled = record.heal.zip(record.heal_to_settled_ns);
    let settled = settled.map(|(heal, ns)| heal.end_ns + Duration::from_nanos(ns));
    let carries = LinkEvent::reconnected(&record.links, settled);
    let carries = match (carries.last, carries.never.first()) {
        (Some((link, _)), _) if carries.late.is_empty() => format!("the last link carries, {}", link.named()),
        (Some((link, _)), _) => format!("{} carries, the last before settled", link.named()),
        (None, Some(link)) => format!("the last link carries; {} has not", link.named()),
        (None, None) => "the last link carries".to_owned(),
    };
    let mut table = Table::new(["phase", "took", "until"]);
    for (phase, took, until) in [
        ("silence", phases.silence_ns, last.as_deref().unwrap_or("the last link's first packet")),
        ("reconnect", phases.reconnect_ns, carries.as_str()),
        ("return", phases.return_ns, "all required endpoints are ready"),
        ("relapse", phases.relapse_ns, "settled"),
    ] {
        table.row([phase.to_owned(), span_or_none(took), until.to_owned()]);
    }
    let _ = write!(text, "\n{table}");
}

fn endpoints(text: &mut String, record: &RecoveryRecord) {
    if record.endpoints.is_empty() {
        return;
    }
    let heal = record.heal.map(|heal| heal.end_ns);
    let mut table = Table::new([
        "endpoint", "role", "impaired", "first ok", "ready", "settled", "relapses", "failed", "outcome",
    ]);
    for endpoint in &record.endpoints {
        table.row([
            endpoint.name.clone(),
            if endpoint.required { "required" } else { "advisory" }.to_owned(),
            yes_no(endpoint.impaired),
            after(heal, endpoint.first_ok_ns),
            after(heal, endpoint.ready_ns),
            after(heal, endpoint.settled_ns),
            endpoint.relapses.to_string(),
            format!("{} of {}", endpoint.probes_failed, endpoint.probes_sent),
            or_none(endpoint.outcome.map(|outcome| word(&outcome))),
        ]);
    }
    let _ = write!(text, "\n{table}");
}

fn outages(text: &mut String, record: &RecoveryRecord) {
    let mut table = Table::new([
        "endpoint",
        "out",
        "in all",
        "longest",
        "before the heal",
        "after it",
        "fail-over",
        "lost by the heal",
        "stall",
    ]);
    let mut bounds = Vec::new();
    for endpoint in &record.endpoints {
        let Some(outage) = &endpoint.outage else { continue };
        bounds.push(outage.served_within_ns);
        let fail_over = match outage.fail_over {
            None if outage.unseen => "unseen".to_owned(),
            None => NONE.to_owned(),
            Some(FailOver::NeverOut) => "never out".to_owned(),
            Some(FailOver::Back) => span_or_none(outage.fail_over_ns),
            Some(FailOver::NotBack) => "not back".to_owned(),
        };
        // What was open at the end of the watch lasted at least so long.
        let at_least = |ns: Option<u64>| match ns {
            Some(ns) if outage.open => format!("≥ {}", lower_bound(ns)),
            ns => span_or_none(ns),
        };
        table.row([
            endpoint.name.clone(),
            times(outage),
            at_least(outage.sum_ns),
            at_least(outage.longest_ns),
            span_or_none(outage.before_heal_ns),
            at_least(Some(outage.after_heal_ns)),
            fail_over,
            at_least(outage.lost_by_heal_ns),
            span_or_none(outage.stall_ns),
        ]);
    }
    if bounds.is_empty() {
        return;
    }
    bounds.sort_unstable();
    bounds.dedup();
    let within: Vec<String> = bounds.into_iter().map(span).collect();
    let _ = write!(text, "\n{table}");
    let _ = writeln!(text, "served within {}", within.join(", "));
    for outage in record.outage.iter().flatten() {
        let at_least = |ns| format!("at least {}", lower_bound(ns));
        let whole = |ns: Option<u64>| match ns {
            Some(ns) if outage.open => at_least(ns),
            ns => span_or_none(ns),
        };
        let is_lower = outage.without_data > 0 || outage.open;
        let some = |ns| if is_lower { at_least(ns) } else { span(ns) };
        let _ = writeln!(
            text,
            "{}: all {} out for {}, some out for {} ({} of it after the heal), {} each on average",
            outage.name,
            outage.endpoints,
            whole(outage.all_ns),
            some(outage.some_ns),
            some(outage.some_after_heal_ns),
            whole(outage.share_ns)
        );
    }
}

/// How often an endpoint was out: where nothing is known of the time before the heal, at least so often.
fn times(outage: &Outage) -> String {
    let at_least = if outage.is_known_before_heal() { "" } else { "≥ " };
    match outage.windows.len() {
        0 if !outage.is_known_before_heal() => NONE.to_owned(),
        1 => format!("{at_least}once"),
        count => format!("{at_least}{count} times"),
    }
}

fn links(text: &mut String, record: &RecoveryRecord) {
    if record.links.is_empty() {
        return;
    }
    let heal = record.heal.map(|heal| heal.end_ns);
    let mut table =
        Table::new(["link", "cut", "dropped", "first packet", "SYN", "SYN-ACK", "first data", "carries"]);
    for link in &record.links {
        let name = NamedLink { src: link.src.clone(), dst: link.dst.clone() };
        table.row([
            name.to_string(),
            cut(link).to_owned(),
            link.dropped_packets.map_or_else(|| NONE.to_owned(), |dropped| dropped.to_string()),
            after(heal, link.first_packet_ns),
            after(heal, link.first_syn_ns),
            after(heal, link.first_synack_ns),
            after(heal, link.first_data_ns),
            after(heal, link.reconnected_ns),
        ]);
    }
    let _ = write!(text, "\n{table}");
    checks(text, record);
    sockets(text, record);
}

/// What the active check saw, link by link.
fn checks(text: &mut String, record: &RecoveryRecord) {
    let mut table =
        Table::new(["active check", "control", "by", "sent", "arrived after the cut", "before the heal"]);
    let mut nothing = Vec::new();
    let count = |count: Option<u64>| or_none(count.map(|count| count.to_string()));
    for link in &record.links {
        let Some(check) = &link.check else { continue };
        let name = NamedLink { src: link.src.clone(), dst: link.dst.clone() }.to_string();
        if let Some(why) = &check.why_not {
            nothing.push(format!("{name}: the active check says nothing: {why}"));
        }
        table.row([
            name,
            count(check.control),
            forms(check),
            check.sent.to_string(),
            count(check.arrived_after_cut),
            count(check.arrived_before_heal),
        ]);
    }
    if record.links.iter().any(|link| link.check.is_some()) {
        let _ = write!(text, "\n{table}");
    }
    for line in nothing {
        let _ = writeln!(text, "{line}");
    }
}

/// The forms of frame that say something of a link.
fn forms(check: &LinkCheck) -> String {
    let word = |form: &CheckForm| match form {
        CheckForm::Ethertype => "ethertype",
        CheckForm::Ip => "IP",
    };
    let words: Vec<&str> = check.forms.iter().map(word).collect();
    if words.is_empty() { NONE.to_owned() } else { words.join(", ") }
}

/// What is known of a link's cut, in a word.
fn cut(link: &LinkRecord) -> &'static str {
    match link.in_force {
        _ if link.left_out => "left out",
        _ if link.proved => "proved",
        Some(InForce::Yes) => "in force",
        Some(InForce::No) => "NOT IN FORCE",
        Some(InForce::Unknown) => "unknown",
        None => NONE,
    }
}

/// The senders' sockets just before the deadline: what a stuck connection was waiting for.
fn sockets(text: &mut String, record: &RecoveryRecord) {
    let mut table = Table::new(["socket near the deadline", "state", "RTO", "backoff", "retransmits"]);
    let mut any = false;
    for link in &record.links {
        for socket in link.tcp.iter().flatten() {
            any = true;
            table.row([
                format!("{}:{}→{}:{}", link.src, socket.local_port, link.dst, socket.remote_port),
                socket.state.clone(),
                span(socket.rto_ns),
                socket.backoff.to_string(),
                socket.retransmits.to_string(),
            ]);
        }
    }
    if any {
        let _ = write!(text, "\n{table}");
    }
}

fn doubts(text: &mut String, record: &RecoveryRecord) {
    let mut doubts = Vec::new();
    if record.heal.is_some() && !record.proved {
        doubts.push("the cut is not proved".to_owned());
    }
    for link in &record.links {
        if !link.still_cut_by.is_empty() {
            doubts.push(format!(
                "{}→{} was still cut by {}",
                link.src,
                link.dst,
                link.still_cut_by.join(", ")
            ));
        }
        let name = format!("{}→{}", link.src, link.dst);
        if let Some(packets @ 1..) = link.leaked_packets {
            doubts.push(format!(
                "{} passed on {name}, sent with the MAC address or from the port of {}",
                counted(packets, "packet"),
                link.src
            ));
        }
        if link.unnamed_packets > 0 {
            doubts.push(format!(
                "{} that may be {name}'s passed: nothing names one of the ends",
                counted(link.unnamed_packets, "packet")
            ));
        }
        if link.hooks_unread {
            doubts.push(format!(
                "the hooks of {name} were not read after the heal, so that a program that was placed ahead of the injector's would not be known"
            ));
        }
        if let Some(bytes) = link.crossed_bytes.filter(|bytes| *bytes > 0) {
            doubts.push(format!("TCP connections on {name} received {bytes} bytes during the cut"));
        }
        if let Some(flows @ 1..) = link.crossed_flows {
            doubts.push(format!(
                "{} on {name} carried packets during the cut with other addresses at both ends, which NAT gave them",
                counted(flows, "flow")
            ));
        }
        if let Some(packets @ 1..) = link.late_packets {
            doubts.push(format!(
                "only the receiver's port dropped {} on {name}: some of {}'s paths pass no hook of ours",
                counted(packets, "packet"),
                link.src
            ));
        }
        for bypass in &link.bypassed {
            doubts.push(format!(
                "{name} could be bypassed for {}: {}: {}",
                after(Some(bypass.time.from_ns), bypass.time.until_ns),
                bypass.interface,
                bypass.why
            ));
        }
        for gap in &link.uncovered {
            doubts.push(format!(
                "{}→{} was not covered on {} for {}",
                link.src,
                link.dst,
                gap.interface,
                after(Some(gap.time.from_ns), gap.time.until_ns)
            ));
        }
    }
    doubts.extend(record.warnings.iter().map(ToString::to_string));
    if let Some(other) = &record.closed_by {
        doubts.push(format!("partition {other} began before this record was final"));
    }
    if let Some(lost @ 1..) = record.lost_events {
        doubts.push(format!("{} lost", counted(lost, "event")));
    }
    if !record.is_final && record.outcome.is_some() {
        doubts.push("the observation continues".to_owned());
    }
    if !doubts.is_empty() {
        text.push('\n');
    }
    for doubt in doubts {
        let _ = writeln!(text, "note: {doubt}");
    }
}

#[cfg(test)]
mod tests;
