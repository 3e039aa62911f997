//! The API over TLS: the real client and the real listener on loopback, with certificates of made-up clusters. Who gets
//! in, who does not and is told why, and that nobody can hold a place for ever.

#[path = "contract/fleet.rs"]
mod fleet;

use std::future::pending;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use fabric_node::api::https::{self, Credentials};
use fabric_node::api::refusals::Refusals;
use fabric_node::api::routes::router;
use fabric_node::api::serve;
use fabric_node::ctl::{self, args::Cli};
use fleet::{Fleet, now};
use membership::id::ClusterId;
use membership::identity::NodeKey;
use membership::pki::{Authority, LEAF_LIFE, Roots, tls, to_pem};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Longest that anything may take, by the clock of the test.
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A cluster's authority.
#[derive(Clone)]
struct Cluster {
    authority: Arc<Authority>,
    roots: Roots,
}

/// Somebody's key and certificate.
struct Person {
    key: NodeKey,
    certificate: Bytes,
}

impl Cluster {
    fn new(number: u8) -> Self {
        let id = ClusterId::from_random([number; 16]);
        let authority = Authority::create(id, NodeKey::generate(), now()).expect("an authority");
        let roots = Roots::new(id, &[authority.certificate().clone()]).expect("roots");
        Self {
            authority: Arc::new(authority),
            roots,
        }
    }

    fn node(&self) -> Person {
        let key = NodeKey::generate();
        let certificate = self.authority.issue(&key.public(), LEAF_LIFE, now()).expect("issued");
        Person { key, certificate }
    }

    fn user(&self, issued: Duration) -> Person {
        let key = NodeKey::generate();
        let name = "alice".parse().expect("a name");
        let certificate = self.authority.issue_user(&name, &key.public(), DAY / 2, issued);
        Person {
            key,
            certificate: certificate.expect("issued"),
        }
    }
}

/// A node's API on loopback.
struct Node {
    dir: tempfile::TempDir,
    fleet: Arc<Fleet>,
    refusals: Arc<Refusals>,
    address: SocketAddr,
    credentials: watch::Sender<Credentials>,
}

impl Node {
    async fn start(cluster: &Cluster) -> Self {
        Self::start_as(cluster, &cluster.node()).await
    }

    /// Trusts a cluster, and shows the certificate of whomever.
    async fn start_as(cluster: &Cluster, shown: &Person) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let fleet = Arc::new(Fleet {
            authority: Some(cluster.authority.clone()),
            ..Fleet::default()
        });
        let unix = serve::bind(&dir.path().join("api.sock"), None).await.expect("bound");
        tokio::spawn(serve::serve(unix, router(fleet.clone()), pending()));
        let listener = https::bind(([127, 0, 0, 1], 0).into()).await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let credentials = Credentials {
            tls: Arc::new(tls::server(&shown.key, &shown.certificate, &cluster.roots).expect("TLS")),
            roots: cluster.roots.clone(),
        };
        let refusals = Arc::<Refusals>::default();
        let (credentials, followed) = watch::channel(credentials);
        let served = https::serve(listener, followed, router(fleet.clone()), refusals.clone(), pending());
        tokio::spawn(served);
        Self {
            dir,
            fleet,
            refusals,
            address,
            credentials,
        }
    }

    /// A file as `user create` writes it.
    fn identity(&self, name: &str, person: &Person, cluster: &Cluster) -> PathBuf {
        let path = self.dir.path().join(name);
        let text = person.key.to_pem().expect("PEM").to_string()
            + &to_pem(&person.certificate).expect("PEM")
            + &to_pem(cluster.authority.certificate()).expect("PEM");
        std::fs::write(&path, text).expect("written");
        path
    }

    async fn local(&self, line: &str) -> Done {
        run(&format!(
            "fabricctl --api unix:{} {line}",
            self.dir.path().join("api.sock").display()
        ))
        .await
    }

    async fn remote(&self, identity: &std::path::Path, line: &str) -> Done {
        let api = format!("https://{}", self.address);
        run(&format!(
            "fabricctl --api {api} --identity {} {line}",
            identity.display()
        ))
        .await
    }

    async fn raw(&self, client: ClientConfig, cluster: &Cluster) -> std::io::Result<String> {
        ask(self.address, client, cluster).await
    }

    async fn counted(&self, name: &str, wanted: u64) {
        let value = || self.refusals.counters().into_iter().find(|(of, _)| *of == name);
        let until = async {
            while value().is_none_or(|(_, count)| count != wanted) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let met = tokio::time::timeout(DEADLINE, until).await;
        assert!(met.is_ok(), "{name} is not {wanted}: {:?}", self.refusals.counters());
    }
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: u8,
    out: String,
    err: String,
}

async fn run(line: &str) -> Done {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let cli = Cli::try_parse_from(line.split_whitespace()).expect(line);
    let result = ctl::run(cli, &mut out, &mut err).await;
    let mut err = String::from_utf8(err).expect("text");
    let code = result.map_or_else(
        |problem| {
            err += &problem.text();
            problem.exit().code()
        },
        |()| 0,
    );
    let out = String::from_utf8(out).expect("text");
    Done { code, out, err }
}

