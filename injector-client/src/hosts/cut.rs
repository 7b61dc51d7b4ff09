//! The two steps of a cut on several hosts.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use injector_core::api::{
    Code, EnableRequest, MOST_LISTED, Owner, PartitionRequest, PartitionView, Problem, StartAt,
};
use injector_core::clock::{MonoNs, WallNs, WallOffset};
use injector_core::model::{Direction, NamedLink, PeerName, Percent, Selector, Shape, seed};

use super::Hosts;
use super::answer::{Begin, HostCut, HostsCut};
use super::clock::{self, MARGIN};
use super::error::{CutError, HostError, HostFailure, Why};
use super::host::{Host, LIMIT, in_millis};
use super::share::{Links, Peers, Rule, share};
use super::stage::Stage;
use crate::{Client, ClientError};

/// When a cut on several hosts begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As soon as every host can have confirmed it; the answer comes when it is in force everywhere.
    Soon,
    /// So long from now.
    In(Duration),
    /// At a time of the client's wall clock.
    At(WallNs),
}

impl Start {
    fn instant(self) -> Option<MonoNs> {
        match self {
            Self::Soon => None,
            Self::In(span) => Some(MonoNs::now() + span),
            Self::At(wall) => Some(WallOffset::now().mono(wall)),
        }
    }
}

/// What all hosts are asked for.
struct Resolved {
    /// The first host's answer to a dry run.
    view: PartitionView,
    /// With the resolved shape and the seed.
    request: PartitionRequest,
    links: Links,
    /// The share of each host.
    shares: Vec<Links>,
}

impl Hosts {
    /// Cuts on all hosts at one instant, or on none.
    ///
    /// The request's owner, start and id are this call's. If the future is dropped, [`Hosts::take_back`] leaves nothing behind.
    pub async fn cut(
        &mut self,
        name: &str,
        request: PartitionRequest,
        start: Start,
    ) -> Result<HostsCut, CutError> {
        match self.try_cut(name, request, start).await {
            Ok(cut) => Ok(cut),
            Err((why, begins)) => {
                let (taken_back, left) = self.take_back(name).await;
                Err(CutError { why, taken_back, left, begins })
            }
        }
    }

    /// What each host would cut; nothing changes.
    pub async fn dry_run(&mut self, name: &str, request: PartitionRequest) -> Result<HostsCut, CutError> {
        let why = |why| CutError { why, taken_back: Vec::new(), left: Vec::new(), begins: None };
        let shape = request.shape.clone();
        let resolved = self.resolve(name, request).await.map_err(why)?;
        let asked = self.hosts.iter_mut().zip(&resolved.shares).map(async |(host, share)| {
            if share.is_empty() {
                return Ok(None);
            }
            let request = of_host(&resolved.request, share);
            let view = host.ask(async |client| client.dry_run(name, &request).await).await;
            let view = view.and_then(|view| as_shared(view, share)).map_err(|why| host.failed(why))?;
            Ok(Some(view))
        });
        let views = together(join_all(asked).await).map_err(why)?;
        let hosts = self.hosts.iter().zip(views);
        let hosts = hosts.map(|(host, partition)| HostCut { host: host.name(), partition, begin: None });
        Ok(answer(shape, name, &resolved, hosts.collect()))
    }

    /// Takes back what a cut has left on hosts, all at once: heals what may be enabled, and closes the connections that own
    /// what is prepared. Answers the hosts on which something was taken back, and those on which that failed.
    pub async fn take_back(&mut self, name: &str) -> (Vec<String>, Vec<HostFailure>) {
        let touched = self.hosts.iter_mut().filter(|host| host.stage != Stage::Untouched);
        let undone = join_all(touched.map(async |host| host.take_back(name).await.map(|()| host.name())));
        let (mut taken_back, mut left) = (Vec::new(), Vec::new());
        for undone in undone.await {
            match undone {
                Ok(host) => taken_back.push(host),
                Err(failure) => left.push(failure),
            }
        }
        (taken_back, left)
    }

