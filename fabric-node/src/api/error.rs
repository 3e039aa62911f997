//! How the API says no: one JSON shape, one table from code to HTTP status and to exit code.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::types::Object;
use crate::exit::Exit;

/// Why a request was not done. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// Every single thing that is wrong, if there can be many.
    #[serde(default)]
    pub details: Vec<Detail>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// The file, as given by the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Number of the document in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// The object, as `Network red/front`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The field, as `spec.subnets[0]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Line in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// Where a write was to find another version: the object as it is there, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Box<Object>>,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request itself is ill-formed.
    BadRequest,
    /// A manifest is invalid.
    InvalidManifest,
    /// What it is about does not exist.
    NotFound,
    /// There is no such resource or method.
    NoSuchResource,
    /// The state of things does not allow it.
    Refused,
    /// The object is not as the client asked it to be found; `details` tells how it is.
    PreconditionFailed,
    /// The user may not.
    Forbidden,
    /// The body is larger than accepted.
    TooLarge,
    /// It may work later, unchanged.
    TryAgain,
    /// A defect or a broken system.
    Internal,
}

impl Code {
    /// The HTTP status (RFC 9110 section 15) that goes with it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::InvalidManifest => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound | Self::NoSuchResource => StatusCode::NOT_FOUND,
            Self::Refused => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TryAgain => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// How `fabricctl` ends with it.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::BadRequest => Exit::Usage,
            Self::InvalidManifest | Self::TooLarge => Exit::InvalidManifest,
            Self::NotFound | Self::NoSuchResource | Self::Refused | Self::PreconditionFailed | Self::Internal => {
                Exit::Refused
            }
            Self::Forbidden => Exit::Permission,
            Self::TryAgain => Exit::TryAgain,
        }
    }
}

impl ApiError {
    /// A refusal without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// The request is ill-formed.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// It does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The state of things does not allow it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Code::Refused, message)
    }

    /// It may work later.
    pub fn try_again(message: impl Into<String>) -> Self {
        Self::new(Code::TryAgain, message)
    }

    /// A defect or a broken system.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.code.status(), Json(self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status_and_exit() {
        let table = [
            (Code::BadRequest, 400, 2),
            (Code::InvalidManifest, 422, 65),
            (Code::NotFound, 404, 1),
            (Code::NoSuchResource, 404, 1),
            (Code::Refused, 409, 1),
            (Code::PreconditionFailed, 412, 1),
            (Code::Forbidden, 403, 77),
            (Code::TooLarge, 413, 65),
            (Code::TryAgain, 503, 75),
            (Code::Internal, 500, 1),
        ];
        for (code, status, exit) in table {
            assert_eq!((code.status().as_u16(), code.exit().code()), (status, exit), "{code:?}");
        }
    }
}
