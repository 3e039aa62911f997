//! What command lines mean.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    for line in [
        "fabricctl --api unix:/x -o json status",
        "fabricctl status --api unix:/x -o json",
    ] {
        let cli = parse(line).expect(line);
        assert_eq!((cli.api, cli.output), (Api::Unix("/x".into()), Output::Json), "{line}");
    }
}

#[test]
fn every_line_of_the_contract_is_understood() {
    for line in [
        "fabricctl peers -o yaml",
        "fabricctl apply -f a.yaml --wait",
        "fabricctl apply -f -",
        "fabricctl get networks -d red",
        "fabricctl get network front -d red",
        "fabricctl describe endpoint web-1 -d red",
        "fabricctl delete domain red --cascade",
        "fabricctl delete network front -d red",
        "fabricctl delete network front -d red --if-version v0123456789abcdef",
        "fabricctl apply -f - --if-version none",
        "fabricctl history -d red",
        "fabricctl history network front -d red --limit 5",
        "fabricctl diff -d red --at 15m",
        "fabricctl diff -d red --at 2026-01-31T14:00:00Z",
        "fabricctl rollback -d red --to v0123456789abcdef --dry-run",
        "fabricctl backup fabric.jsonl --force",
        "fabricctl conflicts",
        "fabricctl conflicts -d red",
        "fabricctl conflicts resolve network front -d red --take v0123456789abcdef",
        "fabricctl endpoint attach red/web-1 --netns web",
        "fabricctl endpoint attach red/web-1 --netns /proc/1/ns/net --ifname net0",
        "fabricctl endpoint attach red/web-1 --interface tap0",
        "fabricctl endpoint detach red/web-1",
        "fabricctl drops --watch",
        "fabricctl function load red/watch --hook packet watch.o",
        "fabricctl function load red/gate --hook flow --fail open ./gate.o",
        "fabricctl function list",
        "fabricctl function remove red/watch",
        "fabricctl token create --uses 3 --ttl 10m",
        "fabricctl anchor list",
        "fabricctl node remove h4",
        "fabricctl anchor add h2",
        "fabricctl cluster upgrade",
        "fabricctl quarantine list",
        "fabricctl quarantine release red",
        "fabricctl cluster upgrade --finish",
        "fabricctl anchor remove aaaaaaaaaaaa",
        "fabricctl user create alice --out a.pem",
        "fabricctl user create alice --ttl 8h --out a.pem --force",
        "fabricctl --api https://h1 --identity a.pem status",
        "fabricctl completions zsh",
    ] {
        parse(line).expect(line);
    }
}

#[test]
fn wrong_usage_is_refused_with_code_2() {
    for line in [
        "fabricctl frobnicate",
        "fabricctl apply",
        "fabricctl get netwrk",
        "fabricctl status --api http://x",
        "fabricctl endpoint attach red/web-1",
        "fabricctl endpoint attach red/web-1 --netns a --interface b",
        "fabricctl endpoint attach red/web-1 --interface b --ifname eth1",
        "fabricctl endpoint attach web-1 --netns a",
        "fabricctl apply -f - --if-version 0123456789abcdef",
        "fabricctl history -d red --limit 0",
        "fabricctl diff -d red",
        "fabricctl diff -d red --at yesterday",
        "fabricctl rollback --to 15m",
        "fabricctl conflicts resolve network front -d red",
        "fabricctl token create --uses 0",
        "fabricctl token create --ttl soon",
        "fabricctl user create alice",
        "fabricctl user create Alice --out a.pem",
        "fabricctl status --api https://h1/v1",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
}
