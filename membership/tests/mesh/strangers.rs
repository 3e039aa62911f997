//! Who must not get in: hosts with bad tokens, and connections without or with a foreign certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lab::{DEADLINE, Host, counter, label, sees, until};
use membership::id::ClusterId;
use membership::identity::NodeKey;
use membership::pki::{self, Authority};
use membership::service::{
    Liveness, Membership, Outcome, SetupError, StartError, TokenError, UserError, hold, init, join, node_of,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint, VarInt};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

#[expect(clippy::disallowed_methods, reason = "certificates and tokens live in real time")]
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

async fn refused(host: &Host, name: &str, token: &str) -> String {
    match join(&host.config, label(name), token).await {
        Err(error @ (SetupError::Refused(_) | SetupError::NotLetIn(_))) => error.to_string(),
        other => panic!("it must be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_for_as_many_and_as_long_as_they_say() {
    let (_one, a) = Host::found("one").await;
    let minute = Duration::from_secs(60);
    let token = a.create_token(1, minute).await.unwrap();
    let two = Host::new();
    let made = join(&two.config, label("two"), &token).await.unwrap();
    let certificate = std::fs::read(two.file("node.der")).unwrap();

    let three = Host::new();
    let why = refused(&three, "three", &token).await;
    assert!(
        why.contains("used up") && why.contains("fabricctl token create"),
        "{why}"
    );
    assert!(!three.file("node.json").exists(), "a refused host is no node");

    // The reply got lost: no node was made, and the same key asks again.
    std::fs::remove_file(two.file("node.json")).unwrap();
    let again = join(&two.config, label("two"), &token).await.unwrap();
    assert_eq!(again, made);
    assert_eq!(std::fs::read(two.file("node.der")).unwrap(), certificate);

    let short = a.create_token(1, Duration::from_secs(1)).await.unwrap();
    let over = now() + Duration::from_secs(1);
    until("a second has passed", || now() > over).await;
    let why = refused(&three, "three", &short).await;
    assert!(why.contains("expired"), "{why}");

    let mut forged: membership::token::Token = a.create_token(1, minute).await.unwrap().parse().unwrap();
    let good = forged.to_string();
    forged.id = short.parse::<membership::token::Token>().unwrap().id;
    let why = refused(&three, "three", &forged.to_string()).await;
    assert!(why.contains("does not know the token"), "{why}");
    assert!(matches!(
        join(&three.config, label("three"), "fabric1.AAAA").await,
        Err(SetupError::BadToken(_))
    ));
    assert!(matches!(
        join(&three.config, label("three"), &good).await,
        Ok(Outcome::Made { .. })
    ));
    until("refusals are counted", || counter(&a, "refused_join") == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_nodes_name_is_taken() {
    let (_one, a) = Host::found("one").await;
    let token = a.create_token(1, Duration::from_secs(60)).await.unwrap();
    let two = Host::new();
    let why = refused(&two, "one", &token).await;
    assert!(why.contains("--name"), "{why}");
    assert!(
        !why.contains("fabricctl token create"),
        "the token is still good: {why}"
    );
    join(&two.config, label("two"), &token)
        .await
        .expect("the token was not spent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_come_at_once_one_gets_the_name_and_one_the_last_use() {
    let (_one, a) = Host::found("one").await;
    let minute = Duration::from_secs(60);
    let token = a.create_token(2, minute).await.unwrap();
    let hosts = [Host::new(), Host::new(), Host::new()];
    let name = label("two");
    let (first, second) = tokio::join!(
        join(&hosts[0].config, name.clone(), &token),
        join(&hosts[1].config, name, &token)
    );
    let why = match (first, second) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error.to_string(),
        both => panic!("exactly one may have the name: {both:?}"),
    };
    assert!(why.contains("--name"), "{why}");

    // One use is left, and one host of the two has no certificate yet.
    let (late, other) = (label("three"), label("four"));
    let loser = hosts[..2].iter().find(|host| !host.file("node.json").exists()).unwrap();
    let (first, second) = tokio::join!(join(&loser.config, late, &token), join(&hosts[2].config, other, &token));
    let why = match (first, second) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error.to_string(),
        both => panic!("exactly one may have the last use: {both:?}"),
    };
    assert!(why.contains("used up"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_set_up_once_and_tells_whose_it_is() {
    let (_one, a) = Host::found("one").await;
    let token = a.create_token(2, Duration::from_secs(60)).await.unwrap();
    let two = Host::new();
    assert!(matches!(node_of(&two.config.data), Err(StartError::NoNode(_))));
    let (first, second) = tokio::join!(
        join(&two.config, label("two"), &token),
        join(&two.config, label("two"), &token)
    );
    let made = match (first, second) {
        (Ok(Outcome::Made { node, .. }), Err(error)) | (Err(error), Ok(Outcome::Made { node, .. })) => {
            assert!(error.to_string().contains("at work"), "{error}");
            node
        }
        both => panic!("one sets it up, the other one is told to wait: {both:?}"),
    };
    assert_eq!(node_of(&two.config.data).unwrap(), made);
    let peer = two.start().await;
    assert_eq!(peer.id(), made);
    let foreign = init(&two.config, label("two"), label("another"))
        .await
        .unwrap_err()
        .to_string();
    assert!(foreign.contains("choose another --data"), "{foreign}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_cluster_that_is_not_there_leads_nowhere() {
    let (_one, a) = Host::found("one").await;
    let (_two, b) = Host::found("two").await;
    let mut token: membership::token::Token = a
        .create_token(1, Duration::from_secs(60))
        .await
        .unwrap()
        .parse()
        .unwrap();
    let other: membership::token::Token = b
        .create_token(1, Duration::from_secs(60))
        .await
        .unwrap()
        .parse()
        .unwrap();
    token.seeds = other.seeds;
    let lost = join(&Host::new().config, label("three"), &token.to_string()).await;
    assert!(matches!(lost, Err(SetupError::Stranger(_))), "{lost:?}");
}

/// Connects to a peer's mesh and tells how the peer ended it.
async fn knock(peer: &Membership, alpn: &[u8], identity: Option<(&NodeKey, Vec<u8>)>) -> ConnectionError {
    let cluster = peer.cluster();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cluster.roots[0].to_vec())).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => tls.with_no_client_auth(),
        Some((key, certificate)) => {
            let private = PrivateKeyDer::from_pem_slice(key.to_pem().unwrap().as_bytes()).unwrap();
            tls.with_client_auth_cert(vec![CertificateDer::from(certificate)], private)
                .unwrap()
        }
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
    let address = peer
        .members()
        .into_iter()
        .find(|member| member.id == peer.id())
        .unwrap()
        .record
        .addresses[0];
    let connecting = endpoint.connect(address, &pki::any_peer_name(cluster.id)).unwrap();
    let ended = async {
        match connecting.await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.unwrap()
}

/// What an authority gone wrong would issue.
fn misnamed(anchor: &Host, peer: &Membership, key: &NodeKey) -> Vec<u8> {
    let pem = std::fs::read_to_string(anchor.file("authority.key")).unwrap();
    let root = CertificateDer::from(std::fs::read(anchor.file("authority.der")).unwrap());
    let issuer = Issuer::from_ca_cert_der(&root, KeyPair::from_pem(&pem).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://{}/node/aaaaaaaaaaaa", peer.cluster().id);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    let subject = KeyPair::from_pem(&key.to_pem().unwrap()).unwrap();
    params.signed_by(&subject, &issuer).unwrap().der().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_prove_nothing_are_closed_and_counted() {
    let (one, a) = Host::found("one").await;
    let key = NodeKey::generate();

    let ended = knock(&a, b"fabric/1", None).await;
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(3)),
        "{ended}"
    );
    until("it is counted", || counter(&a, "refused_no_certificate") == 1).await;

    // Of another cluster, and of one that only calls itself this one.
    for id in [ClusterId::from_random([9; 16]), a.cluster().id] {
        let before = counter(&a, "refused_certificate");
        let foreign = Authority::create(id, NodeKey::generate(), now()).unwrap();
        let certificate = foreign.issue(&key.public(), pki::LEAF_LIFE, now()).unwrap();
        let ended = knock(&a, b"fabric/1", Some((&key, certificate.to_vec()))).await;
        assert!(matches!(ended, ConnectionError::ConnectionClosed(_)), "{ended}");
        until("it is counted", || counter(&a, "refused_certificate") == before + 1).await;
    }

    knock(&a, b"fabric/99", None).await;
    until("it is counted", || counter(&a, "refused_protocol") == 1).await;
    assert!(
        a.alarms()
            .iter()
            .any(|alarm| alarm.name == "peer-refused" && alarm.message.contains("127.0.0.1"))
    );

    // Who asks to join and says nothing is sent away long before others would notice.
    knock(&a, b"fabric-join/1", None).await;
    until("it is counted", || counter(&a, "refused_join") == 1).await;

    // Signed by the cluster's own authority, but with a name that is not the key's.
    let ended = knock(&a, b"fabric/1", Some((&key, misnamed(&one, &a, &key)))).await;
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(4)),
        "{ended}"
    );
    until("it is counted", || counter(&a, "refused_identity") == 1).await;
    let shown = |alarm: &membership::service::Alarm| alarm.message.contains("refused_identity");
    assert!(a.alarms().iter().any(shown), "{:?}", a.alarms());

    // A user of the API, whom the cluster's own authority let in: there, and not here.
    let before = counter(&a, "refused_certificate");
    let request = pki::request::make(&key, &label("alice")).unwrap();
    let user = a
        .issue_user(&label("alice"), &request, Duration::from_secs(60))
        .unwrap();
    let ended = knock(&a, b"fabric/1", Some((&key, user.certificate.to_vec()))).await;
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(4)),
        "{ended}"
    );
    until("it is counted", || counter(&a, "refused_certificate") == before + 1).await;
    assert_eq!(a.members().len(), 1, "a user is no member");

    // None of that kept a member from joining.
    let (_two, b) = Host::join("two", &a).await;
    sees(&a, &[(&b, Liveness::Live)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_anchor_makes_users() {
    let (_one, a) = Host::found("one").await;
    let (_two, b) = Host::join("two", &a).await;
    let (key, name) = (NodeKey::generate(), label("alice"));
    let request = pki::request::make(&key, &name).unwrap();
    let minute = Duration::from_secs(60);
    let token = b.create_token(1, Duration::from_secs(60)).await;
    assert!(matches!(token, Err(TokenError::NotAnchor(nodes)) if nodes == [a.id()]));
    let elsewhere = b.issue_user(&name, &request, minute);
    assert!(matches!(elsewhere, Err(UserError::NotAnchor(nodes)) if nodes == [a.id()]));
    assert!(matches!(
        a.issue_user(&name, "junk", minute),
        Err(UserError::Invalid(_))
    ));
    assert!(matches!(
        a.issue_user(&name, &request, Duration::from_secs(91 * 86_400)),
        Err(UserError::Invalid(_))
    ));
    let made = a.issue_user(&name, &request, minute).unwrap();
    let (_tls, roots) = b.api_tls().unwrap();
    let user = roots.check_user(&made.certificate, now()).unwrap();
    assert_eq!((user.name, user.not_after), (name, made.not_after));
    assert!(user.not_after <= now() + minute);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_cannot_be_held_and_a_held_one_not_used() {
    let (one, a) = Host::found("one").await;
    assert!(matches!(hold(&one.config.data), Err(StartError::InUse(_))));
    a.shutdown().await;
    drop(a);
    let held = hold(&one.config.data).unwrap();
    assert!(matches!(one.try_start().await, Err(StartError::InUse(_))));
    drop(held);
    one.start().await.shutdown().await;
}
