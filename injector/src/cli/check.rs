//! `injector check`: is this config good?

use std::fmt::Write as _;

use super::args::{Check, Common};
use super::failure::{Exit, Failure};
use super::show;
use injector_core::config::{Config, Interfaces};

pub(super) fn run(common: &Common, args: &Check) -> Result<Exit, Failure> {
    let config = Config::load(&args.config)?;
    let interfaces = match &config.interfaces {
        Interfaces::Auto => None,
        Interfaces::Named(interfaces) => Some(interfaces.len()),
    };
    let summary = serde_json::json!({
        "ok": true,
        "peers": config.peers.len(),
        "interfaces": interfaces,
        "endpoints": config.endpoints.len(),
        "presets": config.presets.len(),
    });
    show(common, &summary, || {
        let mut text = format!("{}: good: {} peers, ", args.config.display(), config.peers.len());
        match interfaces {
            None => text.push_str("interfaces found by themselves"),
            Some(count) => {
                let _ = write!(text, "{count} interfaces");
            }
        }
        let _ = writeln!(text, ", {} endpoints, {} presets", config.endpoints.len(), config.presets.len());
        text
    })?;
    Ok(Exit::OK)
}
