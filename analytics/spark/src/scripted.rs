//! A server of Spark Connect that answers as a test prescribes.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use mailqos_net::Trust;
use polars_arrow::{
    array::{Array, Utf8Array},
    datatypes::{ArrowDataType, ArrowSchema, Field},
    io::ipc::write::{StreamWriter, WriteOptions},
    record_batch::RecordBatchT,
};
use prost::Message;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    grpc::split_message,
    proto::{ArrowBatch, ExecutePlanResponse, ExecutionProgress, Nothing, StageInfo},
};

/// A call that the server received.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The method's name, without that of the service.
    pub(crate) method: String,
    /// The request.
    pub(crate) message: Bytes,
    /// The field `authorization`.
    pub(crate) authorization: Option<String>,
    /// Number of earlier calls that execute or continue a statement.
    pub(crate) before: usize,
}

impl Call {
    /// Decodes the request.
    pub(crate) fn decoded<M: Message + Default>(&self) -> M {
        M::decode(self.message.clone()).expect("a request")
    }
}

/// How an answer ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// With a status of gRPC.
    Status(u32, String),
    /// Without a status, as if the connection broke.
    Cut,
    /// Never.
    Hang,
    /// With a status of HTTP instead of an answer.
    Http(u16),
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer(pub(crate) Vec<Vec<u8>>, pub(crate) End);

impl Answer {
    /// Messages of a result, and the end of the stream.
    pub(crate) fn of(messages: Vec<ExecutePlanResponse>) -> Self {
        Self(encoded(messages), End::Status(0, String::new()))
    }

    /// A status without messages.
    pub(crate) fn status(code: u32, message: &str) -> Self {
        Self(Vec::new(), End::Status(code, message.to_owned()))
    }

    /// Messages of a result, and another end.
    pub(crate) fn ending(messages: Vec<ExecutePlanResponse>, end: End) -> Self {
        Self(encoded(messages), end)
    }
}

fn encoded(messages: Vec<ExecutePlanResponse>) -> Vec<Vec<u8>> {
    messages.iter().map(Message::encode_to_vec).collect()
}

/// Returns an Arrow stream with a column of texts.
pub(crate) fn arrow(texts: &[&str]) -> Vec<u8> {
    let column: Box<dyn Array> = Utf8Array::<i32>::from_slice(texts).boxed();
    stream(column, ArrowDataType::Utf8)
}

/// Returns an Arrow stream with a column.
pub(crate) fn stream(column: Box<dyn Array>, kind: ArrowDataType) -> Vec<u8> {
    let field = Field::new("line".into(), kind, true);
    let schema: ArrowSchema = [(field.name.clone(), field)].into_iter().collect();
    let length = column.len();
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::new(&mut bytes, WriteOptions { compression: None });
    writer.start(&schema, None).expect("a schema");
    let batch = RecordBatchT::new(length, Arc::new(schema), vec![column]);
    writer.write(&batch, None).expect("a batch");
    writer.finish().expect("an end");
    bytes
}

/// Returns a message with rows, after this many others.
pub(crate) fn rows(id: &str, offset: i64, texts: &[&str]) -> ExecutePlanResponse {
    let batch = ArrowBatch {
        row_count: texts.len() as i64,
        data: arrow(texts).into(),
        start_offset: Some(offset),
        num_chunks_in_batch: None,
    };
    ExecutePlanResponse {
        response_id: id.to_owned(),
        arrow_batch: Some(batch),
        ..ExecutePlanResponse::default()
    }
}

/// Returns a message that reports progress.
pub(crate) fn progress(id: &str, completed: i64, tasks: i64) -> ExecutePlanResponse {
    let stage = StageInfo { num_tasks: tasks, num_completed_tasks: completed };
    ExecutePlanResponse {
        response_id: id.to_owned(),
        execution_progress: Some(ExecutionProgress { stages: vec![stage] }),
        ..ExecutePlanResponse::default()
    }
}

