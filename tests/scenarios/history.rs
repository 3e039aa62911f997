//! What operators changed: guarded by versions, settled after a split, looked back at, taken back, and kept elsewhere.

use std::process::{ExitCode, Output};

use anyhow::{Context as _, Result, ensure};
use fabric_tests::deadline::eventually;
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::Netns;
use fabric_tests::scenario::{on_lab, say, step};
use fabric_tests::stage::one;
use serde_json::Value;

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];

fn main() -> ExitCode {
    on_lab(
        "history",
        3,
        Underlay::Ipv4,
        vec![
            step("a_write_that_saw_another_version_is_refused", guarded),
            step("a_split_leaves_a_conflict_that_all_show_and_one_settles", conflict),
            step("what_was_is_told_and_a_domain_is_taken_back", taken_back),
            step("what_is_attached_stands_in_the_way", in_the_way),
            step("a_backup_has_all_objects_and_makes_a_cluster", backup),
        ],
    )
}

fn domain(description: &str) -> String {
    format!("{{kind: Domain, name: green, spec: {{description: {description}}}}}")
}

fn network(name: &str, subnet: &str) -> String {
    format!("{{kind: Network, domain: green, name: {name}, spec: {{subnets: [{subnet}]}}}}")
}

fn get(lab: &Lab, host: &str, kind: &str, name: &str) -> Result<Value> {
    one(lab.json(host, &["get", kind, name, "-d", "green"])?)
}

fn version(object: &Value) -> Result<String> {
    Ok(object["version"].as_str().context("no version")?.to_owned())
}

fn refused(output: &Output, code: i32, said: &[&str]) -> Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{}: {error}", output.status);
    for word in said {
        ensure!(error.contains(word), "{word} is not in: {error}");
    }
    Ok(())
}

/// Applies a text with further arguments.
fn apply(lab: &Lab, host: &str, text: &str, arguments: &[&str]) -> Result<Output> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let path = file.path().to_str().context("temporary path")?;
    lab.try_ctl(host, &[&["apply", "-f", path], arguments].concat())
}

fn guarded(lab: &Lab) -> Result<()> {
    lab.must_apply(
        "fab1",
        &format!("{}\n---\n{}", domain("first"), network("lan", "10.1.0.0/24")),
    )?;
    lab.converged(&HOSTS)?;
    let first = get(lab, "fab2", "domain", "green")?;
    let seen = version(&first)?;
    ensure!(
        seen == version(&get(lab, "fab3", "domain", "green")?)?,
        "versions differ between hosts"
    );
    let taken = apply(lab, "fab2", &domain("second"), &["--if-version", &seen])?;
    ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    lab.converged(&HOSTS)?;
    let current = version(&get(lab, "fab3", "domain", "green")?)?;
    for host in HOSTS {
        let late = apply(lab, host, &domain("third"), &["--if-version", &seen])?;
        refused(&late, 1, &[&seen, &current, "Domain green", "@fab2"])?;
    }
    let carried = format!("kind: Domain\nname: green\nversion: {seen}\nspec: {{description: third}}\n");
    refused(&apply(lab, "fab1", &carried, &[])?, 1, &[&current])?;
    let again = format!("kind: Domain\nname: green\nversion: {seen}\nspec: {{description: second}}\n");
    ensure!(
        apply(lab, "fab1", &again, &[])?.status.success(),
        "what is so already is refused"
    );
    refused(
        &apply(lab, "fab1", &domain("x"), &["--if-version", "none"])?,
        1,
        &[&current],
    )?;
    let network = version(&get(lab, "fab1", "network", "lan")?)?;
    let gone = ["delete", "network", "lan", "-d", "green", "--if-version"];
    refused(&lab.try_ctl("fab1", &[&gone[..], &[&seen]].concat())?, 1, &[&network])?;
    lab.ctl("fab1", &[&gone[..], &[&network]].concat())?;
    lab.converged(&HOSTS).map(drop)
}

fn conflict(lab: &Lab) -> Result<()> {
    lab.sh(&["cut", "fab1"])?;
    for (host, text) in [("fab1", "alone"), ("fab2", "pair")] {
        let taken = apply(lab, host, &domain(text), &[])?;
        ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    }
    let alone = version(&get(lab, "fab1", "domain", "green")?)?;
    lab.sh(&["heal"])?;
    lab.converged(&HOSTS)?;
    let shown = lab.json("fab3", &["conflicts", "-d", "green"])?;
    for host in HOSTS {
        ensure!(lab.json(host, &["conflicts"])? == shown, "{host} shows other conflicts");
    }
    let conflict = shown["conflicts"]
        .as_array()
        .and_then(|all| all.first())
        .context("no conflict")?;
    say(conflict);
    ensure!(conflict["kind"] == "Domain" && conflict["versions"].as_array().is_some_and(|all| all.len() == 2));
    ensure!(
        conflict["version"] == version(&get(lab, "fab2", "domain", "green")?)?,
        "{conflict}"
    );
    let late = apply(lab, "fab1", &domain("unseen"), &["--if-version", &alone])?;
    refused(&late, 1, &["2 versions disagree"])?;
    ensure!(lab.json("fab2", &["conflicts"])? == shown, "it was settled unseen");
    lab.ctl("fab2", &["conflicts", "resolve", "domain", "green", "--take", &alone])?;
    lab.converged(&HOSTS)?;
    for host in HOSTS {
        ensure!(
            lab.json(host, &["conflicts"])?["conflicts"] == serde_json::json!([]),
            "not settled on {host}"
        );
        let description = get(lab, host, "domain", "green")?["spec"]["description"].clone();
        ensure!(description == "alone", "{host} has {description}");
    }
    refused(
        &lab.try_ctl("fab2", &["conflicts", "resolve", "domain", "green", "--take", &alone])?,
        1,
        &["no conflict"],
    )
}

