//! The two programs as processes: exit codes, and messages on standard error.

use fabric_node::backup::{self, Head, Writer};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env_remove("FABRIC_API")
        .output()
        .expect("runs")
}

fn node(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_fabric-node"), arguments)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn config(dir: &Path, text: &str) -> String {
    let path = dir.join("node.toml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn the_configuration_that_is_printed_is_accepted() {
    let printed = node(&["config"]);
    assert_eq!(printed.status.code(), Some(0));
    let dir = tempfile::tempdir().expect("a directory");
    let file = config(dir.path(), &String::from_utf8_lossy(&printed.stdout));
    let purge = node(&[
        "purge",
        "--config",
        &file,
        "--data",
        &dir.path().join("none").display().to_string(),
    ]);
    assert_eq!(purge.status.code(), Some(1), "{}", said(&purge));
    assert!(said(&purge).contains("--data"), "{}", said(&purge));
}

#[test]
fn wrong_usage_ends_with_2() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = config(dir.path(), "[mesh]\nlissten = \"::\"\n");
    let unknown = node(&["run", "--config", &file]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        said(&unknown).contains("node.toml:2: unknown key mesh.lissten; did you mean mesh.listen?"),
        "{unknown:?}"
    );
    assert_eq!(node(&["join"]).status.code(), Some(2));
    assert_eq!(node(&["run", "--config", "/no/such/file"]).status.code(), Some(2));
    let level = config(dir.path(), "[log]\nlevel = \"fabric=loud\"\n");
    assert_eq!(node(&["run", "--config", &level]).status.code(), Some(2));
    assert_eq!(
        run(env!("CARGO_BIN_EXE_fabricctl"), &["frobnicate"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_data_directory_without_a_node_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let file = config(dir.path(), "");
    let flags = [
        "run",
        "--config",
        &file,
        "--data",
        &at("data"),
        "--api",
        &at("api.sock"),
        "--listen",
        "127.0.0.1",
    ];
    let output = node(&flags);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("fabric-node init"), "{}", said(&output));
}

#[test]
fn init_twice_says_so_and_a_bad_token_is_wrong_usage() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, data) = (config(dir.path(), ""), dir.path().join("data").display().to_string());
    let flags = [
        "--config",
        &file,
        "--data",
        &data,
        "--name",
        "h1",
        "--listen",
        "127.0.0.1:1",
    ];
    let made = node(&[&["init"], &flags[..]].concat());
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    let again = node(&[&["init"], &flags[..]].concat());
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(
        String::from_utf8_lossy(&again.stdout).contains("nothing was changed"),
        "{again:?}"
    );
    let elsewhere = dir.path().join("other").display().to_string();
    let flags = [
        "--config",
        &file,
        "--data",
        &elsewhere,
        "--name",
        "h2",
        "--listen",
        "127.0.0.1:2",
    ];
    let bad = node(&[&["join", "no-token"], &flags[..]].concat());
    assert_eq!(bad.status.code(), Some(2), "{}", said(&bad));
    assert!(said(&bad).contains("fabricctl token create"), "{}", said(&bad));
}

#[test]
fn a_cluster_is_made_from_a_backup_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (file, saved) = (config(dir.path(), ""), at("fabric.jsonl"));
    let init = |data: &str, from: &str| {
        let settings = [
            "--config",
            &file,
            "--data",
            &at(data),
            "--name",
            "h1",
            "--listen",
            "127.0.0.1:1",
        ];
        node(&[&["init", "--restore", from], &settings[..]].concat())
    };
    let mut writer = Writer::default();
    let head = Head {
        format: backup::FORMAT,
        cluster: "0".repeat(32),
        cluster_name: "prod".to_owned(),
        node_name: "old".to_owned(),
        taken: "2026-01-02T03:04:05Z".to_owned(),
        software: "0.1.0".to_owned(),
    };
    let mut whole = writer.head(&head).expect("written");
    whole.extend(writer.tail().expect("written"));
    std::fs::write(&saved, &whole).expect("written");
    let made = init("data", &saved);
    let out = String::from_utf8_lossy(&made.stdout);
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    assert!(
        out.contains("made cluster prod (") && out.contains("restored 0 objects"),
        "{out}"
    );
    let again = init("data", &saved);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("nothing was restored"), "{}", said(&again));

    assert_eq!(init("none", &at("no-such-file")).status.code(), Some(2));
    std::fs::write(&saved, &whole[..whole.len() - 1]).expect("written");
    let cut = init("none", &saved);
    assert_eq!(cut.status.code(), Some(1));
    assert!(said(&cut).contains("fabric.jsonl: it was cut off"), "{}", said(&cut));
    assert!(!dir.path().join("none/node.json").exists());
}

