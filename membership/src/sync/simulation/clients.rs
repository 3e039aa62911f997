//! Clients that each own a key, and write it through a random peer, as soon as that peer has their last write.

use rand::Rng;

use super::{Ack, Mark, World};
use crate::fixture::{domain, write};
use crate::record::{Dot, Key};

const CLIENTS: usize = 3;

/// What a client wrote.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Node and version of each write, whether or not it was acknowledged.
    writes: Vec<(usize, Dot)>,
}

impl Client {
    /// A node lost its disk: what it took may be lost.
    pub(super) fn forget(&mut self, node: usize) {
        self.writes.retain(|(through, _)| *through != node);
    }
}

fn name(client: usize) -> String {
    format!("client-{client}")
}

impl World {
    pub(super) fn open_clients(&mut self) {
        self.clients.resize_with(CLIENTS, Client::default);
    }

    pub(super) fn write_as_client(&mut self) {
        let (client, node) = (
            self.rng.random_range(0..CLIENTS),
            self.rng.random_range(0..self.nodes.len()),
        );
        let (scope, name) = (domain("red"), name(client));
        let key = Key::new("K", &name);
        let last = self.clients[client].writes.last().map(|(_, dot)| *dot);
        let replica = self.nodes[node].sync.replica();
        if last.is_some_and(|last| !replica.has_version(&scope, &key, last)) {
            return;
        }
        let text = self.order.to_string();
        let kept = self.rng.random_bool(0.6);
        if let Some(dots) = self.want(node, scope, vec![write(&name, kept.then_some(&text))]) {
            self.clients[client]
                .writes
                .extend(dots.into_iter().map(|(_, dot)| (node, dot)));
        }
    }

    /// The final value is the last acknowledged write of the client, or a later one.
    pub(super) fn check_clients(&self) {
        for (client, Client { writes }) in self.clients.iter().enumerate() {
            let key = Key::new("K", &name(client));
            let is_acknowledged = |dot: Dot| {
                let with =
                    |ack: &Ack| matches!(&ack.mark, Mark::Intents { dots, .. } if dots.contains(&(key.clone(), dot)));
                self.acknowledged.iter().any(with)
            };
            let Some(last) = writes.iter().rposition(|(_, dot)| is_acknowledged(*dot)) else {
                continue;
            };
            for node in self.members() {
                let held = node.sync.replica().intent(&domain("red"), &key);
                let shown = held.map(|siblings| siblings.shown().dot);
                let fine = match shown {
                    Some(dot) => self.weather.restores || writes[last..].iter().any(|(_, later)| *later == dot),
                    // Collected, if it was a delete.
                    None => true,
                };
                assert!(fine, "{key} is {shown:?}, the last write was {:?}", writes[last]);
            }
        }
    }
}
