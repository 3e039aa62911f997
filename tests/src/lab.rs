//! A fleet made by `deploy/lab.sh`, for as long as this value lives.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::deadline::{eventually, within};
use crate::netns::run;

/// Within which digests are equal. Objects are within seconds; that a delete is forgotten is confirmed by every host, in
/// rounds of ten seconds.
const AGREEMENT: Duration = Duration::from_secs(90);

/// What joins the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// A bridge, tunnels over IPv4.
    Ipv4,
    /// A bridge, tunnels over IPv6.
    Ipv6,
    /// A router, a subnet for each host, tunnels over IPv4.
    Routed,
}

impl Underlay {
    /// As `lab.sh up --underlay` takes it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Routed => "routed",
        }
    }
}

/// A workload of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// As `red-web-1`.
    pub name: String,
    /// Its network namespace.
    pub netns: String,
    /// Its domain.
    pub domain: String,
    /// The host it runs on.
    pub host: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ipv4: IpAddr,
    /// Its IPv6 address.
    pub ipv6: IpAddr,
}

impl Workload {
    /// Both addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4, self.ipv6]
    }

    /// Its MAC address as tools write it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        mac_text(self.mac)
    }
}

/// A running fleet.
#[derive(Debug)]
pub struct Lab {
    /// Prefix of its namespaces.
    pub id: String,
    /// Names of its hosts.
    pub hosts: Vec<String>,
    /// Its workloads.
    pub workloads: Vec<Workload>,
}

impl Lab {
    /// Makes it under a name that no other run has. What `lab.sh` prints is shown.
    pub fn up(name: &str, hosts: usize, underlay: Underlay) -> Result<Self> {
        let id = format!("t{}-{name}", std::process::id());
        let mut lab = Self {
            id,
            hosts: Vec::new(),
            workloads: Vec::new(),
        };
        let status = lab
            .script()
            .args(["up", "--hosts", &hosts.to_string(), "--underlay", underlay.as_str()])
            .status()?;
        ensure!(status.success(), "lab.sh up: {status}");
        let list = run(lab.script().args(["list", "-o", "json"]))?;
        let list: Value = serde_json::from_slice(&list.stdout).context("list -o json")?;
        lab.hosts = texts(&list["hosts"], "name")?;
        for value in list["workloads"].as_array().context("no workloads")? {
            lab.workloads.push(lab.read_workload(value)?);
        }
        Ok(lab)
    }

    fn read_workload(&self, value: &Value) -> Result<Workload> {
        let text = |key: &str| {
            value[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("{key} of {value}"))
        };
        let addresses: Vec<IpAddr> = value["addresses"]
            .as_array()
            .context("addresses")?
            .iter()
            .filter_map(|address| address.as_str()?.parse().ok())
            .collect();
        let find = |v4: bool| addresses.iter().find(|ip| ip.is_ipv4() == v4).copied();
        let name = text("name")?;
        Ok(Workload {
            netns: self.netns(&name),
            domain: text("domain")?,
            host: text("host")?,
            mac: parse_mac(&text("mac")?)?,
            ipv4: find(true).with_context(|| format!("{name} has no IPv4 address"))?,
            ipv6: find(false).with_context(|| format!("{name} has no IPv6 address"))?,
            name,
        })
    }

    fn script(&self) -> Command {
        let mut command = Command::new(repository().join("deploy/lab.sh"));
        command.args(["--id", &self.id]);
        command
    }

    /// Runs `lab.sh` with these arguments.
    pub fn sh(&self, arguments: &[&str]) -> Result<()> {
        run(self.script().args(arguments)).map(drop)
    }

    /// The network namespace of a host, a workload or the underlay.
    #[must_use]
    pub fn netns(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    /// Where the lab keeps a host's files.
    #[must_use]
    pub fn host_folder(&self, host: &str) -> PathBuf {
        Path::new("/run/fabric-lab").join(&self.id).join(host)
    }

    /// The folder of the binaries that run in it.
    pub fn binaries(&self) -> Result<PathBuf> {
        let file = Path::new("/run/fabric-lab").join(&self.id).join("bin");
        Ok(std::fs::read_to_string(file)?.trim_end().into())
    }

    /// A workload by name.
    pub fn workload(&self, name: &str) -> Result<&Workload> {
        self.workloads
            .iter()
            .find(|w| w.name == name)
            .with_context(|| format!("no workload {name}"))
    }

    /// The workloads of a domain.
    pub fn of_domain(&self, domain: &str) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().filter(move |w| w.domain == domain)
    }

    /// `fabricctl` on a host, not run yet.
    #[must_use]
    pub fn fabricctl(&self, host: &str) -> Command {
        self.program(host, "fabricctl")
    }

    /// A program inside a host, not run yet.
    #[must_use]
    pub fn program(&self, host: &str, program: &str) -> Command {
        let mut command = self.script();
        command.args(["exec", host, "--", program]);
        command
    }

    /// Runs `fabricctl` on a host whatever its exit code.
    pub fn try_ctl(&self, host: &str, arguments: &[&str]) -> Result<Output> {
        Ok(self.fabricctl(host).args(arguments).output()?)
    }

    /// Runs `fabricctl` on a host; a refusal is an error.
    pub fn ctl(&self, host: &str, arguments: &[&str]) -> Result<()> {
        run(self.fabricctl(host).args(arguments)).map(drop)
    }

