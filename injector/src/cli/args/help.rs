//! What the help says below a command's options. Manual pages are made of it too. Each command has examples, and a test
//! reads them as a command line.

use injector_core::topology::words;

pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 recovered or done · 1 not recovered · 2 unknown, censored, undecided or our own failure · \
64 wrong usage or bad config · 69 daemon not reachable · 77 not permitted";

pub(super) const START: &str = "\
Examples:
  sudo injector start --config lab.yaml
  sudo injector start --config lab.yaml --detach --log injector.log";

pub(super) const STOP: &str = "\
Examples:
  sudo injector stop
  sudo injector stop --timeout 1m";

pub(super) const INIT: &str = "\
On a terminal it asks which of what it found are peers, and by which ports they show that they serve. The file has a comment
for each guess. Nothing is changed on the host; possible endpoints are asked once.

Examples:
  sudo injector init
  sudo injector init --yes --peer n1 --peer n2 --peer n3 --port 8080 --out lab.yaml
  injector init --peer n1=10.0.0.1 --peer n2=10.0.0.2 --out -

Exit codes: 0 written · 1 fewer than two peers were found · 2 the file can't be written · 64 wrong usage, or it exists";

pub(super) const CHECK: &str = "\
Examples:
  injector check lab.yaml
  injector check --config lab.yaml --campaign campaign.yaml
  injector check --schema";

pub(super) const DOCTOR: &str = "\
With a config, nothing is attached, and every endpoint is asked once, exec probes included.

Each line begins with one of these words, and the last line sums them up:
  ok        as it should be
  note      worth knowing; nothing fails for it, but a record may show less
  PREVENTS  the daemon would not start, would refuse to cut a link, or could not measure a recovery
  found     a daemon whose programs are loaded, or filters that a daemon left behind
  unseen    traffic that the programs would not see, and what could not be checked

Examples:
  sudo injector doctor
  sudo injector doctor lab.yaml
  sudo injector doctor --clean

Exit codes: 0 the daemon can do its work · 1 something keeps it from that: it would not start, it would refuse to cut a
link, or a required endpoint does not answer · 64 wrong usage or bad config";

/// `partition`: the shapes, then examples.
pub(super) fn partition() -> String {
    format!("{}\n\n{PARTITION}", words::help())
}

const PARTITION: &str = "\
Examples:
  injector partition isolate n1 --for 5s
  injector partition isolate @leader --name p --for 5s
  injector partition split n1,n2 n3 --scope tcp/5122 --dry-run
  injector partition links n1:n2 --loss 30% --for 1m
  injector partition random 2 --among n1,n2,n3 --seed 7 --at +10s --for 5s
  injector partition isolate n1 --for 5s --host ssh://root@n1,ssh://root@n2

With several hosts, all prepare, then all cut at one instant, or none does.";

pub(super) const HEAL: &str = "\
Examples:
  injector heal p
  injector heal --all
  injector --host ssh://root@n1,ssh://root@n2 heal --all

With several hosts, all are asked at once, and a host that does not answer holds up no other one.";

pub(super) const STATUS: &str = "\
Examples:
  injector status
  injector status --json
  injector status --watch";

pub(super) const TOP: &str = "\
Keys: up and down select a partition, h heals it, H heals all, q quits. Colours are left out with NO_COLOR. It needs a \
terminal, works over ssh, and fits 80x24.

Examples:
  injector top
  injector --host ssh://root@lab top";

pub(super) const PEERS: &str = "\
Example:
  injector peers";

pub(super) const TIMELINE: &str = "\
Examples:
  injector timeline
  injector timeline --follow --since 120
  injector timeline --json";

pub(super) const MARK: &str = "\
Example:
  injector mark the load is on";

pub(super) const WAIT: &str = "\
Examples:
  injector wait p
  injector wait p --timeout 1m --json
  injector wait --healthy

Exit codes: 0 recovered, or healthy · 1 not by the deadline · 2 censored, unknown, or our own failure; or --timeout ended first";

