//! What [`super::query`] reads, as the OpenAPI document describes it. The conditions come from the
//! settings themselves, so none is missing.

use holdfast_pipeline::settings::WHEN_SETTINGS;
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{Object, ObjectBuilder, Type},
    },
};

use super::query::{LIMIT_DEFAULT, LIMIT_MAX, NOT_OFFERED};

/// Of `GET /v1/alerts`.
pub(crate) struct OfList;

/// Of `GET /v1/alerts/stream`.
pub(crate) struct OfStream;

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn parameter(name: &str, description: &str, schema: Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn place(start_default: &str) -> Vec<Parameter> {
    let words = text().enum_values(Some(["oldest", "newest"])).default(Some(start_default.into()));
    vec![
        parameter(
            "cursor",
            "Where to go on: an event's `cursor`, or a `next_cursor`.",
            text().build(),
        ),
        parameter("start", "Where to begin without a cursor.", words.build()),
    ]
}

/// Words of `when`: several with commas, or the key again.
fn conditions() -> impl Iterator<Item = Parameter> {
    let offered = WHEN_SETTINGS.iter().filter(|setting| setting.name != NOT_OFFERED);
    offered.map(|setting| {
        let level = || ObjectBuilder::new().schema_type(Type::Integer);
        let schema = match setting.name {
            "level" | "level_max" => level().minimum(Some(0)).maximum(Some(16)),
            _ => text(),
        };
        parameter(setting.name, setting.doc, schema.build())
    })
}

impl IntoParams for OfList {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut all = place("oldest");
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(LIMIT_MAX))
            .default(Some(LIMIT_DEFAULT.into()));
        let many = "How many at most; `has_more` says whether there are more just now.";
        all.push(parameter("limit", many, limit.build()));
        let wait = "How long to wait when there is nothing, 0s to 60s.";
        all.push(parameter("wait", wait, text().default(Some("0s".into())).build()));
        all.extend(conditions());
        all
    }
}

impl IntoParams for OfStream {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut all = place("newest");
        let mut last = parameter(
            "last-event-id",
            "The id of the last message, which is a cursor. It comes before the query's.",
            text().build(),
        );
        last.parameter_in = ParameterIn::Header;
        all.push(last);
        all.extend(conditions());
        all
    }
}
