//! Reads a gossip message before chitchat does, and hands on no more than what members have to say. chitchat believes
//! every peer: it keeps each node that it reads of, unpacks without a limit, and ends its own task on keys that contradict
//! each other. Here nodes have no keys, so that a message is a list of heartbeats and nothing else.
//!
//! ```text
//!  message  b053 u16 | version 1 u8 | kind u8 | body             numbers are little-endian
//!           0 syn      digest | cluster id string
//!           1 syn-ack  digest | delta
//!           2 ack      delta
//!  digest   blocks of entries          delta     blocks; here always none
//!  blocks   { 1 u8 | length u16 | zstd } or { 2 u8 | length u16 | plain } … 0 u8
//!  entry    node string | generation u64 | 4 u8, ip or 6 u8, ip | port u16 | heartbeat u64 | collected u64 | newest u64
//!  string   length u16 | UTF-8
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::address;
use crate::id::NodeId;
use crate::mesh::frame::GOSSIP_MAX;

const MAGIC: u16 = 0xb053;
const VERSION: u8 = 1;
const SYN: u8 = 0;
const SYN_ACK: u8 = 1;
const ACK: u8 = 2;

const END: u8 = 0;
const PACKED: u8 = 1;
const PLAIN: u8 = 2;

/// Most bytes of one block, unpacked.
const BLOCK_MAX: usize = u16::MAX as usize;
/// Most bytes of a digest, unpacked: 800 nodes with five starts each have less.
const UNPACKED_MAX: usize = 256 * 1024;
/// Bytes of an entry as it is handed on: a node id of 12 characters, an IPv6 address.
const ENTRY: usize = 2 + 12 + 8 + 17 + 2 + 24;
/// What is around the entries: header, blocks, cluster id.
const AROUND: usize = 256;
/// Most entries that fit what is handed on.
const ENTRIES_MAX: usize = (GOSSIP_MAX - AROUND) / ENTRY;

/// Why a message is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Poison {
    /// No message of this gossip.
    #[error("it cannot be read")]
    Malformed,
    /// It unpacks to more than a whole cell has to say.
    #[error("it unpacks to more than {UNPACKED_MAX} bytes")]
    TooLarge,
    /// It is of another cluster's gossip.
    #[error("it is of another cluster")]
    OtherCluster,
    /// It has keys and versions, which nodes here do not have.
    #[error("it has keys, which no node says here")]
    Keys,
}

/// What is said of one start of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Beat {
    /// Number of the start.
    pub(crate) generation: u64,
    /// Counted up by the node itself.
    pub(crate) heartbeat: u64,
}

/// What is left of a message, and what it said of whom.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sieved {
    /// To be handed to chitchat.
    pub(crate) message: Bytes,
    /// Entries that are no node's, or that `keep` left out.
    pub(crate) dropped: u64,
}

/// Reads a message, asks `keep` for each node in it what to hand on of its latest start, and writes the rest anew.
pub(crate) fn sieve(
    message: &[u8],
    cluster: &str,
    mut keep: impl FnMut(NodeId, Beat) -> Option<Beat>,
) -> Result<Sieved, Poison> {
    let mut rest = Reader(message);
    if rest.u16()? != MAGIC || rest.u8()? != VERSION {
        return Err(Poison::Malformed);
    }
    let kind = rest.u8()?;
    let (digest, mut dropped) = match kind {
        SYN | SYN_ACK => entries(&rest.blocks()?)?,
        ACK => (BTreeMap::new(), 0),
        _ => return Err(Poison::Malformed),
    };
    match kind {
        SYN if rest.string()? != cluster => return Err(Poison::OtherCluster),
        SYN => {}
        _ if !rest.blocks()?.is_empty() => return Err(Poison::Keys),
        _ => {}
    }
    if !rest.0.is_empty() {
        return Err(Poison::Malformed);
    }
    let mut kept = Vec::new();
    for (node, beat) in digest {
        match keep(node, beat) {
            Some(beat) if kept.len() < ENTRIES_MAX => kept.push((node, beat)),
            _ => dropped += 1,
        }
    }
    let message = write(kind, cluster, &kept);
    Ok(Sieved { message, dropped })
}