/// Returns the message that ends a result.
pub(crate) fn complete(id: &str) -> ExecutePlanResponse {
    ExecutePlanResponse {
        response_id: id.to_owned(),
        result_complete: Some(Nothing {}),
        ..ExecutePlanResponse::default()
    }
}

type Script = dyn Fn(&Call) -> Answer + Send + Sync;

/// The server, on a free port of this machine.
pub(crate) struct Scripted {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    authority: Option<tempfile::NamedTempFile>,
}

impl Scripted {
    /// Starts a server. The script answers `ExecutePlan`, `ReattachExecute`, `Interrupt` and
    /// `Config`; the others succeed.
    pub(crate) async fn start(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(script, None).await
    }

    /// Starts a server with TLS and a certificate for localhost.
    pub(crate) async fn start_tls(
        script: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let key =
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(certified.cert.pem().as_bytes()).expect("written");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self { authority: Some(file), ..Self::serve(script, Some(acceptor)).await }
    }

    async fn serve(
        script: impl Fn(&Call) -> Answer + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (script, known): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&calls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, known, tls) = (Arc::clone(&script), Arc::clone(&known), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, script, known).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, script, known).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, calls, authority: None }
    }

    /// Returns the address for a client.
    pub(crate) fn url(&self) -> String {
        let port = self.address.port();
        match self.authority {
            Some(_) => format!("sc://localhost:{port}/;use_ssl=true"),
            None => format!("sc://127.0.0.1:{port}"),
        }
    }

    /// Returns settings that trust the server's certificate.
    pub(crate) fn trust(&self) -> Trust {
        let ca_file = self.authority.as_ref().map(|file| file.path().to_owned());
        Trust { ca_file, ..Trust::default() }
    }

    /// Returns the calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the calls of a method so far.
    pub(crate) fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method == method).collect()
    }
}

async fn connection<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    script: Arc<Script>,
    known: Arc<Mutex<Vec<Call>>>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (script, known) = (Arc::clone(&script), Arc::clone(&known));
        tokio::spawn(async move { answer(request, respond, &*script, &known).await });
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    script: &Script,
    known: &Mutex<Vec<Call>>,
) {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let field = request.headers().get("authorization");
    let authorization = field.and_then(|field| field.to_str().ok()).map(str::to_owned);
    let (mut body, mut held) = (request.into_body(), BytesMut::new());
    while let Some(Ok(data)) = body.data().await {
        held.extend_from_slice(&data);
        let _ = body.flow_control().release_capacity(data.len());
    }
    let message = split_message(&mut held).ok().flatten().expect("a request");
    let call = {
        let mut calls = known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stream =
            |call: &&Call| call.method.contains("Execute") && !call.method.contains("Release");
        let before = calls.iter().filter(is_stream).count();
        calls.push(Call { method, message, authorization, before });
        calls.last().cloned().expect("a call")
    };
    let Answer(messages, end) = match call.method.as_str() {
        "ExecutePlan" | "ReattachExecute" | "Interrupt" | "Config" => script(&call),
        _ => Answer(vec![Vec::new()], End::Status(0, String::new())),
    };
    if let End::Http(status) = end {
        let response = Response::builder().status(status).body(()).expect("a response");
        let _ = respond.send_response(response, true);
        return;
    }
    let response = Response::builder().header("content-type", "application/grpc");
    let Ok(mut body) = respond.send_response(response.body(()).expect("a response"), false) else {
        return;
    };
    for message in messages {
        let mut framed = vec![0];
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend(message);
        let _ = body.send_data(framed.into(), false);
    }
    match end {
        End::Status(code, message) => {
            let mut fields = HeaderMap::new();
            fields.insert("grpc-status", code.into());
            let encoded = message.replace('%', "%25").replace('\n', "%0A");
            fields.insert("grpc-message", encoded.parse().expect("a field"));
            let _ = body.send_trailers(fields);
        }
        End::Cut => {
            let _ = body.send_data(Bytes::new(), true);
        }
        End::Hang | End::Http(_) => std::future::pending().await,
    }
}
