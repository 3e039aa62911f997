//! The command line of `fabricctl`.

mod anchor;
mod ca;
mod changes;
mod cluster;
mod node;
mod quarantine;
mod user;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use membership::id::Label;
use overlay::object::Kind;

pub use self::anchor::AnchorCommand;
pub use self::ca::{CaCommand, ExportArgs, RotateArgs};
pub use self::changes::{
    BackupArgs, ConflictsArgs, ConflictsCommand, DiffArgs, HistoryArgs, ResolveArgs, RollbackArgs,
};
pub use self::cluster::ClusterCommand;
pub use self::node::NodeCommand;
pub use self::quarantine::QuarantineCommand;
pub use self::user::{TokenCommand, UserArgs, UserCommand};
pub use super::place::Api;
use crate::api::kinds;
use crate::api::types::{FailMode, FunctionHook};
use crate::api::version::Precondition;
use crate::exit;

/// Hands of the operator: asks the node on this host, or another one, which speaks for the whole cluster.
#[derive(Debug, Parser)]
#[command(name = "fabricctl", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    about = "Controls a Fabric cluster through the node on this host, or through any other with --api https://HOST"
)]
#[command(after_help = exit::HELP)]
pub struct Cli {
    /// Where the API is: unix:PATH, or https://HOST or https://HOST:PORT of any node that serves it; the port is 7791
    /// unless given
    #[arg(long, global = true, env = "FABRIC_API", value_name = "URL", default_value_t = Api::default())]
    pub api: Api,

    /// With https: the file that `fabricctl user create` wrote
    #[arg(long, global = true, env = "FABRIC_IDENTITY", value_name = "FILE")]
    pub identity: Option<PathBuf>,

    /// How answers and errors are written
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Output::Table)]
    pub output: Output,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// As the API gives it
    Json,
    /// The same as YAML
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows this node, its cluster, its datapath and what is wrong
    #[command(after_help = "Examples:\n  fabricctl status\n  fabricctl status -o json | jq .alarms")]
    Status,

    /// Shows the other nodes of the cluster
    #[command(
        after_help = "Examples:\n  fabricctl peers\n  fabricctl peers -o json | jq '.[] | select(.state != \"live\")'"
    )]
    Peers,

    /// Creates and changes objects from manifests, all of a domain or nothing of it
    #[command(after_help = "Examples:
  fabricctl apply -f red.yaml --wait
  fabricctl apply -f tenants/
  generate | fabricctl apply -f -
  fabricctl get network front -d red -o yaml > front.yaml; $EDITOR front.yaml; fabricctl apply -f front.yaml
  fabricctl apply -f front.yaml --if-version none          # only if it is not there yet

A manifest that has a `version`, as `get -o yaml` writes it, is applied only if the object still has that version, and
else refused with what is there. Leave `version` out to write over whatever is there.

A manifest is YAML or JSON with any number of documents:
  kind: Network
  domain: red
  name: front
  spec:
    subnets: [10.0.0.0/24, \"fd00:1::/64\"]")]
    Apply(ApplyArgs),

    /// Lists objects of a kind
    #[command(
        after_help = "Examples:\n  fabricctl get domains\n  fabricctl get endpoints -d red\n  fabricctl get network front -d red -o yaml\n  fabricctl get policies -d red\n\nKinds: Domain, Network, Endpoint, Router, SecurityPolicy; also in the plural, and as dom, net, ep, rt, policy."
    )]
    Get(GetArgs),

    /// Shows one object with its conditions and the hosts on which it is in force
    #[command(
        after_help = "Examples:\n  fabricctl describe endpoint web-1 -d red\n  fabricctl describe policy web -d red"
    )]
    Describe(NamedArgs),

    /// Deletes an object; refused while others depend on it
    #[command(
        after_help = "Examples:\n  fabricctl delete endpoint web-1 -d red\n  fabricctl delete domain red --cascade\n  fabricctl delete network lan -d red --if-version v5f0e2c9a7b114d32"
    )]
    Delete(DeleteArgs),

    /// Shows what was written when and by whom, newest first
    #[command(after_help = "Examples:
  fabricctl history -d red
  fabricctl history network front -d red
  fabricctl history -d red --limit 1000 -o json | jq '.entries[] | select(.author | startswith(\"alice@\"))'

