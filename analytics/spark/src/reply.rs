//! What has arrived of a statement's result, across several streams.

use crate::{
    arrow,
    grpc::{CallError, code},
    proto::{ExecutePlanResponse, StageInfo},
};

/// Largest result in bytes.
const MAX_RESULT: usize = 4 * 1024 * 1024 * 1024;

/// Progress of a statement, as the server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Number of tasks that are known so far.
    pub tasks: u64,
    /// Number of those that are finished.
    pub completed: u64,
}

/// What has arrived of a result.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// The rows so far.
    pub(crate) rows: Vec<String>,
    /// The last message that arrived.
    pub(crate) last: Option<String>,
    /// Whether the result is complete.
    pub(crate) is_complete: bool,
    /// Number of messages that arrived.
    pub(crate) messages: u64,
    /// The server's own id of the session.
    pub(crate) server_session: Option<String>,
    bytes: usize,
}

/// Why a message is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unacceptable {
    /// The server was restarted and answers about another session.
    OtherSession,
    /// The message contradicts the request or the earlier messages.
    Wrong(String),
}

impl From<Unacceptable> for CallError {
    fn from(reason: Unacceptable) -> Self {
        match reason {
            // The words with which a server reports the same.
            Unacceptable::OtherSession => {
                Self::Status(code::INTERNAL, "INVALID_HANDLE.SESSION_CHANGED".into())
            }
            Unacceptable::Wrong(reason) => Self::Protocol(reason),
        }
    }
}

impl Reply {
    /// Takes a message about an operation of a session; returns the progress that it reports.
    ///
    /// # Errors
    /// The message is about something else, or rows are missing, duplicated or damaged.
    pub(crate) fn take(
        &mut self,
        response: ExecutePlanResponse,
        (session, operation): (&str, &str),
    ) -> Result<Option<Progress>, Unacceptable> {
        let wrong = |reason: &str| Unacceptable::Wrong(reason.to_owned());
        let is_other = |id: &str, own: &str| !id.is_empty() && id != own;
        if is_other(&response.session_id, session) || is_other(&response.operation_id, operation) {
            return Err(wrong("a message is about another statement"));
        }
        if !response.server_side_session_id.is_empty() {
            let id = response.server_side_session_id;
            match &self.server_session {
                // apache/spark#43664: after a restart, the server answers as if nothing was.
                Some(known) if *known != id => return Err(Unacceptable::OtherSession),
                Some(_) => {}
                None => self.server_session = Some(id),
            }
        }
        if self.is_complete {
            return Err(wrong("a message follows the end of the result"));
        }
        if let Some(batch) = response.arrow_batch {
            if batch.num_chunks_in_batch.is_some_and(|count| count > 1) {
                return Err(wrong("a batch is sent in parts without being asked to"));
            }
            let before = i64::try_from(self.rows.len()).unwrap_or(i64::MAX);
            // Without this, a gap would be silent loss, and a repetition a duplicate.
            if batch.start_offset.is_some_and(|offset| offset != before) {
                return Err(wrong("rows of the result are missing or sent twice"));
            }
            self.bytes = self.bytes.saturating_add(batch.data.len());
            if self.bytes > MAX_RESULT {
                return Err(Unacceptable::Wrong(format!(
                    "the result is larger than {} GiB; ask for a shorter period or longer buckets",
                    MAX_RESULT / 1024 / 1024 / 1024
                )));
            }
            let rows = arrow::texts(&batch.data).map_err(Unacceptable::Wrong)?;
            if i64::try_from(rows.len()) != Ok(batch.row_count) {
                return Err(wrong("a batch has another number of rows than announced"));
            }
            self.rows.extend(rows);
        }
        self.is_complete = response.result_complete.is_some();
        self.messages += 1;
        if !response.response_id.is_empty() {
            self.last = Some(response.response_id);
        }
        Ok(response.execution_progress.map(|progress| {
            let sum = |of: fn(&StageInfo) -> i64| {
                progress.stages.iter().map(|stage| u64::try_from(of(stage)).unwrap_or(0)).sum()
            };
            Progress {
                tasks: sum(|stage| stage.num_tasks),
                completed: sum(|stage| stage.num_completed_tasks),
            }
        }))
    }
}
