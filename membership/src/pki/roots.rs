//! What a cluster trusts: one root, two while they are rotated. Decides whether a certificate is of a member.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error as TlsError, RootCertStore};

use super::{Leaf, PkiError, User};
use crate::id::ClusterId;

/// The trusted roots of one cluster.
#[derive(Debug, Clone)]
pub struct Roots {
    cluster: ClusterId,
    store: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// Each by itself.
    each: Vec<(Bytes, Arc<dyn ClientCertVerifier>)>,
}

impl Roots {
    /// Roots are certificates in DER form.
    pub fn new(cluster: ClusterId, roots: &[Bytes]) -> Result<Self, PkiError> {
        let store = store(roots)?;
        let alone = |root: &Bytes| Ok((root.clone(), verifier(self::store(std::slice::from_ref(root))?)?));
        Ok(Self {
            cluster,
            verifier: verifier(store.clone())?,
            store,
            each: roots.iter().map(alone).collect::<Result<_, PkiError>>()?,
        })
    }

    /// The cluster whose roots these are.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Checks a node's certificate (DER) as a TLS peer's: it must be good at `now`, the time since 1970-01-01 UTC.
    pub fn check(&self, der: &[u8], now: Duration) -> Result<Leaf, PkiError> {
        let leaf = Leaf::parse(der)?;
        if leaf.cluster != self.cluster {
            return Err(PkiError::OtherCluster(leaf.cluster));
        }
        self.chains(der, now)?;
        Ok(leaf)
    }

    /// Checks the certificate in a node's record: the cluster let it in once. A member that slept through the end of
    /// its certificate must renew it to connect, but what it said stays true.
    pub fn check_record(&self, der: &[u8]) -> Result<Leaf, PkiError> {
        let issued = Leaf::parse(der)?.not_before;
        self.check(der, issued)
    }

    /// Checks the certificate (DER) of a user of the API: it must be good at `now`, the time since 1970-01-01 UTC.
    pub fn check_user(&self, der: &[u8], now: Duration) -> Result<User, PkiError> {
        let user = User::parse(der)?;
        if user.cluster != self.cluster {
            return Err(PkiError::OtherCluster(user.cluster));
        }
        self.chains(der, now)?;
        Ok(user)
    }

    /// The root (DER) that signed a node's certificate (DER), whatever its time.
    #[must_use]
    pub fn signer(&self, der: &[u8]) -> Option<&Bytes> {
        let at = UnixTime::since_unix_epoch(Leaf::parse(der).ok()?.not_before);
        let signed = |verifier: &Arc<dyn ClientCertVerifier>| {
            verifier.verify_client_cert(&CertificateDer::from(der), &[], at).is_ok()
        };
        let found = self.each.iter().find(|(_, verifier)| signed(verifier));
        found.map(|(root, _)| root)
    }

    fn chains(&self, der: &[u8], at: Duration) -> Result<(), PkiError> {
        self.verifier
            .verify_client_cert(&CertificateDer::from(der), &[], UnixTime::since_unix_epoch(at))
            .map(|_| ())
            .map_err(|error| PkiError::Untrusted(reason(&error)))
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        self.store.clone()
    }

    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }
}

fn store(roots: &[Bytes]) -> Result<Arc<RootCertStore>, PkiError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        let root = CertificateDer::from(root.to_vec());
        let added = store.add(root);
        added.map_err(|error| PkiError::Untrusted(error.to_string()))?;
    }
    Ok(Arc::new(store))
}

fn verifier(store: Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(store, provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| PkiError::Untrusted(error.to_string()))
}