pub(super) const WITH: &str = "\
Examples:
  injector with isolate n1 --for 1m -- ./my-test
  injector with isolate n1 --for 1m --wait --deadline 20s -- ./my-test
  injector with random-node --seed 7 --for 1m -- pytest tests/failover.py

Without --wait, a command that succeeded is a 0 also where nothing shows that a packet was dropped, or where the cluster was
not healthy before.

The exit code is the command's: 128+n if signal n ended it, 126 or 127 if it can't be run or found, 125 if the partition \
failed or was not in force until the command ended. With --wait, where the command succeeded: 0 recovered, 1 not by the
deadline, 125 not known.";

pub(super) const PROBE: &str = "\
Example:
  injector probe

Exit codes: 0 every endpoint answered · 1 one did not";

pub(super) const MEASURE: &str = "\
A trial: wait until the endpoints that gate are healthy, cut, hold, heal, measure until the record is final, cool
down. Records go to DIR/trials.jsonl as they come; DIR/summary.json is written every 10 trials and at the end.
Ctrl-C heals and writes the summary; --resume makes the trials that are missing, with the same draws. A trial that was
interrupted is made again as its next attempt.

Commands run by `sh -c` with INJECTOR_TRIAL, INJECTOR_ATTEMPT, INJECTOR_NAME and INJECTOR_OUT, and once there is a
record INJECTOR_OUTCOME and INJECTOR_RECORD, the path of its JSON.

Examples:
  injector measure random-node --hold 5s --trials 100 --deadline 20s --out runs/a
  injector measure isolate @leader --trials 59 --seed 7 --system etcd=3.5.1 --out runs/b
  injector measure --campaign campaign.yaml --out runs/matrix
  injector measure --resume --out runs/a

Exit codes: 0 the rate beyond the deadline is within --max-rate, or --no-gate · 1 it is above, or --stop-when decides
for p1 · 2 undecided, nothing but unknown or failed trials, or given up · 128+n ended by signal n · 64 wrong usage,
changed settings, or DIR exists and --resume is missing · 69 daemon not reachable · 77 not permitted";

pub(super) const REPORT: &str = "\
Examples:
  injector report runs/a
  injector report runs/a --html a.html --junit a.xml --csv a.csv
  injector report runs/a --served-within 500ms

Reading a report is no failure: the exit code is 0 whatever the campaign found.";

pub(super) const COMPARE: &str = "\
Examples:
  injector compare runs/before runs/after
  injector compare runs/before runs/after --margin 2% --html compare.html

Exit codes: 0 B is not worse by the margin or more · 1 B is worse · 2 undecided (it names how many trials it needs), or \
the runs were made differently";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::CommandLine;
    use super::words;

    /// The lines of a help that are command lines: what is left of them after `sudo`.
    fn examples(help: &str) -> Vec<&str> {
        let lines = help.lines().map(|line| line.trim_start().trim_start_matches("sudo "));
        lines.filter(|line| line.starts_with("injector ")).collect()
    }

    #[test]
    fn each_command_has_examples_that_are_read() {
        let line = CommandLine::command();
        let shown: Vec<_> = line.get_subcommands().filter(|command| !command.is_hide_set()).collect();
        assert!(shown.len() > 15, "{} commands", shown.len());
        for command in shown {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = examples(&help);
            assert!(help.contains("Example") && !examples.is_empty(), "{name} has no example: {help}");
            for example in examples {
                let read = CommandLine::read_words(example.split(' '));
                assert!(read.is_ok(), "{example}: {}", read.unwrap_err());
                assert!(example.split(' ').any(|word| word == name), "{example} is no example of {name}");
            }
        }
    }

    #[test]
    fn shapes_of_examples_are_read() {
        let help = super::partition();
        for example in examples(&help) {
            let shape = example.split(' ').skip(2).take_while(|word| !word.starts_with("--"));
            let shape: Vec<String> = shape.map(str::to_owned).collect();
            assert!(words::parse_words(&shape).is_ok(), "{example}");
        }
    }
}
