//! Why a trial began without a required endpoint in service.

use super::words::seconds;
use super::{EndpointEvidence, Evidence, STARVED_REMEDY};
use crate::sample::{Sample, lasts};

/// The remedy for a cut that came before the required endpoints were healthy.
const WAIT_FIRST: &str = "cut again once `injector wait --healthy` says that all are";

/// Why an endpoint that was `healthy` before the cut, or was not, says nothing of a recovery; `None` if it was healthy.
pub(super) fn why(
    evidence: &Evidence<'_>,
    endpoint: &EndpointEvidence<'_>,
    healthy: Option<bool>,
) -> Option<String> {
    let name = &endpoint.name;
    match healthy {
        Some(true) => None,
        Some(false) => {
            let why = last_error(evidence, endpoint)
                .map_or_else(String::new, |error| format!(": its last failed probe says \"{error}\""));
            Some(format!("{name} was not healthy before the cut{why}; {WAIT_FIRST}"))
        }
        None => Some(not_known(evidence, endpoint)),
    }
}

/// Why it is not known whether it was healthy: it had too few probes, or this host did not send all of the last.
fn not_known(evidence: &Evidence<'_>, endpoint: &EndpointEvidence<'_>) -> String {
    let (name, wanted) = (&endpoint.name, evidence.ready.consecutive);
    let last = before(evidence, endpoint).map(|sample| sample.scheduled).max();
    let age = evidence.cut.zip(last).map(|(cut, last)| cut.begin_ns.saturating_since(last));
    if let Some(age) = age.filter(|age| *age > lasts(endpoint.interval, endpoint.timeout)) {
        return format!(
            "{name} was probed last {} before the cut, so that it is not known whether it was healthy: its prober was gone, or this \
             host held it up; {WAIT_FIRST}",
            seconds(age)
        );
    }
    if before(evidence, endpoint).count() < wanted as usize {
        return format!(
            "{name} had fewer than {wanted} probes before the cut, so that it is not known whether it was healthy; \
             {WAIT_FIRST}"
        );
    }
    format!(
        "some of the last {wanted} probes of {name} before the cut were never sent: this host held the daemon up, and it is \
         not known whether the endpoint was healthy; {STARVED_REMEDY}; {WAIT_FIRST}"
    )
}

/// The probes whose results came before the cut.
fn before<'a>(evidence: &Evidence<'_>, endpoint: &EndpointEvidence<'a>) -> impl Iterator<Item = &'a Sample> {
    let cut = evidence.cut.map(|cut| cut.begin_ns);
    endpoint.samples.iter().filter(move |sample| cut.is_some_and(|cut| sample.done <= cut))
}

/// Why the last failed probe before the cut failed.
fn last_error<'a>(evidence: &Evidence<'_>, endpoint: &EndpointEvidence<'a>) -> Option<&'a str> {
    let failed = before(evidence, endpoint).filter(|sample| sample.failure.is_some() && !sample.is_unsent());
    failed.max_by_key(|sample| sample.scheduled)?.failure.as_ref().map(|failure| &*failure.text)
}
