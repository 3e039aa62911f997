//! What an operator may set: one TOML file, overridden by flags; beneath both, the flags that `init` or `join` was given
//! ([`Kept`]). Owns the keys, their defaults and the messages about wrong ones; refuses to look at the host (deriving addresses is [`resolve`]'s, with the host's answers as arguments).

mod address;
mod kept;
mod keys;
pub mod resolve;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use membership::id::Label;
use membership::wire::Versions;
use serde::Deserialize;

pub use address::{Address, Reached};
pub use kept::Kept;
pub use keys::UnknownKey;

/// UDP port of the mesh.
pub const MESH_PORT: u16 = 7790;
/// UDP port of VXLAN (RFC 7348 section 8).
pub const VXLAN_PORT: u16 = 4789;
/// UDP port of Geneve (RFC 8926 section 7).
pub const GENEVE_PORT: u16 = 6081;
/// TCP port of the API over TLS.
pub const API_PORT: u16 = 7791;
/// Where the file is looked for when `--config` is not given; it need not exist there.
pub const DEFAULT_FILE: &str = "/etc/fabric/fabric-node.toml";
/// Where the API listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/fabric/api.sock";
/// The commented file itself: the manual of all keys.
pub const COMMENTED_DEFAULT: &str = include_str!("../../fabric-node.toml");

/// The whole file. Absent keys have their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// How nodes reach each other.
    pub mesh: Mesh,
    /// What is spoken with other nodes.
    pub wire: Wire,
    /// What carries the tunnels.
    pub underlay: Underlay,
    /// The REST API.
    pub api: Api,
    /// The kernel side.
    pub datapath: Datapath,
    /// What is written to standard error.
    pub log: Log,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// The node's name; the host's if absent.
    pub name: Option<Label>,
    /// Key, certificate, store.
    pub data: PathBuf,
    /// How long a stop may take.
    #[serde(deserialize_with = "duration")]
    pub stop_timeout: Duration,
}

/// `[mesh]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mesh {
    /// Where the endpoint is bound.
    pub listen: Address,
    /// Where others reach it; at the port of `listen` where none is said.
    pub advertise: Vec<Reached>,
}

/// `[wire]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wire {
    /// All versions that this node speaks; the key is the newest.
    #[serde(rename = "max", deserialize_with = "versions")]
    pub spoken: Versions,
}

/// `[underlay]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Underlay {
    /// IPv4 tunnel address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 tunnel address.
    pub ipv6: Option<Ipv6Addr>,
    /// UDP port of VXLAN.
    pub port: u16,
    /// UDP port of Geneve.
    pub geneve_port: u16,
    /// Drops VXLAN packets with reserved bits set.
    pub strict_vxlan: bool,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// The unix socket.
    pub socket: PathBuf,
    /// Its group.
    pub group: Option<String>,
    /// Where other hosts may use the API, over TLS; nowhere if absent.
    pub https: Option<Address<API_PORT>>,
}

/// `[datapath]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Datapath {
    /// A mounted bpf file system.
    pub bpffs: PathBuf,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// Directives of what is written.
    pub level: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            data: PathBuf::from("/var/lib/fabric"),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        let wildcard = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), MESH_PORT);
        Self {
            listen: Address(wildcard),
            advertise: Vec::new(),
        }
    }
}

impl Default for Wire {
    fn default() -> Self {
        let spoken = Versions::OWN;
        Self { spoken }
    }
}

impl Default for Underlay {
    fn default() -> Self {
        Self {
            ipv4: None,
            ipv6: None,
            port: VXLAN_PORT,
            geneve_port: GENEVE_PORT,
            strict_vxlan: false,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(DEFAULT_SOCKET),
            group: None,
            https: None,
        }
    }
}

impl Default for Datapath {
    fn default() -> Self {
        Self {
            bpffs: PathBuf::from("/sys/fs/bpf"),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read or written.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key that does not exist.
    #[error("{path}:{key}")]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Which key, where.
        key: UnknownKey,
    },
    /// Not TOML, or a value of the wrong form. The text names line and key.
    #[error("{path}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The kept settings are of another format.
    #[error(
        "{path} has format {found}, this version reads {known}: run the version that wrote it, or remove the file and \
         set what it says in /etc/fabric/fabric-node.toml"
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that is read.
        known: u32,
    },
}

