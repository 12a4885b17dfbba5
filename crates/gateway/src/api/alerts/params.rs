//! What [`super::query`] reads, as the OpenAPI document describes it. The conditions come from the
//! settings themselves, so none is missing.

use holdfast_pipeline::settings::WHEN_SETTINGS;
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type},
    },
};

use super::query::{LIMIT_DEFAULT, LIMIT_MAX};

/// Of `GET /v1/alerts`.
pub(crate) struct OfList;

/// Of `GET /v1/alerts/export`.
pub(crate) struct OfExport;

/// Of `GET /v1/consumers/{name}/next`.
pub(crate) struct OfNext;

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
        time("since", "Only what was received then or later; without a cursor it begins there."),
        time("until", "Only what was received before; there is no more behind that."),
        fields(),
    ]
}

fn time(name: &str, description: &str) -> Parameter {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    parameter(name, description, text().format(Some(format)).build())
}

fn fields() -> Parameter {
    let which = "Paths of the body, with commas: only these are given. `rule.id,agent.name`";
    parameter("fields", which, text().build())
}

fn limit_and_wait() -> [Parameter; 2] {
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(LIMIT_MAX))
        .default(Some(LIMIT_DEFAULT.into()));
    let many = "How many at most; `has_more` says whether there are more just now.";
    let wait = "How long to wait when there is nothing, 0s to 60s.";
    [
        parameter("limit", many, limit.build()),
        parameter("wait", wait, text().default(Some("0s".into())).build()),
    ]
}

/// Words of `when`: several with commas, or the key again.
fn conditions() -> impl Iterator<Item = Parameter> {
    WHEN_SETTINGS.iter().map(|setting| {
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
        all.extend(limit_and_wait());
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

impl IntoParams for OfExport {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut all = vec![
            parameter(
                "from",
                "Where to begin: a time or a cursor; else the oldest event.",
                text().build(),
            ),
            parameter(
                "to",
                "Where to end: a time or a cursor; else the newest event.",
                text().build(),
            ),
            fields(),
        ];
        all.extend(conditions());
        all
    }
}

impl IntoParams for OfNext {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut all = limit_and_wait().to_vec();
        all.push(fields());
        all
    }
}
