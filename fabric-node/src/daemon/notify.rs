//! What systemd is told (sd_notify(3)): ready, stopping, alive. Without systemd all of it does nothing.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;

/// The node forwards and answers.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The node is about to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// If systemd wants signs of life, gives one as often as `alive` says so within half of the time that it allows.
pub(super) async fn watchdog<F: Future<Output = bool>>(alive: impl Fn() -> F) {
    let Some(allowed) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut tick = tokio::time::interval((allowed / 3).max(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if tokio::time::timeout(allowed / 2, alive()).await == Ok(true) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
