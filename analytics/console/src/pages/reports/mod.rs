//! Reports: a gallery of the templates, a form that asks for one, and the report itself.

pub(crate) mod archive;
pub(crate) mod choose;
pub(crate) mod definitions;
pub(crate) mod deliveries;
pub(crate) mod gallery;
pub(crate) mod made;
pub(crate) mod own;
pub(crate) mod targets;

use crate::{
    access::viewer::Viewer,
    app::{App, Refusal},
    http::request::Ask,
};

/// Returns the user of pages about all reports: it must see all monitors, because definitions and
/// deliveries are about any.
fn require(app: &App, ask: &Ask) -> Result<Viewer, Refusal> {
    let viewer = app.require(ask)?;
    if viewer.sees_all() { Ok(viewer) } else { Err(Refusal::NotFound) }
}
