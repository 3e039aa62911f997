//! How many nodes a cluster may have: one cell. The list of all of them, with those that were restarted of late twice, must
//! fit one gossip message, or gossip ends everywhere at once.

/// Most nodes of one cell.
pub(super) const MAX: usize = 800;
/// Say that the cell is getting full when it is so in parts of ten.
const FILLED: usize = 6;

/// Whether one more finds room beside so many.
pub(super) fn has_room(nodes: usize) -> bool {
    nodes < MAX
}

/// What an operator is told while the cell is getting full.
pub(super) fn filling(nodes: usize) -> Option<String> {
    let what = if has_room(nodes) {
        "make another cluster for further hosts in time"
    } else {
        "no node can join"
    };
    (nodes * 10 >= MAX * FILLED).then(|| format!("the cluster has {nodes} of at most {MAX} nodes: {what}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::BoxFuture;

    use super::*;
    use crate::home::Home;
    use crate::id::NodeId;
    use crate::node::NodeRecord;
    use crate::service::{Alarm, Config, Membership, SetupError, join, setup};

    #[test]
    fn the_last_place_is_given_and_none_beyond() {
        assert!(has_room(0) && has_room(MAX - 1));
        assert!(!has_room(MAX) && !has_room(MAX + 1));
    }

    #[test]
    fn it_is_said_from_sixty_percent_on() {
        assert_eq!((filling(0), filling(479)), (None, None));
        assert!(filling(480).is_some_and(|words| words.contains("480 of at most 800")));
        assert!(filling(799).is_some_and(|words| words.contains("in time")));
        assert!(filling(800).is_some_and(|words| words.contains("no node can join")));
    }

    /// What is known of a node that is nowhere.
    fn absent(number: u32) -> (NodeId, NodeRecord) {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        let record = NodeRecord {
            name: format!("host-{number}").parse().unwrap(),
            certificate: Bytes::new(),
            addresses: Vec::new(),
            wire: (1, 1),
            intent: true,
            software: String::new(),
        };
        (NodeId::of_key(&key), record)
    }

    fn config(dir: &tempfile::TempDir) -> Config {
        Config {
            data: dir.path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            certificate_life: crate::pki::LEAF_LIFE,
            wire: crate::wire::Versions::OWN,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_anchor_of_a_full_cell_says_so_and_lets_nobody_in() {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        setup::init(&config(&dir), "one".parse().unwrap(), "lab".parse().unwrap(), None).unwrap();
        let mut bootstrap = Home::at(&config(&dir).data).node().unwrap().unwrap().bootstrap;
        bootstrap
            .nodes
            .extend((1..MAX).map(|n| absent(u32::try_from(n).unwrap())));
        let bytes = postcard::to_stdvec(&bootstrap).unwrap();
        std::fs::write(config(&dir).data.join("bootstrap.bin"), bytes).unwrap();

        let silent = |_: NodeId, _: Bytes| -> BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(std::future::ready(Ok(Bytes::new())))
        };
        let full = Membership::start(config(&dir), Arc::new(silent)).await.unwrap();
        assert_eq!(full.members().len(), MAX);
        let filling = |alarm: &Alarm| alarm.name == "cell-filling" && alarm.message.contains("no node can join");
        assert!(full.alarms().iter().any(filling), "{:?}", full.alarms());
        let token = full.create_token(1, Duration::from_secs(60)).await.unwrap();
        let refused = join(&config(&other), "late".parse().unwrap(), &token).await;
        assert!(
            matches!(&refused, Err(SetupError::NotLetIn(why)) if why.contains("800 nodes")),
            "{refused:?}"
        );
    }
}
