//! Join tokens: what an operator carries from an anchor to a host that shall join, and the anchor's book of those it
//! gave out. The book holds hashes only. It does no I/O: its owner writes it to disk before it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

use crate::id::{ClusterId, Label, NodeId};

const PREFIX: &str = "fabric1.";
/// Longest text that is looked at.
const TEXT_MAX: usize = 8 * 1024;
/// Longest life of a token.
const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Most tokens an anchor keeps, spent and expired ones included.
const TOKENS_MAX: usize = 1_000;
/// Most nodes that one token lets in.
const USES_MAX: u32 = 800;
/// How long an expired token is remembered, so that its refusal can say why.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Most names that are kept for nodes that other anchors let in.
const PROMISED_MAX: usize = 800;
/// How long a node may take from its certificate to its first start before others may have its name.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// Names a token; no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenId(pub(crate) [u8; 8]);

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The secret half of a token. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub(crate) [u8; 32]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What lets a host into a cluster, redeemable at the anchor that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// The anchor that made it.
    pub anchor: NodeId,
    /// Where that anchor is reached, best first.
    pub seeds: Vec<SocketAddr>,
    /// The root certificate (DER) by which the anchor is known.
    pub root: Bytes,
    /// Which token.
    pub id: TokenId,
    /// The proof.
    pub secret: Secret,
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// It starts in another way.
    #[error("it does not start with {PREFIX}")]
    Prefix,
    /// A part of it was lost, or something was added.
    #[error("it is damaged; copy all of it")]
    Damaged,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = postcard::to_stdvec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<Self, TokenTextError> {
        let coded = text.trim().strip_prefix(PREFIX).ok_or(TokenTextError::Prefix)?;
        if coded.len() > TEXT_MAX {
            return Err(TokenTextError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|_| TokenTextError::Damaged)?;
        match postcard::take_from_bytes(&bytes) {
            Ok((token, [])) => Ok(token),
            _ => Err(TokenTextError::Damaged),
        }
    }
}

/// Why a token does not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// No such token, or another secret.
    #[error("this anchor does not know the token")]
    Unknown,
    /// Other nodes used it.
    #[error("the token is used up")]
    UsedUp,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// It could never be used, or for too many nodes.
    #[error("a token is for 1 to {USES_MAX} nodes, not {0}")]
    Uses(u32),
    /// It would be over at once, or last too long.
    #[error("a token lasts at least a second and at most 30 days, not {}s", .0.as_secs())]
    Ttl(Duration),
    /// The book is full.
    #[error("there are {TOKENS_MAX} tokens already; wait until some have expired")]
    Full,
}

/// What a redeemed token gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// This key was let in before, with this certificate (DER).
    Again(Bytes),
    /// There is a use left for it.
    Fresh,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    secret_hash: [u8; 32],
    uses: u32,
    /// Since 1970-01-01 UTC.
    expires: Duration,
    /// Keys that were let in.
    bound: Vec<Bound>,
}

/// A key that was let in.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bound {
    key: [u8; 32],
    /// The name it asked for.
    name: Label,
    certificate: Bytes,
    /// Since 1970-01-01 UTC.
    at: Duration,
}

/// The tokens an anchor gave out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tokens {
    entries: BTreeMap<TokenId, Entry>,
    /// Names kept for nodes that another anchor lets in.
    promised: Vec<Promised>,
}

/// A name that is kept for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Promised {
    node: NodeId,
    name: Label,
    /// Since 1970-01-01 UTC.
    at: Duration,
}

impl Tokens {
    /// Notes a token that lets in `uses` nodes until `now + ttl`. `id` and `secret` are random.
    pub fn create(
        &mut self,
        id: TokenId,
        secret: &Secret,
        uses: u32,
        ttl: Duration,
        now: Duration,
    ) -> Result<(), CreateError> {
        if !(1..=USES_MAX).contains(&uses) {
            return Err(CreateError::Uses(uses));
        }
        if ttl < Duration::from_secs(1) || ttl > TTL_MAX {
            return Err(CreateError::Ttl(ttl));
        }
        self.entries.retain(|_, entry| entry.expires + REMEMBERED > now);
        if self.entries.len() >= TOKENS_MAX {
            return Err(CreateError::Full);
        }
        self.entries.insert(
            id,
            Entry {
                secret_hash: hash(secret),
                uses,
                expires: now + ttl,
                bound: Vec::new(),
            },
        );
        Ok(())
    }

