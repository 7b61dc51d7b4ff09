//! The outages of several endpoints together.

use crate::api::{ClusterOutage, EndpointRecord, Outage};
use crate::clock::{MonoNs, TimeRange};

/// `ingress` of `ingress@n1`.
fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

/// The outages of the required endpoints, by name, in the order of the endpoints.
pub(super) fn by_name(endpoints: &[EndpointRecord], heal: MonoNs, until: MonoNs) -> Vec<ClusterOutage> {
    let mut names: Vec<&str> = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.required) {
        if !names.contains(&base(&endpoint.name)) {
            names.push(base(&endpoint.name));
        }
    }
    names
        .into_iter()
        .map(|name| {
            let instances: Vec<Option<&Outage>> = endpoints
                .iter()
                .filter(|endpoint| endpoint.required && base(&endpoint.name) == name)
                .map(|endpoint| endpoint.outage.as_ref())
                .collect();
            cluster(name, &instances, heal, until)
        })
        .collect()
}

fn cluster(name: &str, instances: &[Option<&Outage>], heal: MonoNs, until: MonoNs) -> ClusterOutage {
    let seen: Vec<&Outage> = instances.iter().copied().flatten().collect();
    let without_data =
        instances.iter().filter(|outage| outage.is_none_or(|outage| !outage.is_known_before_heal())).count();
    let is_complete = without_data == 0;
    let some = overlapping(&seen, 1, until);
    let all = is_complete.then(|| overlapping(&seen, seen.len(), until));
    let sum = |windows: &[TimeRange]| windows.iter().map(|window| window.length(MonoNs(0), until)).sum();
    let shared: u64 = seen.iter().filter_map(|outage| outage.sum_ns).sum();
    ClusterOutage {
        name: name.to_owned(),
        endpoints: instances.len() as u64,
        without_data: without_data as u64,
        some_ns: sum(&some),
        some_after_heal_ns: some.iter().map(|window| window.length(heal, until)).sum(),
        all_ns: all.as_deref().map(sum),
        share_ns: is_complete.then(|| shared / (instances.len() as u64).max(1)),
        open: seen.iter().any(|outage| outage.open),
        some,
        all,
    }
}

/// When at least `least` endpoints were out. A window that lasts to `until` only because the watch ended is open.
pub(super) fn overlapping(outages: &[&Outage], least: usize, until: MonoNs) -> Vec<TimeRange> {
    let mut edges: Vec<(MonoNs, bool)> = Vec::new();
    for window in outages.iter().flat_map(|outage| &outage.windows) {
        edges.push((window.from_ns, true));
        edges.extend(window.until_ns.map(|end| (end, false)));
    }
    // Where one window ends as another begins, the beginning counts first: the union has no gap of length 0.
    edges.sort_by_key(|&(at, begins)| (at, !begins));
    let (mut depth, mut found): (usize, Vec<TimeRange>) = (0, Vec::new());
    for (at, begins) in edges {
        let before = depth;
        depth = if begins { depth + 1 } else { depth - 1 };
        if before < least && depth >= least {
            found.push(TimeRange { from_ns: at, until_ns: None });
        } else if before >= least
            && depth < least
            && let Some(window) = found.last_mut()
        {
            window.until_ns = Some(at);
        }
    }
    found.retain(|window| window.until_ns != Some(window.from_ns) && window.from_ns < until);
    found
}