/// The names of the networks of green on a host.
fn networks(lab: &Lab, host: &str) -> Result<Vec<String>> {
    let all = lab.json(host, &["get", "networks", "-d", "green"])?;
    let names = all
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn taken_back(lab: &Lab) -> Result<()> {
    lab.must_apply(
        "fab1",
        &format!("{}\n---\n{}", network("a", "10.1.0.0/24"), network("b", "10.2.0.0/24")),
    )?;
    let moment = version(&get(lab, "fab1", "network", "b")?)?;
    lab.must_apply(
        "fab2",
        &format!("{}\n---\n{}", network("b", "10.3.0.0/24"), domain("later")),
    )?;
    lab.ctl("fab3", &["delete", "network", "a", "-d", "green"])?;
    lab.must_apply("fab3", &network("c", "10.4.0.0/24"))?;
    lab.converged(&HOSTS)?;
    let history = lab.json("fab1", &["history", "network", "a", "-d", "green"])?;
    let told: Vec<_> = history["entries"].as_array().into_iter().flatten().collect();
    let [deleted, created] = &told[..] else {
        anyhow::bail!("{history}")
    };
    ensure!(
        deleted["action"] == "deleted" && deleted["node_name"] == "fab3",
        "{deleted}"
    );
    ensure!(
        created["action"] == "created" && created["node_name"] == "fab1" && created["gap"] == false,
        "{created}"
    );

    let diff = lab
        .fabricctl("fab2")
        .args(["diff", "-d", "green", "--at", &moment])
        .output()?;
    let diff = String::from_utf8_lossy(&diff.stdout).into_owned();
    say(&diff);
    for line in [
        "-  - 10.2.0.0/24",
        "+  - 10.3.0.0/24",
        "-  description: alone",
        "+  description: later",
    ] {
        ensure!(diff.lines().any(|it| it == line), "{line} is not in the difference");
    }
    let before = lab.agreed(&HOSTS)?;
    let back = ["rollback", "-d", "green", "--to", &moment];
    lab.ctl("fab3", &[&back[..], &["--dry-run"]].concat())?;
    ensure!(lab.agreed(&HOSTS)? == before, "a dry run changed something");
    lab.ctl("fab3", &back)?;
    lab.converged(&HOSTS)?;
    for host in HOSTS {
        ensure!(networks(lab, host)? == ["a", "b"], "{host}: {:?}", networks(lab, host)?);
        let b = get(lab, host, "network", "b")?;
        ensure!(b["spec"]["subnets"] == serde_json::json!(["10.2.0.0/24"]), "{b}");
        ensure!(
            b["status"]["author"]
                .as_str()
                .is_some_and(|author| author.ends_with("@fab3")),
            "{b}"
        );
        let left = lab.json(host, &["diff", "-d", "green", "--at", &moment])?;
        ensure!(left["objects"] == serde_json::json!([]), "{left}");
    }
    Ok(())
}

fn in_the_way(lab: &Lab) -> Result<()> {
    let moment = version(&get(lab, "fab1", "network", "b")?)?;
    let endpoint = "{kind: Endpoint, domain: green, name: late-1, spec: {network: a}}";
    lab.must_apply("fab1", endpoint)?;
    let netns = Netns::make(lab.netns("late-1"))?;
    lab.ctl("fab2", &["endpoint", "attach", "green/late-1", "--netns", &netns.name])?;
    eventually("fab3 knows where it is", || {
        let object = get(lab, "fab3", "endpoint", "late-1")?;
        ensure!(object["status"]["attachment"]["name"] == "fab2", "{}", object["status"]);
        Ok(())
    })?;
    let before = lab.agreed(&HOSTS)?;
    let back = ["rollback", "-d", "green", "--to", &moment];
    refused(
        &lab.try_ctl("fab3", &back)?,
        1,
        &["Endpoint green/late-1", "attached on fab2"],
    )?;
    ensure!(lab.agreed(&HOSTS)? == before, "something changed");
    lab.ctl("fab2", &["endpoint", "detach", "green/late-1"])?;
    eventually("fab3 takes it back", || lab.ctl("fab3", &back))?;
    lab.converged(&HOSTS)?;
    ensure!(
        !lab.try_ctl("fab1", &["get", "endpoint", "late-1", "-d", "green"])?
            .status
            .success()
    );
    Ok(())
}

fn backup(lab: &Lab) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("fabric.jsonl").display().to_string();
    lab.ctl("fab2", &["backup", &file])?;
    let text = std::fs::read_to_string(&file)?;
    for name in ["\"web-1\"", "\"green\"", "\"blue\""] {
        ensure!(text.contains(name), "{name} is not in it");
    }
    ensure!(!text.contains("PRIVATE"), "it has a key");
    let data = folder.path().join("data").display().to_string();
    let config = folder.path().join("node.toml");
    std::fs::write(&config, "")?;
    let config = config.display().to_string();
    let place = [
        "--config",
        &config,
        "--data",
        &data,
        "--name",
        "other",
        "--listen",
        "127.0.0.1:1",
    ];
    let made = lab
        .program("fab1", "fabric-node")
        .args([&["init", "--restore", &file], &place[..]].concat())
        .output()?;
    let told = String::from_utf8_lossy(&made.stdout).into_owned();
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    say(&told);
    let objects = text.lines().count() - 2;
    ensure!(
        told.contains(&format!("restored {objects} objects of 3 domains")),
        "{told}"
    );
    Ok(())
}
