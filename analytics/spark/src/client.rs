//! Starts statements, reads their results to the end over several streams, and cancels them.

use std::{
    pin::{Pin, pin},
    sync::Arc,
};

use mailqos_base::{Secret, hex, mask};
use mailqos_net::{Trust, client_config};
use prost::Message;
use rustls::ClientConfig;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    address::Address,
    grpc::{CallError, Channel, code},
    pace::Pace,
    proto::{
        ConfigOperation, ConfigRequest, ConfigResponse, ExecutePlanRequest, ExecutePlanResponse,
        GetWithDefault, InterruptRequest, InterruptResponse, KeyValue, Nothing, Plan,
        ReattachExecuteRequest, ReattachOptions, Relation, ReleaseExecuteRequest,
        ReleaseSessionRequest, RequestOption, Sql, UserContext,
    },
    reply::{Progress, Reply},
};

/// How often a statement is executed if the server loses it.
const MAX_EXECUTIONS: u32 = 3;
/// Failed calls in a row before a statement fails, if the server has answered before. With the
/// pauses, this is a minute and a half, enough for a restart.
const MAX_FAILURES: u32 = 10;
/// Failed calls in a row before a statement fails, if the server has never answered.
const MAX_FIRST_FAILURES: u32 = 3;
/// Times of silence in a row before a statement fails. Servers that report no progress (Spark 3.5)
/// and whose streams have no limit are silent while they work.
const MAX_SILENCES: u32 = 12;
/// Largest length of a server's message that is shown, in bytes.
const MAX_MESSAGE: usize = 2000;
/// `INTERRUPT_TYPE_OPERATION_ID`.
const INTERRUPT_OPERATION: i32 = 3;
/// Sent with each statement, for the server's log.
const CLIENT_TYPE: &str = concat!("mailqos/", env!("CARGO_PKG_VERSION"));

/// Why a statement has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SparkError {
    /// The connection could not be prepared.
    #[error("{0}")]
    Setup(String),
    /// The server can't be reached.
    #[error("Spark Connect at {server} can't be reached: {reason}")]
    Unreachable {
        /// Host and port.
        server: String,
        /// The last failure.
        reason: String,
    },
    /// The server rejects the token, or requires one.
    #[error("Spark Connect at {server} {reason}")]
    Unauthenticated {
        /// Host and port.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// The server lost the statement repeatedly, for example because it is restarted again and
    /// again.
    #[error("Spark lost the statement {MAX_EXECUTIONS} times: {0}")]
    Lost(String),
    /// The statement failed.
    #[error("the statement failed on Spark: {0}")]
    Statement(String),
    /// The result is damaged, incomplete or too large.
    #[error("Spark's answer is not usable: {0}")]
    Answer(String),
    /// The caller cancelled the statement.
    #[error("{}", if *.confirmed {
        "interrupted; the statement was cancelled on the cluster"
    } else {
        "interrupted, but the cluster did not confirm that the statement was cancelled"
    })]
    Cancelled {
        /// Whether the server confirmed it.
        confirmed: bool,
    },
}

/// A client of a server.
#[derive(Debug)]
pub struct Client {
    address: Address,
    token: Option<Secret>,
    tls: Option<Arc<ClientConfig>>,
    pace: Pace,
}

/// A session with one operation.
struct Operation {
    session: String,
    operation: String,
    user: Option<UserContext>,
}

/// An operation whose result is read.
struct Reading<'a, F> {
    operation: &'a Operation,
    reply: Reply,
    progress: &'a mut F,
}

/// Why reading a result ended.
enum Ended {
    /// The server has lost the statement; it can be executed again.
    Lost(String),
    Failed(SparkError),
}

/// How a statement goes on after a failed call.
enum Next {
    Execute,
    Reattach,
}

impl Client {
    /// Prepares a client; it connects later.
    ///
    /// # Errors
    /// The trusted certificates can't be read.
    pub fn new(address: Address, token: Option<Secret>, trust: &Trust) -> Result<Self, SparkError> {
        let tls = if address.tls {
            let config = client_config(trust).map_err(|e| SparkError::Setup(e.to_string()))?;
            let mut config = (*config).clone();
            config.alpn_protocols = vec![b"h2".to_vec()];
            Some(Arc::new(config))
        } else {
            None
        };
        Ok(Self { address, token, tls, pace: Pace::default() })
    }

