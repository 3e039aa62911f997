//! What random worlds have beside lost frames, cuts and single crashes: nodes that stand still, a power cut of all, more
//! withdrawn facts than are kept, a node that is removed or wiped in the midst of it.

use std::time::Duration;

use rand::Rng;

use super::*;
use crate::fixture::write;

/// More withdrawn facts than their origin keeps.
const MANY: usize = 80;

impl World {
    pub(super) fn storm(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        match self.rng.random_range(0..12) {
            0..=2 => self.stall(node),
            3 => self.black_out(),
            4..=7 => self.say_or_withdraw_many(node),
            8 if self.weather.removes && self.removed.is_none() => self.remove_somehow(node),
            _ => self.tell(node),
        }
        let pause = self.rng.random_range(1_000..4_000);
        self.after(pause, Happening::Storm);
    }

    /// A node does nothing for a while; what comes for it waits.
    pub(super) fn stall(&mut self, node: usize) {
        let long = Duration::from_secs(self.rng.random_range(5..=30));
        self.stalled.insert(node, self.now + long);
    }

    /// Until when the node that this is for stands still.
    pub(super) fn waits(&self, happening: &Happening) -> Option<Duration> {
        let node = match happening {
            Happening::Arrive { to, .. } => to,
            Happening::Tick { node, .. }
            | Happening::Written { node, .. }
            | Happening::Flush { node, .. }
            | Happening::Say { node, .. } => node,
            Happening::Trouble | Happening::Storm | Happening::Back(_) => return None,
        };
        self.stalled.get(node).copied().filter(|until| *until > self.now)
    }

    /// The power goes everywhere, and comes back within ten seconds.
    pub(super) fn black_out(&mut self) {
        for node in 0..self.nodes.len() {
            self.crash(node);
            let late = self.rng.random_range(0..10_000);
            self.after(late, Happening::Back(node));
        }
    }

    pub(super) fn say_or_withdraw_many(&mut self, node: usize) {
        if !self.nodes[node].may_say() {
            return;
        }
        let text = self.order.to_string();
        let kept = self.rng.random_bool(0.3);
        let names = (0..MANY).map(|number| format!("many-{number}"));
        let writes = names.map(|name| write(&name, kept.then_some(text.as_str()))).collect();
        let scope = self.some_scope();
        self.say_these(node, scope, writes);
    }

    /// A node is removed if none was, or another one hears of it.
    pub(super) fn remove_or_tell(&mut self, node: usize) {
        if self.removed.is_none() {
            self.remove_somehow(node);
        } else {
            self.tell(node);
        }
    }

    /// A node is removed: it runs on, or its store is wiped and it comes back as another one. Those that witness it know at
    /// once.
    fn remove_somehow(&mut self, node: usize) {
        if self.nodes.len() < 4 {
            return;
        }
        let wiped = self.rng.random();
        if wiped {
            self.crash(node);
        }
        self.remove(node, wiped);
        let majority = self.nodes.len() / 2 + 1;
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        for other in others.take(majority).collect::<Vec<_>>() {
            self.tell(other);
        }
        if wiped {
            self.forget_lost();
            let number = u8::try_from(100 + node).unwrap();
            let joined = self.join(number);
            self.tell(joined);
        }
    }

    /// Another node joins.
    pub(super) fn join(&mut self, number: u8) -> usize {
        let node = self.nodes.len();
        self.nodes
            .push(Node::start(Host::new(number), CrashDisk::default(), HOUR));
        self.introduce(node);
        self.greet(node);
        node
    }
}
