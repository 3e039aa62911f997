//! What the mesh calls when others want something of this node.

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use futures::future::BoxFuture;
use quinn::Connection;

use super::internal;
use super::registrar::Desk;
use super::state::State;
use crate::counter::Counter;
use crate::id::NodeId;
use crate::join::{self, Registrar, Served};
use crate::mesh::{Class, Handlers, Mesh, WeakMesh};

/// The mesh answers from its first packet on, and its handlers need the state, which is made after it.
#[derive(Debug, Default, Clone)]
pub(super) struct Slot(Arc<OnceLock<(Weak<State>, WeakMesh)>>);

impl Slot {
    pub(super) fn fill(&self, state: &Arc<State>, mesh: &Mesh) {
        // It is filled once, by the only caller.
        let _filled = self.0.set((Arc::downgrade(state), mesh.downgrade()));
    }

    fn get(&self) -> Option<(Arc<State>, Mesh)> {
        let (state, mesh) = self.0.get()?;
        Some((state.upgrade()?, mesh.upgrade()?))
    }

    pub(super) fn handlers(&self) -> Handlers {
        let (answers, joins) = (self.clone(), self.clone());
        Handlers {
            answer: Arc::new(move |class, from, request| answers.answer(class, from, request)),
            join: Arc::new(move |connection| joins.join(connection)),
        }
    }

    fn answer(&self, class: Class, from: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        match (self.get(), class) {
            (None, _) => Box::pin(std::future::ready(Err("the node is starting".to_owned()))),
            (Some((state, mesh)), Class::Internal) => Box::pin(internal::answer(state, mesh, from, request)),
            (Some((state, _)), Class::Application) => (state.handler)(from, request),
        }
    }

    fn join(&self, connection: Connection) -> BoxFuture<'static, ()> {
        let Some((state, mesh)) = self.get() else {
            return Box::pin(std::future::ready(()));
        };
        Box::pin(async move {
            let from = connection.remote_address();
            let desk: Arc<dyn Registrar> = Arc::new(Desk {
                state,
                mesh: mesh.clone(),
            });
            match join::serve(&connection, &desk).await {
                Ok(Served::Joined(node)) => tracing::info!(%node, %from, "a node joined"),
                Ok(Served::Renewed(node)) => {
                    tracing::info!(%node, %from, "a member whom the mesh did not take got a further certificate");
                }
                Err(denied) => mesh.refuse(Counter::RefusedJoin, from, &denied.to_string()),
            }
        })
    }
}
