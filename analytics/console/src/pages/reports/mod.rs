//! Reports: a gallery of the templates, a form that asks for one, and the report itself.

pub(crate) mod choose;
pub(crate) mod gallery;
pub(crate) mod made;
