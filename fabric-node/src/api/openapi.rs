//! The OpenAPI document, made from the handlers and types themselves.

use utoipa::OpenApi;

use super::{anchors, backup, ca, conflicts, functions, history, nodes, quarantine, routes, upgrade};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fabric",
        description = "The API that every node of a Fabric cluster serves.",
        license(name = "Apache-2.0")
    ),
    paths(
        routes::status,
        routes::peers,
        routes::drops,
        routes::metrics,
        functions::list,
        functions::load,
        functions::remove,
        routes::list_kinds,
        routes::list_all,
        routes::list_domains,
        routes::list,
        routes::describe,
        routes::delete,
        routes::apply,
        history::history,
        history::diff,
        history::rollback,
        backup::backup,
        conflicts::list,
        conflicts::resolve,
        routes::attach,
        routes::detach,
        anchors::list,
        anchors::add,
        anchors::remove,
        ca::show,
        ca::rotate,
        nodes::remove,
        nodes::leave,
        quarantine::list,
        quarantine::release,
        upgrade::show,
        upgrade::finish,
        routes::token,
        routes::user,
    )
)]
struct Document;

/// The document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
