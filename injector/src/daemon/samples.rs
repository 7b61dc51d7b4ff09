//! The probes' results, per endpoint, in the order of their arrival.

use std::sync::Arc;

use injector_core::sample::{EndpointId, Sample};

/// How many results before a cut belong to its evidence.
const BEFORE: u64 = 64;

/// The results of one endpoint: those still kept, and how many came before them.
#[derive(Default)]
struct Log {
    gone: u64,
    kept: Vec<Sample>,
}

/// How many results are kept at most; each takes some 100 bytes, and more with a failure's words.
pub const MOST: usize = 500_000;

/// All endpoints' results.
pub struct Samples {
    logs: Vec<Log>,
    /// How many are kept in all.
    kept: usize,
}

impl Samples {
    /// Empty logs for so many endpoints.
    pub fn new(endpoints: usize) -> Self {
        Self { logs: (0..endpoints).map(|_| Log::default()).collect(), kept: 0 }
    }

    /// Adds a result. One that failed as the one before it shares its words: a small text that stays between each two of the
    /// prober's tasks would keep the allocator from using their memory again.
    pub fn add(&mut self, mut sample: Sample) {
        let log = &mut self.logs[sample.endpoint.0];
        let before = log.kept.last().and_then(|sample| sample.failure.as_ref());
        if let (Some(failure), Some(before)) = (&mut sample.failure, before)
            && failure.text == before.text
        {
            failure.text = Arc::clone(&before.text);
        }
        log.kept.push(sample);
        self.kept += 1;
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// For each endpoint the place where the evidence of a cut made now begins.
    pub fn mark(&self) -> Vec<u64> {
        self.logs.iter().map(|log| (log.gone + log.kept.len() as u64).saturating_sub(BEFORE)).collect()
    }

    /// An endpoint's results from a mark on.
    pub fn since(&self, endpoint: EndpointId, mark: u64) -> &[Sample] {
        let log = &self.logs[endpoint.0];
        let at = mark.saturating_sub(log.gone) as usize;
        &log.kept[at.min(log.kept.len())..]
    }

    /// The number of the first result of [`Self::since`]: how many of the endpoint came before it since the start.
    pub fn first_since(&self, endpoint: EndpointId, mark: u64) -> u64 {
        let log = &self.logs[endpoint.0];
        mark.clamp(log.gone, log.gone + log.kept.len() as u64)
    }

    /// An endpoint's result of this number, if it is still kept.
    pub fn numbered(&self, endpoint: EndpointId, number: u64) -> Option<&Sample> {
        let log = self.logs.get(endpoint.0)?;
        log.kept.get(usize::try_from(number.checked_sub(log.gone)?).ok()?)
    }

    /// The last results of an endpoint, at most `count`, ordered by their schedule.
    pub fn last(&self, endpoint: EndpointId, count: usize) -> Vec<&Sample> {
        let kept = &self.logs[endpoint.0].kept;
        let mut last: Vec<&Sample> = kept[kept.len().saturating_sub(BEFORE as usize)..].iter().collect();
        last.sort_by_key(|sample| sample.scheduled);
        last.split_off(last.len().saturating_sub(count))
    }

    /// Drops what lies before the earliest of the open partitions' marks.
    pub fn trim<'a>(&mut self, open: impl Iterator<Item = &'a [u64]>) {
        let mut keep = self.mark();
        for marks in open {
            for (keep, mark) in keep.iter_mut().zip(marks) {
                *keep = (*keep).min(*mark);
            }
        }
        for (log, keep) in self.logs.iter_mut().zip(keep) {
            let drop = keep.saturating_sub(log.gone);
            log.kept.drain(..drop as usize);
            log.gone += drop;
            self.kept -= drop as usize;
            // The memory that a long partition took is not kept for the next one.
            if log.kept.capacity() > 4 * log.kept.len().max(BEFORE as usize) {
                log.kept.shrink_to(2 * log.kept.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use injector_core::clock::MonoNs;

    fn sample(at: u64) -> Sample {
        Sample {
            endpoint: EndpointId(0),
            scheduled: MonoNs(at),
            begun: MonoNs(at),
            done: MonoNs(at),
            failure: None,
            source: None,
        }
    }

    #[test]
    fn marks_survive_trimming() {
        let mut samples = Samples::new(1);
        for at in 0..200 {
            samples.add(sample(at));
        }
        let mark = samples.mark();
        for at in 200..300 {
            samples.add(sample(at));
        }
        let before = samples.since(EndpointId(0), mark[0]).to_vec();
        let first = samples.first_since(EndpointId(0), mark[0]);
        samples.trim(std::iter::once(mark.as_slice()));
        assert_eq!(samples.since(EndpointId(0), mark[0]), before);
        assert_eq!(samples.first_since(EndpointId(0), mark[0]), first);
        assert_eq!(samples.numbered(EndpointId(0), first), Some(&before[0]));
        assert_eq!(samples.numbered(EndpointId(0), first - 1), None);
        assert_eq!(samples.numbered(EndpointId(0), first + before.len() as u64), None);
        assert_eq!(before.len(), 100 + BEFORE as usize);
        assert_eq!(samples.kept(), before.len());
        samples.trim(std::iter::empty());
        assert_eq!(samples.since(EndpointId(0), 0).len(), BEFORE as usize);
        assert_eq!(samples.kept(), BEFORE as usize);
        assert_eq!(samples.last(EndpointId(0), 5).last().unwrap().scheduled, MonoNs(299));
    }
}