    async fn try_cut(
        &mut self,
        name: &str,
        request: PartitionRequest,
        start: Start,
    ) -> Result<HostsCut, (Why, Option<WallNs>)> {
        let begins = start.instant();
        // What an earlier call has cut belongs to nobody, and stays.
        self.hosts.iter_mut().for_each(|host| host.stage = Stage::Untouched);
        let shape = request.shape.clone();
        let early = |why| (why, None);
        let resolved = self.resolve(name, request).await.map_err(early)?;
        if begins.is_some() {
            self.measure_clocks().await.map_err(early)?;
        }
        let slowest = self.prepare(name, &resolved, begins).await.map_err(early)?;
        let is_soon = begins.is_none();
        let begins = if let Some(begins) = begins {
            begins
        } else {
            self.measure_clocks().await.map_err(early)?;
            MonoNs::now() + clock::lead(slowest)
        };
        let left = begins.saturating_since(MonoNs::now());
        let limit = left.saturating_sub(MARGIN);
        if limit < MARGIN {
            return Err(early(Why::TooLate(in_millis(left))));
        }
        let wall = WallOffset::now();
        let hosts = self.enable(name, begins, limit, wall).await;
        let hosts = hosts.map_err(|why| (why, Some(wall.wall(begins))))?;
        let bounds: Vec<(MonoNs, u64)> = hosts.iter().filter_map(|(_, begin)| *begin).collect();
        if is_soon {
            // As on one host, it is in force when the answer is there.
            let latest = bounds.iter().map(|(begin, bound)| *begin + Duration::from_nanos(*bound)).max();
            tokio::time::sleep(latest.unwrap_or_default().saturating_since(MonoNs::now())).await;
        }
        let hosts = hosts.into_iter().map(|(host, _)| host).collect();
        let mut cut = answer(shape, name, &resolved, hosts);
        cut.begins = Some(wall.wall(begins));
        cut.spread_ns = Some(clock::spread(&bounds));
        Ok(cut)
    }

    /// Has one host make links of the shape, for all of them, and shares these out.
    async fn resolve(&mut self, name: &str, mut request: PartitionRequest) -> Result<Resolved, Why> {
        together(join_all(self.hosts.iter_mut().map(Host::look)).await)?;
        // Every host that is asked draws the same.
        request.seed.get_or_insert_with(|| seed::drawn(rand::random()));
        request.owner = Owner::Connection;
        request.request_id = Some(format!("{:032x}", rand::random::<u128>()));
        request.at = None;
        let (view, links) = self.first_dry_run(name, &request).await?;
        request.shape = named(&view.resolved);
        let peers = |host: &Host| Peers { host: host.name(), here: host.here.clone() };
        let peers: Vec<Peers> = self.hosts.iter().map(peers).collect();
        let rule = if request.traffic.loss == Percent::ALL { Rule::EachEnd } else { Rule::Once };
        let shares = share(&links, &peers, rule)?;
        Ok(Resolved { view, request, links, shares })
    }

    /// A dry run on the first host that has an end of a link.
    async fn first_dry_run(
        &mut self,
        name: &str,
        request: &PartitionRequest,
    ) -> Result<(PartitionView, Links), Why> {
        let mut elsewhere = Vec::new();
        for host in &mut self.hosts {
            let made = host.ask(async |client| every_link(client, name, request).await).await;
            match made.map_err(|why| host.failed(why)) {
                Ok(made) => return Ok(made),
                Err(failure) if is_elsewhere(&failure) => elsewhere.push(failure),
                Err(failure) => return Err(Why::Hosts(vec![failure])),
            }
        }
        Err(Why::Hosts(elsewhere))
    }

    async fn measure_clocks(&mut self) -> Result<(), Why> {
        together(join_all(self.hosts.iter_mut().map(Host::measure_clock)).await).map(drop)
    }

    /// Prepares it on each host that has a share, and answers how long the slowest took.
    async fn prepare(
        &mut self,
        name: &str,
        resolved: &Resolved,
        begins: Option<MonoNs>,
    ) -> Result<Duration, Why> {
        let begun = Instant::now();
        let asked = self.hosts.iter_mut().zip(&resolved.shares).map(async |(host, share)| {
            if share.is_empty() {
                return Ok(());
            }
            let mut request = of_host(&resolved.request, share);
            // A start that a host would refuse is refused now.
            request.at = begins.zip(host.offset).map(|(at, offset)| StartAt::MonoNs(offset.theirs(at)));
            host.stage = Stage::Preparing;
            let view = host.ask(async |client| client.prepare(name, &request).await).await;
            let prepared = match view {
                Ok(view) => {
                    host.stage = Stage::Prepared(view.generation);
                    as_shared(view, share).map(drop)
                }
                Err(HostError::Client(ClientError::Problem(problem))) => {
                    host.stage = Stage::Untouched;
                    Err(ClientError::Problem(problem).into())
                }
                Err(why) => Err(why),
            };
            prepared.map_err(|why| host.failed(why))
        });
        together(join_all(asked).await)?;
        Ok(begun.elapsed())
    }

