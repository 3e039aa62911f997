//! What is counted and measured on this node, as OpenMetrics text, the form that Prometheus asks for. Counters are those of
//! `status`, `peers` and `drops` at the moment of the question; [`Work`] alone is kept, by the reconcile task.
//!
//! Names begin with `fabric_`; times are seconds, shares are 0 to 1. Labels that name nobody are empty.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use membership::id::Scope;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, EncodeMetric, LabelValueEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::api::types::{Audit, Direction, Drop, Path, Peer, PeerState, Status};

/// What bringing domains into force took, since the start. Clones count together.
#[derive(Debug, Clone)]
pub(super) struct Work {
    compile: Histogram,
    apply: Histogram,
    operations: Counter,
}

impl Default for Work {
    fn default() -> Self {
        // From 0.1 ms to 6.5 s.
        let buckets = || exponential_buckets(0.0001, 4.0, 9);
        Self {
            compile: Histogram::new(buckets()),
            apply: Histogram::new(buckets()),
            operations: Counter::default(),
        }
    }
}

impl Work {
    /// Measures a compilation.
    pub(super) fn compiled<R>(&self, compile: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let made = compile();
        self.compile.observe(begun.elapsed().as_secs_f64());
        made
    }

    /// The datapath obeyed.
    pub(super) fn applied(&self, took: Duration, operations: usize) {
        self.apply.observe(took.as_secs_f64());
        self.operations.inc_by(u64::try_from(operations).unwrap_or(u64::MAX));
    }

    fn register(&self, registry: &mut Registry) {
        let (compile, apply) = (self.compile.clone(), self.apply.clone());
        let help = "Time to find out what this host has to do for a domain that changed";
        registry.register("compile_seconds", help, compile);
        let help = "Time to make the datapath do it";
        registry.register("apply_seconds", help, apply);
        let help = "Map operations that this took";
        registry.register("operations", help, self.operations.clone());
    }
}

/// All that the node says of itself at one moment.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: Status,
    pub(super) drops: Vec<Drop>,
    pub(super) peers: Vec<Peer>,
    /// Objects and facts.
    pub(super) records: BTreeMap<Scope, (usize, usize)>,
}

impl Said {
    /// The whole text.
    pub(super) fn text(self, work: &Work) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("fabric");
        work.register(&mut registry);
        registry.register_collector(Box::new(Arc::new(self)));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    fn node(&self, page: &mut Page<'_>) -> fmt::Result {
        let node = &self.status.node;
        let labels = [("id", &*node.id), ("name", &*node.name), ("version", &*node.version)];
        page.gauges("node", "This node; always 1", [(labels, 1.0)])?;
        let up = node.uptime_s as f64;
        page.gauge("uptime_seconds", "Since the daemon started", up)?;
        let left = node.certificate_left_s as f64;
        page.gauge(
            "certificate_left_seconds",
            "Until the certificate of this node ends",
            left,
        )?;
        let alarms = self.status.alarms.len() as f64;
        page.gauge("alarms", "What `fabricctl status` shows as alarms", alarms)?;
        let events = self.status.counters.iter();
        let events = events.map(|(name, count)| ([("event", &**name)], *count));
        page.counters("events", "What membership and the API counted since the start", events)
    }