/// The latest start of each node in a digest, and how many entries are no node's.
fn entries(digest: &[u8]) -> Result<(BTreeMap<NodeId, Beat>, u64), Poison> {
    let (mut rest, mut latest, mut nobodys) = (Reader(digest), BTreeMap::new(), 0);
    while !rest.0.is_empty() {
        let (node, beat) = rest.entry()?;
        match node {
            Some(node) => {
                let held = latest.entry(node).or_insert(beat);
                *held = beat.max(*held);
            }
            None => nobodys += 1,
        }
    }
    Ok((latest, nobodys))
}

fn write(kind: u8, cluster: &str, kept: &[(NodeId, Beat)]) -> Bytes {
    let mut out = Vec::with_capacity(AROUND + kept.len() * ENTRY);
    out.extend(MAGIC.to_le_bytes());
    out.extend([VERSION, kind]);
    if kind != ACK {
        for entries in kept.chunks(BLOCK_MAX / ENTRY) {
            out.push(PLAIN);
            // A chunk is no longer than a block.
            out.extend(u16::try_from(entries.len() * ENTRY).unwrap_or(u16::MAX).to_le_bytes());
            entries
                .iter()
                .for_each(|(node, beat)| write_entry(&mut out, *node, *beat));
        }
        out.push(END);
    }
    if kind == SYN {
        write_string(&mut out, cluster);
    } else {
        out.push(END);
    }
    out.into()
}

fn write_entry(out: &mut Vec<u8>, node: NodeId, beat: Beat) {
    let address = address::of(node);
    write_string(out, node.as_str());
    out.extend(beat.generation.to_le_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_le_bytes());
    out.extend(beat.heartbeat.to_le_bytes());
    out.extend([0; 16]);
}

