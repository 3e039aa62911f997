//! The command line of `fabric-node`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use membership::id::Label;

use crate::config::{API_PORT, Address, Config, Kept, Reached};

/// The peer that runs on every host of a Fabric cluster.
#[derive(Debug, Parser)]
#[command(
    name = "fabric-node",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(about = "Runs this host's peer of a Fabric cluster")]
#[command(after_help = "Start of a cluster:
  first host:   fabric-node init && systemctl start fabric-node && fabricctl token create
  other hosts:  fabric-node join TOKEN && systemctl start fabric-node

Ports: UDP 7790 (mesh: QUIC), UDP 4789 (VXLAN) and UDP 6081 (Geneve) between all hosts; TCP 7791 (API) where it is set.

Exit codes:
  0 done, 1 refused, 2 wrong usage or configuration, 69 no daemon answers (leave), 75 try again later, 77 no permission")]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a cluster with this host as its first node
    #[command(after_help = "Example:
  fabric-node init --cluster-name prod --advertise 192.0.2.1

Kept for `run`, in the data directory: --listen, --advertise, --api, --api-https. A key of the configuration file and a
flag of `run` win over what was kept. Give --config and --data to every command, or to none.
Done already, it changes nothing, says so and exits with 0.

With --restore the cluster begins with the objects of a backup, under their authors and times. It is another cluster with
an id of its own: nodes and users of the old one are not of it, and what hosts said (attachments, allocated IPv4
addresses) is not in a backup. A node that is there already is left as it is, and that is an error then.")]
    Init {
        /// Name of the cluster, for people [default: that of the backup, or fabric]
        #[arg(long, value_name = "NAME")]
        cluster_name: Option<Label>,

        /// Begin with the objects of a file that `fabricctl backup` wrote
        #[arg(long, value_name = "FILE")]
        restore: Option<PathBuf>,

        /// Where and as whom
        #[command(flatten)]
        settings: Settings,
    },

    /// Makes this host a node of the cluster that the token is of
    #[command(after_help = "Example:
  fabric-node join \"$TOKEN\" --advertise 192.0.2.2

Kept for `run`, in the data directory: --listen, --advertise, --api, --api-https. A key of the configuration file and a
flag of `run` win over what was kept. Give --config and --data to every command, or to none.
Make tokens with `fabricctl token create` on an anchor, by default one of the first three nodes.")]
    Join {
        /// What `fabricctl token create` printed, or - to read it from standard input
        token: String,

        /// Where and as whom
        #[command(flatten)]
        settings: Settings,
    },

    /// Runs the node until SIGTERM; packets are forwarded on without it
    #[command(
        after_help = "What no flag and no key of the configuration file says is what `init` or `join` was given.

The API serves metrics for Prometheus at /metrics, on the socket and, with a user's certificate, over TLS:
  curl --unix-socket /run/fabric/api.sock http://localhost/metrics"
    )]
    Run {
        /// Where and as whom
        #[command(flatten)]
        settings: Settings,
    },

    /// Removes all pins, links and devices that this node made; its key and store stay
    Purge {
        /// Where and as whom
        #[command(flatten)]
        settings: Settings,
    },

    /// Takes this node out of the cluster for good, by its running daemon
    #[command(after_help = "Example:
  fabric-node leave && systemctl disable --now fabric-node && fabric-node reset --yes

Workloads are forwarded until the daemon is stopped and `reset` removes what it made in the kernel. The anchors must agree
by majority; without one, remove the node later with `fabricctl node remove` on an anchor.")]
    Leave {
        /// Where and as whom
        #[command(flatten)]
        settings: Settings,
    },

    /// Forgets the node: `purge`, then its key, certificate and store are deleted; the host can join again as another node
    #[command(after_help = "Examples:
  systemctl stop fabric-node && fabric-node reset --yes

The cluster is not told: `leave` first, or its other nodes see this one as dead until it is removed.")]
    Reset {
        /// Do it; without it, nothing is deleted
        #[arg(long)]
        yes: bool,

        /// Where and as whom
        #[command(flatten)]
        settings: Settings,
    },

    /// Prints the commented default configuration, the manual of all keys
    #[command(after_help = "Example:\n  fabric-node config > /etc/fabric/fabric-node.toml")]
    Config,
}

