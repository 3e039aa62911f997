//! Where the API is, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

use crate::config;

/// Where the API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Api {
    /// A unix socket of this host.
    Unix(PathBuf),
    /// A node's API over TLS.
    Https {
        /// Name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl Default for Api {
    fn default() -> Self {
        Self::Unix(PathBuf::from(config::DEFAULT_SOCKET))
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Self::Https { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write unix:PATH, as unix:/run/fabric/api.sock, or https://HOST[:PORT]".to_owned();
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(wrong()),
            None => https(text).ok_or_else(wrong),
        }
    }
}

/// Nothing but host and port.
fn https(text: &str) -> Option<Api> {
    let uri: Uri = text.parse().ok()?;
    let (authority, bare) = (uri.authority()?, uri.path_and_query().is_none_or(|path| path == "/"));
    if uri.scheme_str() != Some("https") || !bare || authority.as_str().contains('@') {
        return None;
    }
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => config::API_PORT,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    (!host.is_empty() && port != 0).then_some(Api::Https { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_shown() {
        for (text, shown) in [
            ("unix:/a", "unix:/a"),
            ("https://h1:1", "https://h1:1"),
            ("https://h1", "https://h1:7791"),
            ("https://h1.example/", "https://h1.example:7791"),
            ("https://192.0.2.1:443", "https://192.0.2.1:443"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]:7791"),
            ("https://[2001:db8::1]:1", "https://[2001:db8::1]:1"),
        ] {
            assert_eq!(
                text.parse::<Api>().map(|api| api.to_string()),
                Ok(shown.to_owned()),
                "{text}"
            );
        }
        for text in [
            "",
            "unix:",
            "/run/x",
            "h1",
            "http://h1",
            "https://",
            "https://h1:0",
            "https://h1:99999",
            "https://h1:x",
            "https://a@h1",
            "https://h1/v1",
            "https://h1?a",
            "https://2001:db8::1",
        ] {
            assert!(text.parse::<Api>().is_err(), "{text}");
        }
    }
}
