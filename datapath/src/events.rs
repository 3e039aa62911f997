//! What the kernel tells of its own accord, boiled down to three bits: bounded, however much it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::SocketAddr;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::netlink::connect_failed;

/// An interface or an address came, went or changed.
pub(crate) const LINKS: u8 = 1;
/// A route came, went or changed.
pub(crate) const ROUTES: u8 = 2;
/// A neighbour came, went or changed.
pub(crate) const NEIGHBOURS: u8 = 4;
/// Everything: at the start and after a loss.
const ALL: u8 = LINKS | ROUTES | NEIGHBOURS;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Events {
    happened: Arc<Happened>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Happened {
    bits: AtomicU8,
    woken: Notify,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Events {
    /// Subscribes in the network namespace of this thread, on a socket that serves nothing else: when its buffer
    /// overflows, no answer is lost. All that was before the subscription counts as having happened.
    pub(crate) fn subscribe() -> Result<Self, Error> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS).map_err(connect_failed)?;
        let happened = Arc::new(Happened {
            bits: AtomicU8::new(ALL),
            woken: Notify::new(),
        });
        let listener = tokio::spawn(listen(connection, messages, Arc::clone(&happened)));
        Ok(Self { happened, listener })
    }

    /// Whether the subscription has ended, so that another one is needed.
    pub(crate) fn is_over(&self) -> bool {
        self.listener.is_finished()
    }

    /// What happened since the last call.
    pub(crate) fn take(&self) -> u8 {
        self.happened.bits.swap(0, Ordering::AcqRel)
    }

    /// Resolves when `take` has something to give, at the latest when the subscription ends. Cancel-safe.
    pub(crate) async fn wait(&self) {
        while self.happened.bits.load(Ordering::Acquire) == 0 {
            // A permit is kept if the bits were set in between.
            self.happened.woken.notified().await;
        }
    }
}

async fn listen(
    connection: impl Future<Output = ()>,
    mut messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    happened: Arc<Happened>,
) {
    let note = |bits| {
        happened.bits.fetch_or(bits, Ordering::AcqRel);
        happened.woken.notify_one();
    };
    let boil_down = async {
        while let Some((message, _)) = messages.next().await {
            note(bits(&message.payload));
        }
    };
    // Whichever ends first, the subscription has ended.
    tokio::select! {
        () = connection => {}
        () = boil_down => {}
    }
    note(ALL);
}

fn bits(payload: &NetlinkPayload<RouteNetlinkMessage>) -> u8 {
    use RouteNetlinkMessage as Message;
    match payload {
        NetlinkPayload::InnerMessage(message) => match message {
            Message::NewLink(_) | Message::DelLink(_) | Message::NewAddress(_) | Message::DelAddress(_) => LINKS,
            Message::NewRoute(_) | Message::DelRoute(_) => ROUTES,
            Message::NewNeighbour(_) | Message::DelNeighbour(_) => NEIGHBOURS,
            _ => 0,
        },
        // The socket's buffer overflowed: something was lost.
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_counts_as_everything() {
        assert_eq!(bits(&NetlinkPayload::Overrun(Vec::new())), ALL);
        assert_eq!(
            bits(&NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(
                Default::default()
            ))),
            LINKS
        );
    }
}