    /// Sets other deadlines and pauses.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Executes a statement whose result has one column of texts, and returns its rows. If the
    /// server loses the statement, it is executed again. If `cancel` is ready earlier, the statement
    /// is cancelled on the cluster.
    ///
    /// # Errors
    /// There is no complete result.
    pub async fn execute(
        &self,
        statement: &str,
        cancel: impl Future<Output = ()>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<String>, SparkError> {
        let mut cancel = pin!(cancel);
        let mut lost = String::new();
        for _ in 0..MAX_EXECUTIONS {
            let result = self.attempt(statement, cancel.as_mut(), &mut progress).await;
            match result {
                Ok(rows) => return Ok(rows),
                Err(Ended::Failed(error)) => return Err(error),
                Err(Ended::Lost(reason)) => {
                    tracing::warn!(%reason, "spark_statement_lost");
                    lost = reason;
                }
            }
        }
        Err(SparkError::Lost(lost))
    }

    /// Returns a setting of the cluster, or this default if it is not set.
    ///
    /// # Errors
    /// The server can't be reached, or refuses.
    pub async fn setting(&self, name: &str, default: &str) -> Result<String, SparkError> {
        let own = |ended: Ended| match ended {
            Ended::Failed(error) => error,
            Ended::Lost(reason) => SparkError::Lost(reason),
        };
        let operation = self.operation().map_err(own)?;
        let pair = KeyValue { key: name.to_owned(), value: Some(default.to_owned()) };
        let get_with_default = Some(GetWithDefault { pairs: vec![pair] });
        let request = ConfigRequest {
            session_id: operation.session.clone(),
            user_context: operation.user.clone(),
            operation: Some(ConfigOperation { get_with_default }),
            client_type: Some(CLIENT_TYPE.to_owned()),
        };
        let mut last = String::new();
        for attempt in 0..MAX_FIRST_FAILURES {
            if attempt > 0 {
                sleep((self.pace.pause * 2_u32.pow(attempt - 1)).min(self.pace.longest_pause))
                    .await;
            }
            let mut value = None;
            let take = |response: ConfigResponse| {
                let pair = response.pairs.into_iter().find(|pair| pair.key == name);
                value = pair.and_then(|pair| pair.value).or_else(|| value.take());
                Ok(())
            };
            let call = async { self.channel().await?.call("Config", &request, take).await };
            match call.await {
                Ok(()) => {
                    self.release(&operation).await;
                    return Ok(value.unwrap_or_else(|| default.to_owned()));
                }
                Err(CallError::Status(code::UNAVAILABLE, reason)) => last = reason,
                Err(CallError::Status(code, message)) => return Err(self.refused(code, &message)),
                Err(CallError::Protocol(reason)) => {
                    return Err(SparkError::Answer(self.shown(&reason)));
                }
                Err(CallError::Silent) => return Err(own(self.unreachable("it sends nothing"))),
                Err(CallError::NoConnection(reason) | CallError::Broken(reason)) => last = reason,
            }
        }
        Err(own(self.unreachable(&last)))
    }

    /// Executes a statement in a new session.
    async fn attempt(
        &self,
        statement: &str,
        cancel: Pin<&mut impl Future<Output = ()>>,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Vec<String>, Ended> {
        let operation = self.operation()?;
        let result = tokio::select! {
            // The result counts if both are ready.
            biased;
            result = self.read(statement, &operation, progress) => result,
            () = cancel => {
                let confirmed = self.interrupt(&operation).await;
                Err(Ended::Failed(SparkError::Cancelled { confirmed }))
            }
        };
        if !matches!(result, Err(Ended::Failed(SparkError::Unreachable { .. }))) {
            self.release(&operation).await;
        }
        result
    }

    fn operation(&self) -> Result<Operation, Ended> {
        let setup = |error: getrandom::Error| {
            Ended::Failed(SparkError::Setup(format!("the system has no random numbers: {error}")))
        };
        let user_id = self.address.user.clone().unwrap_or_else(|| "mailqos".to_owned());
        Ok(Operation {
            session: uuid().map_err(setup)?,
            operation: uuid().map_err(setup)?,
            user: Some(UserContext { user_id }),
        })
    }

    async fn channel(&self) -> Result<Channel<'_>, CallError> {
        Channel::connect(&self.address, self.token.as_ref(), self.tls.as_ref(), &self.pace).await
    }

    /// Reads a result to its end.
    ///
    /// A server ends the stream of a result after two minutes or 1 GiB, whether or not the result is
    /// complete (`spark.connect.execute.reattachable.senderMaxStreamDuration`). It is complete only
    /// after `ResultComplete`, and continues by `ReattachExecute` until then.
    async fn read(
        &self,
        statement: &str,
        operation: &Operation,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Vec<String>, Ended> {
        let mut reading = Reading { operation, reply: Reply::default(), progress };
        let mut next = Next::Execute;
        let (mut failures, mut silences, mut has_answered) = (0, 0, false);
        loop {
            let (known, start) = (reading.reply.messages, Instant::now());
            let ended = match next {
                Next::Execute => self.start(statement, &mut reading).await,
                Next::Reattach => self.resume(&mut reading).await,
            };
            if reading.reply.is_complete {
                return Ok(reading.reply.rows);
            }
            let has_advanced = reading.reply.messages > known;
            if has_advanced {
                (failures, silences) = (0, 0);
            }
            has_answered |= !matches!(ended, Err(CallError::NoConnection(_)));
            let reason = match ended {
                Ok(()) => {
                    next = Next::Reattach;
                    if has_advanced || start.elapsed() >= self.pace.shortest_stream {
                        continue;
                    }
                    // apache/spark#49370: a server may end each stream immediately, for ever.
                    "it ends the result before it is complete".to_owned()
                }
                Err(CallError::Silent) if silences < MAX_SILENCES => {
                    (next, silences) = (Next::Reattach, silences + 1);
                    continue;
                }
                Err(CallError::Silent) => return Err(self.unreachable("it sends nothing")),
                Err(CallError::Protocol(reason)) => {
                    return Err(Ended::Failed(SparkError::Answer(self.shown(&reason))));
                }
                Err(CallError::NoConnection(reason) | CallError::Broken(reason)) => {
                    if reading.reply.messages > 0 {
                        next = Next::Reattach;
                    }
                    reason
                }
                Err(CallError::Status(code, message)) => {
                    next = self.after(code, &message, &reading.reply, &next)?;
                    message
                }
            };
            failures += 1;
            let most = if has_answered { MAX_FAILURES } else { MAX_FIRST_FAILURES };
            if failures >= most {
                return Err(self.unreachable(&reason));
            }
            tracing::debug!(reason = %self.shown(&reason), failures, "spark_call_failed");
            let pause = self.pace.pause * 2_u32.pow(failures.min(16) - 1);
            sleep(pause.min(self.pace.longest_pause)).await;
        }
    }

    /// Decides what follows a status other than OK.
    fn after(
        &self,
        code: u32,
        message: &str,
        reply: &Reply,
        current: &Next,
    ) -> Result<Next, Ended> {
        let is = |class: &str| message.contains(class);
        let is_reattaching = matches!(current, Next::Reattach);
        // apache/spark#42282: the statement never reached the server.
        if reply.messages == 0
            && is_reattaching
            && (is("OPERATION_NOT_FOUND") || is("SESSION_NOT_FOUND"))
        {
            return Ok(Next::Execute);
        }
        let lost = [
            "OPERATION_NOT_FOUND",
            "OPERATION_ABANDONED",
            "SESSION_NOT_FOUND",
            "SESSION_CHANGED",
            "SESSION_CLOSED",
        ];
        if lost.iter().any(|class| is(class)) {
            return Err(Ended::Lost(self.shown(message)));
        }
        // apache/spark#51084: the statement was received, but not its answer.
        if is("OPERATION_ALREADY_EXISTS") && !is_reattaching {
            return Ok(Next::Reattach);
        }
        match code {
            code::UNAVAILABLE if reply.messages > 0 => Ok(Next::Reattach),
            code::UNAVAILABLE => Ok(Next::Execute),
            code::INTERNAL if is("CURSOR_DISCONNECTED") || is("CURSOR.DISCONNECTED") => {
                Ok(Next::Reattach)
            }
            _ => Err(Ended::Failed(self.refused(code, message))),
        }
    }

    /// Returns the error for a status after which another attempt has the same result.
    fn refused(&self, code: u32, message: &str) -> SparkError {
        let server = self.address.server();
        match (code, &self.token) {
            (code::UNAUTHENTICATED, Some(_)) => {
                SparkError::Unauthenticated { server, reason: "rejects the token".to_owned() }
            }
            (code::UNAUTHENTICATED, None) => {
                let reason = "requires a token; set token in [engine], or the environment variable \
                              SPARK_CONNECT_AUTHENTICATE_TOKEN";
                SparkError::Unauthenticated { server, reason: reason.to_owned() }
            }
            (code::PERMISSION_DENIED, _) => {
                let reason = format!("refuses the statement: {}", self.shown(message));
                SparkError::Unauthenticated { server, reason }
            }
            (code::UNIMPLEMENTED, _) => SparkError::Answer(format!(
                "the server at {server} does not offer Spark Connect ({})",
                self.shown(message)
            )),
            _ => SparkError::Statement(self.shown(message)),
        }
    }

    async fn start(
        &self,
        statement: &str,
        reading: &mut Reading<'_, impl FnMut(Progress)>,
    ) -> Result<(), CallError> {
        let operation = reading.operation;
        let options = ReattachOptions { reattachable: true };
        let query = statement.to_owned();
        let request = ExecutePlanRequest {
            session_id: operation.session.clone(),
            user_context: operation.user.clone(),
            plan: Some(Plan { root: Some(Relation { sql: Some(Sql { query }) }) }),
            client_type: Some(CLIENT_TYPE.to_owned()),
            request_options: vec![RequestOption { reattach_options: Some(options) }],
            operation_id: Some(operation.operation.clone()),
        };
        self.stream("ExecutePlan", &request, reading).await
    }

    async fn resume(
        &self,
        reading: &mut Reading<'_, impl FnMut(Progress)>,
    ) -> Result<(), CallError> {
        let (operation, reply) = (reading.operation, &reading.reply);
        let request = ReattachExecuteRequest {
            session_id: operation.session.clone(),
            user_context: operation.user.clone(),
            operation_id: operation.operation.clone(),
            client_type: Some(CLIENT_TYPE.to_owned()),
            last_response_id: reply.last.clone(),
            client_observed_server_side_session_id: reply.server_session.clone(),
        };
        self.stream("ReattachExecute", &request, reading).await
    }

    /// Reads a stream of messages, over a new connection.
    async fn stream(
        &self,
        method: &str,
        request: &impl Message,
        reading: &mut Reading<'_, impl FnMut(Progress)>,
    ) -> Result<(), CallError> {
        let ids = (reading.operation.session.as_str(), reading.operation.operation.as_str());
        let take = |response: ExecutePlanResponse| {
            if let Some(reported) = reading.reply.take(response, ids)? {
                (reading.progress)(reported);
            }
            Ok(())
        };
        self.channel().await?.call(method, request, take).await
    }

    /// Cancels a statement on the cluster; returns whether the server confirmed it.
    async fn interrupt(&self, operation: &Operation) -> bool {
        let request = InterruptRequest {
            session_id: operation.session.clone(),
            user_context: operation.user.clone(),
            interrupt_type: INTERRUPT_OPERATION,
            operation_id: Some(operation.operation.clone()),
        };
        let mut is_confirmed = false;
        let take = |response: InterruptResponse| {
            is_confirmed |= response.interrupted_ids.contains(&operation.operation);
            Ok(())
        };
        let call = async { self.channel().await?.call("Interrupt", &request, take).await };
        let called = timeout(self.pace.ending, call).await;
        matches!(called, Ok(Ok(()))) && is_confirmed
    }

    /// Has the server forget the result and the session. If that fails, it forgets them later.
    async fn release(&self, operation: &Operation) {
        let result = ReleaseExecuteRequest {
            session_id: operation.session.clone(),
            user_context: operation.user.clone(),
            operation_id: operation.operation.clone(),
            release_all: Some(Nothing {}),
        };
        let session = ReleaseSessionRequest {
            session_id: operation.session.clone(),
            user_context: operation.user.clone(),
        };
        let calls = async {
            let channel = self.channel().await?;
            // A statement that the server has lost can't be released.
            let _ = channel.call("ReleaseExecute", &result, |_: Nothing| Ok(())).await;
            channel.call("ReleaseSession", &session, |_: Nothing| Ok(())).await
        };
        if let Ok(Err(error)) = timeout(self.pace.ending, calls).await {
            tracing::debug!(?error, "spark_session_not_released");
        }
    }

    fn unreachable(&self, reason: &str) -> Ended {
        let (server, reason) = (self.address.server(), self.shown(reason));
        Ended::Failed(SparkError::Unreachable { server, reason })
    }

    /// Returns a message of the server as a line, without the token.
    fn shown(&self, message: &str) -> String {
        let secrets: Vec<Secret> = self.token.iter().cloned().collect();
        let text = mask::masked(message, &secrets);
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        let mut line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        if line.len() > MAX_MESSAGE {
            line.truncate(line.floor_char_boundary(MAX_MESSAGE));
            line.push('…');
        }
        line
    }
}

/// Returns a random UUID (RFC 9562, version 4).
fn uuid() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    Ok([&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-"))
}
