//! Asks others what time it is, and keeps users' writes off a node whose clock most others contradict. When and whom to
//! ask, and who is wrong, is for [`crate::clocks`] to say.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::WriteError;
use super::internal::{self, Request};
use super::state::State;
use crate::clocks::{Heard, Off};
use crate::id::NodeId;
use crate::mesh::{Mesh, WeakMesh};
use crate::wallclock;

const TICK: Duration = Duration::from_millis(500);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Runs until the peer stops.
pub(super) async fn run(state: Weak<State>, mesh: WeakMesh) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (Some(state), Some(mesh)) = (state.upgrade(), mesh.upgrade()) else {
            return;
        };
        let stop = state.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return,
            () = ask(&state, &mesh) => {}
        }
    }
}

async fn ask(state: &Arc<State>, mesh: &Mesh) {
    let connected: Vec<NodeId> = mesh.peers().into_keys().collect();
    let due = state
        .clocks()
        .due(&connected, wallclock::since_boot(), &mut rand::rng());
    let Some(node) = due else { return };
    let asked = wallclock::since_boot();
    // An earlier release does not know the question.
    let said: Result<u64, String> = internal::ask_for(mesh, node, &Request::Time, DEADLINE).await;
    if let Ok(millis) = said {
        let heard = Heard {
            asked,
            answered: wallclock::since_boot(),
            shows: Duration::from_millis(millis),
        };
        state.clocks().heard(node, heard);
    }
}

/// This node's time, in milliseconds since 1970-01-01.
pub(super) fn shown() -> u64 {
    u64::try_from(wallclock::since_epoch().as_millis()).unwrap_or(u64::MAX)
}

impl State {
    /// How far this node's clock is off, if that is too far.
    pub(super) fn clock_off(&self) -> Option<Off> {
        self.clocks().off(wallclock::since_epoch(), wallclock::since_boot())
    }

    /// Refuses what would get a stamp that most others contradict.
    pub(super) fn check_clock(&self) -> Result<(), WriteError> {
        self.clock_off()
            .map_or(Ok(()), |off| Err(WriteError::Clock(off.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::future::BoxFuture;

    use super::*;
    use crate::fixture::Host;
    use crate::id::Scope;
    use crate::record::{Body, Key};
    use crate::service::{Config, IntentWrite, Membership, join, setup};
    use crate::signed::Signer as _;
    use crate::wire::Versions;

    async fn started(config: &Config) -> Membership {
        let silent = |_: NodeId, _: Bytes| -> BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(std::future::ready(Ok(Bytes::new())))
        };
        Membership::start(config.clone(), Arc::new(silent)).await.unwrap()
    }

    async fn write(peer: &Membership) -> Result<(), WriteError> {
        let written = peer.write_intent(
            Scope::Domain("red".parse().unwrap()),
            "somebody",
            vec![IntentWrite {
                key: Key::new("network", "lan"),
                body: Some(Body {
                    version: 1,
                    bytes: Bytes::from_static(b"{}"),
                }),
            }],
        );
        written.await.map(drop)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn others_are_asked_and_a_clock_that_they_contradict_takes_no_writes() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let config = |at: usize| Config {
            data: dirs[at].path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            certificate_life: crate::pki::LEAF_LIFE,
            wire: Versions::OWN,
        };
        setup::init(&config(0), "one".parse().unwrap(), "lab".parse().unwrap(), None).unwrap();
        let a = started(&config(0)).await;
        let token = a.create_token(1, Duration::from_secs(60)).await.unwrap();
        join(&config(1), "two".parse().unwrap(), &token).await.unwrap();
        let b = started(&config(1)).await;
        let state = &a.0.state;
        let asked = async {
            while state.clocks().known() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap();
        assert_eq!(state.clock_off(), None, "both have the same clock");
        write(&a).await.unwrap();

        // Three that are an hour behind, and are not asked again, are more than both.
        for node in [1, 2, 3].map(|number| Host::new(number).id()) {
            let shows = wallclock::since_epoch() - Duration::from_secs(3600);
            let (asked, answered) = (wallclock::since_boot(), wallclock::since_boot());
            state.clocks().heard(node, Heard { asked, answered, shows });
        }
        let refused = write(&a).await.unwrap_err().to_string();
        assert!(refused.contains("clock") && refused.contains("ahead"), "{refused}");
        let alarms = a.alarms();
        assert!(alarms.iter().any(|alarm| alarm.name == "clock-off"), "{alarms:?}");
        write(&b).await.unwrap();
    }
}
