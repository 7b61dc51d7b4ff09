//! `injector check`: is this config good, and this campaign file?

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{Check, Common};
use super::failure::{Exit, Failure};
use super::output::{print, show};
use crate::engine;
use injector_core::campaign::file::Whole;
use injector_core::config::{Config, ConfigError, ConfigErrors, Interfaces, Role, schema};
use injector_core::figures::counted;
use injector_core::stats::labels::label;

pub(super) fn run(common: &Common, args: &Check) -> Result<Exit, Failure> {
    if args.schema {
        print(&format!("{}\n", schema::text()))?;
        return Ok(Exit::OK);
    }
    // All faults of both files are named at once.
    let mut faults = Vec::new();
    let mut config = None;
    if let Some(path) = args.config() {
        match Config::load_with(path, &engine::select) {
            Ok(loaded) => config = Some((path, loaded)),
            Err(errors) => faults.extend(errors.0),
        }
    }
    let mut campaign = None;
    if let Some(path) = &args.campaign {
        let (read, of_campaign) = Whole::read(path);
        campaign = read;
        faults.extend(of_campaign);
    }
    if let (Some((path, config)), Some(campaign)) = (&config, &campaign) {
        faults.extend(build(campaign, config, path));
    }
    if !faults.is_empty() {
        return Err(ConfigErrors(faults).into());
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

/// Why a shape of the campaign can't be built with the config's peers, or its trials can't be decided by the endpoints.
fn build(campaign: &Whole, config: &Config, path: &Path) -> Vec<ConfigError> {
    let mut faults: Vec<ConfigError> = Vec::new();
    for (at, cell) in campaign.spec.cells.iter().enumerate() {
        if let Err(error) = config.can_build(&cell.shape, cell.traffic.direction) {
            let (shape, path) = (label(&cell.shape), path.display());
            let fault =
                campaign.fault_of_cell(at, &format!("\"{shape}\" can't be built with {path}: {error}"));
            // A shape has a cell for each hold.
            if faults.last().is_none_or(|last| last.path != fault.path) {
                faults.push(fault);
            }
        }
    }
    let endpoints = config.endpoints.iter();
    let endpoints = endpoints.map(|endpoint| (endpoint.name.as_str(), endpoint.role == Role::Required));
    if let Err(error) = campaign.spec.check_endpoints(&endpoints.collect::<Vec<_>>()) {
        let said = format!("the campaign can't be measured with {}: {error}", path.display());
        faults.push(campaign.fault(error.key, &said));
    }
    faults
}
