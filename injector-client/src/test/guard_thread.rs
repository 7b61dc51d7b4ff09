//! The thread that keeps a guard's connection. It has a runtime of its own, so that guards work in every runtime and in
//! none, and a drop can wait for its heal.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake};
use std::time::{Duration, Instant};

use injector_core::api::{Healed, Owner, PartitionRequest, PartitionView, RecoveryRecord};
use tokio::sync::{mpsc, oneshot};

use super::error::{GuardError, forgotten, in_force, its_own, taken_over};
use crate::{Address, Client, ClientError, own_request_id};

/// How long a drop waits for its heal. The broken connection heals as well.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// How long one call may wait for a record.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// A request to the thread.
enum Ask {
    Heal(Reply<Healed>),
    Recovery(Duration, Reply<RecoveryRecord>),
}

/// The channel that an answer goes to.
type Reply<T> = oneshot::Sender<Result<T, GuardError>>;

/// An answer that is awaited, or waited for.
pub(super) struct PendingResult<T>(oneshot::Receiver<Result<T, GuardError>>);

impl<T> PendingResult<T> {
    /// Blocks, also where an async runtime would not let tokio's own channel do so.
    pub(super) fn recv(self) -> Result<Result<T, GuardError>, oneshot::error::RecvError> {
        block_on(self.0)
    }

    /// Blocks for so long at most; whether there was an answer.
    fn comes_within(self, limit: Duration) -> bool {
        block_until(self.0, Some(Instant::now() + limit)).is_some()
    }
}

impl<T> IntoFuture for PendingResult<T> {
    type Output = Result<Result<T, GuardError>, oneshot::error::RecvError>;
    type IntoFuture = oneshot::Receiver<Result<T, GuardError>>;

    fn into_future(self) -> Self::IntoFuture {
        self.0
    }
}

/// Wakes a blocked thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future that another thread completes.
fn block_on<F: Future>(future: F) -> F::Output {
    block_until(future, None).unwrap_or_else(|| unreachable!("there is no deadline"))
}

/// [`block_on`] with a deadline; `None` if it passes first.
fn block_until<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

/// The other end of the thread.
#[derive(Debug)]
pub(super) struct GuardThread {
    asks: mpsc::UnboundedSender<Ask>,
    /// `None` until it is known that something is cut.
    view: Option<PartitionView>,
}

impl GuardThread {
    /// Starts the thread, which cuts; the first answer is the cut's.
    pub(super) fn start(
        address: Address,
        name: String,
        request: PartitionRequest,
    ) -> Result<(PendingResult<PartitionView>, Self), GuardError> {
        let (asks, asked) = mpsc::unbounded_channel();
        let (sender, receiver) = oneshot::channel();
        let request_id = request.request_id.clone().or_else(|| Some(own_request_id()));
        let request = PartitionRequest { owner: Owner::Connection, request_id, ..request };
        let thread = std::thread::Builder::new().name("partition".into());
        let failed = |error: std::io::Error| GuardError::Thread(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let work = move || runtime.block_on(keep(&address, &name, &request, sender, asked));
        thread.spawn(work).map_err(failed)?;
        Ok((PendingResult(receiver), Self { asks, view: None }))
    }

    pub(super) fn holding(mut self, view: PartitionView) -> Self {
        self.view = Some(view);
        self
    }

    /// The partition as it was applied.
    ///
    /// # Panics
    /// The guard holds no partition yet; a guard is handed out only once it holds one.
    pub(super) fn view(&self) -> &PartitionView {
        self.view.as_ref().expect("a guard holds a partition")
    }

    pub(super) fn heal(&self) -> PendingResult<Healed> {
        self.ask(Ask::Heal)
    }

    pub(super) fn recovery(&self, timeout: Duration) -> PendingResult<RecoveryRecord> {
        self.ask(|sender| Ask::Recovery(timeout, sender))
    }

    fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> PendingResult<T> {
        let (sender, receiver) = oneshot::channel();
        // A thread that is gone drops the question, and the answer is an error.
        let _ = self.asks.send(ask(sender));
        PendingResult(receiver)
    }
}

impl Drop for GuardThread {
    fn drop(&mut self) {
        // Without a view the thread sees its channel close, and ends; its connection heals what it may have cut.
        if self.view.is_none() {
            return;
        }
        // A heal that fails has nothing to heal: the daemon is gone, or has healed already.
        if !self.heal().comes_within(DROP_PATIENCE) {
            eprintln!(
                "injector: a partition was not healed within {DROP_PATIENCE:?}; its connection is closed now"
            );
        }
    }
}

async fn keep(
    address: &Address,
    name: &str,
    request: &PartitionRequest,
    sender: Reply<PartitionView>,
    mut asked: mpsc::UnboundedReceiver<Ask>,
) {
    let cut = async {
        let mut client = Client::open(address).await?;
        let view = client.apply(name, request).await?;
        Ok::<_, ClientError>((client, view))
    };
    let (mut client, view) = match cut.await {
        Ok(cut) => cut,
        Err(error) => {
            let _ = sender.send(Err(error.into()));
            return;
        }
    };
    if sender.send(Ok(view.clone())).is_err() {
        // Nobody waits for it any more.
        let _ = client.heal(name).await;
        return;
    }
    let mut ending = Ending::default();
    while let Some(ask) = asked.recv().await {
        match ask {
            Ask::Heal(sender) => {
                let _ = sender.send(ending.heal(&mut client, &view).await);
            }
            Ask::Recovery(timeout, sender) => {
                let (address, view) = (address.clone(), view.clone());
                // The record is read on a connection of its own: this one stays free for the heal.
                tokio::spawn(async move {
                    let _ = sender.send(recovery(&address, &view, timeout).await);
                });
            }
        }
    }
}

/// How a guard's partition ended, as far as it is known.
#[derive(Default)]
struct Ending {
    /// The partition before this guard healed it, and the heal.
    healed: Option<(PartitionView, Healed)>,
    /// What the first heal answered; if its partition was not in force, why not. A call that failed is no answer.
    answer: Option<Result<Healed, String>>,
}

impl Ending {
    /// Heals, or answers as the first time.
    async fn heal(&mut self, client: &mut Client, applied: &PartitionView) -> Result<Healed, GuardError> {
        let not_in_force = |why| GuardError::NotInForce { name: applied.name.clone(), why };
        if let Some(answer) = &self.answer {
            return answer.clone().map_err(not_in_force);
        }
        match self.first_heal(client, applied).await {
            Err(GuardError::NotInForce { why, .. }) => {
                self.answer = Some(Err(why.clone()));
                Err(not_in_force(why))
            }
            Err(error) => Err(error),
            Ok(healed) => {
                self.answer = Some(Ok(healed.clone()));
                Ok(healed)
            }
        }
    }

