//! How many links the open partitions may have: the daemon assesses each of them in one turn, keeps its coverage, and makes a record of
//! it. A user must not be able to take so much of its memory, or of a turn, that the lease ends the cuts of others.

use injector_core::api::{Code, Problem};
use injector_core::figures::counted;

use super::request::Answer;
use super::state::State;
use crate::server::command::Requester;

/// Of all partitions together. A cut of 1,024 peers into halves has 524,288.
const MOST: usize = 800_000;
/// Of all users together who are neither root nor the daemon's own; each of them may have half of what the others leave.
const ALL_MEMBERS: usize = 200_000;

/// The links of open partitions.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Of all of them,
    all: usize,
    /// of users other than root,
    members: usize,
    /// and of the one who asks.
    own: usize,
}

impl State {
    /// Refuses a partition of so many links if the open ones would have too many with it. Healed ones count until their records
    /// are final.
    pub(super) fn within_link_limit(&self, by: Requester, asked: usize) -> Answer<()> {
        let mut held = Held::default();
        for partition in self.ledger.iter().filter(|partition| partition.life.is_open()) {
            let links = partition.life.links.len();
            held.all += links;
            if let Requester::Member(holder) = partition.experiment.by {
                held.members += links;
                held.own += if by == Requester::Member(holder) { links } else { 0 };
            }
        }
        let Some(why) = held.refusal(matches!(by, Requester::Member(_)), asked) else { return Ok(()) };
        let remedy = "cut fewer links, or wait until the records of partitions that are healed are final";
        Err(Problem::new(Code::TooBusy, why).field("shape").remedy(remedy))
    }
}

impl Held {
    /// Why so many more links are too many, if they are.
    fn refusal(self, is_member: bool, asked: usize) -> Option<String> {
        let what = counted(asked, "link");
        if self.all + asked > MOST {
            let all = self.all;
            return Some(format!(
                "{what}, beside the {all} of open partitions: at most {MOST} are open at a time"
            ));
        }
        let others = self.members - self.own;
        let share = ALL_MEMBERS.saturating_sub(others) / 2;
        (is_member && self.own + asked > share).then(|| {
            let own = self.own;
            format!("{what}, beside the {own} of this user's open partitions: a user may have {share} now")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_room_beside_all_users_and_each_user_beside_the_others() {
        let held = |all, members, own| Held { all, members, own };
        assert_eq!(held(0, 0, 0).refusal(false, 2 * 512 * 512), None, "halves of 1,024 peers");
        assert!(held(0, 0, 0).refusal(false, MOST + 1).unwrap().contains("at most 800000"));
        assert!(held(MOST, 0, 0).refusal(true, 1).is_some());
        // One user after the other takes all that it may.
        let (mut members, mut shares) = (0, Vec::new());
        for _ in 0..4 {
            let share = (ALL_MEMBERS - members) / 2;
            assert_eq!(held(members, members, 0).refusal(true, share), None);
            assert!(held(members + share, members + share, share).refusal(true, 1).is_some());
            shares.push(share);
            members += share;
        }
        assert_eq!(shares[0], 100_000);
        assert!(
            members <= ALL_MEMBERS && held(members, members, 0).refusal(false, MOST - ALL_MEMBERS).is_none()
        );
    }
}
