//! `exec:` of a probe or a role: a command, its user and its environment.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::kind::{Kind, Settings, Stimulus};
use super::texts::{Texts, secret};
use crate::clock::Span;
use crate::config::probe::ExecCommand;
use crate::config::read::Node;
use crate::config::secret::{Sent, Text};

/// A command.
#[derive(JsonSchema)]
#[schemars(rename = "Exec", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are read by the derive macro alone")]
pub(in crate::config) struct ExecKeys {
    /// The program and its arguments.
    command: Vec<String>,
    /// The user it runs as; the daemon's by default.
    user: Option<String>,
    /// Its environment, besides `PATH`, `PEER`, `ADDRESS` and `SEQ`. The daemon's own environment is not passed on.
    env: Option<BTreeMap<String, String>>,
}

impl Kind for ExecCommand {
    type Keys = ExecKeys;
    const SUCCESS: &'static str = "exit code 0";
    const INTERVAL: Span = Span::secs(1);

    fn read(node: &Node<'_>, texts: &Texts<'_>) -> Option<Self> {
        command_table(node, texts)
    }

    fn texts(&mut self) -> Vec<(Sent, &mut Text)> {
        self.env.values_mut().map(|text| (Sent::Elsewhere, text)).collect()
    }

    fn command(&self) -> Option<&ExecCommand> {
        Some(self)
    }

    fn settings(&self, settings: &mut Settings) {
        if let Some((program, arguments)) = self.command.split_first() {
            settings.set("command", program);
            settings.hide("arguments", arguments.iter().map(String::as_str));
        }
        if let Some(user) = &self.user {
            settings.set("user", user);
        }
        for (name, value) in &self.env {
            settings.hide(&format!("env.{name}"), [value.written()]);
        }
    }

    fn describe<'a>(&'a self, stimulus: &mut Stimulus<'a>) {
        let (program, arguments) =
            self.command.split_first().map_or(("", &[][..]), |(program, arguments)| (program, arguments));
        stimulus.say(format_args!("exec {program}"));
        stimulus.hide(arguments.iter().map(String::as_str));
        match arguments.len() {
            0 => {}
            1 => stimulus.say(format_args!(" with 1 argument")),
            count => stimulus.say(format_args!(" with {count} arguments")),
        }
        if let Some(user) = &self.user {
            stimulus.say(format_args!(" as {user}"));
        }
        for (name, value) in &self.env {
            stimulus.hide([value.written()]);
            stimulus.say(format_args!(", {name}=…"));
        }
    }
}

/// Reads a mapping with `command`, `user` and `env`.
pub(in crate::config) fn command_table(node: &Node<'_>, texts: &Texts<'_>) -> Option<ExecCommand> {
    let table = node.table("write it as: { command: [/usr/bin/check, \"{address}\"], user: nobody }")?;
    let command = table.require("command", COMMAND_USAGE).and_then(|node| command(&node, texts));
    let env = table.get("env").map(|node| environment(&node, texts)).unwrap_or_default();
    let user = table
        .get("user")
        .and_then(|node| node.some_text("write the user's name, in quotes if it is a number"))
        .map(str::to_owned);
    table.finish();
    Some(ExecCommand { command: command?, user, env })
}

const COMMAND_USAGE: &str =
    "write program and arguments as a list of texts, as in: [/usr/bin/check, \"{address}\"]";

/// Program and arguments.
pub(in crate::config) fn command(node: &Node<'_>, texts: &Texts<'_>) -> Option<Vec<String>> {
    let items = node.items(COMMAND_USAGE);
    if items.is_empty() && node.value().is_sequence() {
        node.error("the command is empty", COMMAND_USAGE);
    }
    if let Some(program) = items.first()
        && program.value().as_str() == Some("")
    {
        program.error("the program's name is empty", COMMAND_USAGE);
    }
    let is_secret = |node: &&Node<'_>| {
        let text = node.value().as_str().and_then(|text| Text::read(text).ok());
        text.is_some_and(|text| text.has_secret())
    };
    if let Some(node) = items.iter().find(is_secret) {
        node.error(
            "every user of this host can read a command line",
            "hand the secret over by the environment, as in: env: { TOKEN: \"${env:TOKEN}\" }",
        );
    }
    items.iter().map(|node| texts.read(node, COMMAND_USAGE).map(str::to_owned)).collect()
}

fn environment(node: &Node<'_>, texts: &Texts<'_>) -> BTreeMap<String, Text> {
    let usage = "write it as: { TOKEN: \"${env:TOKEN}\" }";
    let mut environment = BTreeMap::new();
    for (name, node) in node.entries(usage) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            node.key_error(format!("\"{name}\" can't be the name of an environment variable"), usage);
        }
        let text = texts.read(&node, usage);
        if text.is_some_and(|text| text.contains('\0')) {
            node.error("the text has a zero byte", usage);
        }
        if let Some(text) = text.and_then(|text| secret(&node, text)) {
            environment.insert(name.to_owned(), text);
        }
    }
    environment
}