/// Flags that win over the configuration file. `init` and `join` keep them for `run`.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Configuration file [default: /etc/fabric/fabric-node.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory of key, certificate and store [default: /var/lib/fabric]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Name of this node, for people [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Label>,

    /// UDP address of the mesh; the port is 7790 unless given
    #[arg(
        long,
        value_name = "ADDRESS[:PORT]",
        help = "UDP address of the mesh; the port is 7790 unless given [default: [::]:7790]"
    )]
    pub listen: Option<Address>,

    /// Where others reach it, best first, if not at --listen; the port is --listen's unless given; may be repeated
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub advertise: Vec<Reached>,

    /// Unix socket of the API [default: /run/fabric/api.sock]
    #[arg(long, value_name = "PATH")]
    pub api: Option<PathBuf>,

    /// Address of the API for other hosts, over TLS; the port is 7791 unless given [default: none]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub api_https: Option<Address<API_PORT>>,
}

impl Settings {
    /// What `run` needs of it, for a time when it is not given again. The name is in the node's own record.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let Self {
            config: _,
            data: _,
            name: _,
            listen,
            advertise,
            api,
            api_https,
        } = self;
        // An init system starts `run` in another directory.
        let socket = api.clone().map(without_scheme);
        Kept {
            listen: *listen,
            advertise: advertise.clone(),
            socket: socket.map(|path| std::path::absolute(&path).unwrap_or(path)),
            https: *api_https,
        }
    }

    /// The configuration with these flags over it.
    #[must_use]
    pub fn over(self, mut config: Config) -> Config {
        if let Some(data) = self.data {
            config.node.data = data;
        }
        config.node.name = self.name.or(config.node.name);
        if let Some(listen) = self.listen {
            config.mesh.listen = listen;
        }
        if !self.advertise.is_empty() {
            config.mesh.advertise = self.advertise;
        }
        if let Some(api) = self.api {
            config.api.socket = without_scheme(api);
        }
        config.api.https = self.api_https.or(config.api.https);
        config
    }
}

/// The socket may be written as `fabricctl --api` writes it.
fn without_scheme(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix("unix:")) {
        Some(bare) => PathBuf::from(bare),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let line = "fabric-node run --data /d --name h1 --listen 192.0.2.1 --advertise 192.0.2.9 --api unix:/a \
                    --api-https ::1";
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("understood");
        let Command::Run { settings } = cli.command else {
            panic!("not run")
        };
        let file = Config::parse("f".as_ref(), "[node]\nname = \"other\"\n[underlay]\nport = 5\n").expect("valid");
        let config = settings.over(file);
        assert_eq!(config.node.data, PathBuf::from("/d"));
        assert_eq!(config.node.name.map(|name| name.to_string()).as_deref(), Some("h1"));
        assert_eq!(config.mesh.listen.to_string(), "192.0.2.1:7790");
        assert_eq!(config.mesh.advertise.len(), 1);
        assert_eq!(config.api.socket, PathBuf::from("/a"));
        assert_eq!(
            config.api.https.map(|https| https.to_string()).as_deref(),
            Some("[::1]:7791")
        );
        assert_eq!(config.underlay.port, 5);
    }

    #[test]
    fn what_init_is_given_can_be_kept() {
        let line = "fabric-node init --name h1 --listen 192.0.2.1 --advertise 192.0.2.9 --advertise ::1 --api unix:a \
                    --api-https ::1";
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("understood");
        let Command::Init { settings, .. } = cli.command else {
            panic!("not init")
        };
        let (kept, config) = (settings.kept(), settings.over(Config::default()));
        assert_eq!((kept.listen, kept.https), (Some(config.mesh.listen), config.api.https));
        assert_eq!(kept.advertise, config.mesh.advertise);
        let socket = kept.socket.expect("given");
        assert!(socket.is_absolute() && socket.ends_with("a"), "{socket:?}");
    }

    #[test]
    fn a_token_is_needed_to_join() {
        let error = Cli::try_parse_from(["fabric-node", "join"]).expect_err("no token");
        assert_eq!(error.exit_code(), 2);
    }
}
