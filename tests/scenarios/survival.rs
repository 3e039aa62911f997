//! Forwarding goes on while daemons are killed, stopped, started and replaced by another build, under ten thousand flows:
//! no datagram is lost, no connection breaks, and nothing is sent again that is not without all that. The domain allows
//! only who asks, so that an answer without its connection would be refused.

use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::deadline::eventually;
use fabric_tests::fault::{builds, to_another_build};
use fabric_tests::flow::{End, retransmitted};
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::load::{ANSWERS_PORT, FIRST_PORT, FLOWS, Load, TCP_PORT};
use fabric_tests::netns::Netns;
use fabric_tests::scenario::{on, say, step};

const HOSTS: [&str; 2] = ["fab1", "fab2"];
const CLIENT: &str = "10.40.0.11";
const SERVER: &str = "10.40.0.12";

fn main() -> ExitCode {
    on(
        "survival",
        Stage::make,
        vec![
            step("ten_thousand_flows_outlive_daemons_that_are_killed", killed),
            step("ten_thousand_flows_outlive_daemons_that_are_stopped", stopped),
            step("ten_thousand_flows_outlive_a_build_with_other_layouts", replaced),
        ],
    )
}

/// Two workloads, a lab with both of their hosts, and what goes on between them. What is first here goes first.
struct Stage {
    load: Load,
    workloads: [Netns; 2],
    lab: Lab,
    /// Segments that are sent again where nothing happens, at most; and how many were at the last look.
    again: Mutex<(u64, u64)>,
}

fn manifest() -> String {
    let udp = format!("{{action: allow, protocol: udp, ports: [\"{FIRST_PORT}-{ANSWERS_PORT}\"]}}");
    let rules = format!("[{udp}, {{action: allow, protocol: tcp, ports: [{TCP_PORT}]}}]");
    let endpoint = |name: &str, address: &str| {
        format!("---\n{{kind: Endpoint, domain: load, name: {name}, spec: {{network: lan, addresses: [{address}]}}}}\n")
    };
    format!(
        "{{kind: Domain, name: load, spec: {{defaultPolicy: deny}}}}\n---\n\
         {{kind: Network, domain: load, name: lan, spec: {{subnets: [10.40.0.0/24]}}}}\n---\n\
         {{kind: SecurityPolicy, domain: load, name: asked, spec: {{appliesTo: {{}}, egress: {rules}, ingress: {rules}}}}}\n\
         {}{}",
        endpoint("client", CLIENT),
        endpoint("server", SERVER)
    )
}

impl Stage {
    fn make() -> Result<Self> {
        let lab = Lab::up("survival", 2, Underlay::Ipv4)?;
        lab.must_apply("fab1", &manifest())?;
        let workload = |name: &str, host: &str| -> Result<Netns> {
            let netns = Netns::make(lab.netns(name))?;
            let endpoint = format!("load/{name}");
            lab.ctl(host, &["endpoint", "attach", &endpoint, "--netns", &netns.name])?;
            Ok(netns)
        };
        let workloads = [workload("client", HOSTS[0])?, workload("server", HOSTS[1])?];
        let end = |netns: &Netns, address: &str| -> Result<End> {
            Ok(End {
                netns: netns.name.clone(),
                address: address.parse()?,
            })
        };
        let load = Load::start(&end(&workloads[0], CLIENT)?, &end(&workloads[1], SERVER)?)?;
        let stage = Self {
            load,
            workloads,
            lab,
            again: Mutex::default(),
        };
        stage.baseline()?;
        HOSTS.iter().try_for_each(|host| stage.has_all(host))?;
        Ok(stage)
    }

    /// The host remembers a connection for every flow. It counts them every ten seconds.
    fn has_all(&self, host: &str) -> Result<()> {
        eventually(format!("{host} has all connections"), || {
            let status = self.lab.json(host, &["status"])?;
            let count = &status["datapath"]["connections"];
            let sum = count["established"].as_u64().zip(count["half_open"].as_u64());
            let (established, half_open) = sum.with_context(|| format!("no counts in {status}"))?;
            ensure!(established + half_open >= FLOWS as u64, "{count}");
            Ok(())
        })
    }

    fn sent_again(&self) -> Result<u64> {
        self.workloads
            .iter()
            .try_fold(0, |sum, netns| Ok(sum + retransmitted(&netns.name)?))
    }

    fn baseline(&self) -> Result<()> {
        let mut most = 0;
        for _ in 0..3 {
            let before = self.sent_again()?;
            self.load.goes_on("undisturbed")?;
            most = most.max(self.sent_again()? - before);
        }
        say(format!("{FLOWS} flows; undisturbed {most} segments are sent again"));
        let mut again = self.again.lock().map_err(|_| anyhow::anyhow!("a step panicked"))?;
        *again = (most, self.sent_again()?);
        Ok(())
    }

    /// Every flow goes on, and since the last time nothing was sent again beyond the baseline.
    fn goes_on(&self, what: &str) -> Result<()> {
        self.load.goes_on(what)?;
        let mut again = self.again.lock().map_err(|_| anyhow::anyhow!("a step panicked"))?;
        let (most, before) = *again;
        let count = self.sent_again()?;
        *again = (most, count);
        let since = count - before;
        ensure!(since <= most, "{what}: {since} segments sent again, {most} without");
        Ok(())
    }

    /// Ends both daemons, one way or the other; all goes on without them.
    fn end(&self, how: [&str; 2]) -> Result<()> {
        for (how, host) in how.iter().zip(HOSTS) {
            self.lab.sh(&[how, host])?;
        }
        self.goes_on(&format!("{how:?}"))
    }

    fn start(&self) -> Result<()> {
        for host in HOSTS {
            self.lab.sh(&["start", host])?;
        }
        self.goes_on("started")
    }
}

fn killed(stage: &Stage) -> Result<()> {
    stage.end(["kill", "kill"])?;
    stage.start()
}

fn stopped(stage: &Stage) -> Result<()> {
    stage.end(["stop", "stop"])?;
    stage.start()
}

fn replaced(stage: &Stage) -> Result<()> {
    let own = builds(&stage.lab, HOSTS[0])?;
    ensure!(own.len() == 1, "another build is in force: {own:?}");
    stage.end(["kill", "stop"])?;
    for host in HOSTS {
        to_another_build(&stage.lab, host)?;
        let left = builds(&stage.lab, host)?;
        ensure!(!left.contains(&own[0]), "{own:?} is among {left:?}");
    }
    stage.start()?;
    for host in HOSTS {
        eventually(format!("{host} took over"), || {
            let has = builds(&stage.lab, host)?;
            ensure!(has == own, "it has {has:?}, not {own:?}");
            Ok(())
        })?;
    }
    stage.goes_on("taken over")
}
