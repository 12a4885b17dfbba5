//! Which routes there are, and whom each is for.

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware};
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, alerts, audit,
    auth::{self, Need},
    callbacks, console, consumers, dead_letters, destinations, extract, guard, health, ingest,
    metrics, openapi, problem, reload, replays, timeline, trial,
};
use crate::config::Role;

type Routes = OpenApiRouter<Arc<Api>>;

fn ingesting() -> Routes {
    Routes::default().routes(routes!(ingest::post_alerts))
}

fn reading() -> Routes {
    Routes::default()
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::stream))
        .routes(routes!(alerts::export))
        .routes(routes!(consumers::list))
        .routes(routes!(consumers::show, consumers::put, consumers::remove))
        .routes(routes!(consumers::next))
        .routes(routes!(consumers::ack))
        .routes(routes!(consumers::nack))
        .routes(routes!(consumers::seek))
        .routes(routes!(timeline::show))
        .routes(routes!(destinations::list))
        .routes(routes!(destinations::show))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::show))
}

fn administering() -> Routes {
    Routes::default()
        .routes(routes!(destinations::pause))
        .routes(routes!(destinations::resume))
        .routes(routes!(destinations::retry_now))
        .routes(routes!(destinations::purge))
        .routes(routes!(trial::test))
        .routes(routes!(dead_letters::purge))
        .routes(routes!(dead_letters::remove))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(replays::list, replays::start))
        .routes(routes!(replays::show))
        .routes(routes!(replays::act))
        .routes(routes!(audit::list))
        .routes(routes!(reload::reload))
        .routes(routes!(console::link))
}

fn for_any_token() -> Routes {
    Routes::default().routes(routes!(openapi::show))
}

fn open_on_loopback() -> Routes {
    Routes::default().routes(routes!(metrics::show)).routes(routes!(health::destinations))
}

fn open() -> Routes {
    Routes::default()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(console::page))
}

/// The whole API as it is described.
pub(crate) fn document() -> Document {
    let role = |role| vec![Some(Need::Role(role))];
    let groups = [
        (ingesting(), role(Role::Ingest), true),
        (reading(), role(Role::Read), true),
        (administering(), role(Role::Admin), true),
        (for_any_token(), vec![Some(Need::Token)], true),
        (open_on_loopback(), vec![None, Some(Need::Role(Role::Read))], true),
        (open(), vec![None], true),
    ];
    let groups = groups.map(|(routes, needs, guarded)| (routes.into_openapi(), needs, guarded));
    let callbacks = (callbacks::routes().into_openapi(), vec![None], false);
    let mut document = openapi::base();
    for (mut group, needs, guarded) in groups.into_iter().chain([callbacks]) {
        openapi::complete(&mut group, &needs, guarded);
        document.merge(group);
    }
    document
}

/// The main listener's routes. Callbacks are among them where nobody else can reach them.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let guarded = |routes: Routes, need: Need| {
        let (router, _) = routes.split_for_parts();
        // Who asks comes before what is asked.
        router
            .layer(middleware::from_fn(guard::json_posts))
            .layer(middleware::from_fn_with_state((Arc::clone(&api), need), auth::require))
    };
    let (open_on_loopback, _) = open_on_loopback().split_for_parts();
    let open_on_loopback = open_on_loopback
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::require_unless_loopback));
    let (open, _) = open().split_for_parts();
    let main = open
        .merge(guarded(ingesting(), Need::Role(Role::Ingest)))
        .merge(guarded(reading(), Need::Role(Role::Read)))
        .merge(guarded(administering(), Need::Role(Role::Admin)))
        .merge(guarded(for_any_token(), Need::Token))
        .merge(open_on_loopback)
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), guard::check))
        .layer(DefaultBodyLimit::disable());
    let main = if api.callbacks_here {
        // Their senders are no browsers, and name us as they like.
        main.merge(callbacks::limited(Arc::clone(&api.callbacks)))
    } else {
        main
    };
    main.layer(middleware::from_fn(extract::survive)).with_state(api)
}