A node shows the versions that it merged and still remembers: of each domain the 10,000 that were replaced last, at most
8 MiB. What was replaced by others while it was away never got there: STATE and WHAT say where something is missing.
Times are those of the writers' clocks.")]
    History(HistoryArgs),

    /// Shows what a domain was, where that differs from what it is
    #[command(after_help = "Examples:
  fabricctl diff -d red --at 15m
  fabricctl diff -d red --at 2026-01-31T14:00:00Z
  fabricctl diff -d red --at v5f0e2c9a7b114d32             # right after that version was written

Lines with - are what was and is not, lines with + what is and was not. Ends with 0 whether or not something differs.")]
    Diff(DiffArgs),

    /// Writes the objects of a domain as they were
    #[command(after_help = "Examples:
  fabricctl rollback -d red --to 15m --dry-run
  fabricctl rollback -d red --to v5f0e2c9a7b114d32

All at once: objects that were there are written as they were, others are deleted, in your name; at most 256. It is a
change like any other, in the history, and can be taken back itself. Refused with what stands in the way: endpoints that
would go and are attached, what other domains have taken meanwhile, and objects of which this node does not know what
they were.")]
    Rollback(RollbackArgs),

    /// Shows objects that were written on several nodes at once, how to settle it, and void writes of removed nodes
    #[command(after_help = "Examples:
  fabricctl conflicts
  fabricctl conflicts -d red
  fabricctl conflicts resolve network front -d red --take v5f0e2c9a7b114d32

Every node shows the same conflicts. Any write of an object by who saw its versions settles it: `fabricctl apply`, or
`resolve`. Void is what a removed node took that no majority of the anchors saw: it counts nowhere, and is shown where it
came to, so that somebody can write it again.")]
    Conflicts(ConflictsArgs),

    /// Writes all objects of all domains into one file
    #[command(after_help = "Examples:
  fabricctl backup /var/backups/fabric-$(date +%F).jsonl
  fabricctl --api https://192.0.2.2 --identity alice.pem backup fabric.jsonl

As they are at one moment on the node that is asked, with their versions' authors and times: lines of JSON with a digest
at the end. The file is there when it is whole and was read back, and not before. It holds no key, nothing of the past, and
nothing that hosts say of themselves. `fabric-node init --restore FILE` makes a new cluster of it.")]
    Backup(BackupArgs),

    /// Binds workloads of this host to endpoints
    #[command(subcommand, arg_required_else_help = true)]
    Endpoint(EndpointCommand),

    /// Shows why packets were dropped on this node
    #[command(after_help = "Examples:\n  fabricctl drops\n  fabricctl drops --watch")]
    Drops(DropsArgs),

    /// Loads third-party functions into the packets' way of a domain on this host (provisional)
    #[command(subcommand, arg_required_else_help = true)]
    Function(FunctionCommand),

    /// Shows and changes who witnesses joins, removals and addresses
    #[command(subcommand, arg_required_else_help = true)]
    Anchor(AnchorCommand),

    /// Shows, replaces and exports the CA that makes the certificates of nodes and users
    #[command(subcommand, arg_required_else_help = true)]
    Ca(CaCommand),

    /// Takes nodes out of the cluster
    #[command(subcommand, arg_required_else_help = true)]
    Node(NodeCommand),

    /// Shows and releases domains that crash what handles them on this host
    #[command(subcommand, arg_required_else_help = true)]
    Quarantine(QuarantineCommand),

    /// Upgrades what the nodes speak with each other
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(ClusterCommand),

    /// Makes join tokens
    #[command(subcommand, arg_required_else_help = true)]
    Token(TokenCommand),

    /// Lets people use the API from other hosts
    #[command(subcommand, arg_required_else_help = true)]
    User(UserCommand),

    /// Writes a completion script to standard output
    #[command(after_help = "Examples:\n  fabricctl completions bash > /etc/bash_completion.d/fabricctl")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },

    /// Writes the man pages of fabric-node and fabricctl
    #[command(hide = true)]
    Man {
        /// Into which directory
        directory: PathBuf,
    },
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// A manifest, a directory with .yaml, .yml and .json files, or - for standard input
    #[arg(short, long = "file", required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,

    /// Return when all reachable hosts have it in force (30 s at most, then exit code 75)
    #[arg(long)]
    pub wait: bool,

    /// Only if the one object in it has this version, or, with none, is not there yet
    #[arg(long = "if-version", value_name = "VERSION|none", value_parser = Precondition::typed)]
    pub only_if: Option<Precondition>,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Domain, Network, Endpoint, Router or SecurityPolicy
    #[arg(value_parser = kinds::parse)]
    pub kind: Kind,

    /// Only this one
    pub name: Option<Label>,

    /// In which domain; all domains if left out
    #[arg(short, long)]
    pub domain: Option<Label>,
}

