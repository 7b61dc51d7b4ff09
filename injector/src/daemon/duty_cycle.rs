//! Work that grows with the number of links: however long it takes, it leaves most of the time to commands.

use std::time::Duration;

use tokio::time::Instant;

/// How much longer than the work the rest after it is.
const REST: u32 = 4;

/// When some recurring work was last done, and how long it took.
pub struct DutyCycle {
    ended: Instant,
    cost: Duration,
}

impl DutyCycle {
    /// The cycle of work that was not done yet.
    pub fn new() -> Self {
        Self { ended: Instant::now(), cost: Duration::ZERO }
    }

    /// Does the work.
    pub fn spend(&mut self, work: impl FnOnce()) {
        let begun = Instant::now();
        work();
        self.took(begun);
    }

    /// Takes note of work that was begun at an instant, and is done.
    pub fn took(&mut self, begun: Instant) {
        self.ended = Instant::now();
        self.cost = self.ended - begun;
    }

    /// When it last ended.
    pub fn ended(&self) -> Instant {
        self.ended
    }

    /// The instant from which on it may be done again.
    pub fn rested(&self) -> Instant {
        self.ended + self.cost * REST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_takes_a_fifth_of_the_time() {
        let mut pace = DutyCycle::new();
        let begun = Instant::now();
        pace.spend(|| std::thread::sleep(Duration::from_millis(5)));
        let cost = pace.ended() - begun;
        assert!(pace.rested() - pace.ended() >= Duration::from_millis(20));
        assert!(pace.rested() - pace.ended() <= cost * REST);
    }
}
