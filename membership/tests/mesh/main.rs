//! Whole peers against each other and against strangers.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod anchors;
mod certificates;
mod clusters;
mod doubting;
mod forgetting;
mod lab;
mod removal;
mod restoring;
mod rotation;
mod sharing;
mod strangers;
mod versions;
