//! The pictures over time: each holds until the next one. Pure.

use std::sync::Arc;

use super::picture::Picture;
use injector_core::clock::{MonoNs, TimeRange};

/// How many pictures are remembered.
const MOST: usize = 256;

/// Pictures in their order, each from an instant on.
#[derive(Debug, Default)]
pub struct Eras(Vec<(MonoNs, Arc<Picture>)>);

impl Eras {
    /// Takes in what is seen from an instant on.
    pub fn renew(&mut self, picture: Picture, at: MonoNs) {
        let Some((from, last)) = self.0.last() else {
            // Nothing was cut before.
            self.0.push((MonoNs(0), Arc::new(picture)));
            return;
        };
        if **last != picture {
            let at = at.max(*from);
            self.0.push((at, Arc::new(picture)));
            if self.0.len() > MOST {
                self.0.remove(0);
            }
        }
    }

    /// Changes what is seen from an instant on, also where other pictures came since: what is found late held before.
    pub fn amend(&mut self, from: MonoNs, change: impl Fn(&mut Picture)) {
        let changed = |picture: &Arc<Picture>| {
            let mut picture = (**picture).clone();
            change(&mut picture);
            Arc::new(picture)
        };
        let Some((oldest, _)) = self.0.first() else { return };
        // The oldest one that is remembered is the best that is known of what was before it.
        let from = from.max(*oldest);
        let first = self.0.iter().rposition(|(begins, _)| *begins <= from).unwrap_or(0);
        for (_, picture) in &mut self.0[first + 1..] {
            *picture = changed(picture);
        }
        let now = changed(&self.0[first].1);
        if now == self.0[first].1 {
            return;
        }
        if self.0[first].0 == from {
            self.0[first].1 = now;
        } else {
            self.0.insert(first + 1, (from, now));
        }
        if self.0.len() > MOST {
            self.0.remove(0);
        }
    }

    /// Forgets what held no longer at an instant.
    pub fn forget(&mut self, before: MonoNs) {
        let kept = self.0.iter().rposition(|(from, _)| *from <= before).unwrap_or(0);
        self.0.drain(..kept);
    }

    /// The newest picture.
    pub fn now(&self) -> Option<&Arc<Picture>> {
        self.0.last().map(|(_, picture)| picture)
    }

    /// Whether an interface of ours is on something that was seen.
    pub fn need(&self, interface: u32) -> bool {
        self.0.iter().any(|(_, picture)| picture.has(interface))
    }

    /// The pictures that held during a time, each with its part of it.
    pub fn during(&self, time: TimeRange) -> Vec<(TimeRange, Arc<Picture>)> {
        let ends = self.0.iter().skip(1).map(|(from, _)| Some(*from)).chain([None]);
        let all = self.0.iter().enumerate().zip(ends).map(|((at, (from, picture)), until)| {
            // The oldest one that is remembered is the best that is known of what was before it.
            let from = if at == 0 { MonoNs(0) } else { *from };
            (TimeRange { from_ns: from, until_ns: until }, picture)
        });
        all.filter_map(|(gap, picture)| Some((gap.common(time)?, picture.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::model::PeerId;

    fn picture(peer: u16) -> Picture {
        let mut picture = Picture::default();
        picture.ends.entry(PeerId(peer)).or_default();
        picture
    }

    fn during(eras: &Eras, from: u64, until: Option<u64>) -> Vec<(u64, Option<u64>, u16)> {
        let time = TimeRange { from_ns: MonoNs(from), until_ns: until.map(MonoNs) };
        let found = eras.during(time).into_iter();
        found
            .map(|(gap, picture)| {
                (gap.from_ns.0, gap.until_ns.map(|until| until.0), picture.ends.keys().next().unwrap().0)
            })
            .collect()
    }

    #[test]
    fn each_picture_holds_until_the_next() {
        let mut eras = Eras::default();
        assert_eq!(during(&eras, 0, None), []);
        eras.renew(picture(1), MonoNs(5));
        eras.renew(picture(1), MonoNs(7));
        eras.renew(picture(2), MonoNs(10));
        assert_eq!(during(&eras, 3, None), [(3, Some(10), 1), (10, None, 2)]);
        assert_eq!(during(&eras, 3, Some(10)), [(3, Some(10), 1)]);
        assert_eq!(during(&eras, 12, Some(20)), [(12, Some(20), 2)]);
        eras.forget(MonoNs(9));
        assert_eq!(during(&eras, 9, Some(11)), [(9, Some(10), 1), (10, Some(11), 2)]);
        // The amendment of 13 holds since 7, also in the picture that came at 10.
        let mut amended = Eras::default();
        amended.renew(picture(1), MonoNs(5));
        amended.renew(picture(2), MonoNs(10));
        amended.amend(MonoNs(7), |picture| {
            picture.ends.entry(PeerId(0)).or_default();
        });
        let expected = [(3, Some(7), 1), (7, Some(10), 0), (10, None, 0)];
        assert_eq!(during(&amended, 3, None), expected);
        amended.amend(MonoNs(8), |_| {});
        assert_eq!(during(&amended, 3, None), expected, "nothing was changed");
        eras.forget(MonoNs(11));
        assert_eq!(during(&eras, 12, None), [(12, None, 2)]);
        // An amendment from before the oldest picture that is remembered holds from that picture on.
        eras.renew(picture(3), MonoNs(20));
        eras.forget(MonoNs(21));
        eras.amend(MonoNs(7), |picture| {
            picture.ends.entry(PeerId(0)).or_default();
        });
        assert_eq!(during(&eras, 22, None), [(22, None, 0)]);
    }
}
