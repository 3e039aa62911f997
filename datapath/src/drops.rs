//! The drop counters under their names.

use datapath_common::{Count, DropKey, Reason};
use overlay::name::{DomainName, EndpointName};

use crate::numbers::Numbers;

/// One line of the drop counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropCount {
    /// Stable name of the reason.
    pub reason: &'static str,
    /// The domain, if it is known.
    pub domain: Option<DomainName>,
    /// The endpoint, if it is known.
    pub endpoint: Option<EndpointName>,
    /// Packets since the maps were made.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Stable names of all reasons for which the datapath drops, in the order of their numbers.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    Reason::ALL.iter().map(|reason| reason.name())
}

/// The name of a counter that this build does not know: a later build counted it.
const UNKNOWN: &str = "unknown";

pub(crate) fn named(key: DropKey, count: Count, numbers: &Numbers) -> DropCount {
    let endpoint = numbers.name(key.endpoint);
    let domain = numbers.name(key.domain).or(endpoint);
    DropCount {
        reason: Reason::from_number(key.reason).map_or(UNKNOWN, Reason::name),
        domain: domain.map(|name| name.domain.clone()),
        endpoint: endpoint.and_then(|name| name.endpoint.clone()),
        packets: count.packets,
        bytes: count.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Name;

    #[test]
    fn a_counter_is_named_as_far_as_it_is_known() {
        let (red, web) = ("red".parse().expect("a label"), "web".parse().expect("a label"));
        let name = |endpoint| Name {
            domain: DomainName::clone(&red),
            endpoint,
        };
        let numbers = Numbers::from_iter([(1, name(None)), (2, name(Some(EndpointName::clone(&web))))]);
        let count = Count { packets: 3, bytes: 180 };
        let table = [
            (
                DropKey {
                    domain: 1,
                    endpoint: 2,
                    reason: 4,
                },
                "source_mac",
                Some(&red),
                Some(&web),
            ),
            (
                DropKey {
                    domain: 1,
                    endpoint: 0,
                    reason: 17,
                },
                "wrong_vtep",
                Some(&red),
                None,
            ),
            (
                DropKey {
                    domain: 0,
                    endpoint: 0,
                    reason: 15,
                },
                "unknown_vni",
                None,
                None,
            ),
            (
                DropKey {
                    domain: 9,
                    endpoint: 0,
                    reason: 9999,
                },
                UNKNOWN,
                None,
                None,
            ),
        ];
        for (key, reason, domain, endpoint) in table {
            let named = named(key, count, &numbers);
            assert_eq!(
                (named.reason, named.domain.as_ref(), named.endpoint.as_ref()),
                (reason, domain, endpoint)
            );
            assert_eq!((named.packets, named.bytes), (3, 180));
        }
    }
}