    /// Whether the token lets the holder of this key in. A key that was let in before gets its certificate again,
    /// because the first reply may have been lost.
    pub fn redeem(&self, id: TokenId, secret: &Secret, key: &[u8; 32], now: Duration) -> Result<Redeemed, Refusal> {
        let entry = self.entries.get(&id).ok_or(Refusal::Unknown)?;
        if !bool::from(entry.secret_hash.ct_eq(&hash(secret))) {
            return Err(Refusal::Unknown);
        }
        if let Some(bound) = entry.bound.iter().find(|bound| bound.key == *key) {
            return Ok(Redeemed::Again(bound.certificate.clone()));
        }
        if entry.expires <= now {
            return Err(Refusal::Expired);
        }
        if entry.bound.len() >= entry.uses as usize {
            return Err(Refusal::UsedUp);
        }
        Ok(Redeemed::Fresh)
    }

    /// Spends one use on a key that `redeem` called fresh.
    pub fn bind(&mut self, id: TokenId, key: [u8; 32], name: Label, certificate: Bytes, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let at = now;
            entry.bound.push(Bound {
                key,
                name,
                certificate,
                at,
            });
        }
    }

    /// Keeps a name for a node that another anchor is about to let in.
    pub fn promise(&mut self, node: NodeId, name: Label, now: Duration) {
        self.promised
            .retain(|promised| promised.node != node && is_fresh(promised.at, now));
        if self.promised.len() < PROMISED_MAX {
            self.promised.push(Promised { node, name, at: now });
        }
    }

    /// The nodes let in within the last ten minutes, here or on another anchor, which may not have been heard of yet, and
    /// their names.
    pub fn fresh(&self, now: Duration) -> impl Iterator<Item = (NodeId, &Label)> {
        let bound = self.entries.values().flat_map(|entry| &entry.bound);
        let bound = bound.map(|bound| (NodeId::of_key(&bound.key), &bound.name, bound.at));
        let promised = self
            .promised
            .iter()
            .map(|promised| (promised.node, &promised.name, promised.at));
        let all = bound.chain(promised).filter(move |(_, _, at)| is_fresh(*at, now));
        all.map(|(node, name, _)| (node, name))
    }

    /// Reads what was written, also before names were kept for other anchors.
    pub fn read(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let before = || {
            let entries = postcard::from_bytes(bytes)?;
            Ok(Self {
                entries,
                promised: Vec::new(),
            })
        };
        postcard::from_bytes(bytes).or_else(|_| before())
    }
}

fn is_fresh(at: Duration, now: Duration) -> bool {
    at.saturating_add(FRESH) > now
}

