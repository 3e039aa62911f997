//! A workload's veth: the pair, with the host side here.

use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::error::Error;
use crate::inside::Inside;
use crate::links::{Owner, group};
use crate::netlink::{Link, Netlink};
use crate::netns::Namespace;

/// Makes the pair, the inner end at once under its final name in its namespace; both ends stay down.
pub(crate) async fn create(
    netlink: &Netlink,
    owner: Owner<'_>,
    namespace: &Namespace,
    inside: &Inside,
) -> Result<(), Error> {
    let name = owner.interface();
    let inner = LinkMessageBuilder::<LinkUnspec>::new()
        .name(inside.interface.clone())
        .address(inside.mac.to_vec())
        .mtu(inside.mtu)
        .setns_by_fd(namespace.fd())
        .build();
    let pair = LinkVeth::new(&name, &inside.interface)
        .mtu(inside.mtu)
        .append_extra_attribute(LinkAttribute::Group(group(owner.node)))
        .set_info_data(InfoData::Veth(InfoVeth::Peer(inner)))
        .build();
    let made = netlink.handle.link().add(pair).execute().await;
    made.map_err(Error::netlink(format!(
        "make the veth {name} with {} in the namespace",
        inside.interface
    )))
}

/// Whether the other end of `link` is in the namespace under the wanted name.
pub(crate) async fn leads_to(
    netlink: &Netlink,
    link: &Link,
    namespace: &Namespace,
    interface: &str,
) -> Result<bool, Error> {
    let (Some(inner), Some(number)) = link.peer else {
        return Ok(false);
    };
    let fd = u32::try_from(namespace.fd()).unwrap_or_default();
    if netlink.namespace_number(fd).await? != Some(number) {
        return Ok(false);
    }
    let found = namespace
        .run(async move |netlink: &Netlink| netlink.link(inner).await)
        .await?;
    Ok(found.is_some_and(|found| found.name == interface))
}
