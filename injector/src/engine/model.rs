//! The fields of the engine's answers that are read. Docker and Podman fill in different fields beside these,
//! and leave some empty.

use std::collections::BTreeMap;

use serde::Deserialize;

use injector_core::containers::{Inspected, Listed};

/// An item of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListItem {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    state: Option<String>,
}

/// The states in which a container has processes: one that is asked to stop may take its time.
const RUNNING: [&str; 3] = ["running", "paused", "stopping"];

impl From<ListItem> for Listed {
    fn from(item: ListItem) -> Self {
        let names = item.names.unwrap_or_default().iter().map(|name| plain(name)).collect();
        let is_running = item.state.is_some_and(|state| RUNNING.contains(&state.to_lowercase().as_str()));
        Self { id: item.id, names, labels: item.labels.unwrap_or_default(), is_running }
    }
}

/// `GET /containers/ID/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspection {
    id: String,
    name: String,
    state: State,
    host_config: HostConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    status: String,
    #[serde(default)]
    pid: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
}

impl From<Inspection> for Inspected {
    fn from(inspection: Inspection) -> Self {
        let Inspection { id, name, state, host_config } = inspection;
        Self {
            id,
            name: plain(&name),
            pid: Some(state.pid).filter(|pid| *pid != 0),
            state: state.status,
            network: host_config.network_mode,
        }
    }
}

/// A name without the slash that the engine writes before it.
fn plain(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

/// The body of an error.
#[derive(Debug, Deserialize)]
pub struct Message {
    pub message: String,
}

/// An event of `GET /events`.
#[derive(Debug, Deserialize)]
pub struct Event {
    #[serde(rename = "Action", default)]
    action: String,
}

/// Events in or around containers that do not change them.
const PASSING: [&str; 16] = [
    "attach",
    "checkpoint",
    "commit",
    "copy",
    "detach",
    "exec",
    "export",
    "health_status",
    "logs",
    "mount",
    "pull",
    "push",
    "resize",
    "sync",
    "top",
    "unmount",
];

impl Event {
    /// Whether another container may run now, or another process be its first one.
    pub fn is_change(&self) -> bool {
        // Docker writes `exec_start: sh -c …` and `health_status: healthy`.
        let action = self.action.split([':', ' ']).next().unwrap_or_default();
        !action.starts_with("exec_") && !PASSING.contains(&action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_change(action: &str) -> bool {
        serde_json::from_value::<Event>(serde_json::json!({ "Action": action })).unwrap().is_change()
    }

    #[test]
    fn what_docker_and_podman_list_is_read_alike() {
        let docker = r#"{"Id":"a1","Names":["/r"],"Labels":{"k":"v"},"State":"running","Status":"Up 2 s"}"#;
        let podman = r#"{"Id":"a1","Names":["/r"],"Labels":null,"State":"exited","Ports":null}"#;
        let listed = |text| Listed::from(serde_json::from_str::<ListItem>(text).unwrap());
        assert_eq!((listed(docker).shown(), listed(docker).is_running), ("r", true));
        assert_eq!(listed(docker).labels["k"], "v");
        assert_eq!((listed(podman).shown(), listed(podman).is_running), ("r", false));
    }

    #[test]
    fn only_a_container_that_runs_has_a_process() {
        let inspected = |state: &str| {
            let text = format!(
                r#"{{"Id":"a1","Name":"/r","State":{state},"HostConfig":{{"NetworkMode":"bridge"}}}}"#
            );
            Inspected::from(serde_json::from_str::<Inspection>(&text).unwrap())
        };
        assert_eq!(inspected(r#"{"Status":"running","Running":true,"Pid":7}"#).pid, Some(7));
        assert_eq!(inspected(r#"{"Status":"paused","Running":true,"Pid":7}"#).pid, Some(7));
        assert_eq!(inspected(r#"{"Status":"stopping","Running":false,"Pid":7}"#).pid, Some(7));
        assert_eq!(inspected(r#"{"Status":"exited","Running":false,"Pid":0}"#).pid, None);
        assert_eq!(inspected(r#"{"Status":"running"}"#).network, "bridge");
    }

    #[test]
    fn what_leaves_a_container_as_it_is_is_no_change() {
        for action in ["start", "die", "died", "stop", "rename", "destroy", "remove", "restart", "unpause"] {
            assert!(is_change(action), "{action}");
        }
        for action in
            ["exec_start: sh -c true", "exec_died", "exec", "health_status: healthy", "top", "attach"]
        {
            assert!(!is_change(action), "{action}");
        }
    }
}
