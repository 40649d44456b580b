//! The web console: pages about monitors, their live state, an API, and access control.
//!
//! The console reads the configuration, the published status of probes and the lake. It knows
//! neither the command line nor schedules: `mailqos-analytics serve` runs it next to the schedules.

mod access;
mod api;
mod app;
mod assets;
mod audit;
mod board;
mod clock;
mod events;
mod figures;
mod http;
mod language;
mod pages;
mod render;
mod routes;
mod server;

pub use access::links::{LinkError, reset_link};
pub use app::SharedConfig;
pub use server::{Console, ConsoleError, check_listen};
