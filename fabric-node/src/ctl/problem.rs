//! Why a command of `fabricctl` failed, as it is told and as it ends the process.

use std::io;
use std::path::PathBuf;

use super::args::Output;
use crate::api::error::{ApiError, Code, Detail};
use crate::exit::Exit;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nobody listens on the unix socket.
    #[error(
        "no daemon answers on {0}: start it with `systemctl start fabric-node`, or `fabric-node run`; on a host that is \
         not in a cluster yet, first `fabric-node init` or `fabric-node join TOKEN`"
    )]
    NoDaemon(PathBuf),
    /// The socket may not be opened.
    #[error("you may not use {0}: run as root or as a member of the socket's group")]
    Permission(PathBuf),
    /// Nobody listens on the address.
    #[error(
        "no daemon answers on {api} ({why}): set `https` under [api] in fabric-node.toml there and start it with \
         `systemctl start fabric-node`"
    )]
    NoNode {
        /// Which address.
        api: String,
        /// What the system said.
        why: String,
    },
    /// TLS needs a certificate.
    #[error(
        "{0} needs --identity FILE (or FABRIC_IDENTITY): make one with `fabricctl user create NAME --out FILE` on an anchor, \
         by default one of the first three nodes"
    )]
    NoIdentity(String),
    /// The identity is not good, or not any more.
    #[error("{path}: {why}; make another one with `fabricctl user create NAME --out FILE` on an anchor")]
    Identity {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Who answers is not of the cluster.
    #[error("{api} did not prove to be a node of the cluster that the identity is of: {why}")]
    Stranger {
        /// Which address.
        api: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// The node does not take the identity.
    #[error(
        "{api} refused the identity: {why}; make another one with `fabricctl user create NAME --out FILE` on an anchor of \
         its cluster"
    )]
    NotLetIn {
        /// Which address.
        api: String,
        /// What the node said.
        why: String,
    },
    /// The daemon did not answer in time, or broke off.
    #[error("the daemon did not answer: {0}")]
    Silent(String),
    /// The daemon said no.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// It was done, but is not in force everywhere.
    #[error("not in force yet on {0}")]
    NotInForce(String),
    /// A name of a thing in a domain, without the domain.
    #[error("say in which domain with -d DOMAIN")]
    NoDomain,
    /// A Domain is in itself.
    #[error("a domain is in no other one: leave --domain out")]
    OtherDomain,
    /// A file cannot be used.
    #[error("{path}: {message}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A file was read and is no manifest.
    #[error("{path}: {message}; nothing was changed")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// What the daemon sends cannot be kept.
    #[error("it could not be written: {0}")]
    Written(io::Error),
    /// Standard output is closed or broken.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl Problem {
    /// How the process ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoDaemon(_) | Self::NoNode { .. } => Exit::NoDaemon,
            Self::Permission(_) | Self::Identity { .. } | Self::Stranger { .. } | Self::NotLetIn { .. } => {
                Exit::Permission
            }
            Self::Silent(_) | Self::NotInForce(_) => Exit::TryAgain,
            Self::Api(error) => error.code.exit(),
            Self::Manifest { .. } => Exit::InvalidManifest,
            Self::NoIdentity(_) | Self::NoDomain | Self::OtherDomain | Self::File { .. } => Exit::Usage,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) | Self::Written(_) => Exit::Refused,
        }
    }

    /// What the API would say, or would have said: `code` is that of the answer, or follows how the process ends.
    fn answer(&self) -> ApiError {
        let code = match (self, self.exit()) {
            (Self::Api(error), _) => return error.clone(),
            (_, Exit::Usage) => Code::BadRequest,
            (_, Exit::InvalidManifest) => Code::InvalidManifest,
            (_, Exit::NoDaemon | Exit::TryAgain) => Code::TryAgain,
            (_, Exit::Permission) => Code::Forbidden,
            (_, Exit::Done | Exit::Refused) => Code::Internal,
        };
        ApiError::new(code, self.to_string())
    }

    /// The same as [`Self::text`] in the form that answers are asked in.
    #[must_use]
    pub fn told(&self, output: Output) -> String {
        let text = self.text();
        let shown = match output {
            _ if text.is_empty() => None,
            Output::Table => None,
            Output::Json => serde_json::to_string_pretty(&self.answer())
                .ok()
                .map(|json| json + "\n"),
            Output::Yaml => serde_norway::to_string(&self.answer()).ok(),
        };
        shown.unwrap_or(text)
    }

    /// What to write to standard error; empty if the reader of our output just went away.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => String::new(),
            Self::Api(error) if !error.details.is_empty() => {
                let lines: Vec<String> = error
                    .details
                    .iter()
                    .map(|detail| format!("  {}", line(detail)))
                    .collect();
                format!("fabricctl: {error}\n{}\n", lines.join("\n"))
            }
            other => format!("fabricctl: {other}\n"),
        }
    }
}

