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
use crate::netlink::{Netlink, connect_failed};

/// An interface or an address came, went or changed.
pub(crate) const LINKS: u8 = 1;
/// A route came, went or changed.
pub(crate) const ROUTES: u8 = 2;
/// A neighbour came, went or changed.
pub(crate) const NEIGHBOURS: u8 = 4;
/// Everything: after a loss.
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

#[derive(Debug, Default)]
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
    /// Subscribes in the network namespace of this thread; the connection serves requests as well.
    pub(crate) fn subscribe() -> Result<(Self, Netlink), Error> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS).map_err(connect_failed)?;
        let netlink = Netlink::over(handle, tokio::spawn(connection));
        let happened = Arc::new(Happened::default());
        let listener = tokio::spawn(listen(messages, Arc::clone(&happened)));
        Ok((Self { happened, listener }, netlink))
    }

    /// What happened since the last call.
    pub(crate) fn take(&self) -> u8 {
        self.happened.bits.swap(0, Ordering::AcqRel)
    }

    /// Resolves when `take` has something to give. Cancel-safe.
    pub(crate) async fn wait(&self) {
        while self.happened.bits.load(Ordering::Acquire) == 0 {
            // A permit is kept if the bits were set in between.
            self.happened.woken.notified().await;
        }
    }
}

async fn listen(
    mut messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    happened: Arc<Happened>,
) {
    while let Some((message, _)) = messages.next().await {
        happened.bits.fetch_or(bits(&message.payload), Ordering::AcqRel);
        happened.woken.notify_one();
    }
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
