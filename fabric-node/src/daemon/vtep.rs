//! This host's word about its own end of the tunnels.

use std::net::IpAddr;

use membership::id::Scope;
use membership::service::{FactWrite, Membership, WriteError};
use overlay::fact::{Content, FactError, Vtep};

use crate::config::resolve::Addresses;

/// Why the word cannot be given.
#[derive(Debug, thiserror::Error)]
pub(super) enum VtepError {
    /// No interface has the address, or its MTU cannot be read.
    #[error("{0}")]
    Underlay(#[from] datapath::Error),
    /// Not sayable.
    #[error("{0}")]
    Content(#[from] FactError),
    /// Not written.
    #[error("{0}")]
    Write(#[from] WriteError),
}

/// Says where this host's tunnel ends, if that is not what it says already.
pub(super) async fn publish(membership: &Membership, addresses: &Addresses, port: u16) -> Result<(), VtepError> {
    let vtep = of(addresses, port).await?;
    let here = membership.id();
    let said = membership.read(|replica| {
        let mut facts = replica
            .facts(&Scope::System)
            .filter(|fact| fact.origin == here && fact.key == Vtep::key());
        facts.find_map(|fact| Vtep::decode(fact.body.as_ref()?).ok())
    });
    if said.as_ref() == Some(&vtep) {
        return Ok(());
    }
    tracing::info!(ipv4 = ?vtep.ipv4, ipv6 = ?vtep.ipv6, port = vtep.port, mtu = vtep.underlay_mtu, "this host's tunnel end");
    let write = FactWrite {
        key: Vtep::key(),
        body: Some(vtep.encode()?),
    };
    membership.write_facts(Scope::System, vec![write]).await?;
    Ok(())
}

async fn of(addresses: &Addresses, port: u16) -> Result<Vtep, VtepError> {
    let (ipv4, ipv6) = (addresses.ipv4, addresses.ipv6);
    let mut mtu = u32::from(u16::MAX);
    for address in ipv4.map(IpAddr::V4).into_iter().chain(ipv6.map(IpAddr::V6)) {
        mtu = mtu.min(datapath::underlay_mtu(address).await?);
    }
    Ok(Vtep {
        ipv4,
        ipv6,
        port,
        underlay_mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
    })
}