    fn traffic(&self, page: &mut Page<'_>) -> fmt::Result {
        let of = |drop: &'_ Drop| {
            let (domain, endpoint) = (drop.domain.clone(), drop.endpoint.clone());
            [domain.unwrap_or_default(), endpoint.unwrap_or_default()]
        };
        let names: Vec<[String; 2]> = self.drops.iter().map(of).collect();
        let lines = || {
            self.drops.iter().zip(&names).map(|(drop, [domain, endpoint])| {
                let labels = [
                    ("domain", &**domain),
                    ("endpoint", &**endpoint),
                    ("reason", &*drop.reason),
                ];
                (labels, drop)
            })
        };
        let packets = lines().map(|(labels, drop)| (labels, drop.packets));
        page.counters("dropped_packets", "Packets that were dropped", packets)?;
        let bytes = lines().map(|(labels, drop)| (labels, drop.bytes));
        page.counters("dropped_bytes", "Bytes of packets that were dropped", bytes)?;
        self.audits(page)?;
        let counts = &self.status.datapath.connections;
        let states = [("established", counts.established), ("half_open", counts.half_open)];
        let states = states.map(|(state, count)| ([("state", state)], count as f64));
        page.gauges("connections", "Connections in the datapath, up to 10 s old", states)?;
        let flows = counts.flows as f64;
        page.gauge("flows", "Decisions that the datapath remembers", flows)?;
        let help = "Connections that found the table of established ones full";
        page.counter("connections_full", help, counts.full)?;
        let help = "VXLAN packets whose reserved bits were set and ignored";
        page.counter("vxlan_reserved_ignored", help, self.status.datapath.vxlan_reserved)
    }

    fn audits(&self, page: &mut Page<'_>) -> fmt::Result {
        let rules: Vec<String> = self.status.audits.iter().map(|audit| audit.rule.to_string()).collect();
        let lines = || {
            self.status.audits.iter().zip(&rules).map(|(audit, rule)| {
                let Audit { domain, policy, .. } = audit;
                let list = match audit.direction {
                    Direction::Ingress => "ingress",
                    Direction::Egress => "egress",
                };
                let labels = [
                    ("domain", &**domain),
                    ("policy", &**policy),
                    ("list", list),
                    ("rule", &**rule),
                ];
                (labels, audit)
            })
        };
        let packets = lines().map(|(labels, audit)| (labels, audit.packets));
        page.counters("audited_packets", "Packets that audit rules counted", packets)?;
        let bytes = lines().map(|(labels, audit)| (labels, audit.bytes));
        page.counters("audited_bytes", "Bytes of packets that audit rules counted", bytes)
    }

    fn others(&self, page: &mut Page<'_>) -> fmt::Result {
        let state = |peer: &Peer| match peer.state {
            PeerState::Live => "live",
            PeerState::Suspect => "suspect",
            PeerState::Dead => "dead",
        };
        let label = |peer: &'_ Peer| (peer.id.clone(), peer.name.clone());
        let names: Vec<(String, String)> = self.peers.iter().map(label).collect();
        let all = || {
            self.peers
                .iter()
                .zip(&names)
                .map(|(peer, (id, name))| ([("id", &**id), ("name", &**name)], peer))
        };
        let live = all().map(|([id, name], peer)| ([id, name, ("state", state(peer))], 1.0));
        page.gauges("peer", "Other nodes by what gossip says of them; always 1", live)?;
        let probed = || all().filter(|(_, peer)| peer.path != Path::Unknown);
        let up = probed().map(|(labels, peer)| (labels, f64::from(u8::from(peer.path == Path::Up))));
        page.gauges(
            "path_up",
            "Whether the path to a node is up, of those that are probed",
            up,
        )?;
        let loss = all().filter_map(|(labels, peer)| Some((labels, f64::from(peer.loss_percent?) / 100.0)));
        page.gauges("path_loss_ratio", "Share of the last 64 probes that were lost", loss)?;
        let rtt = all().filter_map(|(labels, peer)| Some((labels, peer.rtt_us? as f64 / 1e6)));
        page.gauges(
            "peer_rtt_seconds",
            "Round-trip time, of the path where it is probed, else of the mesh",
            rtt,
        )?;
        let left = all().filter_map(|(labels, peer)| Some((labels, peer.certificate_left_s? as f64)));
        page.gauges(
            "peer_certificate_left_seconds",
            "Until the certificate of a node ends",
            left,
        )?;
        let mtu = all().filter_map(|(labels, peer)| Some((labels, f64::from(peer.path_mtu?))));
        page.gauges(
            "path_mtu_bytes",
            "Largest IP packet that the path carries both ways",
            mtu,
        )
    }

    fn domains(&self, page: &mut Page<'_>) -> fmt::Result {
        let scopes: Vec<(String, (usize, usize))> = self
            .records
            .iter()
            .map(|(scope, count)| (scope.to_string(), *count))
            .collect();
        let records = scopes.iter().flat_map(|(scope, (objects, facts))| {
            let line = |class, count: usize| ([("scope", &**scope), ("class", class)], count as f64);
            [line("object", *objects), line("fact", *facts)]
        });
        page.gauges("records", "Records that this node holds", records)?;
        let domains = self.status.domains.iter();
        let lines = domains.flat_map(|domain| {
            let line = |state, count: usize| ([("domain", &*domain.name), ("state", state)], count as f64);
            [
                line("known", domain.endpoints),
                line("attached", domain.attached),
                line("here", domain.here),
            ]
        });
        page.gauges("endpoints", "Endpoints of a domain", lines)?;
        let domains = self.status.domains.iter();
        let programmed = domains.map(|domain| ([("domain", &*domain.name)], f64::from(u8::from(domain.programmed))));
        let help = "Whether what this node holds of a domain is in force in its datapath";
        page.gauges("domain_programmed", help, programmed)
    }
}

