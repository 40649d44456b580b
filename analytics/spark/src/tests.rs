//! Statements on a scripted server: what arrives is complete, or an error.

use std::{
    future::{pending, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use mailqos_base::Secret;
use mailqos_net::Trust;
use polars_arrow::{
    array::{Int64Array, Utf8Array},
    datatypes::ArrowDataType,
};
use prost::Message as _;
use tokio::sync::Notify;

use crate::{
    Address, Client, Pace, Progress, SparkError,
    proto::{
        ConfigResponse, ExecutePlanRequest, ExecutePlanResponse, InterruptRequest,
        InterruptResponse, KeyValue, ReattachExecuteRequest,
    },
    scripted::{Answer, Call, End, Scripted, complete, progress, rows, stream},
};

/// Short pauses; the deadlines are never reached by a server that answers.
fn pace() -> Pace {
    Pace {
        connect: Duration::from_secs(60),
        silence: Duration::from_secs(60),
        ending: Duration::from_secs(60),
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        shortest_stream: Duration::from_secs(3600),
    }
}

fn client(server: &Scripted, token: Option<&str>) -> Client {
    let address = Address::parse(&server.url()).expect("an address");
    Client::new(address, token.map(Secret::new), &server.trust())
        .expect("a client")
        .with_pace(pace())
}

async fn execute(server: &Scripted) -> Result<Vec<String>, SparkError> {
    client(server, None).execute("SELECT 1", pending(), |_| {}).await
}

/// Runs a statement against answers that are given in this order, the last one again and again.
async fn result_of(answers: Vec<Answer>) -> (Result<Vec<String>, SparkError>, Scripted) {
    let server =
        Scripted::start(move |call: &Call| answers[call.before.min(answers.len() - 1)].clone())
            .await;
    (execute(&server).await, server)
}

fn methods(server: &Scripted) -> Vec<String> {
    let is_stream =
        |call: &Call| ["ExecutePlan", "ReattachExecute"].contains(&call.method.as_str());
    server.calls().into_iter().filter(is_stream).map(|call| call.method).collect()
}

const EXECUTE: &str = "ExecutePlan";
const REATTACH: &str = "ReattachExecute";

/// sjrusso8/spark-connect-rs#71: a server ends every stream after two minutes or 1 GiB. The result is
/// read on from the last message until `ResultComplete`.
#[tokio::test]
async fn a_result_is_read_across_streams_until_it_is_complete() {
    let (result, server) = result_of(vec![
        Answer::of(vec![progress("p", 0, 2)]),
        Answer::of(vec![rows("a", 0, &["one", "two"])]),
        Answer::ending(vec![rows("b", 2, &["three"])], End::Cut),
        Answer::of(vec![rows("c", 3, &[]), rows("d", 3, &["four"])]),
        Answer::of(vec![complete("e")]),
    ])
    .await;
    assert_eq!(result.expect("a result"), ["one", "two", "three", "four"]);
    assert_eq!(methods(&server), [EXECUTE, REATTACH, REATTACH, REATTACH, REATTACH]);
    let calls = server.calls_of(REATTACH);
    let last: Vec<Option<String>> = calls
        .iter()
        .map(|call| call.decoded::<ReattachExecuteRequest>().last_response_id)
        .collect();
    assert_eq!(last.iter().flatten().collect::<Vec<_>>(), ["p", "a", "b", "d"]);
    let first: ExecutePlanRequest = server.calls_of(EXECUTE)[0].decoded();
    let again: ReattachExecuteRequest = calls[0].decoded();
    assert_eq!(
        (Some(again.operation_id), again.session_id),
        (first.operation_id, first.session_id)
    );
    assert_eq!(server.calls_of("ReleaseExecute").len(), 1);
    assert_eq!(server.calls_of("ReleaseSession").len(), 1);
}

/// The trap of other clients: no row, no error. apache/spark#49370: a server that ends every stream at
/// once is not asked for ever.
#[tokio::test]
async fn an_end_without_result_complete_is_never_a_result() {
    for answer in [
        Answer::of(vec![]),
        Answer::ending(vec![], End::Cut),
        Answer::status(14, "the server is shutting down"),
        Answer::ending(vec![], End::Http(503)),
    ] {
        let (result, _server) = result_of(vec![answer]).await;
        assert!(matches!(result, Err(SparkError::Unreachable { .. })), "{result:?}");
    }
    let (result, _server) =
        result_of(vec![Answer::of(vec![rows("a", 0, &["one"])]), Answer::of(vec![])]).await;
    assert!(matches!(result, Err(SparkError::Unreachable { .. })), "{result:?}");
}

/// An empty result is a result if the server says that it is complete.
#[tokio::test]
async fn a_complete_result_may_be_empty() {
    let (result, _server) = result_of(vec![Answer::of(vec![complete("a")])]).await;
    assert_eq!(result, Ok(vec![]));
}

/// apache/spark#42282: the statement did not reach the server. apache/spark#51084: it did, but the
/// answer was lost, and the server refuses the same statement.
#[tokio::test]
async fn a_statement_is_executed_once_even_if_its_answer_is_lost() {
    let not_found = Answer::status(13, "[INVALID_HANDLE.OPERATION_NOT_FOUND] no such operation");
    let exists = Answer::status(13, "[INVALID_HANDLE.OPERATION_ALREADY_EXISTS] the handle exists");
    let whole = Answer::of(vec![rows("a", 0, &["one"]), complete("b")]);
    let (result, server) = result_of(vec![Answer::of(vec![]), not_found, whole.clone()]).await;
    assert_eq!(result.expect("a result"), ["one"]);
    assert_eq!(methods(&server), [EXECUTE, REATTACH, EXECUTE]);
    let (result, server) = result_of(vec![Answer::ending(vec![], End::Cut), exists, whole]).await;
    assert_eq!(result.expect("a result"), ["one"]);
    assert_eq!(methods(&server), [EXECUTE, EXECUTE, REATTACH]);
    let ids: Vec<Option<String>> = server
        .calls_of(EXECUTE)
        .iter()
        .map(|call| call.decoded::<ExecutePlanRequest>().operation_id)
        .collect();
    assert_eq!(ids[0], ids[1]);
}

/// A restarted server knows neither the session nor the statement (spiceai/spiceai#11171: the old
/// session was used for ever). The statement is executed again in a new session, and rows of the
/// first execution are not part of the result.
#[tokio::test]
async fn after_a_restart_the_statement_is_executed_in_a_new_session() {
    for class in ["SESSION_NOT_FOUND", "SESSION_CLOSED", "SESSION_CHANGED", "OPERATION_ABANDONED"] {
        let lost = Answer::status(13, &format!("[INVALID_HANDLE.{class}] the handle is invalid"));
        let (result, server) = result_of(vec![
            Answer::of(vec![rows("a", 0, &["one"])]),
            lost,
            Answer::of(vec![rows("x", 0, &["one", "two"]), complete("y")]),
        ])
        .await;
        assert_eq!(result.expect("a result"), ["one", "two"]);
        assert_eq!(methods(&server), [EXECUTE, REATTACH, EXECUTE]);
        let sessions: Vec<String> = server
            .calls_of(EXECUTE)
            .iter()
            .map(|call| call.decoded::<ExecutePlanRequest>().session_id)
            .collect();
        assert_ne!(sessions[0], sessions[1]);
    }
    let lost = Answer::status(13, "[INVALID_HANDLE.SESSION_CLOSED] closed");
    let (result, server) = result_of(vec![lost]).await;
    assert!(matches!(result, Err(SparkError::Lost(_))), "{result:?}");
    assert_eq!(methods(&server), [EXECUTE; 3]);
}

/// apache/spark#43664: after a restart, a server may answer as if nothing had happened, but under
/// another id.
#[tokio::test]
async fn rows_of_two_servers_are_never_mixed() {
    let with = |mut response: ExecutePlanResponse, id: &str| {
        response.server_side_session_id = id.to_owned();
        response
    };
    let (result, server) = result_of(vec![
        Answer::of(vec![with(rows("a", 0, &["old"]), "s1")]),
        Answer::of(vec![with(rows("b", 1, &["new"]), "s2"), with(complete("c"), "s2")]),
        Answer::of(vec![with(rows("d", 0, &["new"]), "s2"), with(complete("e"), "s2")]),
    ])
    .await;
    assert_eq!(result.expect("a result"), ["new"]);
    assert_eq!(methods(&server), [EXECUTE, REATTACH, EXECUTE]);
    let again: ReattachExecuteRequest = server.calls_of(REATTACH)[0].decoded();
    assert_eq!(again.client_observed_server_side_session_id.as_deref(), Some("s1"));
}

/// Missing, repeated and damaged rows are errors. apache/spark#52271: batches in parts only come if a
/// client asks for them.
#[tokio::test]
async fn wrong_rows_are_errors() {
    let with = |change: fn(&mut ExecutePlanResponse)| {
        let mut response = rows("a", 0, &["one"]);
        change(&mut response);
        Answer::of(vec![response, complete("z")])
    };
    fn batch(response: &mut ExecutePlanResponse) -> &mut crate::proto::ArrowBatch {
        response.arrow_batch.as_mut().expect("a batch")
    }
    let wrong = vec![
        Answer::of(vec![rows("a", 1, &["two"]), complete("z")]),
        Answer::of(vec![rows("a", 0, &["one"]), rows("a", 0, &["one"]), complete("z")]),
        Answer::of(vec![rows("a", 0, &["one"]), rows("b", 2, &["three"]), complete("z")]),
        Answer::of(vec![complete("y"), rows("z", 0, &["one"])]),
        with(|it| batch(it).row_count = 2),
        with(|it| batch(it).row_count = -1),
        with(|it| batch(it).num_chunks_in_batch = Some(2)),
        with(|it| batch(it).data = bytes::Bytes::from_static(b"\xff\xff\xff\xff")),
        with(|it| batch(it).data = bytes::Bytes::new()),
        with(|it| batch(it).data.truncate(150)),
        with(|it| it.session_id = "another".into()),
        with(|it| it.operation_id = "another".into()),
        with(|it| {
            batch(it).data =
                stream(Int64Array::from_slice([1]).boxed(), ArrowDataType::Int64).into()
        }),
        with(|it| {
            batch(it).data =
                stream(Utf8Array::<i32>::from([None::<&str>]).boxed(), ArrowDataType::Utf8).into()
        }),
        Answer(vec![b"\xff\xff\xff".to_vec()], End::Status(0, String::new())),
    ];
    for (number, answer) in wrong.into_iter().enumerate() {
        let (result, _server) = result_of(vec![answer]).await;
        // A message after the end does not matter to a result that is complete.
        let is_refused = matches!(result, Err(SparkError::Answer(_)));
        assert!(is_refused || (number == 3 && result == Ok(vec![])), "{number}: {result:?}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_named_but_never_shown() {
    const TOKEN: &str = "Spark-Hemlighet-7Qx";
    let server = Scripted::start(|call: &Call| {
        let given = call.authorization.clone().unwrap_or_default();
        Answer::status(16, &format!("Invalid authentication token: {given}"))
    })
    .await;
    for (token, reason) in [(Some(TOKEN), "rejects the token"), (None, "requires a token")] {
        let client = client(&server, token);
        let error = client.execute("SELECT 1", pending(), |_| {}).await.expect_err("refused");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!format!("{error} {error:?} {client:?}").contains(TOKEN));
    }
    let sent = server.calls()[0].authorization.clone();
    assert_eq!(sent.as_deref(), Some(format!("Bearer {TOKEN}").as_str()));
    // A server that repeats it in another message, and a token that can't be sent.
    let server = Scripted::start(|call: &Call| {
        Answer::status(2, &format!("{:?}\nmore", call.authorization))
    })
    .await;
    let error = client(&server, Some(TOKEN)).execute("SELECT 1", pending(), |_| {}).await;
    let error = error.expect_err("refused").to_string();
    assert!(!error.contains(TOKEN) && error.contains("more") && !error.contains('\n'), "{error}");
    let error = client(&server, Some("a\nb")).execute("SELECT 1", pending(), |_| {}).await;
    assert!(matches!(&error, Err(SparkError::Answer(text)) if !text.contains('\n')), "{error:?}");
}

/// marimo-team/marimo#3494 and apache/spark-connect-go#182: the statement went on, on the cluster.
#[tokio::test]
async fn an_interrupted_statement_is_cancelled_on_the_cluster() {
    for confirms in [true, false] {
        let reached = Arc::new(Notify::new());
        let notify = Arc::clone(&reached);
        let server = Scripted::start(move |call: &Call| {
            if call.method != "Interrupt" {
                notify.notify_one();
                return Answer::ending(vec![progress("p", 1, 4)], End::Hang);
            }
            let operation = call.decoded::<InterruptRequest>().operation_id;
            let interrupted_ids = operation.into_iter().filter(|_| confirms).collect();
            let message = InterruptResponse { interrupted_ids }.encode_to_vec();
            Answer(vec![message], End::Status(0, String::new()))
        })
        .await;
        let result = client(&server, None).execute("SELECT 1", reached.notified(), |_| {}).await;
        assert_eq!(result, Err(SparkError::Cancelled { confirmed: confirms }));
        let started: ExecutePlanRequest = server.calls_of(EXECUTE)[0].decoded();
        let interrupted: InterruptRequest = server.calls_of("Interrupt")[0].decoded();
        assert_eq!(interrupted.operation_id, started.operation_id);
        assert_eq!((interrupted.interrupt_type, interrupted.session_id), (3, started.session_id));
    }
}

#[tokio::test]
async fn cancelling_ends_although_the_server_hangs() {
    let server = Scripted::start(|_: &Call| Answer::ending(vec![], End::Hang)).await;
    let pace = Pace { ending: Duration::from_millis(50), ..pace() };
    let client = client(&server, None).with_pace(pace);
    let result = client.execute("SELECT 1", ready(()), |_| {}).await;
    assert_eq!(result, Err(SparkError::Cancelled { confirmed: false }));
}

#[tokio::test]
async fn a_silent_server_is_asked_again() {
    let server = Scripted::start(|call: &Call| match call.before {
        0 => Answer::ending(vec![rows("a", 0, &["one"])], End::Hang),
        _ => Answer::of(vec![complete("b")]),
    })
    .await;
    let pace = Pace { silence: Duration::from_millis(300), ..pace() };
    let result = client(&server, None).with_pace(pace).execute("SELECT 1", pending(), |_| {}).await;
    assert_eq!(result.expect("a result"), ["one"]);
}

#[tokio::test]
async fn progress_is_reported_by_tasks() {
    let server = Scripted::start(|_: &Call| {
        Answer::of(vec![progress("a", 0, 8), progress("b", 3, 8), complete("c")])
    })
    .await;
    let seen = Mutex::new(Vec::new());
    let client = client(&server, None);
    let result = client
        .execute("SELECT 1", pending(), |Progress { tasks, completed }| {
            seen.lock().expect("seen").push((completed, tasks));
        })
        .await;
    assert_eq!(result, Ok(vec![]));
    assert_eq!(*seen.lock().expect("seen"), [(0, 8), (3, 8)]);
}

/// A row of a worker may be larger than the window of HTTP/2, and than gRPC's usual 4 MiB
/// (spiceai/spiceai#5143).
#[tokio::test]
async fn large_rows_arrive() {
    let large = "x".repeat(20 * 1024 * 1024);
    let expected = large.clone();
    let server = Scripted::start(move |_: &Call| {
        Answer::of(vec![rows("a", 0, &[large.as_str(), "end"]), complete("b")])
    })
    .await;
    let result = execute(&server).await.expect("a result");
    assert!(result[0] == expected && result[1] == "end");
}

#[tokio::test]
async fn failures_of_a_statement_are_one_limited_line() {
    let message = format!("[DIVIDE_BY_ZERO]\n\tat\u{7}org.apache {}", "x".repeat(9000));
    let (result, server) =
        result_of(vec![Answer::status(13, &message.replace('\u{7}', " "))]).await;
    let text = result.expect_err("refused").to_string();
    assert!(text.len() < 2100 && !text.contains(char::is_control), "{text}");
    assert!(text.contains("[DIVIDE_BY_ZERO] at org.apache"), "{text}");
    assert_eq!(methods(&server), [EXECUTE]);
}

#[tokio::test]
async fn what_is_not_a_server_is_explained() {
    // Nothing listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let at = |port: u16| {
        let address = Address::parse(&format!("sc://127.0.0.1:{port}")).expect("an address");
        Client::new(address, None, &Trust::default()).expect("a client").with_pace(pace())
    };
    let error = at(port).execute("SELECT 1", pending(), |_| {}).await.expect_err("nothing there");
    assert!(matches!(error, SparkError::Unreachable { .. }), "{error}");
    // A web server.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt as _;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = at(port).execute("SELECT 1", pending(), |_| {}).await.expect_err("a web server");
    assert!(matches!(error, SparkError::Unreachable { .. }), "{error}");
    // A gateway that wants a sign-in, and one that has no such service.
    let (result, _server) = result_of(vec![Answer::ending(vec![], End::Http(401))]).await;
    assert!(matches!(result, Err(SparkError::Unauthenticated { .. })), "{result:?}");
    let (result, _server) = result_of(vec![Answer::ending(vec![], End::Http(404))]).await;
    assert!(matches!(result, Err(SparkError::Answer(_))), "{result:?}");
}

#[tokio::test]
async fn only_a_trusted_certificate_is_accepted() {
    let server = Scripted::start_tls(|_: &Call| Answer::of(vec![complete("a")])).await;
    assert_eq!(execute(&server).await, Ok(vec![]));
    let address = || Address::parse(&server.url()).expect("an address");
    let strict = Client::new(address(), Some(Secret::new("Hemlighet-1Tz")), &Trust::default());
    // A machine without a certificate store refuses, too.
    if let Ok(strict) = strict {
        let result = strict.with_pace(pace()).execute("SELECT 1", pending(), |_| {}).await;
        let error = result.expect_err("not trusted").to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    // The certificate is for localhost.
    let other = Address { host: "127.0.0.1".into(), ..address() };
    let client = Client::new(other, None, &server.trust()).expect("a client").with_pace(pace());
    let error = client.execute("SELECT 1", pending(), |_| {}).await.expect_err("another name");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.calls_of(EXECUTE).len(), 1);
}

#[tokio::test]
async fn settings_are_read_or_have_their_default() {
    for (pairs, expected) in [(vec![("a", "4")], "4"), (vec![("b", "4")], "1"), (vec![], "1")] {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| KeyValue { key: key.to_owned(), value: Some(value.to_owned()) });
        let message = ConfigResponse { pairs: pairs.collect() }.encode_to_vec();
        let server = Scripted::start(move |call: &Call| {
            assert_eq!(call.method, "Config");
            Answer(vec![message.clone()], End::Status(0, String::new()))
        })
        .await;
        assert_eq!(client(&server, None).setting("a", "1").await.as_deref(), Ok(expected));
    }
    let server = Scripted::start(|_: &Call| Answer::status(16, "no")).await;
    let error = client(&server, None).setting("a", "1").await.expect_err("refused");
    assert!(matches!(error, SparkError::Unauthenticated { .. }), "{error}");
    let server = Scripted::start(|_: &Call| Answer::status(14, "starting")).await;
    let error = client(&server, None).setting("a", "1").await.expect_err("refused");
    assert!(matches!(error, SparkError::Unreachable { .. }), "{error}");
}
