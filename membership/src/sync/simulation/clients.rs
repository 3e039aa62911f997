//! Clients that each own a key, and write it through a random peer, as soon as that peer has their last write.

use rand::Rng;

use super::agreement::knows;
use super::{Ack, Mark, World};
use crate::fixture::{domain, write};
use crate::record::{Dot, Intent, Key};
use crate::siblings::Siblings;

const CLIENTS: usize = 3;

/// What a client wrote.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Node and version of each write that it builds on, whether or not it was acknowledged.
    writes: Vec<(usize, Dot)>,
    /// The versions of all writes.
    all: Vec<Dot>,
    /// It wrote without having seen all that it wrote before, since a node lost its disk.
    forgot: bool,
}

impl Client {
    /// A node lost its disk: what it took may be lost, and is not waited for.
    pub(super) fn forget(&mut self, node: usize) {
        let before = self.writes.len();
        self.writes.retain(|(through, _)| *through != node);
        self.forgot |= self.writes.len() != before;
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
        for (_, dot) in self
            .want(node, scope, vec![write(&name, kept.then_some(&text))])
            .into_iter()
            .flatten()
        {
            self.clients[client].writes.push((node, dot));
            self.clients[client].all.push(dot);
        }
    }

    /// The final value is the last acknowledged write of the client that a disk kept, or a later one. There is none only if
    /// that one or a later one deletes.
    pub(super) fn check_clients(&self) {
        for (number, client) in self.clients.iter().enumerate() {
            let key = Key::new("K", &name(number));
            let is_acknowledged = |dot: &Dot| {
                let with =
                    |ack: &Ack| matches!(&ack.mark, Mark::Intents { dots, .. } if dots.contains(&(key.clone(), *dot)));
                self.acknowledged.iter().any(with)
            };
            let Some(last) = client.all.iter().rposition(is_acknowledged) else {
                continue;
            };
            for node in self.members() {
                let held = node.sync.replica().intent(&domain("red"), &key);
                assert!(
                    self.is_right(client, &key, last, held),
                    "{key} is {held:?}, the last write was {:?}",
                    client.all[last]
                );
            }
        }
    }

    fn is_right(&self, client: &Client, key: &Key, last: usize, held: Option<&Siblings>) -> bool {
        let (written, later) = (client.all[last], &client.all[last..]);
        let made = self.made[&(domain("red"), key.clone())].iter();
        let deletes = |version: &&Intent| version.body.is_none() && later.contains(&version.dot);
        let Some(held) = held else {
            return made.clone().filter(deletes).any(|version| knows(version, written));
        };
        let shown = held.shown();
        // A client that had to forget wrote beside what it had written.
        let beside = || client.forgot && client.all.contains(&shown.dot);
        later.contains(&shown.dot) || knows(shown, written) || beside()
    }
}
