//! What is written is read back, and nothing else is.

use membership::hlc::Stamp;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Dot, Intent, Key, VersionVector};
use overlay::manifest;

use super::*;

fn head() -> Head {
    Head {
        format: FORMAT,
        cluster: "0".repeat(32),
        cluster_name: "fabric".to_owned(),
        node_name: "h1".to_owned(),
        taken: "2026-01-02T03:04:05Z".to_owned(),
        software: "0.1.0".to_owned(),
    }
}

fn red() -> Label {
    "red".parse().expect("a label")
}

fn intent(key: Key, millis: u64, body: Option<Body>) -> Intent {
    let writer = NodeId::of_key(&[7; 32]);
    Intent {
        scope: Scope::Domain(red()),
        key,
        dot: Dot {
            writer,
            counter: millis,
        },
        context: VersionVector::default(),
        stamp: Stamp { millis, logical: 3 },
        author: "alice@h1".into(),
        body,
    }
}

fn network(subnet: &str, millis: u64) -> Intent {
    let text = format!("{{kind: Network, domain: red, name: lan, spec: {{subnets: [{subnet}], vni: 4711}}}}");
    let object = manifest::parse("test", &text).expect("good").remove(0).object;
    intent(object.key(), millis, Some(object.spec.encode()))
}

/// A domain of a later release, and a network whose versions disagree, one of them a deletion.
fn objects() -> Vec<Vec<Intent>> {
    let later = Body {
        version: 900,
        bytes: vec![1, 2, 250].into(),
    };
    let deleted = intent(Key::new("Network", "lan"), 6, None);
    vec![
        vec![intent(Key::new("Domain", "red"), 5, Some(later))],
        vec![network("10.0.0.0/24", 9), network("10.0.1.0/24", 8), deleted],
    ]
}

fn written() -> Vec<u8> {
    let mut writer = Writer::default();
    let mut bytes = writer.head(&head()).expect("written");
    for versions in &objects() {
        bytes.extend(writer.object(&red(), versions).expect("written").expect("an object"));
    }
    bytes.extend(writer.tail().expect("written"));
    bytes
}

#[test]
fn what_is_written_is_read_back() {
    let backup = read(&written()[..]).expect("read");
    assert_eq!((&backup.head, backup.objects, backup.domains()), (&head(), 2, 1));
    let wanted: Vec<Intent> = objects().concat();
    assert_eq!(backup.versions.len(), wanted.len());
    for (read, wanted) in backup.versions.iter().zip(wanted) {
        let Saved {
            domain,
            key,
            stamp,
            author,
            body,
        } = read.clone();
        assert_eq!((domain, &key, stamp), (red(), &wanted.key, wanted.stamp));
        assert_eq!((author.as_str(), body), ("alice@h1", wanted.body));
    }
    let text = String::from_utf8(written()).expect("text");
    assert!(text.contains("10.0.1.0/24"), "people can read it: {text}");
}

#[test]
fn what_was_cut_off_or_changed_is_refused() {
    let good = written();
    for end in 0..good.len() {
        let cut = read(&good[..end]);
        assert!(
            matches!(cut, Err(BackupError::NotABackup | BackupError::Truncated(_))),
            "{end}: {cut:?}"
        );
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(read(&changed[..]).is_err(), "byte {at}");
    }
    let twice = [good.clone(), good.clone()].concat();
    assert!(matches!(read(&twice[..]), Err(BackupError::Damaged)));
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    let without = [lines[0], lines[1], lines[3]].concat();
    assert!(matches!(read(&without[..]), Err(BackupError::Damaged)));
}

#[test]
fn other_files_and_later_formats_are_told_apart() {
    for other in [
        "",
        "{}",
        "hello\n",
        "{\"fabric_backup\":\"1\"}\n",
        "kind: Domain\nname: red\n",
    ] {
        assert!(
            matches!(read(other.as_bytes()), Err(BackupError::NotABackup)),
            "{other}"
        );
    }
    let newer = String::from_utf8(written())
        .expect("text")
        .replacen("\"fabric_backup\":1", "\"fabric_backup\":2", 1);
    let error = read(newer.as_bytes()).expect_err("a later format").to_string();
    assert!(error.contains("format 2") && error.contains("reads up to 1"), "{error}");
}

#[test]
fn an_object_that_cannot_be_is_named_by_its_line() {
    let mut writer = Writer::default();
    let mut bytes = writer.head(&head()).expect("written");
    let line = "{\"domain\":\"red\",\"kind\":\"Network\",\"name\":\"lan\",\"versions\":[{\"millis\":1,\"logical\":0,\"author\":\"a\",\"spec\":{\"subnets\":[\"10.0.0.1/24\"]}}]}\n";
    bytes.extend(line.as_bytes());
    let mut digest = sha2::Sha256::default();
    sha2::Digest::update(&mut digest, &bytes);
    let sha256 = data_encoding::HEXLOWER.encode(&sha2::Digest::finalize(digest));
    bytes.extend(format!("{{\"objects\":1,\"sha256\":\"{sha256}\"}}\n").as_bytes());
    let error = read(&bytes[..]).expect_err("host bits").to_string();
    assert!(
        error.starts_with("line 2: spec.subnets[0]: ") && error.contains("host bits"),
        "{error}"
    );
}
