//! Asks the engine once which containers a config means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::api::{Api, EngineError};
use injector_core::config::{Config, ConfigErrors, ContainerRef, Engine, Selector};
use injector_core::containers::{self, ContainerStates, Listed, Trouble};

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// The engine's answer about a config's containers.
#[derive(Clone, Debug)]
pub struct Found {
    /// The engine that said it; `None` for a config without containers.
    pub(super) api: Option<Api>,
    /// The containers.
    pub states: ContainerStates,
    /// The ids of those that were found, also of those that do not run.
    pub(super) ids: BTreeMap<ContainerRef, String>,
}

impl Found {
    /// The answer for a config without containers.
    pub const NOTHING: Self =
        Self { api: None, states: ContainerStates(BTreeMap::new()), ids: BTreeMap::new() };
}

/// Asks which containers a config means; each must be able to be a peer now.
///
/// # Errors
/// No engine answers, or some containers can't be peers; `file` is what errors call the config.
pub async fn look_up(config: &Config, file: &str) -> Result<Found, ConfigErrors> {
    let found = inspect_all(config, file).await?;
    found.states.admit(config, file)?;
    Ok(found)
}

/// [`look_up`] without the check: some of the containers may be unfit to be peers.
///
/// # Errors
/// No engine answers; `file` is what the error calls the config.
pub async fn inspect_all(config: &Config, file: &str) -> Result<Found, ConfigErrors> {
    let wanted = config.followed();
    if wanted.is_empty() {
        return Ok(Found::NOTHING);
    }
    let ask = async {
        let api = Api::find(&config.engine).await?;
        let (states, ids) = container_states(&api, &wanted, &BTreeMap::new()).await?;
        Ok(Found { api: Some(api), states, ids })
    };
    let found = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(silent()));
    found.map_err(|error: EngineError| {
        containers::no_engine(config, file, error.to_string(), error.remedy().to_owned())
    })
}

/// [`look_up`] on the calling thread, which waits.
///
/// # Errors
/// The errors of [`look_up`].
pub fn look_up_blocking(config: &Config, file: &str) -> Result<Found, ConfigErrors> {
    if config.followed().is_empty() {
        return Ok(Found::NOTHING);
    }
    block_on(look_up(config, file)).map_err(|error| {
        containers::no_engine(config, file, format!("the engine can't be asked: {error}"), String::new())
    })?
}

/// The names of the containers that a selector means; what is wrong, and what to do about it. Waits on the calling thread.
///
/// # Errors
/// No engine answers.
pub fn select(engine: &Engine, selector: &Selector) -> Result<Vec<String>, (String, String)> {
    let reported = |error: &EngineError| (error.to_string(), error.remedy().to_owned());
    let ask = async {
        let all = Api::find(engine).await?.list().await?;
        Ok(containers::select(selector, &all))
    };
    let asked = block_on(async { tokio::time::timeout(PATIENCE, ask).await });
    let asked = asked.map_err(|error| (format!("the engine can't be asked: {error}"), String::new()))?;
    let asked = asked.unwrap_or_else(|_| Err(silent()));
    asked.map_err(|error: EngineError| reported(&error))
}

/// Runs a future to its end on a thread of its own, which the calling one waits for.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let asking = std::thread::Builder::new().name("engine".into()).spawn_scoped(scope, || {
            Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
        })?;
        asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn silent() -> EngineError {
    EngineError::Nobody(format!("it did not say within {PATIENCE:?} which containers there are"))
}

/// All containers that run, by their names, of the first engine that is there.
///
/// # Errors
/// No engine answers.
pub async fn running(engine: &Engine) -> Result<ContainerStates, EngineError> {
    let api = Api::find(engine).await?;
    let all = api.list().await?;
    let named = all.iter().filter(|listed| listed.is_running).map(Listed::shown);
    let wanted = named.map(|name| ContainerRef::Name(name.to_owned())).collect();
    let (mut states, _) = container_states(&api, &wanted, &BTreeMap::new()).await?;
    states.0.retain(|_, standing| standing.is_ok());
    Ok(states)
}

/// How many containers are asked for at one time.
const AT_ONCE: usize = 16;

type Seen = (ContainerStates, BTreeMap<ContainerRef, String>);

/// The engine's answer about some containers now; `followed` are the ids that they had before.
pub(super) async fn container_states(
    api: &Api,
    wanted: &BTreeSet<ContainerRef>,
    followed: &BTreeMap<ContainerRef, String>,
) -> Result<Seen, EngineError> {
    let all = api.list().await?;
    let mut ids = BTreeMap::new();
    let inspections = wanted.iter().map(|container| {
        let id = followed.get(container).map(String::as_str);
        let found = containers::find(container, id, &all).map(|listed| listed.id.clone());
        if let Ok(id) = &found {
            ids.insert(container.clone(), id.clone());
        }
        let is_followed = id.is_some();
        async move { (container.clone(), inspect(api, found, is_followed).await) }
    });
    let inspections: Vec<_> = inspections.collect();
    let mut states = ContainerStates::default();
    // An engine may serve one after the other, and each has its time limit.
    let mut inspections = stream::iter(inspections).buffer_unordered(AT_ONCE);
    while let Some((container, standing)) = inspections.next().await {
        states.0.insert(container, standing?);
    }
    Ok((states, ids))
}

type Standing = Result<containers::Running, Trouble>;

/// The engine's answer about one container.
async fn inspect(api: &Api, id: Result<String, Trouble>, is_followed: bool) -> Result<Standing, EngineError> {
    let id = match id {
        Ok(id) => id,
        Err(trouble) => return Ok(Err(trouble)),
    };
    match api.inspect(&id).await {
        Ok(Some(inspected)) => Ok(containers::judge(inspected)),
        // The container is gone since it was listed.
        Ok(None) => Ok(Err(Trouble::Unknown(Vec::new()))),
        // A refusal says nothing about a container that is followed: it is where it was until the engine
        // answers.
        Err(error @ EngineError::Refused { .. }) if !is_followed => {
            Ok(Err(Trouble::Unanswered(error.to_string())))
        }
        Err(error) => Err(error),
    }
}
