//! The OpenAPI document, from the routes themselves.
//!
//! To add a route: annotate its handler with `#[utoipa::path]`, and name it in the group of its
//! role in [`super::routes`]. The group adds its role, and what every route of its kind may answer
//! is added here; the handler declares its success and its own errors. Then run the tests once with
//! `HOLDFAST_BLESS=1`, which writes `docs/openapi.json`.

use axum::{
    extract::{FromRequest, Request},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder,
        path::{Operation, ParameterIn, PathItem},
        schema::{ObjectBuilder, Type},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    auth::Need,
    body,
    problem::{self, Kind, Problem},
};

const TOKEN: &str = "token";

/// A command without parameters: an empty object
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub(crate) struct Nothing {}

impl<S: Send + Sync> FromRequest<S> for Nothing {
    type Rejection = Problem;

    /// No body at all is nothing, too.
    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        body::command(request.into_body()).await
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "A durable alert-forwarding gateway for Wazuh.\n\nEvery error is a problem by \
            RFC 9457. A method that a route does not have is answered 405, a path that there is \
            not 404. A POST or PUT needs a JSON or NDJSON content type. Lists and bodies are limited.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(problem::Body, problem::BadLine)),
    tags(
        (name = "alerts", description = "Events: in, and what became of them."),
        (name = "consumers", description = "Named readers, with a place that is kept."),
        (name = "destinations", description = "The lanes."),
        (name = "dead-letters", description = "What was given up."),
        (name = "replays", description = "Jobs that send again."),
        (name = "audit", description = "Who did what."),
        (name = "configuration", description = "The file, read anew."),
        (name = "console", description = "The page for people."),
        (name = "callbacks", description = "What remote systems send back."),
        (name = "health", description = "The process, the intake, the lanes."),
    ),
)]
struct Base;

/// The document without routes.
pub(super) fn base() -> Document {
    let mut document = Base::openapi();
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some(
        "A token of the configuration. Its role is \"ingest\", \"read\" or \"admin\"; admin may do \
         everything. The list beside a route names the role that it needs; an empty one: any."
            .to_owned(),
    );
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert(TOKEN.to_owned(), SecurityScheme::Http(scheme).into());
    for kind in COMMON {
        components.responses.insert(kind.slug().to_owned(), RefOr::T(response(*kind)));
    }
    document
}

/// What many routes answer.
const COMMON: &[Kind] = &[
    Kind::BadRequest,
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::NotFound,
    Kind::Timeout,
    Kind::TooLarge,
    Kind::UnsupportedType,
    Kind::Internal,
    Kind::Stopping,
];

fn response(kind: Kind) -> utoipa::openapi::Response {
    let (status, slug, title) = kind.parts();
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(Some(json!({
            "type": format!("/problems/{slug}"),
            "title": title,
            "status": status.as_u16(),
            "detail": "what exactly is wrong",
        })))
        .build();
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let mut response =
        ResponseBuilder::new().description(title).content("application/problem+json", content);
    if kind == Kind::Unauthorized {
        let header =
            HeaderBuilder::new().schema(Some(text())).description(Some("`Bearer`.")).build();
        response = response.header("www-authenticate", header);
    }
    if kind == Kind::Stopping {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
        let header = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("Seconds to wait."))
            .build();
        response = response.header("retry-after", header);
    }
    response.build()
}

/// Adds to a group's routes whom they are for, and what every route of their kind may answer.
pub(super) fn complete(document: &mut Document, needs: &[Option<Need>], guarded: bool) {
    for item in document.paths.paths.values_mut() {
        for (is_post, operation) in operations(item) {
            let security = needs.iter().map(|need| match need {
                None => SecurityRequirement::default(),
                Some(Need::Token) => SecurityRequirement::new(TOKEN, [""; 0]),
                Some(Need::Role(role)) => SecurityRequirement::new(TOKEN, [role.as_str()]),
            });
            operation.security = Some(security.collect());
            let named = needs.iter().any(Option::is_some);
            add_answers(operation, is_post, named, guarded);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let others = [get, delete, patch].into_iter().flatten().map(|operation| (false, operation));
    others.chain([post, put].into_iter().flatten().map(|operation| (true, operation)))
}

fn add_answers(operation: &mut Operation, is_post: bool, named: bool, guarded: bool) {
    let mut kinds = vec![Kind::Internal];
    let parameters = operation.parameters.iter().flatten();
    let of_path = |parameter: &RefOr<utoipa::openapi::path::Parameter>| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Path,
        RefOr::Ref(_) => false,
    };
    let (of_path, others): (Vec<_>, Vec<_>) = parameters.partition(|parameter| of_path(parameter));
    if !of_path.is_empty() && guarded {
        kinds.push(Kind::NotFound);
    }
    if !of_path.is_empty() || !others.is_empty() || is_post {
        kinds.push(Kind::BadRequest);
    }
    if named {
        kinds.extend([Kind::Unauthorized, Kind::Stopping]);
    }
    if guarded {
        kinds.push(Kind::Forbidden);
    }
    if is_post {
        kinds.extend([Kind::TooLarge, Kind::Timeout]);
    }
    if is_post && guarded {
        kinds.push(Kind::UnsupportedType);
    }
    for kind in kinds {
        let (status, slug, _) = kind.parts();
        let common = Ref::from_response_name(slug).into();
        operation.responses.responses.entry(status.as_str().to_owned()).or_insert(common);
    }
}

/// As it is served and committed.
pub(crate) fn text(document: &Document) -> String {
    // Its keys are texts, so it can become JSON.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The document that describes all of this
///
/// OpenAPI 3.1.
#[utoipa::path(
    get, path = "/openapi.json", tag = "health", operation_id = "openapi",
    responses((status = 200, description = "The document.", body = Object)),
)]
pub(crate) async fn show() -> Response {
    static TEXT: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| text(&super::routes::document()));
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(&text(&super::super::routes::document())).unwrap()
    }

    /// Every operation with its path and method.
    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                all.push((format!("{method} {path}"), operation));
            }
        }
        all
    }

    #[test]
    fn the_committed_document_is_what_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let text = text(&super::super::routes::document());
        if std::env::var("HOLDFAST_BLESS").as_deref() == Ok("1") {
            std::fs::write(&path, &text).unwrap();
        }
        let same = std::fs::read_to_string(&path).unwrap_or_default() == text;
        assert!(
            same,
            "`docs/openapi.json` is out of date; run the tests once with HOLDFAST_BLESS=1"
        );
    }

    #[test]
    fn every_route_says_what_it_does_for_whom_and_how_it_can_fail() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (name, operation) in operations(&document) {
            assert!(operation["summary"].is_string(), "{name} has no summary");
            assert!(
                ids.insert(operation["operationId"].to_string()),
                "{name}: its id is another's"
            );
            assert!(operation["security"].is_array(), "{name} does not say whom it is for");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
            for (status, answer) in answers {
                let described = answer["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(described || answer["$ref"].is_string(), "{name} {status}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(document: &Value, value: &Value) {
            if let Some(reference) = value["$ref"].as_str() {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            match value {
                Value::Object(map) => map.values().for_each(|value| walk(document, value)),
                Value::Array(list) => list.iter().for_each(|value| walk(document, value)),
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }
}
