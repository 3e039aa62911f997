//! Two copies of one disk that run at the same time, each heard by some of the others: it is reported, all others go on, and
//! once one of the two is gone all agree on all that others wrote. Batches of objects of the two may be seen in part.

use super::seeds::{times, weather};
use super::*;

impl World {
    /// Starts a copy of a node beside it. Every other one of the others hears the copy instead.
    fn run_twice(&mut self, node: usize) -> usize {
        let host = self.nodes[node].host.clone();
        let mut disk = self.nodes[node].disk.backup();
        let twin = self.nodes.len();
        self.twice = Some(host.id());
        disk.open();
        self.nodes.push(Node::start(host.clone(), disk, HOUR));
        self.nodes[twin].sync.expect_others();
        self.cut.extend([(node, twin), (twin, node)]);
        self.after(0, Happening::Tick { node: twin, life: 0 });
        self.after(50, Happening::Flush { node: twin, life: 0 });
        for other in (0..twin).filter(|other| *other != node) {
            let (here, there) = if other % 2 == 0 { (twin, node) } else { (node, twin) };
            self.cut.extend([(other, there), (there, other)]);
            if here == twin {
                let id = self.nodes[other].id;
                self.event(node, Event::PeerDown(id));
                self.event(other, Event::PeerDown(host.id()));
                self.event(other, Event::PeerUp(host.id()));
                self.event(twin, Event::PeerUp(id));
            }
        }
        twin
    }

    /// One of both ends for good.
    fn end_twin(&mut self, gone: usize, node: usize) {
        self.nodes[gone].up = false;
        self.dead.insert(gone);
        self.cut.clear();
        self.forget_lost();
        self.forget_facts_but_of(node);
        self.clients.iter_mut().for_each(|client| client.forget(gone));
        self.clients.iter_mut().for_each(|client| client.forget(node));
        let id = self.nodes[node].id;
        for other in (0..self.nodes.len()).filter(|other| *other != gone && *other != node) {
            let theirs = self.nodes[other].id;
            self.event(other, Event::PeerDown(id));
            self.event(node, Event::PeerDown(theirs));
            self.event(other, Event::PeerUp(id));
            self.event(node, Event::PeerUp(theirs));
        }
    }
}

#[test]
fn two_copies_of_a_disk_at_once_are_reported_and_harm_nobody_else() {
    for seed in 0..12 * times() {
        let weather = Weather {
            nodes: 5,
            rough: Duration::from_secs(3_600),
            cuts: false,
            crashes: false,
            odd: false,
            ..weather(seed)
        };
        let mut world = World::new(seed, weather);
        world.go_on(Duration::from_secs(15));
        let node = 4;
        let twin = world.run_twice(node);
        let before = world.acknowledged.len();
        world.go_on(Duration::from_secs(40));
        let gone = if seed % 2 == 0 { twin } else { node };
        assert!(world.acknowledged.len() > before + 20);
        let is_it =
            |trouble: &Trouble| matches!(trouble, Trouble::Forked { origin, .. } if *origin == world.nodes[node].id);
        assert!(!world.troubles.is_empty(), "seed {seed}: nobody noticed");
        assert!(world.troubles.iter().all(is_it), "seed {seed}: {:?}", world.troubles);
        world.end_twin(gone, if gone == twin { node } else { twin });
        world.weather.rough = world.now;
        world.run();
    }
}