#[test]
fn run_goes_by_what_init_was_given() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (file, data, taken) = (config(dir.path(), ""), at("data"), at("taken"));
    std::fs::write(&taken, "not a socket").expect("written");
    let place = ["--config", &file, "--data", &data];
    let given = ["--listen", "127.0.0.1:1", "--name", "h1", "--api", &taken];
    let made = node(&[&["init"], &place[..], &given[..]].concat());
    assert_eq!(made.status.code(), Some(0), "{}", said(&made));
    let kept = std::fs::read_to_string(dir.path().join("data/settings.toml")).expect("kept");
    assert!(
        kept.contains("version = 1") && kept.contains("listen = \"127.0.0.1:1\""),
        "{kept}"
    );
    let run = node(&[&["run"], &place[..]].concat());
    assert_eq!(run.status.code(), Some(1));
    assert!(said(&run).contains(&taken), "{}", said(&run));

    let told = |output: &Output| String::from_utf8_lossy(&output.stdout).contains("not what it runs with");
    assert!(
        !told(&node(&[&["init"], &place[..], &given[..]].concat())),
        "the same flags"
    );
    let other = node(&[&["init"], &place[..], &["--name", "h1", "--listen", "127.0.0.1:2"]].concat());
    assert!(told(&other), "{other:?}");
    let after = std::fs::read_to_string(dir.path().join("data/settings.toml")).expect("kept");
    assert_eq!(kept, after);
}

/// As the user `nobody`, with a copy of the program that this user may run.
#[test]
fn who_is_not_root_is_told_to_be() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let open = std::fs::Permissions::from_mode(0o755);
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), open).expect("opened");
    let program = dir.path().join("fabric-node");
    std::fs::copy(env!("CARGO_BIN_EXE_fabric-node"), &program).expect("copied");
    let (file, at) = (config(dir.path(), ""), |name: &str| {
        dir.path().join(name).display().to_string()
    });
    std::fs::create_dir(at("others")).expect("made");
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::create_dir(at("closed")).expect("made");
    std::fs::set_permissions(at("closed"), closed).expect("closed");
    let flags = ["--config", &file, "--name", "h1", "--listen", "127.0.0.1:1"];
    for (command, data) in [
        (&["init"][..], "others"),
        (&["init"], "closed"),
        (&["init"], "none"),
        (&["run"], "closed"),
        (&["run"], "none"),
        (&["purge"], "closed"),
    ] {
        let mut process = Command::new(&program);
        process
            .args(command)
            .args(flags)
            .args(["--data", &at(data), "--api", &at("api.sock")]);
        let output = process.uid(65534).gid(65534).output().expect("runs");
        assert_eq!(output.status.code(), Some(77), "{command:?} {data}: {}", said(&output));
        assert!(
            said(&output).trim_end().ends_with(": run it as root"),
            "{}",
            said(&output)
        );
        assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
    }
}

#[test]
fn a_place_in_the_environment_is_no_reason_to_keep_help_back() {
    for arguments in [&[][..], &["token"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fabricctl"));
        let output = command
            .args(arguments)
            .env("FABRIC_API", "unix:/x")
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("Usage: fabricctl"), "{}", said(&output));
        assert!(!said(&output).contains("error:"), "{}", said(&output));
        let hidden = |line: &str| line.trim_start().starts_with("man ");
        assert!(!said(&output).lines().any(hidden), "{}", said(&output));
    }
}

