//! Whether a cut is proved, and why a trial says nothing about the cluster.

use std::time::Duration;

use super::words::seconds;
use super::{Evidence, as_asked, force};
use crate::api::{InForce, LinkRecord};
use crate::figures::counted;

/// A hold below this may end before a peer has sent anything: many clusters send their heartbeats once a second or less often.
const SHORT: Duration = Duration::from_secs(1);

/// Whether the cut as a whole is proved: some link is, and none was not in force.
pub(super) fn is_proved(links: &[LinkRecord]) -> bool {
    links.iter().any(|link| link.proved) && !links.iter().any(|link| link.in_force == Some(InForce::No))
}

/// Why the cut was not as asked, not in force or not proved: the trial says nothing about the cluster.
pub(super) fn harness_failure(evidence: &Evidence<'_>) -> Option<String> {
    let (Some(cut), Some(heal)) = (evidence.cut, evidence.heal) else {
        return Some("the cut never took effect".to_owned());
    };
    if let Some(reason) = as_asked::why_not(evidence, cut, heal) {
        return Some(reason);
    }
    let not_in_force = evidence.links.iter().find_map(|link| {
        let why = force::why_not(link, cut, heal)?;
        Some(format!("the cut of {}→{} was not in force: {why}", link.src, link.dst))
    });
    let judged = force::judged(evidence.links.clone(), evidence.cut, evidence.heal);
    let unknown = || {
        let link = judged.iter().find(|link| link.in_force == Some(InForce::Unknown))?;
        let why = why_unknown(link);
        Some(format!(
            "it is not known whether the cut of {}→{} was in force, and strict counts that as no: {why}",
            link.src, link.dst
        ))
    };
    let not_in_force = not_in_force.or_else(|| if evidence.is_strict { unknown() } else { None });
    not_in_force.or_else(|| {
        let is_doubted = |link: &&LinkRecord| link.unnamed_packets > 0 || link.hooks_unread;
        (!is_proved(&judged)).then(|| match judged.iter().find(is_doubted) {
            Some(link) => {
                format!("the cut is not proved: of {}→{}, {}", link.src, link.dst, why_unknown(link))
            }
            None => nothing_dropped(evidence, &judged, heal.begin_ns.saturating_since(cut.end_ns)),
        })
    })
}

/// Why nothing proves the cut, and what would. A cut that was held for so short a time needs a longer hold before anything else.
fn nothing_dropped(evidence: &Evidence<'_>, links: &[LinkRecord], held: Duration) -> String {
    let fact = format!(
        "the cut is not proved: no packet was dropped on its links in the {} that it was held",
        seconds(held)
    );
    let asked = "is there traffic, and does it pass the interfaces?";
    let why_not = links.iter().find_map(|link| link.check.as_ref()?.why_not.as_deref());
    let check = why_not.map(|why| format!(" (the active check says nothing: {why})"));
    if held < SHORT {
        let check = check.unwrap_or_default();
        return format!(
            "{fact}; hold it until a peer has sent something to one that it is cut off from{check}"
        );
    }
    match (check, &evidence.traffic) {
        (Some(check), _) => format!("{fact}; {asked}{check}"),
        // The active check does not try a cut that lets some packets pass.
        (None, Some(traffic)) if !traffic.is_full() => {
            format!(
                "{fact}; is there such traffic ({}), and does it pass the interfaces?",
                traffic.describe()
            )
        }
        (None, _) => format!("{fact}; {asked} (`verify: active` sends frames of its own)"),
    }
}

/// Why it is not known whether a link's cut was in force.
fn why_unknown(link: &LinkRecord) -> String {
    match link.unnamed_packets {
        0 if link.hooks_unread => {
            "the hooks of its interfaces were not read after the heal, so that a program that was placed \
                                   ahead of the injector's would not be known"
                .to_owned()
        }
        0 => "not all of its ways are known, and none of its packets was dropped".to_owned(),
        packets => format!(
            "{} passed between one of the two and a host that nothing identifies and that may be the other; see the warnings",
            counted(packets, "packet")
        ),
    }
}
