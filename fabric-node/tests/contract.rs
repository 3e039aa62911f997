//! The contract with scripts, through the real command line, the real client, a real socket and the real routes: JSON
//! shapes and tables as golden files, exit codes, and what reaches the daemon. `BLESS=1` writes the golden files.

#[path = "contract/authority.rs"]
mod authority;
#[path = "contract/fleet.rs"]
mod fleet;
#[path = "contract/http.rs"]
mod http;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use fabric_node::api::routes::router;
use fabric_node::api::serve;
use fabric_node::backup;
use fabric_node::ctl::{self, args::Cli};
use fleet::Fleet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest that anything may take, by the clock of the test.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// A daemon on a socket of its own.
struct Daemon {
    dir: tempfile::TempDir,
    fleet: Arc<Fleet>,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: u8,
    out: String,
    err: String,
}

impl Daemon {
    async fn start() -> Self {
        Self::with(Fleet::default()).await
    }

    async fn with(fleet: Fleet) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let fleet = Arc::new(fleet);
        let listener = serve::bind(&dir.path().join("api.sock"), None).await.expect("bound");
        tokio::spawn(serve::serve(listener, router(fleet.clone()), std::future::pending()));
        Self { dir, fleet }
    }

    async fn ctl(&self, line: &str) -> Done {
        let api = format!("unix:{}", self.dir.path().join("api.sock").display());
        run(&format!("fabricctl {line} --api {api}")).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.fleet.asked.lock().expect("no panic before"))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// Speaks HTTP by hand; the status line and the body.
    async fn raw(&self, head: &str, body: &str) -> (String, serde_json::Value) {
        let (head, body) = self.exchange(head, body).await;
        let status = head.lines().next().expect("a status line").to_owned();
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The same; the whole head and body of the answer.
    async fn exchange(&self, head: &str, body: &str) -> (String, String) {
        let mut stream = UnixStream::connect(self.dir.path().join("api.sock"))
            .await
            .expect("connected");
        let request = format!(
            "{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }
}

async fn run(line: &str) -> Done {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let cli = Cli::try_parse_from(line.split_whitespace()).expect(line);
    let result = ctl::run(cli, &mut out, &mut err).await;
    let mut err = String::from_utf8(err).expect("text");
    let code = match result {
        Ok(()) => 0,
        Err(problem) => {
            err += &problem.text();
            problem.exit().code()
        }
    };
    Done {
        code,
        out: String::from_utf8(out).expect("text"),
        err,
    }
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "differs from {}", path.display());
}

#[tokio::test]
async fn answers_have_the_shapes_of_the_contract() {
    let daemon = Daemon::start().await;
    let manifest = daemon.file("red.yaml", "kind: Domain");
    for (name, line) in [
        ("status", "status".to_owned()),
        ("peers", "peers".to_owned()),
        ("drops", "drops".to_owned()),
        ("anchor-list", "anchor list".to_owned()),
        ("ca-show", "ca show".to_owned()),
        ("ca-rotate", "ca rotate".to_owned()),
        ("ca-rotate-finish", "ca rotate --finish --force".to_owned()),
        ("node-remove", "node remove h2".to_owned()),
        ("cluster-upgrade", "cluster upgrade".to_owned()),
        ("quarantine-list", "quarantine list".to_owned()),
        ("quarantine-release", "quarantine release red".to_owned()),
        ("function-list", "function list".to_owned()),
        (
            "function-load",
            "function load red/watch --hook packet /tmp/watch.o".to_owned(),
        ),
        ("function-remove", "function remove red/watch".to_owned()),
        ("get", "get endpoints -d red".to_owned()),
        ("get-networks", "get networks".to_owned()),
        ("get-none", "get domains".to_owned()),
        ("get-routers", "get routers".to_owned()),
        ("get-policies", "get policies -d red".to_owned()),
        ("describe", "describe ep web-1 -d red".to_owned()),
        ("describe-router", "describe rt core -d red".to_owned()),
        ("describe-policy", "describe policy web -d red".to_owned()),
        ("apply", format!("apply -f {manifest}")),
        ("delete", "delete domain red --cascade".to_owned()),
        ("history", "history -d red".to_owned()),
        ("diff", "diff -d red --at 15m".to_owned()),
        ("diff-none", "diff -d red --at 0s".to_owned()),
        ("rollback", "rollback -d red --to 15m".to_owned()),
        ("rollback-dry", "rollback -d red --to 15m --dry-run".to_owned()),
        ("conflicts", "conflicts".to_owned()),
        ("conflicts-none", "conflicts -d blue".to_owned()),
        (
            "conflicts-resolve",
            "conflicts resolve network lan -d red --take v3333333333333333".to_owned(),
        ),
        ("attach", "endpoint attach red/web-1 --netns web".to_owned()),
        ("detach", "endpoint detach red/web-1".to_owned()),
    ] {
        for (format, ending) in [("json", "json"), ("table", "txt")] {
            let done = daemon.ctl(&format!("{line} -o {format}")).await;
            assert_eq!(done.code, 0, "{line}: {done:?}");
            golden(&format!("{name}.{ending}"), &done.out);
        }
    }
    let yaml = daemon.ctl("peers -o yaml").await;
    let from_yaml: serde_json::Value = serde_norway::from_str(&yaml.out).expect("YAML");
    let json = daemon.ctl("peers -o json").await;
    assert_eq!(
        from_yaml,
        serde_json::from_str::<serde_json::Value>(&json.out).expect("JSON")
    );
}

#[tokio::test]
async fn a_list_in_yaml_can_be_applied() {
    let daemon = Daemon::start().await;
    let listed = daemon.ctl("get endpoints -d red -o yaml").await;
    let read = overlay::manifest::parse("listed", &listed.out).expect("manifests");
    let names: Vec<&str> = read.iter().map(|document| document.object.name.as_str()).collect();
    assert_eq!(names, ["web-1", "web-2"]);
}

#[tokio::test]
async fn commands_reach_the_daemon_with_their_author() {
    let daemon = Daemon::start().await;
    let manifest = daemon.file("red.yaml", "kind: Domain");
    let me = nix::unistd::User::from_uid(nix::unistd::Uid::effective())
        .expect("readable")
        .expect("a user")
        .name;
    for line in [
        &format!("apply -f {manifest}"),
        "get endpoint web-1 -d red",
        "get dom red",
        "describe domain red",
        "delete net lan -d red --cascade",
        "endpoint attach red/web-1 --netns web --ifname net0",
        "endpoint attach red/vm-1 --interface tap0",
        "anchor add h2",
        "ca rotate --cancel",
        "history domain red",
        "history network lan -d red --limit 7",
        "diff -d red --at v0123456789abcdef",
        "rollback -d red --to 2026-01-02T03:04:05.25Z --dry-run",
        "conflicts resolve domain red --take v0123456789abcdef",
    ] {
        assert_eq!(daemon.ctl(line).await.code, 0, "{line}");
    }
    assert_eq!(
        daemon.asked(),
        [
            format!("apply by {me} [\"kind: Domain\"] 0 wait=false"),
            "describe Endpoint red/web-1 false".to_owned(),
            "describe Domain red/red false".to_owned(),
            "describe Domain red/red true".to_owned(),
            format!("delete by {me} Network red/lan cascade=true"),
            format!(
                "attach by {me} red/web-1 Attach {{ netns: Some(\"web\"), ifname: Some(\"net0\"), interface: None }}"
            ),
            format!("attach by {me} red/vm-1 Attach {{ netns: None, ifname: None, interface: Some(\"tap0\") }}"),
            format!("add anchor h2 by {me}"),
            format!("rotate Cancel force false by {me}"),
            "history red Some(Domain) Some(red) 100".to_owned(),
            "history red Some(Network) Some(lan) 7".to_owned(),
            "diff red v0123456789abcdef".to_owned(),
            format!("rollback by {me} red 2026-01-02T03:04:05.250Z dry=true"),
            format!("resolve by {me} Domain red/red v0123456789abcdef"),
        ]
    );
}

#[tokio::test]
async fn refusals_end_with_their_code_and_say_why() {
    let daemon = Daemon::start().await;
    let wrong = daemon.file("wrong.yaml", "wrong");
    let good = daemon.file("good.yaml", "good");
    for (line, code, said) in [
        (
            "describe ep nobody -d red".to_owned(),
            1,
            "there is no Endpoint nobody".to_owned(),
        ),
        ("delete domain red".to_owned(), 1, "  Endpoint red/web-1".to_owned()),
        (
            "describe ep web-1".to_owned(),
            2,
            "say in which domain with -d DOMAIN".to_owned(),
        ),
        (
            "history network lan".to_owned(),
            2,
            "say in which domain with -d DOMAIN".to_owned(),
        ),
        (
            "rollback -d busy --to 15m".to_owned(),
            1,
            "  Endpoint busy/web-1: it was not there then, and is attached on h1".to_owned(),
        ),
        (
            "conflicts resolve net lan -d red --take v3333333333333333 --if-version v0123456789abcdef".to_owned(),
            1,
            "its version is v5f0e2c9a7b114d32".to_owned(),
        ),
        (
            "apply -f /nowhere.yaml".to_owned(),
            2,
            "/nowhere.yaml: No such file".to_owned(),
        ),
        (
            format!("apply -f {wrong}"),
            65,
            format!("{wrong}:7: document 2: spec.subnets[0]: 10.0.0.1/24 has host"),
        ),
        ("token create".to_owned(), 75, "too few anchors answered".to_owned()),
        ("node remove h1".to_owned(), 1, "is the only anchor".to_owned()),
        ("anchor add h9".to_owned(), 1, "no member is called h9".to_owned()),
        ("anchor remove h2".to_owned(), 75, "2 are needed".to_owned()),
        ("ca rotate --finish".to_owned(), 1, "h3 have no certificate".to_owned()),
        (
            "cluster upgrade --finish".to_owned(),
            1,
            "h2 (bbbbbbbbbbbb) speaks 1".to_owned(),
        ),
        (
            format!("apply -f {good} --wait"),
            75,
            "not in force yet on h2".to_owned(),
        ),
    ] {
        let done = daemon.ctl(&line).await;
        assert_eq!(done.code, code, "{line}: {done:?}");
        assert!(done.err.contains(&said), "{line}: {done:?}");
    }
    let warned = daemon.ctl("endpoint attach red/web-1 --netns web").await;
    assert_eq!(
        (warned.code, warned.err.as_str()),
        (0, "fabricctl: warning: not confirmed within 1 s by h2\n")
    );
}

#[tokio::test]
async fn a_version_that_is_not_there_is_refused_with_what_is() {
    let daemon = Daemon::start().await;
    let manifest = daemon.file("red.yaml", "kind: Domain");
    for version in ["v5f0e2c9a7b114d32", "v0123456789abcdef", "none"] {
        let code = u8::from(version != "v5f0e2c9a7b114d32");
        for line in [
            format!("apply -f {manifest} --if-version {version}"),
            format!("delete net lan -d red --cascade --if-version {version}"),
        ] {
            let done = daemon.ctl(&line).await;
            assert_eq!(done.code, code, "{line}: {done:?}");
            let told = format!("  Network red/lan: its version is v5f0e2c9a7b114d32; asked for was {version}\n");
            assert_eq!(done.err.contains(&told), code == 1, "{line}: {done:?}");
        }
    }
    let path = "/v1/domains/red/network/lan HTTP/1.1";
    let (line, answer) = daemon
        .raw(&format!("DELETE {path}\r\nif-match: \"v0123456789abcdef\""), "")
        .await;
    assert!(line.contains("412"), "{line}");
    assert_eq!(answer["code"], "precondition_failed");
    assert_eq!(answer["details"][0]["current"]["version"], "v5f0e2c9a7b114d32");
    let (line, answer) = daemon.raw(&format!("DELETE {path}\r\nif-match: W/\"1\""), "").await;
    assert!(line.contains("400"), "{line}");
    assert_eq!(answer["code"], "bad_request");
    let (head, _) = daemon.exchange(&format!("GET {path}"), "").await;
    assert!(head.contains("etag: \"v5f0e2c9a7b114d32\""), "{head}");
}

#[tokio::test]
async fn a_backup_is_whole_and_its_owners_or_not_there() {
    let daemon = Daemon::start().await;
    let file = daemon.dir.path().join("fabric.jsonl");
    let line = format!("backup {}", file.display());
    let done = daemon.ctl(&line).await;
    assert_eq!(done.code, 0, "{done:?}");
    let told = "2 objects of 1 domains of cluster prod (00000000000000000000000000000000) as of 2026-01-02T03:04:05Z";
    assert!(done.out.contains(told), "{done:?}");
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = backup::read(&std::fs::read(&file).expect("a file")[..]).expect("whole");
    assert_eq!((read.head.cluster_name.as_str(), read.versions.len()), ("prod", 2));

    let again = daemon.ctl(&line).await;
    assert_eq!((again.code, again.err.contains("--force")), (2, true), "{again:?}");
    assert_eq!(daemon.ctl(&format!("{line} --force")).await.code, 0);
    let nowhere = daemon.ctl("backup /no/such/directory/fabric.jsonl").await;
    assert_eq!(nowhere.code, 2, "{nowhere:?}");

    let dying = Daemon::with(Fleet {
        breaks_off: true,
        ..Fleet::default()
    })
    .await;
    let file = dying.dir.path().join("fabric.jsonl");
    let done = dying.ctl(&format!("backup {}", file.display())).await;
    assert_eq!(done.code, 75, "{done:?}");
    let left = std::fs::read_dir(dying.dir.path()).expect("a directory").count();
    assert_eq!(left, 1, "nothing but the socket is left");
}

#[tokio::test]
async fn without_a_daemon_one_line_says_how_to_start_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let done = run(&format!(
        "fabricctl status --api unix:{}",
        dir.path().join("none.sock").display()
    ))
    .await;
    assert_eq!((done.code, done.err.lines().count()), (69, 1), "{done:?}");
    assert!(done.err.contains("systemctl start fabric-node"), "{done:?}");
    let https = run("fabricctl status --api https://h1:443").await;
    assert_eq!((https.code, https.err.lines().count()), (2, 1), "{https:?}");
    assert!(https.err.contains("fabricctl user create"), "{https:?}");
}

/// More connections than there are places, that ask nothing or only half of something.
#[tokio::test]
async fn a_node_without_the_key_says_where_users_are_made() {
    let daemon = Daemon::start().await;
    let out = daemon.dir.path().join("alice.pem");
    let done = daemon.ctl(&format!("user create alice --out {}", out.display())).await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("run it on the host of h1"), "{done:?}");
    assert!(!out.exists());
}
