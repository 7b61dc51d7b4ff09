//! A network namespace, wherever the config names one.

use std::path::{Path, PathBuf};

use crate::config::Netns;
use crate::config::read::Node;

/// A namespace: a name, a path, or `{pid: N}`.
pub(super) fn read(node: &Node<'_>) -> Option<Netns> {
    let usage = "write a name as under /run/netns, a path that begins with /, or { pid: 1234 }";
    if node.value().is_mapping() {
        let table = node.table(usage)?;
        let pid = table.require("pid", "write the process id, as in: { pid: 1234 }");
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
