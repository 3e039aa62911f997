//! `user create`: a key made here, a certificate for it made by the node, and both in a file.

use std::io;
use std::path::Path;

use membership::identity::NodeKey;
use membership::pki::request;
use serde::Serialize;

use super::args::UserArgs;
use super::client::Client;
use super::identity::{unusable, write};
use super::problem::Problem;
use crate::api::types::{UserCertificate, UserRequest};

/// What was made.
#[derive(Debug, Serialize)]
pub(super) struct Created {
    name: String,
    not_after: String,
    file: String,
}

impl Created {
    /// For people.
    pub(super) fn told(&self) -> String {
        let Self { name, not_after, file } = self;
        format!(
            "{file} is the identity of {name} until {not_after}; keep it secret\n\
             next: fabricctl --api https://HOST --identity {file} status"
        )
    }
}

/// Makes an identity.
pub(super) async fn create(client: &Client, args: &UserArgs) -> Result<Created, Problem> {
    if !args.force && args.out.symlink_metadata().is_ok() {
        return Err(unusable(&args.out, io::ErrorKind::AlreadyExists.into()));
    }
    let unmade = |why: String| Problem::File {
        path: args.out.clone(),
        message: why,
    };
    let key = NodeKey::generate();
    let asked = UserRequest {
        name: args.name.to_string(),
        request: request::make(&key, &args.name).map_err(|error| unmade(error.to_string()))?,
        ttl_s: args.ttl.as_secs(),
    };
    let pem = key.to_pem().map_err(|error| unmade(error.to_string()))?;
    let made: UserCertificate = client.post("/v1/users", &asked).await?;
    save(&args.out, &pem, &made, args.force)?;
    Ok(Created {
        name: made.name,
        not_after: made.not_after,
        file: args.out.display().to_string(),
    })
}

fn save(out: &Path, key: &str, made: &UserCertificate, force: bool) -> Result<(), Problem> {
    write(out, &[key, &made.certificate, &made.roots], force).map_err(|error| unusable(out, error))
}