    /// The JSON answer of `fabricctl`.
    pub fn json(&self, host: &str, arguments: &[&str]) -> Result<Value> {
        let output = run(self.fabricctl(host).args(arguments).args(["-o", "json"]))?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?} on {host}"))
    }

    /// Applies a manifest given as text.
    pub fn apply(&self, host: &str, manifest: &str) -> Result<Output> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), manifest)?;
        let path = file.path().to_str().context("temporary path")?;
        Ok(self.fabricctl(host).args(["apply", "--wait", "-f", path]).output()?)
    }

    /// Applies a manifest that must be taken.
    pub fn must_apply(&self, host: &str, manifest: &str) -> Result<()> {
        let output = self.apply(host, manifest)?;
        ensure!(
            output.status.success(),
            "apply: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// State of `peer` as `host` sees it: `live`, `suspect` or `dead`.
    pub fn peer_state(&self, host: &str, peer: &str) -> Result<String> {
        let peers = self.json(host, &["peers"])?;
        let found = peers.as_array().into_iter().flatten().find(|p| p["name"] == peer);
        Ok(found
            .and_then(|p| p["state"].as_str())
            .with_context(|| format!("{host} does not list {peer}"))?
            .to_owned())
    }

    /// Waits until every other host that is in `watchers` sees `peer` in a state.
    pub fn wait_peer(&self, watchers: &[&str], peer: &str, state: &str) -> Result<()> {
        for host in watchers {
            eventually(format!("{host} sees {peer} {state}"), || {
                match self.peer_state(host, peer)? {
                    seen if seen == state => Ok(()),
                    seen => bail!("sees it {seen}"),
                }
            })?;
        }
        Ok(())
    }

    /// Digests of everything replicated, as a host has it: by domain, and of the cluster's own records.
    pub fn digests(&self, host: &str) -> Result<Value> {
        let status = self.json(host, &["status"])?;
        let domains = status["domains"].as_array().context("status has no domains")?;
        let of_domain = |d: &Value| Some((d["name"].as_str()?.to_owned(), d["digest"].clone()));
        let mut all: serde_json::Map<String, Value> = domains.iter().filter_map(of_domain).collect();
        ensure!(
            !all.is_empty() && all.values().all(Value::is_string),
            "digests are missing: {status}"
        );
        all.insert("(cluster)".to_owned(), status["cluster"]["digest"].clone());
        Ok(Value::Object(all))
    }

    /// Waits until these hosts have equal digests; which they are.
    pub fn converged(&self, hosts: &[&str]) -> Result<Value> {
        within(AGREEMENT, "equal digests", || {
            let mut seen = hosts
                .iter()
                .map(|host| self.digests(host))
                .collect::<Result<Vec<_>>>()?;
            let first = seen.pop().context("no hosts")?;
            ensure!(
                seen.iter().all(|other| *other == first),
                "they differ: {first} {seen:?}"
            );
            Ok(first)
        })
    }

    /// What these hosts agree on, once they do: all objects with their versions, as the first of them shows it. Digests
    /// change with facts as well: hosts tell each other which deletes they have seen.
    pub fn agreed(&self, hosts: &[&str]) -> Result<Value> {
        self.converged(hosts)?;
        self.objects(hosts.first().context("no hosts")?)
    }

    /// All objects without what differs from answer to answer.
    pub fn objects(&self, host: &str) -> Result<Value> {
        let mut all = Vec::new();
        for kind in ["domains", "networks", "endpoints", "routers", "policies"] {
            let answer = self.json(host, &["get", kind])?;
            for object in answer.as_array().context("not a list")? {
                let identity = [&object["kind"], &object["domain"], &object["name"], &object["spec"]];
                let status = &object["status"];
                all.push(serde_json::json!([
                    identity,
                    object["version"],
                    status["stamp"],
                    status["addresses"]
                ]));
            }
        }
        ensure!(!all.is_empty(), "{host} has no objects");
        Ok(Value::Array(all))
    }

    /// How many packets a host dropped for a reason, whoever sent them.
    pub fn dropped(&self, host: &str, reason: &str) -> Result<u64> {
        let drops = self.json(host, &["drops"])?;
        let lines = drops.as_array().context("drops is no list")?;
        Ok(lines
            .iter()
            .filter(|line| line["reason"] == reason)
            .filter_map(|line| line["packets"].as_u64())
            .sum())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !Path::new("/run/fabric-lab").join(&self.id).exists() {
            return;
        }
        if std::env::var_os("FABRIC_KEEP").is_some() {
            eprintln!("    lab kept: deploy/lab.sh --id {} …", self.id);
        } else if let Err(error) = self.sh(&["down"]) {
            eprintln!("    lab {} stays: {error:#}", self.id);
        }
    }
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `02:00:00:00:00:01`.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let octets: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    octets
        .and_then(|o| o.try_into().ok())
        .with_context(|| format!("{text:?} is no MAC address"))
}

/// As [`parse_mac`] reads it.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn texts(list: &Value, key: &str) -> Result<Vec<String>> {
    let list = list.as_array().with_context(|| format!("no list: {list}"))?;
    list.iter()
        .map(|v| {
            v[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("{key} of {v}"))
        })
        .collect()
}
