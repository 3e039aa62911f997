//! More of everything than anybody takes in.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_bounded_and_named_and_silence_nobody() {
    let mut stage = Stage::new().await;
    stage.introduce().await;
    let (to, cluster) = (stage.a.id(), stage.enemy.manifest.cluster);
    let invented: Vec<_> = (0..200).map(|n| NodeId::of_key(&[n; 32])).collect();
    let poison = syn_of(cluster, &invented);
    let (mesh, stop) = (stage.mesh.clone(), tokio_util::sync::CancellationToken::new());
    let stopped = stop.clone();
    let flood = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            mesh.gossip(to, poison.clone());
            mesh.gossip(to, Bytes::from_static(b"junk"));
            // Where its own queue is full, it waits for room.
            let _room = mesh.send(to, Bytes::from_static(b"junk"));
            let _answer = mesh
                .call(
                    to,
                    Class::Internal,
                    Bytes::from_static(&[0xff; 4_096]),
                    Duration::from_secs(1),
                )
                .await;
        }
    });
    until("the flood is cut and named", || {
        counter(&stage.a, "gossip_flood") > 100
            && shows(&stage.a, "peer-refused", &["gossip_flood", &stage.name()])
            && shows(&stage.a, "bad-gossip", &[&stage.name()])
            && shows(&stage.a, "bad-frame", &[&stage.name()])
    })
    .await;
    // While it goes on, what others write goes on.
    for n in 0..20 {
        let name = format!("net-{n}");
        let write = IntentWrite {
            key: Key::new("Network", &name),
            body: write(&name, Some("x")).body,
        };
        let mark = stage.b.write_intent(red(), "tester", vec![write]).await.unwrap();
        until("it arrives", || stage.a.holds(&mark)).await;
        assert_eq!(liveness(&stage.a, stage.b.id()), Some(Liveness::Live));
        assert_eq!(liveness(&stage.b, stage.a.id()), Some(Liveness::Live));
    }
    stop.cancel();
    flood.await.unwrap();
    stage.settled().await;
    assert_eq!(stage.a.members().len(), 3, "none of the invented nodes is one");
    assert_eq!(
        counter(&stage.a, "gossip_restarts") + counter(&stage.b, "gossip_restarts"),
        0
    );
    assert!(
        stage.a.alarms().len() < 64,
        "alarms are bounded: {:?}",
        stage.a.alarms()
    );
    assert!(
        stage
            .b
            .alarms()
            .iter()
            .all(|alarm| alarm.name != "bad-frame" && alarm.name != "bad-gossip")
    );
}