#[test]
fn nobody_listening_is_no_reason_to_panic() {
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("none").display().to_string();
    let socket = dir.path().join("api.sock").display().to_string();
    let mut run = Command::new(env!("CARGO_BIN_EXE_fabric-node"));
    run.args(["run", "--data", &data, "--api", &socket, "--listen", "127.0.0.1"]);
    run.args(["--config", &config(dir.path(), "[log]\nlevel = \"trace\"\n")]);
    let ended = run.stderr(closed()).status().expect("runs");
    assert_eq!(ended.code(), Some(1), "as with a reader");
    assert!(!Path::new(&socket).exists(), "a start that failed leaves no socket");

    for program in [env!("CARGO_BIN_EXE_fabric-node"), env!("CARGO_BIN_EXE_fabricctl")] {
        let arguments: &[&str] = match program.ends_with("fabricctl") {
            true => &["completions", "bash"],
            false => &["config"],
        };
        let mut command = Command::new(program);
        let output = command.args(arguments).stdout(closed()).output();
        let output = output.expect("runs");
        assert_eq!(
            (output.status.code(), said(&output)),
            (Some(0), String::new()),
            "{program}"
        );
    }
}

/// Another socket than the daemon's does not hide the daemon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_beside_a_running_daemon_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = membership::service::Config {
        data: dir.path().join("data"),
        listen: "127.0.0.1:0".parse().expect("an address"),
        advertise: Vec::new(),
        certificate_life: membership::pki::LEAF_LIFE,
        wire: membership::wire::Versions::OWN,
    };
    let label = |text: &str| text.parse().expect("a name");
    let made = membership::service::init(&config, label("h1"), label("lab")).await;
    made.expect("made");
    let nobody = |_, _| -> futures::future::BoxFuture<'static, _> { Box::pin(async { Err("no".to_owned()) }) };
    let running = membership::service::Membership::start(config.clone(), std::sync::Arc::new(nobody)).await;
    let running = running.expect("started");
    let (data, socket) = (
        config.data.display().to_string(),
        dir.path().join("no.sock").display().to_string(),
    );
    let purge = || node(&["purge", "--data", &data, "--api", &socket]);
    let refused = tokio::task::block_in_place(purge);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("stop it first"), "{}", said(&refused));
    running.shutdown().await;
    drop(running);
    let after = tokio::task::block_in_place(purge);
    assert!(!said(&after).contains("stop it first"), "{}", said(&after));
}

/// A node is deleted only if that is meant, and only if nobody runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_forgotten_only_on_purpose() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = membership::service::Config {
        data: dir.path().join("data"),
        listen: "127.0.0.1:0".parse().expect("an address"),
        advertise: Vec::new(),
        certificate_life: membership::pki::LEAF_LIFE,
        wire: membership::wire::Versions::OWN,
    };
    let label = |text: &str| text.parse().expect("a name");
    let made = membership::service::init(&config, label("h1"), label("lab")).await;
    made.expect("made");
    let nobody = |_, _| -> futures::future::BoxFuture<'static, _> { Box::pin(async { Err("no".to_owned()) }) };
    let running = membership::service::Membership::start(config.clone(), std::sync::Arc::new(nobody)).await;
    let running = running.expect("started");
    let data = config.data.display().to_string();
    let reset = |flags: &[&str]| {
        let line = [&["reset", "--data", &data][..], flags].concat();
        tokio::task::block_in_place(|| node(&line))
    };
    let refused = reset(&["--yes"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("stop it first"), "{}", said(&refused));
    running.shutdown().await;
    drop(running);
    let unsure = reset(&[]);
    assert_eq!(unsure.status.code(), Some(1), "{}", said(&unsure));
    assert!(said(&unsure).contains("--yes"), "{}", said(&unsure));
    assert!(config.data.join("node.key").exists());
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can purge");
        return;
    }
    let done = reset(&["--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let left = std::fs::read_dir(&config.data).expect("there").count();
    assert_eq!(left, 0, "{}", String::from_utf8_lossy(&done.stdout));
    let again = reset(&["--yes"]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("holds no node"), "{}", said(&again));
}
