//! The simple commands of a shell script, as far as documents write them.

/// Words that may precede a command.
const BEFORE: [&str; 12] =
    ["sudo", "exec", "time", "env", "!", "if", "while", "until", "then", "else", "do", "{"];

/// The words of each call of a program, the program's name first.
pub fn commands_of(program: &str, script: &str) -> Vec<Vec<String>> {
    let called = |words: Vec<String>| {
        let mut words = words.into_iter().peekable();
        loop {
            match words.peek().map(String::as_str) {
                // The command that is run there.
                Some("ssh") => drop((words.next(), words.next())),
                Some(word) if BEFORE.contains(&word) || is_assignment(word) => drop(words.next()),
                Some(word) if word == program => return Some(words.collect()),
                _ => return None,
            }
        }
    };
    commands(script).into_iter().filter_map(called).collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// The words of each simple command.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut reader = Reader::default();
    let mut rest = script.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' => reader.quoted(&mut rest, '\''),
            '"' => reader.quoted(&mut rest, '"'),
            '\\' => {
                // A line that continues.
                if let Some(next) = rest.next().filter(|next| *next != '\n') {
                    reader.word.get_or_insert_default().push(next);
                }
            }
            '#' if reader.word.is_none() => while rest.next_if(|next| *next != '\n').is_some() {},
            '>' | '<' => reader.redirect(),
            '&' if reader.is_redirected && reader.word.is_none() => {}
            '\n' | ';' | '|' | '&' | '(' | ')' => reader.end_command(),
            c if c.is_whitespace() => reader.end_word(),
            c => reader.word.get_or_insert_default().push(c),
        }
    }
    reader.end_command();
    reader.commands
}

#[derive(Default)]
struct Reader {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: Option<String>,
    /// The next word is the file of a redirection.
    is_redirected: bool,
}

impl Reader {
    fn quoted(&mut self, rest: &mut impl Iterator<Item = char>, end: char) {
        let word = self.word.get_or_insert_default();
        while let Some(c) = rest.next().filter(|c| *c != end) {
            match c {
                '\\' if end == '"' => word.extend(rest.next()),
                c => word.push(c),
            }
        }
    }

    fn redirect(&mut self) {
        // In `2>` the word is the number of a file.
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        self.is_redirected = true;
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take() {
            if self.is_redirected {
                self.is_redirected = false;
            } else {
                self.words.push(word);
            }
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.is_redirected = false;
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

#[test]
fn commands_are_found_in_scripts() {
    let script = "\
# injector in a comment
set -e
sudo injector start --config 'my lab.yaml' \\
    --detach > log 2>&1   # continues
injector partition isolate n1 && injector wait p || exit 3
if ! injector status --json | grep -q x; then FOO=1 injector heal \"a b\"; fi
ssh root@h1 injector stop
echo injector
";
    let found = commands_of("injector", script);
    let found: Vec<Vec<&str>> =
        found.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
    assert_eq!(
        found,
        [
            vec!["injector", "start", "--config", "my lab.yaml", "--detach"],
            vec!["injector", "partition", "isolate", "n1"],
            vec!["injector", "wait", "p"],
            vec!["injector", "status", "--json"],
            vec!["injector", "heal", "a b"],
            vec!["injector", "stop"],
        ]
    );
}
