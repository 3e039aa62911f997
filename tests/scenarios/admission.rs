//! Who may join: only who holds a token that this cluster made, that is not used up and not expired.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};

use anyhow::{Context as _, Result, ensure};
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::{Netns, run};
use fabric_tests::peer::Peer;
use fabric_tests::scenario::{on_lab, say, step};

fn main() -> ExitCode {
    on_lab(
        "admission",
        2,
        Underlay::Ipv4,
        vec![
            step("init_and_join_on_the_same_cluster_say_so", again),
            step("no_token", no_token),
            step("a_text_that_is_no_token", garbage),
            step("an_expired_token", expired),
            step("a_used_token", used),
            step("a_token_of_another_cluster", other_cluster),
            step("a_directory_of_another_cluster_is_refused", other_directory),
        ],
    )
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn token(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let answer = lab.json("fab1", &[&["token", "create"], arguments].concat())?;
    Ok(answer["token"].as_str().context("no token")?.to_owned())
}

/// Somebody on fab2's cable who wants in.
fn stranger(lab: &Lab, port: u16) -> Result<Peer> {
    Peer::new(
        &lab.netns("fab2"),
        &lab.binaries()?,
        "stranger",
        &format!("192.0.2.2:{port}"),
    )
}

fn refused(output: &Output, words: &[&str]) -> Result<()> {
    let error = text(output);
    say(error.trim());
    ensure!(!output.status.success(), "it was let in");
    for word in words {
        ensure!(error.contains(word), "the error does not say {word:?}: {error}");
    }
    Ok(())
}

/// Whatever happened to strangers, the cluster's members are the same two.
fn still_two(lab: &Lab) -> Result<()> {
    let peers = lab.json("fab1", &["peers"])?;
    ensure!(
        peers.as_array().is_some_and(|list| list.len() == 1),
        "fab1's peers: {peers}"
    );
    Ok(())
}

fn again(lab: &Lab) -> Result<()> {
    let run = |host: &str, arguments: &[&str]| -> Result<Output> {
        let config = lab.host_folder(host).join("config.toml");
        Ok(lab
            .program(host, "fabric-node")
            .args(arguments)
            .arg("--config")
            .arg(config)
            .output()?)
    };
    let token = token(lab, &[])?;
    for (host, arguments) in [("fab1", vec!["init"]), ("fab2", vec!["join", &token])] {
        let output = run(host, &arguments)?;
        ensure!(output.status.success(), "{arguments:?} on {host}: {}", text(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &text(&output);
        ensure!(
            said.contains("already"),
            "{host} does not say that it is a member already: {said}"
        );
    }
    still_two(lab)
}

fn no_token(lab: &Lab) -> Result<()> {
    let output = stranger(lab, 7801)?.node(&["join"])?;
    ensure!(output.status.code() == Some(2), "{}", output.status);
    refused(&output, &["TOKEN"])?;
    still_two(lab)
}

fn garbage(lab: &Lab) -> Result<()> {
    refused(&stranger(lab, 7802)?.node(&["join", "sesame"])?, &["token create"])?;
    still_two(lab)
}

fn expired(lab: &Lab) -> Result<()> {
    let token = token(lab, &["--ttl", "1s"])?;
    // What is waited for is the end of that second itself.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    refused(
        &stranger(lab, 7803)?.node(&["join", &token])?,
        &["expired", "token create"],
    )?;
    still_two(lab)
}

/// The stranger that was let in never runs: it stays a member that is not there.
fn used(lab: &Lab) -> Result<()> {
    let token = token(lab, &["--uses", "1"])?;
    let first = stranger(lab, 7804)?;
    let output = first.node(&["join", &token])?;
    ensure!(output.status.success(), "a fresh token was refused: {}", text(&output));
    let output = first.node(&["join", &token])?;
    ensure!(output.status.success(), "the same node may repeat: {}", text(&output));
    refused(
        &stranger(lab, 7805)?.node(&["join", &token])?,
        &["used", "token create"],
    )
}

/// A second cluster on an island of its own.
struct Island {
    netns: Netns,
    binaries: PathBuf,
}

impl Island {
    fn make(lab: &Lab) -> Result<Self> {
        let netns = Netns::make(lab.netns("island"))?;
        let ip = |words: &str| run(Command::new("ip").args(["-n", &netns.name]).args(words.split(' '))).map(drop);
        ip("link add eth0 type veth peer name eth1")?;
        ip("address add 192.0.2.1/24 dev eth0")?;
        ip("link set eth0 up")?;
        ip("link set eth1 up")?;
        Ok(Self {
            netns,
            binaries: lab.binaries()?,
        })
    }

    fn anchor(&self, name: &str) -> Result<Peer> {
        let mut peer = Peer::new(&self.netns.name, &self.binaries, name, "192.0.2.1:7790")?;
        let output = peer.node(&["init"])?;
        ensure!(output.status.success(), "init: {}", text(&output));
        peer.start()?;
        Ok(peer)
    }
}

/// The anchor behind the token's address is another cluster's: its certificate is not what the token promised.
fn other_cluster(lab: &Lab) -> Result<()> {
    let island = Island::make(lab)?;
    let mut first = island.anchor("first")?;
    let token = first.token()?;
    first.kill()?;
    let second = island.anchor("second")?;
    let joiner = Peer::new(&island.netns.name, &island.binaries, "stranger", "192.0.2.1:7801")?;
    refused(&joiner.node(&["join", &token])?, &["token create"])?;
    drop(second);
    still_listed(lab)
}

fn still_listed(lab: &Lab) -> Result<()> {
    let peers = lab.json("fab1", &["peers"])?;
    ensure!(
        peers
            .as_array()
            .is_some_and(|list| list.iter().any(|p| p["name"] == "fab2")),
        "fab1's peers: {peers}"
    );
    Ok(())
}

fn other_directory(lab: &Lab) -> Result<()> {
    let outsider = stranger(lab, 7806)?;
    let output = outsider.node(&["init"])?;
    ensure!(output.status.success(), "init: {}", text(&output));
    let token = token(lab, &[])?;
    refused(&outsider.node(&["join", &token])?, &["--data"])
}
