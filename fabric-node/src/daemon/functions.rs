//! Functions of this host: between the API's words and the datapath's.

use datapath::{FunctionError, LoadedFunction};
use membership::id::{IdError, Label};

use super::node::Node;
use super::reconcile::FunctionFile;
use crate::api::error::{ApiError, Code};
use crate::api::types::{FailMode, Function, FunctionHook, FunctionLoad, FunctionRemoved};

pub(super) async fn list(node: &Node) -> Result<Vec<Function>, ApiError> {
    let functions = node.reconcile.functions().await?.map_err(|error| refusal(&error))?;
    Ok(functions.into_iter().map(told).collect())
}

pub(super) async fn load(node: &Node, load: FunctionLoad) -> Result<Function, ApiError> {
    let label = |text: &str| {
        text.parse()
            .map_err(|error: IdError| ApiError::bad_request(error.to_string()))
    };
    if !load.path.is_absolute() {
        let message = format!(
            "{} is not an absolute path on this host: write it from the root on",
            load.path.display()
        );
        return Err(ApiError::bad_request(message));
    }
    let file = FunctionFile {
        domain: label(&load.domain)?,
        name: label(&load.name)?,
        hook: match load.hook {
            FunctionHook::Flow => datapath::FunctionHook::Flow,
            FunctionHook::Packet => datapath::FunctionHook::Packet,
        },
        fail: match load.fail {
            FailMode::Open => datapath::FailMode::Open,
            FailMode::Closed => datapath::FailMode::Closed,
        },
        path: load.path,
    };
    let loaded = node.reconcile.load_function(file).await?;
    loaded.map(told).map_err(|error| refusal(&error))
}

pub(super) async fn remove(node: &Node, domain: &Label, name: &Label) -> Result<FunctionRemoved, ApiError> {
    let removed = node.reconcile.remove_function(domain.clone(), name.clone()).await?;
    removed.map_err(|error| refusal(&error))?;
    Ok(FunctionRemoved {
        domain: domain.to_string(),
        name: name.to_string(),
    })
}

fn told(function: LoadedFunction) -> Function {
    Function {
        domain: function.domain.to_string(),
        name: function.name.to_string(),
        hook: match function.hook {
            datapath::FunctionHook::Flow => FunctionHook::Flow,
            datapath::FunctionHook::Packet => FunctionHook::Packet,
        },
        position: function.position,
        fail: match function.fail {
            datapath::FailMode::Open => FailMode::Open,
            datapath::FailMode::Closed => FailMode::Closed,
        },
        failures: function.failures,
        digest: function.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn refusal(error: &FunctionError) -> ApiError {
    let code = match error {
        FunctionError::NoDomain(_) | FunctionError::NoFunction { .. } => Code::NotFound,
        FunctionError::File { .. } => Code::BadRequest,
        FunctionError::Datapath(_) => Code::Internal,
        FunctionError::Succession => Code::TryAgain,
        _ => Code::Refused,
    };
    ApiError::new(code, error.to_string())
}
