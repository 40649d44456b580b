//! The messages of Spark Connect that this client uses, with the field numbers of
//! `spark/connect/base.proto` and `relations.proto` (Spark 3.5 to 4.2). They are written out so
//! that no build needs `protoc`. Unknown fields are ignored, as Protocol Buffers prescribe.

use prost::Message;

/// The user whose session it is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserContext {
    /// Name of the user.
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
}

/// A query in SQL.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sql {
    /// The text.
    #[prost(string, tag = "1")]
    pub(crate) query: String,
}

/// What is computed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Relation {
    /// A query in SQL.
    #[prost(message, optional, tag = "10")]
    pub(crate) sql: Option<Sql>,
}

/// A plan.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Plan {
    /// Its root.
    #[prost(message, optional, tag = "1")]
    pub(crate) root: Option<Relation>,
}

/// Whether the result survives the end of a stream.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReattachOptions {
    /// Whether it does.
    #[prost(bool, tag = "1")]
    pub(crate) reattachable: bool,
}

/// An option of a request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestOption {
    /// Whether the result survives the end of a stream.
    #[prost(message, optional, tag = "1")]
    pub(crate) reattach_options: Option<ReattachOptions>,
}

/// Executes a plan.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecutePlanRequest {
    /// The session, a UUID.
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    /// The user.
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    /// The plan.
    #[prost(message, optional, tag = "3")]
    pub(crate) plan: Option<Plan>,
    /// The program, for the server's log.
    #[prost(string, optional, tag = "4")]
    pub(crate) client_type: Option<String>,
    /// Options.
    #[prost(message, repeated, tag = "5")]
    pub(crate) request_options: Vec<RequestOption>,
    /// The operation, a UUID.
    #[prost(string, optional, tag = "6")]
    pub(crate) operation_id: Option<String>,
}

/// Rows of a result.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrowBatch {
    /// Their number.
    #[prost(int64, tag = "1")]
    pub(crate) row_count: i64,
    /// An Arrow stream.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) data: bytes::Bytes,
    /// Number of rows before these.
    #[prost(int64, optional, tag = "3")]
    pub(crate) start_offset: Option<i64>,
    /// Number of parts that the batch is sent in, only if the client asks for parts.
    #[prost(int64, optional, tag = "5")]
    pub(crate) num_chunks_in_batch: Option<i64>,
}

/// A message without content.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nothing {}

/// Tasks of a stage.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StageInfo {
    /// Their number.
    #[prost(int64, tag = "2")]
    pub(crate) num_tasks: i64,
    /// Number of those that are finished.
    #[prost(int64, tag = "3")]
    pub(crate) num_completed_tasks: i64,
}

/// Progress of a statement.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecutionProgress {
    /// Its stages.
    #[prost(message, repeated, tag = "1")]
    pub(crate) stages: Vec<StageInfo>,
}

/// A message of a result.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecutePlanResponse {
    /// The session of the request.
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    /// Rows.
    #[prost(message, optional, tag = "2")]
    pub(crate) arrow_batch: Option<ArrowBatch>,
    /// The operation of the request.
    #[prost(string, tag = "12")]
    pub(crate) operation_id: String,
    /// Identifies this message.
    #[prost(string, tag = "13")]
    pub(crate) response_id: String,
    /// Set in the last message of the result.
    #[prost(message, optional, tag = "14")]
    pub(crate) result_complete: Option<Nothing>,
    /// The server's own id of the session: another one after a restart.
    #[prost(string, tag = "15")]
    pub(crate) server_side_session_id: String,
    /// Progress.
    #[prost(message, optional, tag = "18")]
    pub(crate) execution_progress: Option<ExecutionProgress>,
}

/// Continues a result after a message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReattachExecuteRequest {
    /// The session.
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    /// The user.
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    /// The operation.
    #[prost(string, tag = "3")]
    pub(crate) operation_id: String,
    /// The program, for the server's log.
    #[prost(string, optional, tag = "4")]
    pub(crate) client_type: Option<String>,
    /// The last message that arrived; absent: from the beginning.
    #[prost(string, optional, tag = "5")]
    pub(crate) last_response_id: Option<String>,
    /// The server's own id of the session.
    #[prost(string, optional, tag = "6")]
    pub(crate) client_observed_server_side_session_id: Option<String>,
}

/// Frees a result.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseExecuteRequest {
    /// The session.
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    /// The user.
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    /// The operation.
    #[prost(string, tag = "3")]
    pub(crate) operation_id: String,
    /// Frees all of it.
    #[prost(message, optional, tag = "5")]
    pub(crate) release_all: Option<Nothing>,
}

/// Cancels an operation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterruptRequest {
    /// The session.
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    /// The user.
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    /// 3: the operation with this id.
    #[prost(int32, tag = "4")]
    pub(crate) interrupt_type: i32,
    /// The operation.
    #[prost(string, optional, tag = "6")]
    pub(crate) operation_id: Option<String>,
}

/// The operations that were cancelled.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterruptResponse {
    /// Their ids.
    #[prost(string, repeated, tag = "2")]
    pub(crate) interrupted_ids: Vec<String>,
}

/// Closes a session.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReleaseSessionRequest {
    /// The session.
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    /// The user.
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
}

/// A setting and its value.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    /// The setting.
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// Its value.
    #[prost(string, optional, tag = "2")]
    pub(crate) value: Option<String>,
}

/// Settings with their defaults.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetWithDefault {
    /// The settings.
    #[prost(message, repeated, tag = "1")]
    pub(crate) pairs: Vec<KeyValue>,
}

/// What to do with settings.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigOperation {
    /// Read them.
    #[prost(message, optional, tag = "3")]
    pub(crate) get_with_default: Option<GetWithDefault>,
}

/// Reads settings of the cluster.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigRequest {
    /// The session.
    #[prost(string, tag = "1")]
    pub(crate) session_id: String,
    /// The user.
    #[prost(message, optional, tag = "2")]
    pub(crate) user_context: Option<UserContext>,
    /// What to do.
    #[prost(message, optional, tag = "3")]
    pub(crate) operation: Option<ConfigOperation>,
    /// The program, for the server's log.
    #[prost(string, optional, tag = "4")]
    pub(crate) client_type: Option<String>,
}

/// Settings of the cluster.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigResponse {
    /// The settings.
    #[prost(message, repeated, tag = "2")]
    pub(crate) pairs: Vec<KeyValue>,
}
