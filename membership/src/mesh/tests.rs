//! What of a connection is judged again, when what it was let in by changes.

use super::*;
use crate::pki::{Authority, LEAF_LIFE};

const SEEDS: [u8; 4] = [11, 12, 13, 14];

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed(&[seed; 32])
}

fn authorities() -> [Authority; 2] {
    let cluster = ClusterId::from_random([1; 16]);
    [1, 2].map(|seed| Authority::create(cluster, key(seed), wallclock::since_epoch()).unwrap())
}

fn roots(of: &[&Authority]) -> Roots {
    let certificates: Vec<Bytes> = of.iter().map(|authority| authority.certificate().clone()).collect();
    Roots::new(ClusterId::from_random([1; 16]), &certificates).unwrap()
}

fn leaf(authority: &Authority, seed: u8) -> Bytes {
    let now = wallclock::since_epoch();
    authority.issue(&key(seed).public(), LEAF_LIFE, now).unwrap()
}

/// A mesh with a certificate of that authority, which trusts both.
fn started(by: &Authority, both: &Roots, seed: u8) -> (Mesh, mpsc::Receiver<Event>) {
    let handlers = Handlers {
        answer: Arc::new(|_, _, _| Box::pin(std::future::ready(Ok(Bytes::new())))),
        join: Arc::new(|_| Box::pin(std::future::ready(()))),
    };
    let (events, heard) = mpsc::channel(1024);
    let settings = Settings {
        key: &key(seed),
        certificate: &leaf(by, seed),
        roots: both.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        counters: Arc::default(),
        wire: Versions::OWN,
        agreed: 1,
    };
    (Mesh::start(settings, handlers, events).unwrap(), heard)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        timeout(Duration::from_secs(30), waits).await.is_ok(),
        "not in time: {what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_the_root_and_the_version_that_they_came_under() {
    let [former, latter] = authorities();
    let both = roots(&[&former, &latter]);
    let by = [&latter, &former, &former, &latter];
    let (meshes, _heard): (Vec<Mesh>, Vec<_>) =
        SEEDS.iter().zip(by).map(|(seed, by)| started(by, &both, *seed)).unzip();
    let [thief, renewed, member] = [12, 13, 14].map(|seed| key(seed).id());
    let one = &meshes[0];
    let addresses = BTreeMap::from([(one.0.own, vec![one.local_addr().unwrap()])]);
    for other in &meshes[1..] {
        other.members(addresses.clone());
    }
    until("all are connected", || one.peers().len() == 3).await;
    let of = |peer: NodeId| one.0.table().connection(peer).unwrap();
    let old = of(thief);

    let only = roots(&[&latter]);
    one.show(&key(SEEDS[0]), &leaf(&latter, SEEDS[0]), only.clone())
        .unwrap();
    // The one whose handshake was done a moment before comes too late.
    let late = one.0.up(thief, Dialled::There, old, 1).await;
    assert_eq!(late.err(), Some(Close::Certificate));
    one.recheck(&only, &BTreeSet::from([renewed]));
    until("it is disconnected", || !one.has(thief)).await;
    assert!(one.has(renewed) && one.has(member), "they are members still");
    assert!(one.refusals().iter().any(|(_, words)| words.contains(thief.as_str())));

    // So does one that greeted before another version was agreed on.
    let spoken = of(member);
    one.agree(2);
    let late = one.0.up(member, Dialled::There, spoken, 1).await;
    assert_eq!(late.err(), Some(Close::WireVersion));
    for mesh in &meshes {
        mesh.close().await;
    }
}