impl Config {
    /// Reads `file`, or the default file, which may be missing; for keys it leaves out, what was kept in `data`, or in
    /// the directory that it names.
    pub fn load(file: Option<&Path>, data: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?,
        };
        let config = Self::parse(path, &text)?;
        let kept = Kept::read(data.unwrap_or(&config.node.data))?;
        Ok(kept.beneath(config, &text))
    }

    /// Reads the text of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let invalid = |error: toml::de::Error| ConfigError::Invalid {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        };
        let table = toml::de::DeTable::parse(text).map_err(invalid)?;
        if let Some(key) = keys::first_unknown(text, table.get_ref()) {
            return Err(ConfigError::Unknown {
                path: path.to_owned(),
                key,
            });
        }
        toml::from_str(text).map_err(invalid)
    }
}

fn versions<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Versions, D::Error> {
    let max = u16::deserialize(deserializer)?;
    Versions::up_to(max).map_err(serde::de::Error::custom)
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("f.toml"), text).map_err(|error| error.to_string())
    }

    fn uncommented() -> String {
        let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
        COMMENTED_DEFAULT
            .lines()
            .map(|l| if is_key(&l) { &l[1..] } else { l })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_commented_file_is_the_default() {
        assert_eq!(parse(COMMENTED_DEFAULT), Ok(Config::default()));
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn every_key_is_in_the_commented_file_with_its_default() {
        let text = uncommented();
        let table: toml::Table = text.parse().expect("the commented keys are TOML");
        let mut shown: Vec<String> = Vec::new();
        for (section, keys) in &table {
            shown.extend(
                keys.as_table()
                    .expect("a section")
                    .keys()
                    .map(|key| format!("{section}.{key}")),
            );
        }
        let mut known: Vec<String> = keys::all().map(|(section, key)| format!("{section}.{key}")).collect();
        shown.sort();
        known.sort();
        assert_eq!(shown, known);

        let mut config = parse(&text).expect("valid");
        config.node.name = None;
        config.underlay = Underlay::default();
        (config.api.group, config.api.https) = (None, None);
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_newest_wire_version_can_be_held_back() {
        let config = parse("[wire]\nmax = 1\n").expect("valid");
        assert_eq!(config.wire.spoken.pair(), (1, 1));
    }

    #[test]
    fn the_readme_tells_the_defaults() {
        let readme = include_str!("../../../README.md");
        let config = Config::default();
        for told in [
            format!("UDP {}", config.mesh.listen.0.port()),
            format!("UDP {}", config.underlay.port),
            format!("TCP {API_PORT}"),
            format!("`{}`", config.api.socket.display()),
            format!("`{DEFAULT_FILE}`"),
            format!("`{}`", config.node.data.display()),
            format!("`{}/fabric/<node id>/`", config.datapath.bpffs.display()),
        ] {
            assert!(readme.contains(&told), "{told}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_known_one() {
        assert_eq!(
            parse("[mesh]\nlisten = \"::\"\nadvertize = []\n"),
            Err("f.toml:3: unknown key mesh.advertize; did you mean mesh.advertise?".to_owned())
        );
        assert_eq!(
            parse("[overlay]\nport = 1\n"),
            Err("f.toml:1: unknown section [overlay]; did you mean [underlay]?".to_owned())
        );
        assert_eq!(
            parse("data = \"/x\"\n"),
            Err("f.toml:1: unknown key data; did you mean node.data?".to_owned())
        );
    }

    #[test]
    fn a_wrong_value_names_its_line() {
        let error = parse("[underlay]\nport = 70000\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("port"), "{error}");
        let error = parse("[wire]\nmax = 9\n").unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("wire versions 1 to 2, not 9"),
            "{error}"
        );
        let error = parse("[node]\nname = \"Host_1\"\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("Host_1"), "{error}");
    }
}
