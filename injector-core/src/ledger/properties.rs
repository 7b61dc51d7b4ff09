//! The ledger over a fake data plane: whatever happens in whatever order, the word equals the slots, no slot in the word
//! is written, no slot leaks, each partition is healed and closed once, and a failed change leaves nothing behind.
//!
//! What the fake is taught of the kernel has tests on the real one: that a lapse empties the live half (`netns_stuck`),
//! that deadlines end a cut by themselves (`netns_cut`), that a slot in use is not written and a 33rd partition evicts the
//! oldest watch (`netns_overlap`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use injector_common::slot::Slot;
use injector_common::{SLOTS, Word};
use proptest::prelude::*;

use super::*;
use crate::clock::{Span, WallOffset};
use crate::model::{Link, PeerId};
use crate::plan::{Age, Column};

const LEASE: u64 = 2_000_000_000;

/// The maps and the lease, on a clock of its own.
#[derive(Default)]
struct Fake {
    now: u64,
    lease_until: u64,
    unreported: Option<Lapsed>,
    word: Word,
    slots: BTreeMap<u8, Slot>,
    cells: BTreeSet<(u8, u16, u16)>,
    /// Slots with stamps of a generation.
    stamps: BTreeMap<u8, u32>,
    /// When each slot was freed, and how far running programs have gone.
    freed: BTreeMap<u8, Age>,
    age: u64,
    aged: u64,
    /// How many writes go well before one fails.
    fails_in: Option<u32>,
    /// How long the process is held up before its next store.
    held_up: u64,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fake fails")]
struct Failed;

impl Fake {
    fn may_fail(&mut self) -> Result<(), Failed> {
        match &mut self.fails_in {
            Some(0) => {
                self.fails_in = None;
                Err(Failed)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_lease(&mut self) {
        if self.now >= self.lease_until && self.word.live() != 0 {
            self.word = Word::new(0, self.word.live() | self.word.watched());
            self.unreported.get_or_insert(Lapsed { expired: MonoNs(self.lease_until) });
        }
        self.lease_until = self.now + LEASE;
    }

    /// Programs stamp what is in the word.
    fn run_programs(&mut self) {
        let in_word = self.word.live() | self.word.watched();
        for at in (0..SLOTS as u8).filter(|at| in_word & 1 << at != 0) {
            if let Some(slot) = self.slots.get(&at) {
                self.stamps.insert(at, slot.generation);
            }
        }
    }
}

impl DataPlane for Fake {
    type Error = Failed;

    fn write_slot(&mut self, index: SlotIndex, slot: &Slot) -> Result<(), Failed> {
        assert_eq!(
            (self.word.live() | self.word.watched()) & index.bit(),
            0,
            "a slot in the word is written"
        );
        let freed = self.freed.get(&index.0).copied().unwrap_or_default();
        assert!(freed.0 <= self.aged, "a program may still look at the slot that is written");
        assert_eq!(self.stamps.get(&index.0), None, "stamps of another partition are left in the slot");
        self.may_fail()?;
        self.slots.insert(index.0, *slot);
        Ok(())
    }

    fn write_cells(&mut self, index: SlotIndex, cells: &[Cell], presence: Presence) {
        for cell in cells {
            let Column::Peer(dst) = cell.dst else { continue };
            let key = (index.0, cell.src.0, dst.0);
            match presence {
                Presence::In => assert!(self.cells.insert(key), "a cell is written twice"),
                Presence::Out => drop(self.cells.remove(&key)),
            }
        }
    }

    fn forget(&mut self, index: SlotIndex) -> Result<(), Failed> {
        self.may_fail()?;
        self.stamps.remove(&index.0);
        Ok(())
    }

    fn recycle(&mut self, index: SlotIndex) -> Result<(), Failed> {
        let freed = self.freed.get(&index.0).copied().unwrap_or_default();
        assert!(freed.0 <= self.aged, "a program may still count for the slot that is recycled");
        self.forget(index)
    }

    fn store(&mut self, word: Word) -> Result<Interval, Lapsed> {
        self.now += std::mem::take(&mut self.held_up);
        self.check_lease();
        if let Some(lapsed) = self.unreported {
            return Err(lapsed);
        }
        let begin = MonoNs(self.now);
        self.now += 1_000;
        for at in 0..SLOTS as u8 {
            let was = (self.word.live() | self.word.watched()) & 1 << at != 0;
            let is = (word.live() | word.watched()) & 1 << at != 0;
            assert!(!is || was || self.slots.contains_key(&at), "the word has a slot that was never written");
            if was && !is {
                // Programs may read the slot until a wait that begins later is over.
                self.freed.insert(at, Age(self.age + 1));
            }
        }
        self.word = word;
        Ok(Interval { begin, end: MonoNs(self.now) })
    }

    fn renew(&mut self) -> Option<Lapsed> {
        self.check_lease();
        self.unreported
    }

    fn acknowledge(&mut self) -> Option<Lapsed> {
        self.unreported.take()
    }

    fn wait_aged(&mut self) {
        self.aged = self.age;
    }

    fn freed(&mut self) -> Age {
        self.age += 1;
        Age(self.age)
    }

    fn aged(&self) -> Age {
        Age(self.aged)
    }
}

/// An event that the daemon handles.
#[derive(Clone, Debug)]
enum Happening {
    Prepare { links: u8, length: u64, owner: Option<u64>, request: Option<u8> },
    Commit { which: usize, ahead: Option<u64> },
    Heal { which: usize },
    HealAll,
    Disconnect { owner: u64 },
    Withdraw { which: usize },
    Pass { nanos: u64 },
    Expire,
    Close,
    Evict,
    Lend,
    GiveBack,
    Fail { after: u32 },
    HoldUp { nanos: u64 },
    WaitAged,
    Forget,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    prop_oneof![
        5 => (1..64_u8, 1..9_u64, proptest::option::of(0..3_u64), proptest::option::of(0..4_u8)).prop_map(
            |(links, length, owner, request)| H::Prepare { links, length: length * 400_000_000, owner, request }
        ),
        5 => (any::<usize>(), proptest::option::of(1..12_u64))
            .prop_map(|(which, ahead)| H::Commit { which, ahead: ahead.map(|at| at * 300_000_000) }),
        3 => any::<usize>().prop_map(|which| H::Heal { which }),
        1 => Just(H::HealAll),
        1 => (0..3_u64).prop_map(|owner| H::Disconnect { owner }),
        1 => any::<usize>().prop_map(|which| H::Withdraw { which }),
        5 => (1..1_000_000_000_u64).prop_map(|nanos| H::Pass { nanos }),
        1 => (LEASE..2 * LEASE).prop_map(|nanos| H::Pass { nanos }),
        3 => Just(H::Expire),
        3 => Just(H::Close),
        1 => Just(H::Evict),
        1 => Just(H::Lend),
        1 => Just(H::GiveBack),
        2 => (0..3_u32).prop_map(|after| H::Fail { after }),
        2 => (0..LEASE).prop_map(|nanos| H::HoldUp { nanos }),
        2 => Just(H::WaitAged),
        1 => Just(H::Forget),
    ]
}

struct World {
    fake: Fake,
    ledger: Ledger<()>,
    loan: Option<WatchedSlot>,
    healed: BTreeSet<u32>,
    cut: BTreeSet<u32>,
    closed: BTreeSet<u32>,
    generations: BTreeSet<u32>,
}

impl World {
    fn new() -> Self {
        let fake = Fake { now: 1_000, lease_until: 1_000 + LEASE, ..Fake::default() };
        Self {
            fake,
            ledger: Ledger::default(),
            loan: None,
            healed: BTreeSet::new(),
            cut: BTreeSet::new(),
            closed: BTreeSet::new(),
            generations: BTreeSet::new(),
        }
    }

    fn now(&self) -> Now {
        Now { mono: MonoNs(self.fake.now), offset: WallOffset::now() }
    }

    fn pick(&self, which: usize, wanted: impl Fn(&Life) -> bool) -> Option<u32> {
        let found = self.ledger.generations(wanted);
        (!found.is_empty()).then(|| found[which % found.len()])
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Healed(healed) => {
                    assert!(self.healed.insert(healed.generation), "healed twice: {healed:?}");
                    assert!(self.cut.contains(&healed.generation), "healed, and never committed: {healed:?}");
                    self.check_heal(&healed);
                }
                Effect::Cut { generation, .. } => assert!(self.cut.insert(generation), "cut twice"),
                Effect::LeaseLapsed { .. } | Effect::Judge | Effect::StampsKept { .. } => {}
            }
        }
    }

    fn check_heal(&self, healed: &Healed) {
        let life = &self.ledger.get(healed.generation).unwrap().life;
        match healed.healed_by {
            HealedBy::Deadline => assert_eq!(healed.at.end_ns, life.ends_at),
            HealedBy::Lease => {
                assert!(life.ends_at > healed.at.end_ns);
                assert_eq!(life.broken.clone().map(|_| ()), Some(()));
            }
            HealedBy::Request | HealedBy::Disconnect | HealedBy::Shutdown => {
                assert!(life.ends_at > healed.at.begin_ns, "its deadline was first");
            }
        }
        assert!(life.cut.is_none_or(|cut| cut.begin_ns.max(life.starts_at) < healed.at.end_ns), "{life:?}");
        assert!(life.cut.is_some() || life.broken.is_some(), "{life:?}");
    }

    fn happen(&mut self, what: &Happening) {
        let now = self.now();
        match what {
            Happening::Prepare { links, length, owner, request } => {
                self.prepare(*links, *length, *owner, *request);
            }
            Happening::Commit { which, ahead } => self.commit(*which, *ahead),
            Happening::Heal { which } => {
                if let Some(generation) = self.pick(*which, Life::is_live) {
                    let is_it = |life: &Life| life.generation == generation;
                    let changed = self.ledger.heal(&mut self.fake, is_it, HealedBy::Request, now);
                    assert!(self.ledger.get(generation).unwrap().life.heal.is_some());
                    self.take(changed.effects);
                }
            }
            Happening::HealAll => {
                let changed = self.ledger.heal(&mut self.fake, |_| true, HealedBy::Request, now);
                assert_eq!(self.pick(0, Life::is_live), None);
                self.take(changed.effects);
            }
            Happening::Disconnect { owner } => {
                let is_owned = |life: &Life| life.owner == Some(*owner);
                let changed = self.ledger.heal(&mut self.fake, is_owned, HealedBy::Disconnect, now);
                self.take(changed.effects);
                let changed = self.ledger.withdraw(is_owned, HealedBy::Disconnect, now);
                self.take(changed.effects);
                assert_eq!(
                    self.pick(0, |life| is_owned(life)
                        && (life.is_live() || life.state == PartitionState::Prepared)),
                    None
                );
            }
            Happening::Withdraw { which } => {
                let prepared = |life: &Life| life.state == PartitionState::Prepared;
                if let Some(generation) = self.pick(*which, prepared) {
                    let is_it = |life: &Life| life.generation == generation;
                    let changed = self.ledger.withdraw(is_it, HealedBy::Request, now);
                    assert_eq!(changed.answer.len(), 1);
                    self.take(changed.effects);
                }
            }
            Happening::Pass { nanos } => {
                self.fake.now += nanos;
                self.fake.run_programs();
            }
            Happening::Expire => {
                let effects = self.ledger.expire(&mut self.fake, now);
                let over = |life: &Life| life.is_live() && life.ends_at <= now.mono;
                assert_eq!(self.pick(0, over), None, "it has ended");
                self.take(effects);
            }
            Happening::Close => self.close(),
            Happening::Evict => {
                let effects = self.ledger.evict_oldest_watch("another", now.mono);
                self.take(effects);
            }
            Happening::Lend if self.loan.is_none() => match self.ledger.lend(&mut self.fake) {
                Ok(loan) => self.loan = loan,
                Err(Fault::Lapsed(lapsed)) => {
                    let effects = self.ledger.lapse(&mut self.fake, lapsed, now);
                    self.take(effects);
                }
                Err(Fault::Plane(Failed)) => {}
            },
            Happening::Lend => {}
            Happening::GiveBack => {
                if let Some(loan) = self.loan.take() {
                    let effects = self.ledger.give_back(&mut self.fake, loan, now);
                    self.take(effects);
                }
            }
            Happening::Fail { after } => self.fake.fails_in = Some(*after),
            Happening::HoldUp { nanos } => self.fake.held_up = *nanos,
            Happening::WaitAged => self.fake.wait_aged(),
            Happening::Forget => self.ledger.forget_oldest(1),
        }
        self.check();
    }

    fn commit(&mut self, which: usize, ahead: Option<u64>) {
        let now = self.now();
        let prepared = |life: &Life| life.state == PartitionState::Prepared;
        if let Some(generation) = self.pick(which, prepared) {
            let before = self.fake.word;
            let ahead = ahead.map(|ahead| MonoNs(self.fake.now + ahead));
            let changed = self.ledger.commit(&mut self.fake, generation, ahead, now);
            if let Err(fault) = &changed.answer {
                assert!(self.ledger.get(generation).is_none(), "it is gone");
                if matches!(fault, Fault::Plane(_)) {
                    assert_eq!(self.fake.word, before);
                }
            }
            self.take(changed.effects);
        }
    }

    fn close(&mut self) {
        let now = self.now();
        let watched = self.ledger.generations(|life| life.state == PartitionState::Watched);
        match self.ledger.close(&mut self.fake, &watched) {
            Ok(effects) => {
                for generation in watched {
                    assert!(self.closed.insert(generation), "a record is final once");
                }
                self.take(effects);
            }
            Err(lapsed) => {
                let effects = self.ledger.lapse(&mut self.fake, lapsed, now);
                self.take(effects);
            }
        }
        let again: Vec<u32> = self.closed.iter().copied().collect();
        assert_eq!(self.ledger.close(&mut self.fake, &again), Ok(Vec::new()), "closed once");
    }

    fn prepare(&mut self, links: u8, length: u64, owner: Option<u64>, request: Option<u8>) {
        // Of three peers there are six links.
        let all = [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)];
        let links: Vec<Link> = all
            .iter()
            .enumerate()
            .filter(|(at, _)| links & 1 << at != 0)
            .map(|(_, (src, dst))| Link { src: PeerId(*src), dst: PeerId(*dst) })
            .collect();
        let cells: Vec<Cell> = links.iter().map(|link| Cell::from(*link)).collect();
        let request_id = request.map(|id| format!("r{id}"));
        if request_id.as_ref().is_some_and(|id| self.ledger.of_request(id).is_some()) {
            return;
        }
        let name = format!("p{}", self.ledger.next_generation());
        let length = Span(Duration::from_nanos(length));
        let draft = Draft { name, owner, request_id: request_id.clone(), links, length };
        let entry = Entry { life: Life::new(draft, MonoNs(self.fake.now)), experiment: () };
        let before = (self.fake.word, self.fake.cells.clone(), self.ledger.next_generation());
        match self.ledger.prepare(&mut self.fake, entry, Slot::default(), cells) {
            Ok(generation) => {
                assert!(self.generations.insert(generation), "a generation is given out once");
                assert_eq!(
                    self.ledger.of_request(&request_id.unwrap_or_default()),
                    owner_of(&self.ledger, generation)
                );
            }
            Err(failed) => {
                if failed == NotPrepared::NoFreeSlot {
                    let held = self.ledger.generations(|life| life.slot.is_some()).len();
                    assert_eq!(held + usize::from(self.loan.is_some()), SLOTS as usize);
                }
                assert_eq!(before, (self.fake.word, self.fake.cells.clone(), self.ledger.next_generation()));
            }
        }
    }

