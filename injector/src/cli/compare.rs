//! `injector compare`: is run B worse than run A?

use super::args::{Common, Compare};
use super::failure::{Exit, Failure};
use super::output::show;
use injector_core::report::{CompareOptions, compare};

pub(super) fn run(common: &Common, args: Compare) -> Result<Exit, Failure> {
    let default = CompareOptions::default();
    let options =
        CompareOptions { margin: args.margin.unwrap_or(default.margin), force: args.force, html: args.html };
    let made = compare(&args.a, &args.b, &options)?;
    show(common, &made.json, || made.text)?;
    Ok(Exit(made.exit_code))
}
