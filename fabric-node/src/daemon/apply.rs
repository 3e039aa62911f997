//! x
use super::node::Node;
use crate::api::backend::Author;
use crate::api::error::ApiError;
use crate::api::types::{Applied, Apply};
pub(super) async fn apply(_node: &Node, _author: &Author, _request: Apply) -> Result<Applied, ApiError> {
    todo!()
}
