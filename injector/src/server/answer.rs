//! Answers that are large or costly: what waits to be read, and what the daemon's task works at, has a bound, and a share
//! of it for each user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::permits::Class;
use super::problem::ProblemResponse;
use injector_core::api::{Code, Problem};

/// Answers up to this are not counted: each connection has one at most.
const SMALL: usize = 256 * 1024;
/// The bytes of one permit.
const UNIT: usize = 1024;
/// How much of large answers to root may wait to be read, and to all others,
const WAITING_MIB: usize = 8;
/// and how much of the latter to one user.
const WAITING_OF_USER_MIB: usize = 4;
/// The bytes that are handed to a connection at a time.
const PIECE: usize = 64 * 1024;
/// How long a request waits for its turn where one alone is served at a time.
const TURN: Duration = Duration::from_secs(5);
/// How many commands of one user may wait for the daemon's task or be carried out by it.
const COMMANDS_OF_USER: usize = 1;

const fn units(mib: usize) -> usize {
    (mib << 20) / UNIT
}

/// The budgets that all users share.
struct Common {
    waiting_of_root: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    rounds: Arc<Semaphore>,
}

/// The share of one user.
struct Share {
    waiting: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    rounds: Arc<Semaphore>,
    commands: Arc<Semaphore>,
}

/// The budgets of all who are connected.
pub(super) struct Budgets {
    common: Arc<Common>,
    shares: Mutex<HashMap<(Class, u32), Weak<Share>>>,
}

/// The budget of large and costly answers to one user.
#[derive(Clone)]
pub(super) struct Budget {
    class: Class,
    common: Arc<Common>,
    share: Arc<Share>,
}

/// A turn, until it is dropped: the user's own, then that among all users.
pub(super) struct Turn {
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits))
}

impl Default for Budgets {
    fn default() -> Self {
        let common = Common {
            waiting_of_root: semaphore(units(WAITING_MIB)),
            waiting: semaphore(units(WAITING_MIB)),
            probes: semaphore(1),
            rounds: semaphore(1),
        };
        Self { common: Arc::new(common), shares: Mutex::default() }
    }
}

impl Budgets {
    /// A user's budget: the same for all of its connections.
    pub fn of(&self, class: Class, uid: u32) -> Budget {
        // Every change is one entry: a poisoned table is still a whole one.
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares.get(&(class, uid)).and_then(Weak::upgrade).unwrap_or_else(|| {
            let (waiting, commands) = match class {
                Class::Privileged => (WAITING_MIB, Semaphore::MAX_PERMITS),
                Class::Member | Class::Reader => (WAITING_OF_USER_MIB, COMMANDS_OF_USER),
            };
            Arc::new(Share {
                waiting: semaphore(units(waiting)),
                lists: semaphore(1),
                probes: semaphore(1),
                rounds: semaphore(1),
                commands: semaphore(commands),
            })
        });
        shares.retain(|_, share| share.strong_count() > 0);
        shares.insert((class, uid), Arc::downgrade(&share));
        Budget { class, common: Arc::clone(&self.common), share }
    }
}

impl Budget {
    /// The class of the user.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Waits until the daemon's task may be given another command of this user: however many a user asks for, those of
    /// others come in between.
    pub async fn turn_for_command(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.share.commands).acquire_owned().await.map_err(|_| busy("commands are"))
    }

    /// The value as JSON; a problem if too much waits already.
    pub fn json(&self, value: &impl Serialize) -> Result<Response, ProblemResponse> {
        let mut bytes = serde_json::to_vec(value)
            .map_err(|error| Problem::new(Code::DataPlane, format!("the answer is not JSON: {error}")))?;
        bytes.push(b'\n');
        self.content("application/json", bytes)
    }

    /// Bytes of a media type; a problem if too much waits already.
    fn content(&self, media: &'static str, bytes: Vec<u8>) -> Result<Response, ProblemResponse> {
        let length = bytes.len();
        let body = if length <= SMALL {
            Body::from(bytes)
        } else {
            self.pieces(bytes.into()).ok_or_else(|| self.full())?
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(header::CONTENT_LENGTH, length.into());
        Ok(response)
    }

    /// [`Self::json`] on another thread: making a large answer would hold up this thread, which also heals.
    pub async fn json_aside(
        &self,
        value: impl Serialize + Send + 'static,
    ) -> Result<Response, ProblemResponse> {
        let budget = self.clone();
        let made = tokio::task::spawn_blocking(move || budget.json(&value)).await;
        made.map_err(|_| Problem::new(Code::Stopping, "the daemon is stopping"))?
    }

    /// Bytes of a media type, made on another thread for the same reason.
    pub async fn made_aside(
        &self,
        media: &'static str,
        bytes: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<Response, ProblemResponse> {
        let budget = self.clone();
        let made = tokio::task::spawn_blocking(move || budget.content(media, bytes())).await;
        made.map_err(|_| Problem::new(Code::Stopping, "the daemon is stopping"))?
    }

    /// A body that is handed over as it is read, and counted until its last piece was taken.
    fn pieces(&self, bytes: Bytes) -> Option<Body> {
        let permits = self.room_for(bytes.len())?;
        let pieces = stream::unfold((bytes, permits), |(mut rest, permits)| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(PIECE));
            Some((Ok::<_, std::convert::Infallible>(piece), (rest, permits)))
        });
        Some(Body::from_stream(pieces))
    }

    /// A body whose pieces are made as it is read; so many bytes are kept for it until its end, and counted.
    ///
    /// # Errors
    /// Too much waits already.
    pub fn made_when_read<S>(&self, kept: usize, pieces: S) -> Result<Body, Problem>
    where
        S: Stream<Item = Result<Bytes, Problem>> + Send + 'static,
    {
        let permits =
            if kept <= SMALL { None } else { Some(self.room_for(kept).ok_or_else(|| self.full())?) };
        let pieces = pieces.map(move |piece| {
            let _permits = &permits;
            // The client sees a body that is cut short.
            piece.map_err(|problem| std::io::Error::other(problem.detail))
        });
        Ok(Body::from_stream(pieces))
    }

    /// Room for so many bytes that wait to be read; an answer that is larger than a whole budget takes all of that budget.
    fn room_for(&self, bytes: usize) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let (common, all, own) = match self.class {
            Class::Privileged => (&self.common.waiting_of_root, WAITING_MIB, WAITING_MIB),
            Class::Member | Class::Reader => (&self.common.waiting, WAITING_MIB, WAITING_OF_USER_MIB),
        };
        let take = |from: &Arc<Semaphore>, most: usize| {
            let count = bytes.div_ceil(UNIT).min(units(most));
            Arc::clone(from).try_acquire_many_owned(u32::try_from(count).ok()?).ok()
        };
        Some((take(&self.share.waiting, own)?, take(common, all)?))
    }

    fn full(&self) -> Problem {
        let most = if self.class == Class::Privileged { WAITING_MIB } else { WAITING_OF_USER_MIB };
        let what = format!("answers of up to {most} MiB to this user wait for their readers");
        Problem::new(Code::TooBusy, what).remedy("read what was asked for, or try again later")
    }

    /// The turn to have partitions listed, or a record of many links made: each such answer takes its size in memory before
    /// it is known whether there is room for it. It comes soon: no turn lasts until its answer is read.
    pub async fn turn_for_list(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.share.lists).acquire_owned().await.map_err(|_| busy("lists are"))
    }

    /// The turn to have a record's probes listed.
    pub async fn turn_for_probes(&self) -> Result<Turn, Problem> {
        turn(&self.share.probes, &self.common.probes, "lists of probes are").await
    }

    /// The turn to have every endpoint probed once, which starts commands.
    pub async fn turn_for_round(&self) -> Result<Turn, Problem> {
        turn(&self.share.rounds, &self.common.rounds, "rounds of probes are").await
    }
}

