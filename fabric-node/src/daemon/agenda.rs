//! What the reconcile task has to do and when. Pure: time is an argument.
//!
//! A job that is marked several times within [`GATHER`] is done once; one that failed is tried again after a delay
//! that doubles up to [`RETRY_MAX`]. A change marks a failed job for now: what was wrong may be right.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay::name::DomainName;
use tokio::time::Instant;

/// Marks within this time are one.
const GATHER: Duration = Duration::from_millis(5);
/// Delay after the first failure.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest delay.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    /// Say where this host's tunnel ends.
    Vtep,
    /// Let packets go by this build's tables.
    TakeOver,
    /// Bring one domain into force.
    Domain(DomainName),
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: BTreeMap<Job, Instant>,
    failures: BTreeMap<Job, u32>,
}

impl Agenda {
    /// Something changed that the job depends on.
    pub(super) fn mark(&mut self, job: Job, now: Instant) {
        let soon = now + GATHER;
        let due = self.due.entry(job).or_insert(soon);
        *due = soon.min(*due);
    }

    /// The job is to be done then, if nothing asks for it before.
    pub(super) fn later(&mut self, job: Job, when: Instant) {
        self.due.entry(job).or_insert(when);
    }

    /// When the next job is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// Takes the job that has been due for longest.
    pub(super) fn take(&mut self, now: Instant) -> Option<Job> {
        let (job, due) = self.due.iter().min_by_key(|(_, due)| **due)?;
        let job = (*due <= now).then(|| job.clone())?;
        self.due.remove(&job);
        Some(job)
    }

    /// A job was done.
    pub(super) fn done(&mut self, job: &Job) {
        self.failures.remove(job);
    }

    /// A job failed; how long until it is tried again.
    pub(super) fn failed(&mut self, job: Job, now: Instant) -> Duration {
        let failures = self.failures.entry(job.clone()).or_default();
        let delay = RETRY_MIN.saturating_mul(1 << (*failures).min(16)).min(RETRY_MAX);
        *failures = failures.saturating_add(1);
        self.due.entry(job).or_insert(now + delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn red() -> Job {
        Job::Domain("red".parse().expect("a label"))
    }

    #[tokio::test(start_paused = true)]
    async fn marks_close_together_are_one_job() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.mark(red(), start);
        agenda.mark(red(), start + Duration::from_millis(3));
        assert_eq!(agenda.take(start), None);
        let due = agenda.next().expect("something is due");
        assert_eq!(due, start + GATHER);
        assert_eq!(agenda.take(due), Some(red()));
        assert_eq!((agenda.take(due), agenda.next()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_is_always_due_keeps_no_other_waiting() {
        let (mut agenda, mut now) = (Agenda::default(), Instant::now());
        let blue = Job::Domain("blue".parse().expect("a label"));
        agenda.mark(blue.clone(), now);
        agenda.mark(red(), now + Duration::from_millis(1));
        let mut done = Vec::new();
        for _ in 0..4 {
            now += 2 * GATHER;
            done.extend(agenda.take(now));
            agenda.mark(blue.clone(), now - 2 * GATHER);
        }
        assert_eq!(done[..2], [blue, red()]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_ever_later_and_changes_at_once() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..9 {
            delays.push(agenda.failed(red(), now));
            assert_eq!(agenda.take(now + RETRY_MAX), Some(red()));
        }
        assert_eq!(delays[..3], [250, 500, 1000].map(Duration::from_millis));
        assert_eq!(delays[8], RETRY_MAX);
        agenda.failed(red(), now);
        agenda.mark(red(), now);
        assert_eq!(agenda.next(), Some(now + GATHER));
        agenda.done(&red());
        assert_eq!(agenda.failed(Job::Vtep, now), RETRY_MIN);
        agenda.take(now + GATHER);
        assert_eq!(agenda.failed(red(), now), RETRY_MIN);
    }
}
