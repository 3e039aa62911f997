//! A node that loses all others at once takes itself for the one that is cut off.

use std::time::Duration;

use crate::lab::{Host, label, sees, until};
use membership::service::{Liveness, Membership, SetupError, join};

fn says(peer: &Membership, alarm: &str) -> bool {
    peer.alarms().iter().any(|said| said.name == alarm)
}

/// Whether how others look is certain.
fn certain(peer: &Membership) -> bool {
    let mut others = peer.members().into_iter().filter(|member| member.id != peer.id());
    others.all(|member| member.certain)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_others_gone_at_once_are_not_taken_for_dead_at_once() {
    let (_one, a) = Host::found("one").await;
    let (_two, b) = Host::join("two", &a).await;
    let (_three, c) = Host::join("three", &a).await;
    for (peer, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        sees(peer, &others.map(|other| (other, Liveness::Live))).await;
    }
    until("it is certain", || a.may_act_on_liveness() && certain(&a)).await;
    tokio::join!(b.shutdown(), c.shutdown());
    until("it doubts itself", || !a.may_act_on_liveness() && !certain(&a)).await;
    // On a busy machine its own ticks may be late as well, which is what it says then.
    assert!(says(&a, "mass-death") || says(&a, "ticks-late"), "{:?}", a.alarms());
    // A name is free only once its node is dead for certain.
    let token = a.create_token(1, Duration::from_secs(60)).await.unwrap();
    let host = Host::new();
    let early = join(&host.config, label("two"), &token).await;
    assert!(
        matches!(&early, Err(SetupError::NotLetIn(why)) if why.contains("--name")),
        "{early:?}"
    );
    sees(&a, &[(&b, Liveness::Dead), (&c, Liveness::Dead)]).await;
    until("it kept time for a while", || a.may_act_on_liveness() && certain(&a)).await;
    assert!(!says(&a, "mass-death"));
    join(&host.config, label("two"), &token)
        .await
        .expect("the name is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_gone_is_dead_without_doubt() {
    let (_one, a) = Host::found("one").await;
    let (_two, b) = Host::join("two", &a).await;
    let (_three, c) = Host::join("three", &a).await;
    sees(&a, &[(&b, Liveness::Live), (&c, Liveness::Live)]).await;
    c.shutdown().await;
    sees(&a, &[(&b, Liveness::Live), (&c, Liveness::Dead)]).await;
    assert!(!says(&a, "mass-death"), "{:?}", a.alarms());
}