fn hash(secret: &Secret) -> [u8; 32] {
    Sha256::new_with_prefix(b"fabric token\0")
        .chain_update(secret.0)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);
    const ID: TokenId = TokenId([1; 8]);
    const SECRET: Secret = Secret([2; 32]);

    fn book(uses: u32) -> Tokens {
        let mut tokens = Tokens::default();
        tokens.create(ID, &SECRET, uses, HOUR, NOW).unwrap();
        tokens
    }

    #[test]
    fn a_token_survives_its_text_and_does_not_show_its_secret() {
        let token = Token {
            cluster: ClusterId::from_random([3; 16]),
            anchor: NodeId::of_key(&[4; 32]),
            seeds: vec!["192.0.2.1:7946".parse().unwrap(), "[2001:db8::1]:7946".parse().unwrap()],
            root: Bytes::from_static(&[5; 300]),
            id: ID,
            secret: SECRET,
        };
        let text = token.to_string();
        assert!(text.starts_with("fabric1."));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert_eq!(text[..text.len() - 4].parse::<Token>(), Err(TokenTextError::Damaged));
        assert_eq!(format!("{text}AAAA").parse::<Token>(), Err(TokenTextError::Damaged));
        assert_eq!("token".parse::<Token>(), Err(TokenTextError::Prefix));
        assert!(!format!("{token:?}").contains("2, 2, 2"));
    }

    #[test]
    fn each_key_spends_one_use_and_gets_the_same_certificate_again() {
        let mut tokens = book(1);
        assert_eq!(tokens.redeem(ID, &SECRET, &[7; 32], NOW), Ok(Redeemed::Fresh));
        let name: Label = "seven".parse().unwrap();
        tokens.bind(ID, [7; 32], name.clone(), Bytes::from_static(b"certificate"), NOW);
        assert_eq!(
            tokens.fresh(NOW).collect::<Vec<_>>(),
            [(NodeId::of_key(&[7; 32]), &name)]
        );
        assert_eq!(tokens.fresh(NOW + FRESH).count(), 0);
        let again = Ok(Redeemed::Again(Bytes::from_static(b"certificate")));
        assert_eq!(tokens.redeem(ID, &SECRET, &[7; 32], NOW + 2 * HOUR), again);
        assert_eq!(tokens.redeem(ID, &SECRET, &[8; 32], NOW), Err(Refusal::UsedUp));
    }

    #[test]
    fn names_are_kept_for_other_anchors_for_a_while() {
        let (mut tokens, node) = (book(1), NodeId::of_key(&[9; 32]));
        let before = postcard::to_stdvec(&tokens.entries).unwrap();
        assert_eq!(Tokens::read(&before).unwrap().entries.len(), 1, "of an earlier release");
        let names = ["nine".parse::<Label>().unwrap(), "ten".parse().unwrap()];
        for name in &names {
            tokens.promise(node, name.clone(), NOW);
        }
        let tokens = Tokens::read(&postcard::to_stdvec(&tokens).unwrap()).unwrap();
        assert_eq!(
            tokens.fresh(NOW).collect::<Vec<_>>(),
            [(node, &names[1])],
            "one name for each"
        );
        assert_eq!(tokens.fresh(NOW + FRESH).count(), 0);
    }

    #[test]
    fn wrong_and_late_tokens_are_refused() {
        let tokens = book(2);
        assert_eq!(
            tokens.redeem(ID, &Secret([9; 32]), &[7; 32], NOW),
            Err(Refusal::Unknown)
        );
        assert_eq!(
            tokens.redeem(TokenId([9; 8]), &SECRET, &[7; 32], NOW),
            Err(Refusal::Unknown)
        );
        assert_eq!(tokens.redeem(ID, &SECRET, &[7; 32], NOW + HOUR), Err(Refusal::Expired));
    }

    #[test]
    fn tokens_are_bounded() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.create(ID, &SECRET, 0, HOUR, NOW), Err(CreateError::Uses(0)));
        assert_eq!(
            tokens.create(ID, &SECRET, 1, Duration::ZERO, NOW),
            Err(CreateError::Ttl(Duration::ZERO))
        );
        for n in 0..TOKENS_MAX as u64 {
            tokens.create(TokenId(n.to_be_bytes()), &SECRET, 1, HOUR, NOW).unwrap();
        }
        assert_eq!(
            tokens.create(TokenId([255; 8]), &SECRET, 1, HOUR, NOW),
            Err(CreateError::Full)
        );
        tokens
            .create(TokenId([255; 8]), &SECRET, 1, HOUR, NOW + HOUR + REMEMBERED)
            .unwrap();
    }

    #[test]
    fn the_book_holds_no_secret() {
        let bytes = postcard::to_stdvec(&book(1)).unwrap();
        assert!(!bytes.windows(SECRET.0.len()).any(|window| window == SECRET.0));
    }
}
