//! `injector peers`.

use std::fmt::Write as _;

use super::args::Common;
use super::failure::{Exit, Failure};
use super::hosts::limit::connected;
use super::human::{NONE, Table, or_none, yes_no};
use super::output::show;
use injector_core::api::{ExitView, NameView, PeerView};

pub(super) async fn run(common: &Common) -> Result<Exit, Failure> {
    let status = connected(common).await?.status().await?;
    show(common, &status.peers, || {
        let mut table = Table::new(["peer", "named by", "home", "exits", "all hooked", "notes"]);
        for (name, peer) in &status.peers {
            let names: Vec<String> = peer.names.iter().map(named_by).collect();
            let exits: Vec<String> = peer.exits.iter().map(exit).collect();
            table.row([
                name.0.clone(),
                names.join(", "),
                or_none(peer.home.as_deref()),
                if exits.is_empty() { NONE.to_owned() } else { exits.join(", ") },
                yes_no(Some(peer.is_closed)),
                notes(peer),
            ]);
        }
        let mut text = table.to_string();
        if let Some(coverage) = &status.coverage {
            let _ = writeln!(text, "\ncoverage: {coverage}");
        }
        text
    })?;
    Ok(Exit::OK)
}

fn named_by(name: &NameView) -> String {
    let from = name.from.as_ref().map_or_else(String::new, |from| format!(": {from}"));
    format!("{} ({}{from})", name.name, name.source.words())
}

fn exit(exit: &ExitView) -> String {
    match &exit.hook {
        Some(hook) if *hook == exit.interface => exit.interface.clone(),
        Some(hook) => format!("{} (hooked at {hook})", exit.interface),
        None => format!("{} (not hooked)", exit.interface),
    }
}

fn notes(peer: &PeerView) -> String {
    let notes = [
        (!peer.is_here, "not here"),
        (peer.forwards, "forwards"),
        (peer.home.is_some() && !peer.is_plain, "may forward: only addresses name its routed packets"),
    ];
    let notes: Vec<&str> = notes.iter().filter(|(is_so, _)| *is_so).map(|(_, note)| *note).collect();
    if notes.is_empty() { NONE.to_owned() } else { notes.join(", ") }
}