/// Asks for the status by hand, and gives all that came.
async fn ask(address: SocketAddr, client: ClientConfig, cluster: &Cluster) -> std::io::Result<String> {
    let tcp = TcpStream::connect(address).await?;
    let name = tls::any_node(&cluster.roots).expect("a name");
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, tcp).await?;
    let head = "GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn client(person: &Person, cluster: &Cluster) -> ClientConfig {
    tls::client(&person.key, &person.certificate, &cluster.roots).expect("TLS")
}

#[tokio::test]
async fn a_user_does_everything_from_another_host() {
    let cluster = Cluster::new(1);
    let node = Node::start(&cluster).await;
    let file = node.dir.path().join("alice.pem");
    let made = node
        .local(&format!("user create alice --ttl 8h --out {}", file.display()))
        .await;
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.out.contains("identity of alice"), "{made:?}");
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = node.local(&format!("user create alice --out {}", file.display())).await;
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.err.contains("--force"), "{again:?}");
    assert!(!made.out.contains("PRIVATE"), "{made:?}");

    let status = node.remote(&file, "status").await;
    let golden = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/status.txt"));
    assert_eq!((status.code, status.out), (0, golden.expect("readable")));
    let manifest = node.dir.path().join("red.yaml");
    std::fs::write(&manifest, "kind: Domain").expect("written");
    for line in [
        &format!("apply -f {}", manifest.display()),
        "get endpoints",
        "describe ep web-1 -d red",
        "peers",
        "drops",
        "delete domain red --cascade",
        "endpoint attach red/web-1 --netns web",
        "endpoint detach red/web-1",
    ] {
        let done = node.remote(&file, line).await;
        assert_eq!(done.code, 0, "{line}: {done:?}");
    }
    assert_eq!(node.remote(&file, "token create").await.code, 75, "as on the socket");
    let asked = node.fleet.asked.lock().expect("no panic before").join("\n");
    assert!(
        asked.contains("user alice by ") && asked.contains(" for 28800 s"),
        "{asked}"
    );
    for wanted in [
        "apply by user:alice ",
        "delete by user:alice ",
        "attach by user:alice ",
        "token TokenRequest",
    ] {
        assert!(asked.contains(wanted), "{asked}");
    }
    assert!(node.refusals.counters().iter().all(|(_, count)| *count == 0));
}

#[tokio::test]
async fn a_user_cannot_make_users() {
    let cluster = Cluster::new(1);
    let node = Node::start(&cluster).await;
    let file = node.identity("alice.pem", &cluster.user(now()), &cluster);
    let more = node.dir.path().join("more.pem");
    let done = node
        .remote(&file, &format!("user create alice --ttl 90d --out {}", more.display()))
        .await;
    assert_eq!(done.code, 77, "{done:?}");
    assert!(done.err.contains("unix socket of an anchor"), "{done:?}");
    assert!(!more.exists());
}

#[tokio::test]
async fn an_identity_of_another_cluster_is_of_no_use() {
    let (ours, other) = (Cluster::new(1), Cluster::new(2));
    // It has our cluster's id, and not its key.
    let impostor = Cluster::new(1);
    let node = Node::start(&ours).await;
    for (name, theirs) in [("other.pem", &other), ("impostor.pem", &impostor)] {
        let file = node.identity(name, &theirs.user(now()), theirs);
        let done = node.remote(&file, "status").await;
        assert_eq!((done.code, done.err.lines().count()), (77, 1), "{done:?}");
        assert!(
            done.err.contains("did not prove to be a node of the cluster"),
            "{done:?}"
        );
    }
    // Who does not care whom it talks to is refused by the node.
    for (number, (theirs, alert)) in [(&other, "UnknownCA"), (&impostor, "DecryptError")]
        .into_iter()
        .enumerate()
    {
        let refused = node
            .raw(client(&theirs.user(now()), &ours), &ours)
            .await
            .expect_err("refused");
        assert!(refused.to_string().contains(alert), "{refused}");
        node.counted("api_refused_handshake", 3 + number as u64).await;
    }
    assert!(node.fleet.asked.lock().expect("no panic before").is_empty());
}

#[tokio::test]
async fn an_expired_identity_is_refused_on_both_sides() {
    let cluster = Cluster::new(1);
    let node = Node::start(&cluster).await;
    let expired = cluster.user(now() - DAY);
    let file = node.identity("old.pem", &expired, &cluster);
    let done = node.remote(&file, "status").await;
    assert_eq!((done.code, done.err.lines().count()), (77, 1), "{done:?}");
    assert!(
        done.err.contains("expired") && done.err.contains("fabricctl user create"),
        "{done:?}"
    );
    let refused = node
        .raw(client(&expired, &cluster), &cluster)
        .await
        .expect_err("refused");
    assert!(refused.to_string().contains("CertificateExpired"), "{refused}");
    node.counted("api_refused_handshake", 1).await;
}

