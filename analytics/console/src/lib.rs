//! The web console: pages about monitors, their live state, an API, and access control.
//!
//! The console reads the configuration, the published status of probes and the lake. It knows
//! neither the command line nor schedules: `mailqos-analytics serve` runs it next to the schedules.

mod access;
mod api;
mod api_account;
mod api_accounts;
mod api_changes;
mod api_definitions;
mod api_explain;
mod api_monitors;
mod api_objects;
mod api_operations;
mod api_reports;
mod api_routes;
mod app;
mod assets;
mod audit;
mod board;
mod clock;
mod definitions;
mod events;
mod figures;
mod handler;
mod http;
mod language;
mod operations;
mod pages;
mod render;
mod reports;
mod routes;
mod server;
mod sign_on;

pub use access::links::{LinkError, reset_link};
pub use app::SharedConfig;
pub use reports::maker::{ARGUMENT as MAKE_REPORT, make_report};
pub use server::{Console, ConsoleError, check_listen};
