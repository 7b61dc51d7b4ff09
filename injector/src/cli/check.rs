//! `injector check`: is this config good, and this campaign file?

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{Check, Common};
use super::failure::{Exit, Failure};
use super::output::{print, show};
use crate::engine;
use injector_core::campaign::file::Whole;
use injector_core::config::{Config, Interfaces, Role, schema};
use injector_core::figures::counted;
use injector_core::stats::labels::label;

pub(super) fn run(common: &Common, args: &Check) -> Result<Exit, Failure> {
    if args.schema {
        print(&format!("{}\n", schema::text()))?;
        return Ok(Exit::OK);
    }
    let config = args
        .config()
        .map(|path| Ok::<_, Failure>((path, Config::load_with(path, &engine::select)?)))
        .transpose()?;
    let campaign = args.campaign.as_ref().map(|path| Whole::read(path)).transpose()?;
    if let (Some((path, config)), Some(campaign)) = (&config, &campaign) {
        build(campaign, config, path)?;
    }
    let mut summary = json!({ "ok": true });
    let mut text = String::new();
    if let Some((path, config)) = &config {
        let interfaces = match &config.interfaces {
            Interfaces::Auto => None,
            Interfaces::Named(interfaces) => Some(interfaces.len()),
        };
        add(
            &mut summary,
            json!({
                "peers": config.peers.len(),
                "interfaces": interfaces,
                "endpoints": config.endpoints.len(),
                "presets": config.presets.len(),
                "roles": config.roles.len(),
                "metrics": config.metrics,
            }),
        );
        let interfaces = interfaces
            .map_or_else(|| "interfaces found by themselves".to_owned(), |count| counted(count, "interface"));
        let _ = writeln!(
            text,
            "{}: good: {}, {interfaces}, {}, {}, {}",
            path.display(),
            counted(config.peers.len(), "peer"),
            counted(config.endpoints.len(), "endpoint"),
            counted(config.presets.len(), "preset"),
            counted(config.roles.len(), "role")
        );
        if let Some(address) = config.metrics {
            let _ = writeln!(text, "{}: metrics are read at http://{address}/metrics", path.display());
        }
    }
    if let Some((path, campaign)) = args.campaign.as_ref().zip(campaign) {
        add(&mut summary, json!({ "cells": campaign.spec.cells.len(), "trials": campaign.spec.trials }));
        let _ = writeln!(
            text,
            "{}: good: {}, {}",
            path.display(),
            counted(campaign.spec.cells.len(), "cell"),
            campaign.spec.trials.map_or_else(String::new, |trials| counted(trials, "trial"))
        );
    }
    show(common, &summary, || text)?;
    Ok(Exit::OK)
}

fn add(summary: &mut Value, more: Value) {
    if let (Value::Object(summary), Value::Object(more)) = (summary, more) {
        summary.extend(more);
    }
}

/// Whether every shape of the campaign can be built with the config's peers, and its trials be decided by the endpoints.
fn build(campaign: &Whole, config: &Config, path: &Path) -> Result<(), Failure> {
    for (at, cell) in campaign.spec.cells.iter().enumerate() {
        config.can_build(&cell.shape, cell.traffic.direction).map_err(|error| {
            let (shape, path) = (label(&cell.shape), path.display());
            campaign.fault_of_cell(at, &format!("\"{shape}\" can't be built with {path}: {error}"))
        })?;
    }
    let endpoints = config.endpoints.iter();
    let endpoints = endpoints.map(|endpoint| (endpoint.name.as_str(), endpoint.role == Role::Required));
    campaign.spec.check_endpoints(&endpoints.collect::<Vec<_>>()).map_err(|error| {
        let said = format!("the campaign can't be measured with {}: {error}", path.display());
        campaign.fault(error.key, &said)
    })?;
    Ok(())
}