#[tokio::test]
async fn a_nodes_certificate_opens_nothing_on_another_node() {
    let cluster = Cluster::new(1);
    let node = Node::start(&cluster).await;
    let other = cluster.node();
    let answer = node.raw(client(&other, &cluster), &cluster).await.expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("\"forbidden\""),
        "{answer}"
    );
    node.counted("api_refused_not_user", 1).await;
    let file = node.identity("node.pem", &other, &cluster);
    let done = node.remote(&file, "status").await;
    assert_eq!(done.code, 77, "{done:?}");
}

#[tokio::test]
async fn without_a_certificate_or_tls_there_is_no_answer() {
    let cluster = Cluster::new(1);
    let node = Node::start(&cluster).await;
    let mut nobody = client(&cluster.user(now()), &cluster);
    nobody.client_auth_cert_resolver = Arc::new(Nobody);
    let refused = node.raw(nobody, &cluster).await.expect_err("refused");
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
    node.counted("api_refused_handshake", 1).await;

    let mut plain = TcpStream::connect(node.address).await.expect("connected");
    plain
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.expect("ended");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    node.counted("api_refused_handshake", 2).await;
}

/// Has no certificate to show.
#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(
        &self,
        _roots: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A root takes the place of another one: who comes next meets the other certificate, who is there goes on.
#[tokio::test]
async fn credentials_change_without_a_restart() {
    let (before, after) = (Cluster::new(1), Cluster::new(1));
    let node = Node::start(&before).await;
    let [old, new] = [&before, &after].map(|cluster| (client(&cluster.user(now()), cluster), cluster));
    let (config, _) = &old;
    let stream = TcpStream::connect(node.address).await.expect("connected");
    let connector = TlsConnector::from(Arc::new(config.clone()));
    let name = tls::any_node(&before.roots).expect("a name");
    let mut standing = connector.connect(name, stream).await.expect("a handshake");
    assert!(
        node.raw(new.0.clone(), new.1).await.is_err(),
        "a root that is not trusted yet"
    );

    let shown = after.node();
    node.credentials.send_replace(Credentials {
        tls: Arc::new(tls::server(&shown.key, &shown.certificate, &after.roots).expect("TLS")),
        roots: after.roots.clone(),
    });
    let answer = node.raw(new.0, new.1).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        node.raw(old.0, old.1).await.is_err(),
        "a root that is not trusted any more"
    );
    let ask = b"GET /v1/status HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n";
    standing.write_all(ask).await.expect("written");
    let mut answer = String::new();
    standing.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn only_a_node_of_the_cluster_is_believed() {
    let (ours, other) = (Cluster::new(1), Cluster::new(2));
    for shown in [other.node(), ours.user(now())] {
        let node = Node::start_as(&ours, &shown).await;
        let file = node.identity("alice.pem", &ours.user(now()), &ours);
        let done = node.remote(&file, "status").await;
        assert_eq!(done.code, 77, "{done:?}");
        assert!(node.fleet.asked.lock().expect("no panic before").is_empty());
    }
}

#[tokio::test]
async fn where_nobody_listens_one_line_says_what_to_do() {
    let cluster = Cluster::new(1);
    let node = Node::start(&cluster).await;
    let file = node.identity("alice.pem", &cluster.user(now()), &cluster);
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let api = format!("https://{}", free.expect("a port"));
    let done = run(&format!("fabricctl --api {api} --identity {} status", file.display())).await;
    assert_eq!((done.code, done.err.lines().count()), (69, 1), "{done:?}");
    assert!(done.err.contains("systemctl start fabric-node"), "{done:?}");
}

/// Senders that open connections and say nothing, or half of something. The clock stands only where nothing is left to
/// do but to wait for it.
#[tokio::test]
async fn who_says_nothing_loses_its_place() {
    let cluster = Cluster::new(1);
    let node = Node::start(&cluster).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(node.address).await.expect("connected"));
    }
    let mut beyond = TcpStream::connect(node.address).await.expect("connected");
    ends(&mut beyond, "one more of the same sender").await;
    node.counted("api_refused_busy", 1).await;
    tokio::time::pause();
    for mut stream in silent {
        ends(&mut stream, "a handshake that does not go on").await;
    }
    tokio::time::resume();
    node.counted("api_refused_slow", 16).await;

    for head in ["", "GET /v1/status HTTP/1.1\r\nhost"] {
        let tcp = TcpStream::connect(node.address).await.expect("connected");
        let name = tls::any_node(&cluster.roots).expect("a name");
        let config = Arc::new(client(&cluster.user(now()), &cluster));
        let mut stream = TlsConnector::from(config).connect(name, tcp).await.expect("let in");
        stream.write_all(head.as_bytes()).await.expect("sent");
        tokio::time::pause();
        ends(&mut stream, "half a request").await;
        tokio::time::resume();
    }
    let file = node.identity("alice.pem", &cluster.user(now()), &cluster);
    let done = node.remote(&file, "peers").await;
    assert_eq!(done.code, 0, "{done:?}");
}

/// Nothing or an error: a connection that was cut off has no orderly end.
async fn ends(stream: &mut (impl AsyncRead + Unpin), what: &str) {
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "{what} is kept");
}