/// Names one object.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// Domain, Network, Endpoint, Router or SecurityPolicy
    #[arg(value_parser = kinds::parse)]
    pub kind: Kind,

    /// Its name
    pub name: Label,

    /// Its domain; not needed for a Domain
    #[arg(short, long)]
    pub domain: Option<Label>,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Which object
    #[command(flatten)]
    pub object: NamedArgs,

    /// Delete what depends on it as well
    #[arg(long)]
    pub cascade: bool,

    /// Only if it has this version
    #[arg(long = "if-version", value_name = "VERSION", value_parser = Precondition::typed)]
    pub only_if: Option<Precondition>,
}

/// `endpoint …`.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Attaches an endpoint to a network namespace or an interface of this host
    #[command(after_help = "Examples:
  fabricctl endpoint attach red/web-1 --netns web          # makes eth0 inside /run/netns/web
  fabricctl endpoint attach red/vm-1 --interface tap0      # an interface that is there already

Returns when all reachable hosts of the domain can reach it, after 1 s with a warning.")]
    Attach(AttachArgs),

    /// Detaches an endpoint from this host
    #[command(after_help = "Examples:\n  fabricctl endpoint detach red/web-1")]
    Detach {
        /// DOMAIN/NAME of the endpoint
        #[arg(value_name = "DOMAIN/NAME")]
        endpoint: EndpointRef,
    },
}

/// Arguments of `endpoint attach`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["netns", "interface"]))]
pub struct AttachArgs {
    /// DOMAIN/NAME of the endpoint
    #[arg(value_name = "DOMAIN/NAME")]
    pub endpoint: EndpointRef,

    /// Network namespace: a name under /run/netns, or a path as /proc/1234/ns/net
    #[arg(long, value_name = "NAME|PATH")]
    pub netns: Option<String>,

    /// Name of the interface made inside the namespace [default: eth0]
    #[arg(long, value_name = "NAME", conflicts_with = "interface")]
    pub ifname: Option<String>,

    /// An interface of this host
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
}

/// Arguments of `drops`.
#[derive(Debug, Args)]
pub struct DropsArgs {
    /// Go on and show what is added, once a second
    #[arg(long)]
    pub watch: bool,
}

/// `function …`.
#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// Loads a function from an object file, or swaps the one of this name without losing a packet (provisional)
    #[command(after_help = "Examples:
  fabricctl function load red/watch --hook packet watch.o
  fabricctl function load red/gate --hook flow --fail closed ./gate.o

It is loaded on this host only, over its unix socket, behind the domain's others of its hook, and stays until it is
removed, over restarts. datapath/sdk/README.md says how one is written. Interface and command are provisional.")]
    Load(FunctionArgs),

    /// Lists the functions on this host in the order in which they are asked (provisional)
    #[command(after_help = "Examples:\n  fabricctl function list\n  fabricctl function list -o json")]
    List,

    /// Removes a function from this host without losing a packet (provisional)
    #[command(after_help = "Examples:\n  fabricctl function remove red/watch")]
    Remove {
        /// DOMAIN/NAME of the function
        #[arg(value_name = "DOMAIN/NAME")]
        function: EndpointRef,
    },
}

/// Arguments of `function load`.
#[derive(Debug, Args)]
pub struct FunctionArgs {
    /// DOMAIN/NAME of the function
    #[arg(value_name = "DOMAIN/NAME")]
    pub function: EndpointRef,

    /// Its object file, compiled for the target bpf
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// When it is asked
    #[arg(long, value_enum)]
    pub hook: FunctionHook,

    /// What becomes of a packet when it fails
    #[arg(long, value_enum, default_value = "closed")]
    pub fail: FailMode,
}

/// An endpoint of a domain: `DOMAIN/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRef {
    /// Its domain.
    pub domain: Label,
    /// Its name.
    pub name: Label,
}

impl FromStr for EndpointRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (domain, name) = text.split_once('/').ok_or("write DOMAIN/NAME, as red/web-1")?;
        let label = |part: &str| part.parse().map_err(|error: membership::id::IdError| error.to_string());
        Ok(Self {
            domain: label(domain)?,
            name: label(name)?,
        })
    }
}

impl fmt::Display for EndpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.name)
    }
}

#[cfg(test)]
mod tests;
