//! Bytes that break the protocol, and connections that say nothing.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_ends_what_it_came_in() {
    let stage = Stage::new().await;
    // Or it would dial again whenever another connection takes its place.
    stage.mesh.close().await;
    let before = counter(&stage.b, "links_down");
    let protocol = VarInt::from_u32(Close::Protocol as u32);
    let large = u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();

    let junk = stage.ended(&opening(b"")).await;
    let other = stage.ended(&[0x77]).await;
    let older = stage.ended(&hello((90, 99))).await;
    let oversized = stage.ended(&[&[RECORDS][..], &large].concat()).await;
    assert_eq!([junk, other, oversized], [protocol; 3]);
    assert_eq!(older, VarInt::from_u32(Close::WireVersion as u32));
    until("they are counted", || {
        counter(&stage.a, "refused_protocol") == 3 && counter(&stage.a, "refused_wire_version") == 1
    })
    .await;

    // After a good hello, gossip larger than any and a stream of no kind end their streams, and a frame larger than any
    // the connection.
    let good = hello(Versions::OWN.pair());
    let gossip = [&[GOSSIP][..], &vec![0; crate::mesh::frame::GOSSIP_MAX + 1]].concat();
    let (_endpoint, connection) = stage.connect().await;
    let mut records = connection.open_uni().await.unwrap();
    records.write_all(&good).await.unwrap();
    for stream in [gossip, vec![0x77]] {
        let mut uni = connection.open_uni().await.unwrap();
        // The peer may end it before all is said.
        let _said = uni.write_all(&stream).await;
        let _ended = uni.finish();
    }
    until("they are counted", || counter(&stage.a, "gossip_invalid") == 2).await;
    assert_eq!(connection.close_reason(), None, "only the streams are over");
    assert_eq!(counter(&stage.a, "links_broken"), 0);
    records.write_all(&large).await.unwrap();
    let ended = timeout(DEADLINE, connection.closed()).await.unwrap();
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(close) if close.error_code == protocol),
        "{ended}"
    );
    until("it is counted", || counter(&stage.a, "links_broken") == 1).await;
    assert!(
        shows(&stage.a, "peer-refused", &["links_broken", &stage.name()]),
        "{:?}",
        stage.a.alarms()
    );
    stage.settled().await;
    assert_eq!(counter(&stage.b, "links_down"), before, "the others stayed connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_end_are_closed_but_for_a_few() {
    let stage = Stage::new().await;
    stage.mesh.close().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(stage.connect().await);
    }
    let mut codes = Vec::new();
    for (_endpoint, connection) in &silent {
        match timeout(DEADLINE, connection.closed()).await.unwrap() {
            ConnectionError::ApplicationClosed(close) => codes.push(close.error_code),
            other => panic!("{other}"),
        }
    }
    let count = |close: Close| {
        codes
            .iter()
            .filter(|code| **code == VarInt::from_u32(close as u32))
            .count()
    };
    let (busy, slow) = (count(Close::Busy), count(Close::Slow));
    assert!(busy > 0 && slow >= 4 && busy + slow == 20, "{busy} {slow}");
    until("it is named", || {
        shows(&stage.a, "peer-refused", &["refused_busy", &stage.name()])
    })
    .await;
    stage.settled().await;
}
