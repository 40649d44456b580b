//! Addresses of the API, and what answers them.

use axum::{Router, routing::get};

use crate::{
    api, api_account, api_accounts, api_definitions, api_explain, api_monitors, api_objects,
    api_operations, api_reports, app::Shared, events, handler::Gate, pages,
};

/// Returns the router of the API.
pub(crate) fn router(gate: &Gate) -> Router<Shared> {
    definitions(gate)
        .route("/api/v1/openapi.json", gate.read(api::openapi))
        .route("/api/v1/status", gate.read(api::status))
        .route("/api/v1/monitors", gate.read(api::monitors))
        .route("/api/v1/monitors/{site}/{id}", gate.read(api::monitor))
        .route("/api/v1/monitors/{site}/{id}/figures", gate.read(api::figures))
        .route("/api/v1/monitors/{site}/{id}/explain", gate.read(api_explain::explain))
        .route("/api/v1/alarms", gate.read(api::alarms))
        .route("/api/v1/reports", gate.send(api_reports::start))
        .route(
            "/api/v1/reports/definitions/{name}",
            gate.removable(
                gate.form(api_definitions::one, api_definitions::save),
                api_definitions::remove,
            ),
        )
        .route("/api/v1/reports/definitions", gate.read(api_definitions::list))
        .route("/api/v1/reports/archive", gate.read(api_definitions::archived))
        .route("/api/v1/reports/archive/{slug}/{file}", gate.read(pages::reports::archive::file))
        .route("/api/v1/reports/deliveries", gate.read(api_definitions::outbox))
        .route("/api/v1/reports/deliveries/{id}/retry", gate.send(api_definitions::retry))
        .route("/api/v1/reports/deliveries/{id}/drop", gate.send(api_definitions::drop_delivery))
        .route("/api/v1/reports/targets", gate.read(api_definitions::list_targets))
        .route("/api/v1/reports/targets/{name}/try", gate.send(api_definitions::try_target))
        .route("/api/v1/reports/templates", gate.read(api_reports::templates))
        .route("/api/v1/reports/made/{id}", gate.read(api_reports::made))
        .route("/api/v1/reports/made/{id}/cancel", gate.send(api_reports::cancel))
        .route("/api/v1/reports/made/{id}/files/{file}", gate.read(pages::reports::made::file))
        .route("/api/v1/alarms/history", gate.read(api_operations::history))
        .route("/api/v1/alarms/acknowledge", gate.send(api_operations::acknowledge))
        .route("/api/v1/alarms/withdraw", gate.send(api_operations::withdraw))
        .route("/api/v1/maintenance", gate.form(api_operations::windows, api_operations::plan))
        .route("/api/v1/maintenance/declare", gate.send(api_operations::declare))
        .route("/api/v1/maintenance/end", gate.send(api_operations::end))
        .route("/api/v1/maintenance/withdraw", gate.send(api_operations::withdraw_declaration))
        .route("/api/v1/simulations", gate.send(api_operations::simulate))
        .route("/api/v1/simulations/end", gate.send(api_operations::end_simulation))
        .route("/api/v1/action-lists", gate.read(api_operations::lists))
        .route("/api/v1/action-lists/try", gate.send(api_operations::try_list))
        .route("/api/v1/account", gate.read(api_account::account))
        .route("/api/v1/accounts", gate.read(api_accounts::list))
        .route("/api/v1/accounts/{name}/password", gate.send(api_accounts::password))
        .route("/api/v1/audit", gate.read(api_account::audit))
        .route("/api/v1/events", get(events::stream))
}