impl Collector for Said {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.node(&mut page)?;
        self.domains(&mut page)?;
        self.traffic(&mut page)?;
        self.others(&mut page)
    }
}

/// A text that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let line = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(count).encode(line)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let line = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(line)
    }

    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, count)| (labels, ConstCounter::new(count)));
        self.family(name, help, MetricType::Counter, lines)
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = ([(&'l str, &'l str); N], f64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, lines)
    }

    fn family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        lines: impl Iterator<Item = ([(&'l str, &'l str); N], impl EncodeMetric)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in lines {
            let labels = labels.map(|(name, value)| (name, Escaped(value)));
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A label's value: no text ends the line that it is in.
#[derive(Debug)]
struct Escaped<'a>(&'a str);

impl EncodeLabelValue for Escaped<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                other => encoder.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(golden: &str) -> T {
        serde_json::from_str(golden).expect("an answer of the contract")
    }

    fn said() -> Said {
        Said {
            status: read(include_str!("../../tests/golden/status.json")),
            drops: read(include_str!("../../tests/golden/drops.json")),
            peers: read(include_str!("../../tests/golden/peers.json")),
            records: [
                (Scope::System, (0, 2)),
                (Scope::Domain("red".parse().expect("a label")), (5, 3)),
            ]
            .into(),
        }
    }

    #[test]
    fn everything_is_told_under_its_name() {
        let work = Work::default();
        work.applied(Duration::from_millis(2), 7);
        let text = said().text(&work).expect("a text");
        for line in [
            r#"fabric_dropped_packets_total{domain="red",endpoint="web-1",reason="source_mac"} 3"#,
            r#"fabric_dropped_bytes_total{domain="",endpoint="",reason="unknown_vtep"} 60"#,
            r#"fabric_audited_packets_total{domain="red",policy="web",list="ingress",rule="1"} 5"#,
            r#"fabric_connections{state="established"} 7.0"#,
            r#"fabric_connections{state="half_open"} 2.0"#,
            "fabric_flows 11.0",
            "fabric_connections_full_total 0",
            "fabric_vxlan_reserved_ignored_total 3",
            r#"fabric_peer{id="bbbbbbbbbbbb",name="h2",state="live"} 1.0"#,
            r#"fabric_path_up{id="cccccccccccc",name="h3"} 1.0"#,
            r#"fabric_path_loss_ratio{id="cccccccccccc",name="h3"} 0.02"#,
            r#"fabric_peer_rtt_seconds{id="cccccccccccc",name="h3"} 0.000087"#,
            r#"fabric_path_mtu_bytes{id="cccccccccccc",name="h3"} 1500.0"#,
            "fabric_certificate_left_seconds 5184000.0",
            r#"fabric_peer_certificate_left_seconds{id="bbbbbbbbbbbb",name="h2"} 5184000.0"#,
            r#"fabric_records{scope="red",class="object"} 5.0"#,
            r#"fabric_endpoints{domain="red",state="here"} 1.0"#,
            r#"fabric_domain_programmed{domain="red"} 1.0"#,
            r#"fabric_events_total{event="links_up"} 2"#,
            "fabric_operations_total 7",
            "fabric_apply_seconds_count 1",
            "fabric_compile_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(
            !text.contains("fabric_path_up{id=\"bbbbbbbbbbbb\""),
            "not probed:\n{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_name_cannot_add_a_line() {
        let mut said = said();
        said.drops[0].endpoint = Some("a\"} 1\nb\\".to_owned());
        let text = said.text(&Work::default()).expect("a text");
        assert!(text.contains(r#"endpoint="a\"} 1\nb\\""#), "{text}");
    }
}