/// Node and cluster ids are short.
fn write_string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes().iter().take(length.into()));
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Poison> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Poison::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Poison> {
        self.take(N)?.try_into().map_err(|_| Poison::Malformed)
    }

    fn u8(&mut self) -> Result<u8, Poison> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Poison> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Poison> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<&'a str, Poison> {
        let length = self.u16()?;
        std::str::from_utf8(self.take(length.into())?).map_err(|_| Poison::Malformed)
    }

    fn address(&mut self) -> Result<SocketAddr, Poison> {
        let ip: IpAddr = match self.u8()? {
            4 => self.array::<4>()?.into(),
            6 => self.array::<16>()?.into(),
            _ => return Err(Poison::Malformed),
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }

    /// An entry, and its node if it is one.
    fn entry(&mut self) -> Result<(Option<NodeId>, Beat), Poison> {
        let (name, generation, address) = (self.string()?, self.u64()?, self.address()?);
        let (heartbeat, collected, newest) = (self.u64()?, self.u64()?, self.u64()?);
        if (collected, newest) != (0, 0) {
            return Err(Poison::Keys);
        }
        let node = name.parse().ok().filter(|node| address::of(*node) == address);
        Ok((node, Beat { generation, heartbeat }))
    }

    /// Blocks up to their end, unpacked.
    fn blocks(&mut self) -> Result<Vec<u8>, Poison> {
        let mut unpacked = Vec::new();
        loop {
            let kind = self.u8()?;
            if kind == END {
                return Ok(unpacked);
            }
            let length = self.u16()?;
            let block = self.take(length.into())?;
            match kind {
                PLAIN => unpacked.extend_from_slice(block),
                PACKED => unpacked.extend(zstd::bulk::decompress(block, BLOCK_MAX).map_err(|_| Poison::Malformed)?),
                _ => return Err(Poison::Malformed),
            }
            if unpacked.len() > UNPACKED_MAX {
                return Err(Poison::TooLarge);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::id::ClusterId;

    pub(crate) const CLUSTER: &str = "01010101010101010101010101010101";

    pub(crate) fn node(n: u8) -> NodeId {
        NodeId::of_key(&[n; 32])
    }

    fn beat(generation: u64, heartbeat: u64) -> Beat {
        Beat { generation, heartbeat }
    }

    /// A message that opens an exchange, as chitchat would write it but not packed.
    pub(crate) fn syn(entries: &[(NodeId, u64, u64)]) -> Bytes {
        let entries: Vec<_> = entries.iter().map(|(id, g, h)| (*id, beat(*g, *h))).collect();
        write(SYN, CLUSTER, &entries)
    }

    /// A message that opens an exchange in this cluster and claims that these nodes are there.
    pub(crate) fn syn_of(cluster: ClusterId, nodes: &[NodeId]) -> Bytes {
        let entries: Vec<_> = nodes.iter().map(|id| (*id, beat(1, 1))).collect();
        write(SYN, &cluster.to_string(), &entries)
    }

    /// A message of each kind, of a cluster called `cluster`; one as chitchat packs it.
    pub(crate) fn valid_messages() -> Vec<Vec<u8>> {
        let entries: Vec<_> = (1..4).map(|n| (node(n), beat(n.into(), 7))).collect();
        let mut plain = Vec::new();
        entries
            .iter()
            .for_each(|(id, beat)| write_entry(&mut plain, *id, *beat));
        let packed = block(PACKED, &zstd::bulk::compress(&plain, 0).unwrap());
        let mut all: Vec<_> = [SYN, SYN_ACK, ACK]
            .iter()
            .map(|kind| write(*kind, "cluster", &entries).to_vec())
            .collect();
        all.push(message(SYN_ACK, &[&packed, &[END, END]]));
        all
    }

    fn read(message: &[u8]) -> Result<Vec<(NodeId, Beat)>, Poison> {
        let mut read = Vec::new();
        sieve(message, CLUSTER, |node, beat| {
            read.push((node, beat));
            Some(beat)
        })?;
        Ok(read)
    }

    /// The header of a message of this kind and what follows it.
    fn message(kind: u8, body: &[&[u8]]) -> Vec<u8> {
        [&[0x53, 0xb0, 1, kind][..], &body.concat()].concat()
    }

    fn entry(node: NodeId, newest: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_entry(&mut out, node, beat(1, 1));
        let at = out.len() - 8;
        out[at..].copy_from_slice(&newest.to_le_bytes());
        out
    }

    fn block(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap();
        [&[kind][..], &length.to_le_bytes(), bytes].concat()
    }

    #[test]
    fn what_it_writes_it_reads_and_only_the_latest_start_is_kept() {
        let said = [(node(1), 7, 3), (node(2), 1, 1), (node(1), 6, 900)];
        let sieved = sieve(&syn(&said), CLUSTER, |_, beat| Some(beat)).unwrap();
        let mut kept = read(&sieved.message).unwrap();
        kept.sort_by_key(|(_, beat)| beat.generation);
        assert_eq!(kept, [(node(2), beat(1, 1)), (node(1), beat(7, 3))]);
        assert_eq!(sieved.dropped, 0);
    }

    #[test]
    fn what_is_left_out_is_counted_and_what_is_changed_is_changed() {
        let message = syn(&[(node(1), 1, 10), (node(2), 1, 10)]);
        let sieved = sieve(&message, CLUSTER, |id, _| (id == node(1)).then_some(beat(1, 5))).unwrap();
        assert_eq!(sieved.dropped, 1);
        assert_eq!(read(&sieved.message).unwrap(), [(node(1), beat(1, 5))]);
    }

    #[test]
    fn entries_of_nobody_are_left_out() {
        let mut stolen = entry(node(1), 0);
        let at = stolen.len() - 24 - 2 - 1;
        stolen[at] ^= 1;
        let body = [block(PLAIN, &stolen), block(PLAIN, &entry(node(2), 0)), vec![END]].concat();
        let mut id = Vec::new();
        write_string(&mut id, CLUSTER);
        let sieved = sieve(&message(SYN, &[&body, &id]), CLUSTER, |_, beat| Some(beat)).unwrap();
        assert_eq!(sieved.dropped, 1);
        assert_eq!(read(&sieved.message).unwrap(), [(node(2), beat(1, 1))]);
    }

    #[test]
    fn keys_other_clusters_and_junk_are_poison() {
        let mut id = Vec::new();
        write_string(&mut id, "another");
        let whole = syn(&[(node(1), 1, 1)]);
        let bad = [
            (message(SYN, &[&[END], &id]), Poison::OtherCluster),
            (message(ACK, &[&block(PLAIN, b"keys"), &[END]]), Poison::Keys),
            (
                message(SYN_ACK, &[&[END], &block(PLAIN, b"keys"), &[END]]),
                Poison::Keys,
            ),
            (
                message(SYN_ACK, &[&block(PLAIN, &entry(node(1), 9)), &[END, END]]),
                Poison::Keys,
            ),
            (message(ACK, &[&[END, END]]), Poison::Malformed),
            (message(ACK, &[&block(9, b""), &[END]]), Poison::Malformed),
            (
                message(SYN_ACK, &[&block(PACKED, b"no zstd"), &[END, END]]),
                Poison::Malformed,
            ),
            (message(3, &[]), Poison::Malformed),
            ([&whole[..], &[0]].concat(), Poison::Malformed),
            (whole[..whole.len() - 1].to_vec(), Poison::Malformed),
            (Vec::new(), Poison::Malformed),
        ];
        for (message, poison) in bad {
            assert_eq!(read(&message), Err(poison), "{message:?}");
        }
        assert_eq!(read(&message(ACK, &[&[END]])), Ok(Vec::new()));
        assert_eq!(read(&message(SYN_ACK, &[&[END, END]])), Ok(Vec::new()));
    }

    #[test]
    fn what_unpacks_to_more_than_a_cell_is_not_unpacked_further() {
        let bomb = zstd::bulk::compress(&[0; BLOCK_MAX], 19).unwrap();
        let blocks = block(PACKED, &bomb).repeat(GOSSIP_MAX / (bomb.len() + 3) - 1);
        assert!(blocks.len() > 40_000 && blocks.len() < GOSSIP_MAX);
        assert_eq!(read(&message(ACK, &[&blocks, &[END]])), Err(Poison::TooLarge));
    }

    #[test]
    fn the_largest_digest_of_a_cell_fits_what_is_handed_on() {
        let ids = |n: usize| {
            NodeId::of_key(&{
                let mut key = [0; 32];
                key[..8].copy_from_slice(&n.to_le_bytes());
                key
            })
        };
        let all: Vec<_> = (0..1_500).map(|n| (ids(n), beat(u64::MAX, u64::MAX))).collect();
        let mut plain = Vec::new();
        all.iter().for_each(|(id, beat)| write_entry(&mut plain, *id, *beat));
        let blocks: Vec<u8> = plain
            .chunks(16_384)
            .flat_map(|chunk| block(PACKED, &zstd::bulk::compress(chunk, 0).unwrap()))
            .collect();
        let sieved = sieve(&message(SYN_ACK, &[&blocks, &[END, END]]), CLUSTER, |_, beat| {
            Some(beat)
        })
        .unwrap();
        assert!(sieved.message.len() <= GOSSIP_MAX);
        assert_eq!(read(&sieved.message).unwrap().len(), ENTRIES_MAX);
        const { assert!(ENTRIES_MAX > 800) };
    }
}