/// Returns the router of definitions of monitors and objects.
fn definitions(gate: &Gate) -> Router<Shared> {
    Router::new()
        .route("/api/v1/definitions/kinds", gate.read(api_monitors::kinds))
        .route("/api/v1/definitions/monitors", gate.form(api_monitors::list, api_monitors::create))
        .route("/api/v1/definitions/monitors/try", gate.send(api_monitors::try_new))
        .route(
            "/api/v1/definitions/monitors/{id}",
            gate.entry([
                api_monitors::one,
                api_monitors::replace,
                api_monitors::change,
                api_monitors::remove,
            ]),
        )
        .route("/api/v1/definitions/monitors/{id}/enable", gate.send(api_monitors::enable))
        .route("/api/v1/definitions/monitors/{id}/disable", gate.send(api_monitors::disable))
        .route("/api/v1/definitions/monitors/{id}/try", gate.send(api_monitors::try_one))
        .route("/api/v1/definitions/objects", gate.form(api_objects::list, api_objects::create))
        .route(
            "/api/v1/definitions/objects/{id}",
            gate.entry([
                api_objects::one,
                api_objects::replace,
                api_objects::change,
                api_objects::remove,
            ]),
        )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    /// What is only for browsers: it has no counterpart in the API.
    const BROWSER: &str = "only for browsers";
    /// What a token must not do: with a stolen one, an intruder could otherwise stay
    /// (gopherium/AlphOne#47, hoprnet/hoprnet#4571, netbox-community/netbox#22820).
    const SESSION: &str = "only with a session";

    /// Each address of a page, and the operations of the API that do the same.
    const COUNTERPARTS: [(&str, &[&str]); 43] = [
        ("/", &["GET /api/v1/status", "GET /api/v1/monitors"]),
        ("/monitors/{site}/{id}", &["GET /api/v1/monitors/{site}/{monitor}"]),
        ("/monitors/{site}/{id}/figures", &["GET /api/v1/monitors/{site}/{monitor}/figures"]),
        ("/monitors/{site}/{id}/explain", &["GET /api/v1/monitors/{site}/{monitor}/explain"]),
        ("/monitors/new", &["GET /api/v1/definitions/kinds", "POST /api/v1/definitions/monitors"]),
        ("/monitors/try", &["POST /api/v1/definitions/monitors/try"]),
        ("/monitors/{site}/{id}/try", &["POST /api/v1/definitions/monitors/{id}/try"]),
        (
            "/monitors/{site}/{id}/edit",
            &[
                "GET /api/v1/definitions/monitors/{id}",
                "PUT /api/v1/definitions/monitors/{id}",
                "PATCH /api/v1/definitions/monitors/{id}",
            ],
        ),
        (
            "/monitors/{site}/{id}/state",
            &[
                "POST /api/v1/definitions/monitors/{id}/enable",
                "POST /api/v1/definitions/monitors/{id}/disable",
            ],
        ),
        ("/monitors/{site}/{id}/remove", &["DELETE /api/v1/definitions/monitors/{id}"]),
        (
            "/objects",
            &[
                "GET /api/v1/definitions/objects",
                "POST /api/v1/definitions/objects",
                "GET /api/v1/definitions/monitors",
            ],
        ),
        (
            "/objects/{object}",
            &[
                "GET /api/v1/definitions/objects/{id}",
                "PUT /api/v1/definitions/objects/{id}",
                "PATCH /api/v1/definitions/objects/{id}",
            ],
        ),
        ("/objects/{object}/remove", &["DELETE /api/v1/definitions/objects/{id}"]),
        ("/reports", &["GET /api/v1/reports/templates"]),
        ("/reports/templates/{name}", &["POST /api/v1/reports"]),
        ("/reports/archive", &["GET /api/v1/reports/archive"]),
        ("/reports/archive/{slug}/{file}", &["GET /api/v1/reports/archive/{slug}/{file}"]),
        ("/reports/definitions", &["GET /api/v1/reports/definitions"]),
        (
            "/reports/definitions/{name}",
            &[
                "GET /api/v1/reports/definitions/{name}",
                "POST /api/v1/reports/definitions/{name}",
                "DELETE /api/v1/reports/definitions/{name}",
                "POST /api/v1/reports",
            ],
        ),
        ("/reports/new", &["POST /api/v1/reports/definitions/{name}"]),
        (
            "/reports/deliveries",
            &[
                "GET /api/v1/reports/deliveries",
                "POST /api/v1/reports/deliveries/{id}/retry",
                "POST /api/v1/reports/deliveries/{id}/drop",
            ],
        ),
        (
            "/reports/targets",
            &["GET /api/v1/reports/targets", "POST /api/v1/reports/targets/{name}/try"],
        ),
        (
            "/reports/made/{id}",
            &["GET /api/v1/reports/made/{id}", "POST /api/v1/reports/made/{id}/cancel"],
        ),
        ("/reports/made/{id}/view", &["GET /api/v1/reports/made/{id}/files/{file}"]),
        ("/reports/made/{id}/files/{file}", &["GET /api/v1/reports/made/{id}/files/{file}"]),
        (
            "/alarms",
            &[
                "GET /api/v1/alarms",
                "GET /api/v1/alarms/history",
                "POST /api/v1/alarms/acknowledge",
                "POST /api/v1/alarms/withdraw",
                "POST /api/v1/simulations",
                "POST /api/v1/simulations/end",
                "GET /api/v1/action-lists",
                "POST /api/v1/action-lists/try",
            ],
        ),
        (
            "/maintenance",
            &[
                "GET /api/v1/maintenance",
                "POST /api/v1/maintenance",
                "POST /api/v1/maintenance/declare",
                "POST /api/v1/maintenance/end",
                "POST /api/v1/maintenance/withdraw",
            ],
        ),
        ("/sign-in", &[BROWSER]),
        ("/sign-in/oidc", &[BROWSER]),
        ("/sign-in/oidc/callback", &[BROWSER]),
        ("/sign-out", &[BROWSER]),
        ("/welcome/{token}", &[BROWSER]),
        ("/account", &["GET /api/v1/account", SESSION]),
        ("/accounts", &["GET /api/v1/accounts"]),
        ("/accounts/{name}", &["POST /api/v1/accounts/{name}/password"]),
        ("/users", &[SESSION]),
        ("/audit", &["GET /api/v1/audit"]),
        ("/links", &[SESSION]),
        ("/shared/{token}", &[BROWSER]),
        ("/assets/{name}", &[BROWSER]),
        ("/health", &[BROWSER]),
        ("/events", &["GET /api/v1/events"]),
        ("/api/v1/openapi.json", &[BROWSER]),
    ];

    /// Returns the addresses in a source file.
    fn addresses(source: &str) -> BTreeSet<String> {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let calls = code.split(".route(").skip(1);
        calls.filter_map(|call| Some(call.split('"').nth(1)?.to_owned())).collect()
    }

    /// Returns the operations that the description of the API contains.
    fn described() -> BTreeSet<String> {
        let json = serde_json::to_value(crate::api::description()).expect("JSON");
        let paths = json["paths"].as_object().expect("paths");
        let operations = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.map(move |(method, _)| format!("{} {path}", method.to_uppercase()))
        });
        operations.collect()
    }

    #[test]
    fn everything_that_pages_do_is_in_the_api() {
        let pages = addresses(include_str!("routes.rs"));
        let table: BTreeMap<&str, &[&str]> = COUNTERPARTS.into_iter().collect();
        let named: BTreeSet<String> = table
            .keys()
            .filter(|path| !path.starts_with("/api/"))
            .map(ToString::to_string)
            .collect();
        assert_eq!(pages, named, "each address needs its counterparts");
        let described = described();
        for (page, operations) in table {
            for operation in operations.iter().filter(|it| ![BROWSER, SESSION].contains(it)) {
                // An event stream has no description.
                let is_known = described.contains(*operation) || operation.ends_with("/events");
                assert!(is_known, "{page}: {operation} is not described");
            }
        }
    }

    #[test]
    fn every_address_of_the_api_is_described_and_used() {
        let plain = |path: &str| path.replace("{monitor}", "{id}");
        let addresses = addresses(include_str!("api_routes.rs"));
        let described = described();
        let paths: BTreeSet<String> = described
            .iter()
            .filter_map(|operation| Some(plain(operation.split_once(' ')?.1)))
            .collect();
        let others = ["/api/v1/openapi.json", "/api/v1/events"];
        let wanted: BTreeSet<String> =
            addresses.into_iter().filter(|path| !others.contains(&path.as_str())).collect();
        assert_eq!(paths, wanted);
        let used: BTreeSet<&str> =
            COUNTERPARTS.iter().flat_map(|(_, operations)| operations.iter().copied()).collect();
        for operation in &described {
            assert!(used.contains(operation.as_str()), "{operation} belongs to no page");
        }
    }
}