    /// Enables it on each host at an instant of our clock, which is so far ahead that every host can confirm it within a
    /// limit. With each answer comes its begin on our clock, with its bound.
    async fn enable(
        &mut self,
        name: &str,
        begins: MonoNs,
        limit: Duration,
        wall: WallOffset,
    ) -> Result<Vec<(HostCut, Option<(MonoNs, u64)>)>, Why> {
        let asked = self.hosts.iter_mut().map(async |host| {
            let bare = |host: &Host| HostCut { host: host.name(), partition: None, begin: None };
            let (Stage::Prepared(generation), Some(offset)) = (host.stage, host.offset) else {
                return Ok((bare(host), None));
            };
            let at = Some(StartAt::MonoNs(offset.theirs(begins)));
            // From now on it lasts without this client.
            let request = EnableRequest { at, owner: Some(Owner::None) };
            host.stage = Stage::Enabling(generation);
            let view = host.ask_within(limit.min(LIMIT), async |client| client.enable(name, &request).await);
            let view = view.await.map_err(|why| host.failed(why))?;
            host.stage = Stage::Enabled(generation);
            let Some(cut) = view.effective else { return Ok((bare(host), None)) };
            let (begin, end) = (offset.ours(cut.begin_ns), offset.ours(cut.end_ns));
            let bound_ns = offset.bound(begin);
            let wall_ahead_ns = cut.wall.0.saturating_sub(wall.wall(end).0);
            let shown = Begin { begin: wall.wall(begin), end: wall.wall(end), bound_ns, wall_ahead_ns };
            let answer = HostCut { partition: Some(view), begin: Some(shown), ..bare(host) };
            Ok((answer, Some((begin, bound_ns))))
        });
        let mut failures = Vec::new();
        let mut cuts = Vec::new();
        for answer in join_all(asked).await {
            match answer {
                Ok(cut) => cuts.push(cut),
                Err(failure) => failures.push(failure),
            }
        }
        if failures.is_empty() {
            return Ok(cuts);
        }
        let has_refused = |failure: &HostFailure| matches!(failure.why, HostError::Client(_));
        Err(if failures.iter().all(has_refused) { Why::Hosts(failures) } else { Why::Unconfirmed(failures) })
    }
}

/// The answers of all hosts, or the failures of those that have none.
fn together<T>(answers: Vec<Result<T, HostFailure>>) -> Result<Vec<T>, Why> {
    let (mut good, mut failures) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(answer) => good.push(answer),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(good) } else { Err(Why::Hosts(failures)) }
}

/// The request to one host: the whole shape, of which the host cuts its own links; with a loss, only the links of its share.
fn of_host(request: &PartitionRequest, share: &Links) -> PartitionRequest {
    let mut request = request.clone();
    if request.traffic.loss != Percent::ALL {
        let link = |link: &NamedLink| NamedLink {
            src: Selector::Name(link.src.clone()),
            dst: Selector::Name(link.dst.clone()),
        };
        request.shape = Shape::Links(share.iter().map(link).collect());
        request.traffic.direction = Direction::Both;
    }
    request
}

/// The view of a host, if it has just the links of its share.
fn as_shared(view: PartitionView, share: &Links) -> Result<PartitionView, HostError> {
    let listed: Option<Links> = view.links.as_ref().map(|links| {
        links.iter().map(|link| NamedLink { src: link.src.clone(), dst: link.dst.clone() }).collect()
    });
    let is_same = listed.map_or(view.totals.links == share.len(), |listed| listed == *share);
    if is_same { Ok(view) } else { Err(HostError::OtherLinks) }
}

fn is_elsewhere(failure: &HostFailure) -> bool {
    matches!(&failure.why, HostError::Client(ClientError::Problem(Problem { code: Code::NotHere, .. })))
}

/// A dry run, and all links of the shape, those of other hosts too.
async fn every_link(
    client: &mut Client,
    name: &str,
    request: &PartitionRequest,
) -> Result<(PartitionView, Links), ClientError> {
    let view = client.dry_run(name, request).await?;
    let mut links = Links::new();
    if view.links.is_some() && view.not_here.is_some() {
        add_links(&mut links, &view);
        return Ok((view, links));
    }
    // A longer list comes in parts. What was drawn or asked of roles is not drawn or asked again.
    let resolved = PartitionRequest { shape: named(&view.resolved), ..request.clone() };
    for from in (0..view.totals.links.max(view.totals.not_here)).step_by(MOST_LISTED) {
        add_links(&mut links, &client.dry_run_from(name, &resolved, from).await?);
    }
    Ok((view, links))
}

fn add_links(links: &mut Links, view: &PartitionView) {
    let here = view.links.iter().flatten();
    links.extend(here.map(|link| NamedLink { src: link.src.clone(), dst: link.dst.clone() }));
    links.extend(view.not_here.iter().flatten().cloned());
}

/// A resolved shape as one that is asked for.
fn named(shape: &Shape<PeerName>) -> Shape {
    shape.clone().map(Selector::from)
}

fn answer(shape: Shape, name: &str, resolved: &Resolved, hosts: Vec<HostCut>) -> HostsCut {
    HostsCut {
        name: name.to_owned(),
        shape,
        resolved: resolved.view.resolved.clone(),
        roles: resolved.view.roles.clone(),
        seed: resolved.view.seed,
        links: resolved.links.len(),
        begins: None,
        spread_ns: None,
        hosts,
    }
}
