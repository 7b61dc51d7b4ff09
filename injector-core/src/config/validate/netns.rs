//! A network namespace, wherever the config names one.

use std::path::{Path, PathBuf};

use super::container;
use crate::config::Netns;
use crate::config::read::Node;

/// A namespace: a name, a path, `{pid: N}`, or `{container: NAME}`.
pub(super) fn read(node: &Node<'_>) -> Option<Netns> {
    let usage =
        "write a name as under /run/netns, a path that begins with /, { pid: 1234 } or { container: NAME }";
    if node.value().is_mapping() {
        let table = node.table(usage)?;
        let pid = match table.get("pid") {
            None if node.value().get("container").is_some() => None,
            None => table.require("pid", "write the process id, as in: { pid: 1234 }"),
            pid => pid,
        };
        let container = table.get("container");
        if let (Some(_), Some(second)) = (&pid, &container) {
            second.key_error("pid and container both name the namespace", "keep one of the two");
        }
        if let Some(node) = container {
            table.finish();
            return container::name(&node).map(Netns::Container);
        }
        let pid = pid.and_then(|node| node.number(1, i32::MAX.unsigned_abs()));
        table.finish();
        return pid.map(Netns::Pid);
    }
    let text = node.some_text(usage)?;
    if Path::new(text).is_absolute() {
        return Some(Netns::Path(PathBuf::from(text)));
    }
    if text.contains('/') || text == "." || text == ".." {
        node.error(format!("namespace \"{text}\" is neither a name nor an absolute path"), usage);
        return None;
    }
    Some(Netns::Name(text.to_owned()))
}
