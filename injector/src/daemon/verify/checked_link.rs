//! The results of the active check on one link, from try to try. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::round::{Outcome, Silence};
use crate::daemon::attachment::NoPair;
use injector_core::api::{CheckForm, LinkCheck};
use injector_core::clock::MonoNs;
use injector_core::config::Netns;
use injector_core::model::PeerNames;

/// How long before the heal a frame must have been sent to count: until then it has passed every hook in its way.
const MARGIN: Duration = Duration::from_millis(50);

/// Why a link is not tried, or its tries say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unchecked {
    /// Its cut lets some packets pass on purpose.
    NotFull,
    /// Its cut ends before a frame can be sent in it.
    TooShort,
    /// As many links as are checked at most come before it.
    TooMany(usize),
    /// The link has no two interfaces to be tried between.
    NoPair(NoPair),
    /// The tries said nothing.
    Silent(Silence),
}

impl Unchecked {
    pub fn text(&self, names: &PeerNames) -> String {
        let space = |netns: &Option<Netns>| {
            netns.as_ref().map_or("the daemon's own network namespace".to_owned(), |netns| {
                format!("network namespace {netns}")
            })
        };
        match self {
            Self::NotFull => {
                "only cuts in full are checked: no scope, no loss below 100%, no flapping".to_owned()
            }
            Self::TooShort => {
                "the cut ends before a frame can be sent in it; hold it for 400 ms or longer".to_owned()
            }
            Self::TooMany(most) => format!("only the first {most} links of a partition are checked"),
            Self::NoPair(NoPair::Process(peer)) => format!(
                "{} is a process on this host, and the daemon can't send in its place; only its own packets prove a cut",
                names.name(*peer)
            ),
            Self::NoPair(NoPair::NoHome(peer)) => {
                format!("the network namespace of {} is not seen", names.name(*peer))
            }
            Self::NoPair(NoPair::OneHome) => "both peers live in one network namespace".to_owned(),
            Self::NoPair(NoPair::NoNic) => {
                "one of the two has no Ethernet interface with an address of its own".to_owned()
            }
            Self::Silent(Silence::NoAnswer(nic)) => format!("{} did not answer in time", space(&nic.netns)),
            Self::Silent(Silence::Failed(nic, error)) => format!("{}: {error}", space(&nic.netns)),
            Self::Silent(Silence::Late) => {
                "the check's frames could not be sent and listened for in time".to_owned()
            }
        }
    }
}

/// The results of the check on one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedLink {
    /// Why it was not tried, or its last try said nothing.
    pub why: Option<Unchecked>,
    control: Option<u64>,
    /// The forms in which the control arrived.
    forms: BTreeSet<CheckForm>,
    /// The forms in which something was sent during the cut: a namespace may take no packets of IP any more.
    tried: BTreeSet<CheckForm>,
    sent: u64,
    after_cut: Option<u64>,
    before_heal: Option<u64>,
    until: Option<MonoNs>,
    /// The last try of the cut: it does not count if the heal came too soon after it.
    last: Option<(Outcome, BTreeSet<CheckForm>)>,
}

impl CheckedLink {
    /// Takes in what came of the control.
    pub fn control(&mut self, arrived: u64, forms: BTreeSet<CheckForm>) {
        (self.control, self.forms) = (Some(arrived), forms);
        self.why = None;
    }

    /// Takes in what came of a try during the cut, and in which forms it was sent. By then the one before it was long over.
    pub fn tried(&mut self, outcome: Outcome, forms: BTreeSet<CheckForm>) {
        if let Some(last) = self.last.replace((outcome, forms)) {
            self.count(last);
        }
    }

    fn count(&mut self, (outcome, forms): (Outcome, BTreeSet<CheckForm>)) {
        self.tried.extend(forms);
        self.sent += outcome.sent;
        self.until = Some(outcome.end);
        let arrived = if self.after_cut.is_none() { &mut self.after_cut } else { &mut self.before_heal };
        *arrived = Some(arrived.unwrap_or(0) + outcome.arrived);
    }