/// `red.yaml:12: document 2: Network red/front: spec.subnets[0]: what is wrong`, as far as each part is known.
fn line(detail: &Detail) -> String {
    let place = match (&detail.source, detail.line) {
        (Some(source), Some(line)) => Some(format!("{source}:{line}")),
        (Some(source), None) => Some(source.clone()),
        (None, Some(line)) => Some(format!("line {line}")),
        (None, None) => None,
    };
    let document = detail.document.map(|number| format!("document {number}"));
    let parts = [
        place,
        document,
        detail.object.clone(),
        detail.field.clone(),
        Some(detail.message.clone()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_manifest_names_file_document_field_and_line() {
        let detail = Detail {
            source: Some("red.yaml".to_owned()),
            document: Some(2),
            object: Some("Network red/front".to_owned()),
            field: Some("spec.subnets[0]".to_owned()),
            line: Some(12),
            message: "10.0.0.1/24 has host bits set; the prefix is 10.0.0.0/24".to_owned(),
            current: None,
        };
        let error = ApiError {
            code: Code::InvalidManifest,
            message: "the manifest is invalid; nothing was changed".to_owned(),
            details: vec![detail],
        };
        let problem = Problem::from(error);
        assert_eq!(problem.exit(), Exit::InvalidManifest);
        assert_eq!(
            problem.text(),
            "fabricctl: the manifest is invalid; nothing was changed\n  \
             red.yaml:12: document 2: Network red/front: spec.subnets[0]: \
             10.0.0.1/24 has host bits set; the prefix is 10.0.0.0/24\n"
        );
    }

    #[test]
    fn a_program_is_told_as_the_api_tells_it() {
        let refused = Problem::Api(ApiError::refused("no"));
        let read: ApiError = serde_json::from_str(&refused.told(Output::Json)).expect("JSON");
        assert_eq!(read, ApiError::refused("no"));
        let read: ApiError = serde_norway::from_str(&Problem::NoDomain.told(Output::Yaml)).expect("YAML");
        assert_eq!(read, ApiError::bad_request(Problem::NoDomain.to_string()));
        assert_eq!(Problem::NoDomain.told(Output::Table), Problem::NoDomain.text());
        let closed = Problem::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.told(Output::Json), "");
    }

    #[test]
    fn every_problem_has_its_exit_code() {
        let table = [
            (Problem::NoDaemon("/s".into()), 69),
            (Problem::Permission("/s".into()), 77),
            (Problem::NoIdentity("https://h".to_owned()), 2),
            (Problem::Silent("timeout".to_owned()), 75),
            (Problem::NotInForce("h2".to_owned()), 75),
            (Problem::NoDomain, 2),
            (Problem::OtherDomain, 2),
            (Problem::Api(ApiError::refused("no")), 1),
            (Problem::Api(ApiError::try_again("later")), 75),
            (Problem::Output(io::ErrorKind::BrokenPipe.into()), 0),
        ];
        for (problem, code) in table {
            assert_eq!(problem.exit().code(), code, "{problem:?}");
        }
    }

    #[test]
    fn no_daemon_is_one_line_that_says_how_to_start_it() {
        let text = Problem::NoDaemon("/run/fabric/api.sock".into()).text();
        assert_eq!(text.lines().count(), 1);
        for step in ["systemctl start fabric-node", "fabric-node init", "fabric-node join"] {
            assert!(text.contains(step), "{text}");
        }
    }
}
