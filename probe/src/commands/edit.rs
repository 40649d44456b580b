//! The editor of configuration files, with failures of commands.

use mailqos_config::edit::EditError;
pub(super) use mailqos_config::edit::{Edit, inline, list};

use super::Failure;

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Write { .. } => Self::Work(error.to_string()),
            error => Self::Usage(error.to_string()),
        }
    }
}