fn reason(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => "no root of this cluster signed it".to_owned(),
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "it has expired".to_owned()
        }
        TlsError::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "it is not valid yet: check this host's clock".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::identity::NodeKey;
    use crate::pki::{Authority, LEAF_LIFE};

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn cluster(n: u8) -> (ClusterId, Authority, Roots) {
        let id = ClusterId::from_random([n; 16]);
        let authority = Authority::create(id, NodeKey::from_seed(&[n; 32]), NOW).unwrap();
        let roots = Roots::new(id, &[authority.certificate().clone()]).unwrap();
        (id, authority, roots)
    }

    #[test]
    fn a_leaf_names_node_key_and_cluster() {
        let (id, authority, roots) = cluster(1);
        let key = NodeKey::from_seed(&[9; 32]);
        let der = authority.issue(&key.public(), LEAF_LIFE, NOW).unwrap();
        let leaf = roots.check(&der, NOW).unwrap();
        assert_eq!((leaf.node, leaf.key, leaf.cluster), (key.id(), key.public(), id));
        assert_eq!(leaf.not_before, NOW - DAY);
        assert_eq!((leaf.not_after, leaf.life()), (NOW + 90 * DAY, LEAF_LIFE));
    }

    #[test]
    fn a_certificate_of_another_cluster_is_refused() {
        let (other, authority, _) = cluster(1);
        let (_, _, roots) = cluster(2);
        let der = authority.issue(&[3; 32], LEAF_LIFE, NOW).unwrap();
        assert_eq!(roots.check(&der, NOW), Err(PkiError::OtherCluster(other)));
    }

    #[test]
    fn of_two_roots_the_one_that_signed_is_told() {
        let (id, old, _) = cluster(1);
        let new = Authority::create(id, NodeKey::from_seed(&[2; 32]), NOW + 90 * DAY).unwrap();
        let both = Roots::new(id, &[old.certificate().clone(), new.certificate().clone()]).unwrap();
        let leaves = [&old, &new].map(|authority| authority.issue(&[3; 32], LEAF_LIFE, NOW + 90 * DAY).unwrap());
        assert_eq!(both.signer(&leaves[0]), Some(old.certificate()));
        assert_eq!(both.signer(&leaves[1]), Some(new.certificate()));
        assert!(leaves.iter().all(|leaf| both.check(leaf, NOW + 90 * DAY).is_ok()));
        let forger = Authority::create(id, NodeKey::from_seed(&[7; 32]), NOW).unwrap();
        assert_eq!(both.signer(&forger.issue(&[3; 32], LEAF_LIFE, NOW).unwrap()), None);
        assert_eq!(both.signer(b"junk"), None);
    }

    #[test]
    fn an_impostor_with_the_right_cluster_id_is_refused() {
        let (id, _, roots) = cluster(1);
        let impostor = Authority::create(id, NodeKey::from_seed(&[7; 32]), NOW).unwrap();
        let der = impostor.issue(&[3; 32], LEAF_LIFE, NOW).unwrap();
        assert!(matches!(roots.check(&der, NOW), Err(PkiError::Untrusted(_))));
    }

    #[test]
    fn time_counts_for_connections_but_not_for_records() {
        let (_, authority, roots) = cluster(1);
        let der = authority.issue(&[3; 32], LEAF_LIFE, NOW).unwrap();
        assert!(matches!(roots.check(&der, NOW + 91 * DAY), Err(PkiError::Untrusted(why)) if why == "it has expired"));
        assert!(roots.check(&der, NOW - 2 * DAY).is_err());
        assert_eq!(roots.check_record(&der).unwrap().node, NodeId::of_key(&[3; 32]));
    }

    #[test]
    fn the_authority_itself_is_no_node() {
        let (_, authority, roots) = cluster(1);
        assert_eq!(
            roots.check(authority.certificate(), NOW),
            Err(PkiError::Malformed("it is an authority's"))
        );
        assert!(roots.check(b"junk", NOW).is_err());
    }

    #[test]
    fn a_user_is_no_node_and_a_node_no_user() {
        let (id, authority, roots) = cluster(1);
        let (other, _, strangers) = cluster(2);
        let (key, name) = (NodeKey::from_seed(&[9; 32]), "alice".parse().unwrap());
        let user = authority.issue_user(&name, &key.public(), DAY, NOW).unwrap();
        let checked = roots.check_user(&user, NOW).unwrap();
        assert_eq!(
            (checked.name, checked.cluster, checked.not_after),
            (name.clone(), id, NOW + DAY)
        );
        assert!(matches!(roots.check(&user, NOW), Err(PkiError::Malformed(_))));
        assert!(matches!(roots.check_record(&user), Err(PkiError::Malformed(_))));
        let node = authority.issue(&key.public(), LEAF_LIFE, NOW).unwrap();
        assert!(matches!(roots.check_user(&node, NOW), Err(PkiError::NotUser(_))));
        assert!(roots.check_user(authority.certificate(), NOW).is_err());

        assert!(
            matches!(roots.check_user(&user, NOW + 2 * DAY), Err(PkiError::Untrusted(why)) if why == "it has expired")
        );
        assert_eq!(strangers.check_user(&user, NOW), Err(PkiError::OtherCluster(id)));
        let forger = Authority::create(other, NodeKey::from_seed(&[7; 32]), NOW).unwrap();
        let forged = forger.issue_user(&name, &key.public(), DAY, NOW).unwrap();
        assert!(matches!(
            strangers.check_user(&forged, NOW),
            Err(PkiError::Untrusted(_))
        ));
        for life in [Duration::ZERO, crate::pki::USER_LIFE_MAX + DAY] {
            assert_eq!(
                authority.issue_user(&name, &key.public(), life, NOW),
                Err(PkiError::Life)
            );
        }
    }

    #[test]
    fn names_that_are_not_the_keys_or_not_one_are_refused() {
        use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let uri = |node: &str| SanType::URI(format!("spiffe://{}/node/{node}", "01".repeat(16)).try_into().unwrap());
        let made = |names: Vec<SanType>| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names;
            Leaf::parse(params.self_signed(&key).unwrap().der())
        };
        assert!(matches!(
            made(vec![uri("aaaaaaaaaaaa")]),
            Err(PkiError::NotItsKey { .. })
        ));
        assert_eq!(
            made(vec![uri("aaaaaaaaaaaa"), uri("bbbbbbbbbbbb")]),
            Err(PkiError::Malformed("it has more than one URI"))
        );
        assert_eq!(made(vec![]), Err(PkiError::Malformed("it has no alternative names")));
        assert!(matches!(made(vec![uri("aaaaaaaaaaaa/x")]), Err(PkiError::Malformed(_))));
    }
}