    async fn first_heal(
        &mut self,
        client: &mut Client,
        applied: &PartitionView,
    ) -> Result<Healed, GuardError> {
        let name = &applied.name;
        let unknown = |error| forgotten(name, error);
        // A call after this guard's own heal may have failed: asked again, the daemon would show the partition as healed before.
        let (before, healed) = match &mut self.healed {
            Some(healed) => healed,
            none => {
                let before = client.partition(name).await.map_err(unknown)?;
                if !before.is_same_partition(applied) {
                    // The partition was healed, and its name is in use again: we may not heal the new partition.
                    return Err(taken_over(name));
                }
                let healed = client.heal(name).await.map_err(unknown)?;
                none.insert((before, healed))
            }
        };
        let record =
            client.recovery(name, Some(applied.generation), Duration::ZERO).await.map_err(unknown)?;
        let record = its_own(record, applied)?;
        in_force(before, healed, &record).map(|()| healed.clone())
    }
}

/// Waits for so long at most until the record is final, in as many calls as that takes.
async fn recovery(
    address: &Address,
    applied: &PartitionView,
    timeout: Duration,
) -> Result<RecoveryRecord, GuardError> {
    let begun = Instant::now();
    let mut client = Client::open(address).await?;
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        let wait = left.min(LONGEST_WAIT);
        let record = client.recovery(&applied.name, Some(applied.generation), wait).await?;
        let record = its_own(record, applied)?;
        if record.is_final || left.is_zero() {
            return Ok(record);
        }
    }
}

/// A name that nobody else has: the test's, the process's number, and a number that counts and one that is drawn, since
/// processes in several containers may have one number.
pub(super) fn own_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static DRAWN: OnceLock<u16> = OnceLock::new();
    let drawn = DRAWN.get_or_init(rand::random);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let thread = std::thread::current();
    // The last part of the path is the test's own name.
    let path = thread.name().unwrap_or("rust");
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let test: String = path.rsplit("::").next().unwrap_or(path).chars().map(legal).take(32).collect();
    format!("{}-{}-{drawn:04x}-{count}", test.trim_start_matches('-'), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_and_not_given_twice() {
        let names = [own_name(), own_name()];
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(name.len() <= 64 && name.contains("names_are_legal"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{name}");
        }
    }

    #[test]
    fn an_answer_of_another_thread_is_waited_for() {
        let (sender, receiver) = oneshot::channel::<Result<u8, GuardError>>();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            sender.send(Ok(7)).unwrap();
        });
        assert_eq!(PendingResult(receiver).recv().unwrap().unwrap(), 7);
        thread.join().unwrap();
        let (sender, receiver) = oneshot::channel::<Result<u8, GuardError>>();
        assert!(!PendingResult(receiver).comes_within(Duration::from_millis(10)));
        drop(sender);
    }
}