    /// The check for the link's record; `heal` is when the cut ended, if it has.
    pub fn recorded(&self, heal: Option<MonoNs>, names: &PeerNames) -> LinkCheck {
        let mut all = self.clone();
        let counts = |last: &Outcome| heal.is_none_or(|heal| last.end + MARGIN <= heal);
        if let Some(last) = all.last.take_if(|(outcome, _)| counts(outcome)) {
            all.count(last);
        }
        let Self { control, forms, tried, sent, after_cut, before_heal, until, .. } = all;
        let silence = || Some(self.why.as_ref()?.text(names));
        let why_not = match (control, after_cut) {
            (Some(0), _) => Some(
                "none of the frames that were sent before the cut arrived: the two are not on one Ethernet segment, or were cut before"
                    .to_owned(),
            ),
            (Some(_), Some(_)) => None,
            (Some(_), None) => {
                silence().or_else(|| Some("no frame could be sent in time during the cut".to_owned()))
            }
            (None, _) => {
                silence().or_else(|| Some("no frame could be sent in time before the cut".to_owned()))
            }
        };
        LinkCheck {
            control,
            forms: forms.intersection(&tried).copied().collect(),
            sent,
            arrived_after_cut: after_cut,
            arrived_before_heal: before_heal,
            checked_until_ns: until,
            why_not,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::model::PeerId;

    const SECOND: u64 = 1_000_000_000;

    fn names() -> PeerNames {
        let peers =
            "peers: { a: { addresses: [192.0.2.1] }, b: { addresses: [192.0.2.2] } }\ninterfaces: auto\n";
        injector_core::config::Config::parse(peers, "test").unwrap().names
    }

    fn outcome(arrived: u64, end: u64) -> Outcome {
        Outcome { sent: 3, arrived, end: MonoNs(end) }
    }

    #[test]
    fn tries_are_counted_by_their_place_and_the_last_one_only_if_the_heal_came_well_after() {
        let mut checked_link = CheckedLink::default();
        let ip = || BTreeSet::from([CheckForm::Ip]);
        checked_link.control(3, ip());
        checked_link.tried(outcome(0, SECOND), ip());
        checked_link.tried(outcome(1, 2 * SECOND), ip());
        checked_link.tried(outcome(2, 3 * SECOND), ip());
        let at = |heal: u64| checked_link.recorded(Some(MonoNs(heal)), &names());
        let late = at(3 * SECOND + 50_000_000);
        assert_eq!((late.sent, late.arrived_after_cut, late.arrived_before_heal), (9, Some(0), Some(3)));
        assert_eq!(late.forms, [CheckForm::Ip]);
        assert_eq!((late.checked_until_ns, late.why_not.clone()), (Some(MonoNs(3 * SECOND)), None));
        let soon = at(3 * SECOND + 49_000_000);
        assert_eq!((soon.sent, soon.arrived_after_cut, soon.arrived_before_heal), (6, Some(0), Some(1)));
        assert_eq!(soon.checked_until_ns, Some(MonoNs(2 * SECOND)));
        assert_eq!(checked_link.recorded(None, &names()), late, "while the cut lasts");
    }

    #[test]
    fn a_form_is_named_that_arrived_before_the_cut_and_was_sent_during_it() {
        let both = || BTreeSet::from([CheckForm::Ethertype, CheckForm::Ip]);
        let mut checked_link = CheckedLink::default();
        checked_link.control(6, both());
        let forms =
            |checked_link: &CheckedLink, heal: u64| checked_link.recorded(Some(MonoNs(heal)), &names()).forms;
        assert_eq!(forms(&checked_link, SECOND), [], "nothing was sent yet");
        // The receiver took no packets of IP then.
        checked_link.tried(outcome(0, SECOND), BTreeSet::from([CheckForm::Ethertype]));
        assert_eq!(forms(&checked_link, SECOND), [], "too close to the heal to count");
        assert_eq!(forms(&checked_link, 2 * SECOND), [CheckForm::Ethertype]);
        checked_link.tried(outcome(0, 2 * SECOND), both());
        assert_eq!(forms(&checked_link, 3 * SECOND), [CheckForm::Ethertype, CheckForm::Ip]);
        let mut deaf = CheckedLink::default();
        deaf.control(3, BTreeSet::from([CheckForm::Ethertype]));
        deaf.tried(outcome(0, SECOND), both());
        assert_eq!(forms(&deaf, 2 * SECOND), [CheckForm::Ethertype], "its control did not arrive");
    }

    #[test]
    fn a_check_that_says_nothing_says_why() {
        let mut checked_link = CheckedLink::default();
        let why = |checked_link: &CheckedLink| {
            let recorded = checked_link.recorded(Some(MonoNs(SECOND)), &names());
            assert_eq!(recorded.arrived(), None);
            recorded.why_not.unwrap()
        };
        assert!(why(&checked_link).contains("before the cut"));
        checked_link.why = Some(Unchecked::NoPair(NoPair::Process(PeerId(2))));
        assert!(why(&checked_link).starts_with("b is a process on this host"), "{}", why(&checked_link));
        checked_link.why = Some(Unchecked::NoPair(NoPair::NoHome(PeerId(2))));
        assert_eq!(why(&checked_link), "the network namespace of b is not seen");
        checked_link.control(0, BTreeSet::new());
        assert!(why(&checked_link).contains("not on one Ethernet segment"));
        checked_link.control(3, BTreeSet::from([CheckForm::Ip]));
        assert!(why(&checked_link).contains("during the cut"));
        checked_link.tried(outcome(0, SECOND), BTreeSet::new());
        assert!(why(&checked_link).contains("during the cut"), "too near the heal");
    }
}
