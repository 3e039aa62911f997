//! What `init` and `join` were told by flags, for `run`, which an init system starts without them: a small TOML file
//! beside the node's key. Owns its format and who wins: a key of the configuration file and a flag win over what was
//! kept, key by key. Refuses to keep what the configuration file says; that file is read again at every start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{API_PORT, Address, Config, ConfigError, Reached};

/// Name of the file in the data directory.
const FILE: &str = "settings.toml";
/// Its format.
const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;
const HEAD: &str = "# Flags that `fabric-node init` or `join` was given, kept for `run`. The configuration file and flags of `run` win.\n";

/// The settings that were given by flags; what was not given is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// `mesh.listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<Address>,
    /// `mesh.advertise`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertise: Vec<Reached>,
    /// `api.socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// `api.https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<Address<API_PORT>>,
}

/// What every version of the file begins with.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    #[serde(default)]
    given: Kept,
}

impl Kept {
    /// What is kept in a data directory; nothing if the file is not there.
    pub fn read(data: &Path) -> Result<Self, ConfigError> {
        let path = data.join(FILE);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Self::parse(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// Removes what is kept.
    pub fn forget(data: &Path) -> io::Result<()> {
        match fs::remove_file(data.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes it: after a crash the whole file is there or none of it.
    pub fn write(&self, data: &Path) -> Result<(), ConfigError> {
        let (path, draft) = (data.join(FILE), data.join(format!(".{FILE}.draft")));
        let content = Content {
            version: VERSION,
            given: self.clone(),
        };
        let text = toml::to_string(&content).map_err(|error| ConfigError::Invalid {
            path: path.clone(),
            message: error.to_string(),
        })?;
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(HEAD.as_bytes())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(data)?.sync_all()
        };
        write().map_err(|source| ConfigError::Read { path, source })
    }

    /// The configuration that `text`, the file, was read as, with what is kept where the file says nothing.
    #[must_use]
    pub(super) fn beneath(self, mut config: Config, text: &str) -> Config {
        let file: toml::Table = text.parse().unwrap_or_default();
        let silent = |section: &str, key: &str| file.get(section).and_then(|keys| keys.get(key)).is_none();
        if let Some(listen) = self.listen.filter(|_| silent("mesh", "listen")) {
            config.mesh.listen = listen;
        }
        if silent("mesh", "advertise") {
            config.mesh.advertise = self.advertise;
        }
        if let Some(socket) = self.socket.filter(|_| silent("api", "socket")) {
            config.api.socket = socket;
        }
        if silent("api", "https") {
            config.api.https = self.https;
        }
        config
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let invalid = |error: toml::de::Error| ConfigError::Invalid {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        };
        let head: Head = toml::from_str(text).map_err(invalid)?;
        if head.version != VERSION {
            return Err(ConfigError::Version {
                path: path.to_owned(),
                found: head.version,
                known: VERSION,
            });
        }
        toml::from_str(text)
            .map(|content: Content| content.given)
            .map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Kept {
        Kept {
            listen: "192.0.2.1:5".parse().ok(),
            advertise: vec![
                "198.51.100.1".parse().expect("an address"),
                "[2001:db8::1]:9".parse().expect("an address"),
            ],
            socket: Some(PathBuf::from("/s")),
            https: "192.0.2.1".parse().ok(),
        }
    }

    fn load(file: &str, kept: &Kept) -> Config {
        let dir = tempfile::tempdir().expect("a directory");
        kept.write(dir.path()).expect("written");
        let path = dir.path().join("node.toml");
        fs::write(&path, file).expect("written");
        Config::load(Some(&path), Some(dir.path())).expect("valid")
    }

    #[test]
    fn what_init_was_told_is_what_run_uses() {
        let config = load("[log]\nlevel = \"warn\"\n", &given());
        let mut wanted = Config::default();
        wanted.log.level = "warn".to_owned();
        wanted.mesh.listen = given().listen.expect("given");
        wanted.mesh.advertise = given().advertise;
        (wanted.api.socket, wanted.api.https) = (PathBuf::from("/s"), given().https);
        assert_eq!(config, wanted);
        assert_eq!(load("", &Kept::default()), Config::default());
    }

    #[test]
    fn each_key_of_the_configuration_file_wins() {
        let file = "[mesh]\nlisten = \"[::]:7790\"\nadvertise = []\n[api]\nsocket = \"/run/fabric/api.sock\"\n";
        let mut wanted = Config::default();
        wanted.api.https = given().https;
        assert_eq!(load(file, &given()), wanted, "also where it says the default");
        let config = load("[mesh]\nlisten = \"192.0.2.7\"\n", &given());
        assert_eq!(config.mesh.listen.to_string(), "192.0.2.7:7790");
        assert_eq!(config.mesh.advertise, given().advertise);
    }

    #[test]
    fn another_format_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        for (text, said) in [
            ("version = 2\n[other]\nx = 1\n", "format 2"),
            ("version = 1\n[given]\nlissten = \"::\"\n", "lissten"),
            (
                "version = 1\n[given]\nlisten = \"host\"\n",
                "\"host\" is not an address",
            ),
            ("", "version"),
        ] {
            fs::write(dir.path().join(FILE), text).expect("written");
            let error = Kept::read(dir.path()).expect_err(text).to_string();
            assert!(error.contains(FILE) && error.contains(said), "{error}");
        }
    }
}