fn busy(what: &str) -> Problem {
    let detail = format!("{what} made one at a time, and the turn did not come within {} s", TURN.as_secs());
    Problem::new(Code::TooBusy, detail).remedy("try again later")
}

/// A user waits once among all, however many of its requests wait.
async fn turn(own: &Arc<Semaphore>, common: &Arc<Semaphore>, what: &str) -> Result<Turn, Problem> {
    let both = async {
        let own = Arc::clone(own).acquire_owned().await;
        let common = Arc::clone(common).acquire_owned().await;
        own.and_then(|own| Ok(Turn { _own: own, _common: common? }))
    };
    tokio::time::timeout(TURN, both).await.map_err(|_| busy(what))?.map_err(|_| busy(what))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_nobody_reads_is_bounded_and_what_is_read_makes_room() {
        let budget = Budgets::default().of(Class::Privileged, 0);
        let large = "x".repeat(2 << 20);
        let mut unread: Vec<Response> = std::iter::from_fn(|| budget.json(&large).ok()).take(10).collect();
        assert_eq!(unread.len(), 3, "three of 2 MiB and a bit are under 8 MiB");
        let problem = budget.json(&large).unwrap_err();
        assert_eq!(problem.0.code, Code::TooBusy);
        assert!(problem.0.detail.contains("wait for their readers"), "{problem:?}");
        assert!(budget.json(&"small").is_ok(), "small answers are not counted");
        let read = unread.pop().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read.len(), large.len() + 3);
        assert!(budget.json(&large).is_ok());
        drop(unread);
        let larger = "x".repeat(40 << 20);
        assert!(budget.json(&larger).is_ok(), "one that is larger than all of it is answered alone");
    }

    #[tokio::test]
    async fn what_one_user_does_not_read_leaves_room_for_others() {
        let budgets = Budgets::default();
        let large = "x".repeat(3 << 20);
        let one = budgets.of(Class::Member, 1);
        let mut unread = vec![one.json(&large).unwrap()];
        assert!(one.json(&large).is_err(), "4 MiB are for one user");
        assert!(budgets.of(Class::Member, 1).json(&large).is_err(), "on whichever connection");
        unread.push(budgets.of(Class::Reader, 2).json(&large).unwrap());
        assert!(budgets.of(Class::Member, 3).json(&large).is_err(), "8 MiB are for all of them");
        assert!(budgets.of(Class::Privileged, 0).json(&large).is_ok(), "root has its own");
        drop(unread);
        assert!(one.json(&large).is_ok());
    }

    #[tokio::test]
    async fn one_user_has_one_turn_and_one_command_at_a_time() {
        let budgets = Budgets::default();
        let (one, another) = (budgets.of(Class::Member, 1), budgets.of(Class::Member, 2));
        let first = one.turn_for_round().await.unwrap();
        // Nine more of one user, then one of another: it is the next.
        let more: Vec<_> = (0..9)
            .map(|_| {
                let one = one.clone();
                tokio::spawn(async move { one.turn_for_round().await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        let next = tokio::spawn(async move { another.turn_for_round().await });
        tokio::task::yield_now().await;
        drop(first);
        let next = next.await.unwrap().unwrap();
        assert!(more.iter().all(|turn| !turn.is_finished()), "one user keeps another waiting");
        drop(next);
        for turn in more {
            turn.await.unwrap().unwrap();
        }
        let command = one.turn_for_command().await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(20), one.turn_for_command()).await;
        assert!(second.is_err(), "a second command waits");
        drop(command);
        assert!(one.turn_for_command().await.is_ok());
    }
}