    fn check(&self) {
        let bits = |wanted: &dyn Fn(&Life) -> bool| {
            let slots =
                self.ledger.iter().filter(|entry| wanted(&entry.life)).filter_map(|entry| entry.life.slot);
            slots.fold(0, |mask, slot| {
                assert_eq!(mask & slot.bit(), 0, "two partitions hold one slot");
                mask | slot.bit()
            })
        };
        let lent = self.loan.map_or(0, |loan| loan.slot.bit());
        let cutting = bits(&Life::is_live);
        let watched =
            bits(&|life| life.state == PartitionState::Watched && self.cut.contains(&life.generation));
        let _ = bits(&|life| life.slot.is_some());
        let word = self.fake.word;
        assert_eq!(word.live(), cutting, "the live half of the word");
        // A partition that was withdrawn before it cut enters the watched half with the next store.
        let withdrawn =
            bits(&|life| life.state == PartitionState::Watched && !self.cut.contains(&life.generation));
        assert_eq!(word.watched() & !withdrawn, watched | lent, "the watched half of the word");
        let cells: BTreeSet<(u8, u16, u16)> = self
            .ledger
            .iter()
            .filter_map(|entry| Some((entry.life.slot?, &entry.life.links)))
            .flat_map(|(slot, links)| links.iter().map(move |link| (slot.0, link.src.0, link.dst.0)))
            .collect();
        assert_eq!(self.fake.cells, cells, "the cells are those of the partitions that hold a slot");
        for id in (0..4).map(|id| format!("r{id}")) {
            if let Some(generation) = self.ledger.of_request(&id) {
                let entry = self.ledger.get(generation).expect("a request id leads to a partition");
                assert_eq!(entry.life.request_id, Some(id));
            }
        }
        for entry in self.ledger.iter() {
            let life = &entry.life;
            let has_slot = life.state != PartitionState::Closed;
            assert_eq!(life.slot.is_some(), has_slot, "{life:?}");
            assert_eq!(
                life.heal.is_some(),
                !life.is_live() && life.state != PartitionState::Prepared,
                "{life:?}"
            );
            assert_eq!(life.heal.is_some(), life.healed_by.is_some());
            let another_came = self.ledger.iter().map(|entry| &entry.life).any(|other| {
                let is_another =
                    other.generation != life.generation && other.state != PartitionState::Scheduled;
                let began = other.in_force_from().filter(|_| is_another);
                began.zip(life.heal).is_some_and(|(began, heal)| began > heal.end_ns)
            });
            if life.state == PartitionState::Watched && self.cut.contains(&life.generation) && another_came {
                assert!(life.closed_by.is_some(), "another cut became active while it was watched: {life:?}");
            }
            let closed_by =
                life.closed_by.as_ref().and_then(|closed| self.ledger.find(&closed.partition, None));
            if let Some(other) = closed_by {
                assert!(
                    other.life.cut.is_some(),
                    "{life:?} is closed by a partition that cut nothing: {other:?}"
                );
            }
        }
    }
}

/// The generation of a partition with a request id, `None` of one without.
fn owner_of(ledger: &Ledger<()>, generation: u32) -> Option<u32> {
    ledger.get(generation).and_then(|entry| entry.life.request_id.as_ref().map(|_| generation))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_word_equals_the_slots(happenings in proptest::collection::vec(happening(), 1..80)) {
        let mut world = World::new();
        for what in &happenings {
            world.happen(what);
        }
        // The daemon stops: nothing is left in the live half, and every record is closed.
        let now = world.now();
        let effects = world.ledger.stop(&mut world.fake, now);
        world.take(effects);
        assert_eq!(world.fake.word.live(), 0);
        world.fake.fails_in = None;
        world.happen(&Happening::GiveBack);
        world.happen(&Happening::Close);
        assert!(!world.ledger.is_open());
        assert!(world.fake.cells.is_empty(), "no cell is left");
        assert_eq!(world.fake.word, Word::new(0, 0), "no slot is left in the word");
    }
}

#[test]
fn a_slot_that_was_just_freed_is_written_after_a_wait() {
    let mut world = World::new();
    for _ in 0..SLOTS {
        world.happen(&Happening::Prepare { links: 1, length: 5, owner: None, request: None });
        world.happen(&Happening::Commit { which: 0, ahead: None });
    }
    for what in [Happening::HealAll, Happening::Close] {
        world.happen(&what);
    }
    assert!(world.fake.aged < world.fake.age, "every slot is young");
    world.happen(&Happening::Prepare { links: 1, length: 5, owner: None, request: None });
    assert_eq!(world.generations.len(), SLOTS as usize + 1);
    assert_eq!(world.fake.aged, world.fake.age);
}

#[test]
fn every_slot_can_be_taken_and_the_next_one_is_refused() {
    let mut world = World::new();
    for _ in 0..SLOTS {
        world.happen(&Happening::Prepare { links: 1, length: 5, owner: None, request: None });
    }
    assert_eq!(world.generations.len(), SLOTS as usize);
    world.happen(&Happening::Prepare { links: 1, length: 5, owner: None, request: None });
    assert_eq!(world.generations.len(), SLOTS as usize);
}
