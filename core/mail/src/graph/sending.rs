//! Sends messages in MIME over Microsoft Graph
//! (<https://learn.microsoft.com/graph/outlook-send-mime-message>).
//!
//! Test mails are drafts that are sent, so that their copy in Sent Items has an identifier known
//! beforehand and can be deleted; other mails are sent by one request, and keep their copy. There is
//! no envelope: the recipients are those in the header.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lettre::Address;
use mailqos_config::Endpoint;
use mailqos_model::{Micros, Stage};
use serde_json::json;

use super::{Graph, GraphError, Request, Response, encoded};
use crate::{
    Credentials, Reply, SmtpError, Transcript, Wire, WireError,
    fields::{recipients, with_recipients},
};

/// The most bytes of a message in MIME: 4 MB in Base64
/// (<https://learn.microsoft.com/graph/api/user-post-messages>). Attachments by upload sessions,
/// which may be larger, need messages in JSON, which lose our header fields.
pub const MAX_MIME: u64 = 3 * 1024 * 1024;
/// The longest response, in bytes.
const MAX_REPLY: usize = 1024 * 1024;
/// The status of a message that was accepted for sending.
const ACCEPTED: u16 = 202;
/// The property set of header fields (PS_INTERNET_HEADERS; MS-OXPROPS, section 1.3.2).
const HEADER_FIELDS: &str = "00020386-0000-0000-C000-000000000046";

/// Durations of the phases of sending; `None` until they end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendPhases {
    /// Name look-up and TCP.
    pub tcp: Option<Micros>,
    /// The handshake.
    pub tls: Option<Micros>,
    /// TCP and the handshake.
    pub connect: Option<Micros>,
    /// Obtaining the access token; zero if it was there already.
    pub auth: Option<Micros>,
    /// From the content to the response that accepts the message.
    pub data: Option<Micros>,
    /// From the start of the connection to that response.
    pub send: Option<Micros>,
}

/// A conversation in which messages are sent.
pub struct Sender {
    graph: Option<Graph>,
    endpoint: Endpoint,
    credentials: Credentials,
    step: Duration,
    began: Instant,
    /// Durations of the phases.
    pub phases: SendPhases,
    /// Status of the last response.
    pub status: Option<u16>,
    /// Kept if the connection could not be opened.
    transcript: Option<Transcript>,
    is_renewed: bool,
}

impl Sender {
    /// A conversation to be; each request may take `step`.
    pub fn new(endpoint: &Endpoint, credentials: &Credentials, step: Duration) -> Self {
        Self {
            graph: None,
            endpoint: endpoint.clone(),
            credentials: credentials.clone(),
            step,
            began: Instant::now(),
            phases: SendPhases::default(),
            status: None,
            transcript: None,
            is_renewed: false,
        }
    }

    /// Connects. Waits that the service asks for must end at `patience`, and everything within
    /// `whole`.
    ///
    /// # Errors
    /// The connection failed, or the account has no tokens.
    pub async fn open(&mut self, whole: Duration, patience: Instant) -> Result<(), SmtpError> {
        self.began = Instant::now();
        if !self.credentials.is_token {
            let text = "Microsoft Graph accepts no passwords; give the account oauth = { … }";
            return Err(SmtpError::new(Stage::SmtpAuth, text));
        }
        let mut wire = match Wire::connect(&self.endpoint, self.step).await {
            Ok(wire) => wire,
            Err(failure) => {
                let mut transcript = Transcript::begin(&self.endpoint.server, self.endpoint.port);
                transcript.note(&failure.to_string());
                self.transcript = Some(transcript);
                return Err(wire_error(None, &failure));
            }
        };
        wire.limit(whole);
        self.phases.tcp = Some(wire.tcp_took());
        self.phases.tls = wire.tls_took();
        self.phases.connect = Some(Micros::from(self.began.elapsed()));
        self.phases.auth = Some(self.credentials.took.unwrap_or(Micros::ZERO));
        wire.note(match self.credentials.took {
            Some(_) => "using a new access token",
            None => "using the access token of an earlier request",
        });
        let Self { endpoint, credentials, step, .. } = self;
        self.graph = Some(Graph::new(wire, endpoint, credentials, *step, patience));
        Ok(())
    }

    /// Creates a draft and returns its identifier, which stays the same when the draft is sent.
    ///
    /// # Errors
    /// The service refused it, or the connection failed. Nothing was sent.
    pub async fn draft(&mut self, content: &[u8]) -> Result<String, SmtpError> {
        let body = STANDARD.encode(content);
        let request = Request::post("/messages", Some(("text/plain", body.as_bytes())), MAX_REPLY);
        let response = self.ask(&request).await.map_err(|failure| self.failed(&failure))?;
        let json = response.json().map_err(|failure| self.failed(&failure))?;
        let id = json.get("id").and_then(|id| id.as_str()).filter(|id| !id.is_empty());
        id.map(str::to_owned).ok_or_else(|| {
            let text = "Microsoft Graph created a draft without an identifier";
            SmtpError::new(Stage::SmtpData, text)
        })
    }

    /// Sets a header field of a draft. Exchange drops fields that no message of the mailbox had
    /// before, and learns them this way
    /// (<https://github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/424>).
    ///
    /// # Errors
    /// The service refused it, or the connection failed.
    pub async fn set_field(&mut self, id: &str, name: &str, value: &str) -> Result<(), SmtpError> {
        let property = format!("String {{{HEADER_FIELDS}}} Name {name}");
        let body = json!({ "singleValueExtendedProperties": [{ "id": property, "value": value }] });
        let body = body.to_string();
        let path = format!("/messages/{}", encoded(id));
        let content = Some(("application/json", body.as_bytes()));
        let request = Request { method: "PATCH", ..Request::post(&path, content, MAX_REPLY) };
        self.ask(&request).await.map(|_| ()).map_err(|failure| self.failed(&failure))
    }

    /// Sends a draft; `began` is when its content was handed over.
    ///
    /// # Errors
    /// The service refused it, or the connection failed; then the message may have been sent.
    pub async fn send_draft(&mut self, id: &str, began: Instant) -> Result<Reply, SmtpError> {
        let path = format!("/messages/{}/send", encoded(id));
        self.submit(&Request::post(&path, None, MAX_REPLY), began).await
    }

    /// Sends a message by one request; a copy stays in Sent Items.
    ///
    /// # Errors
    /// The service refused it, or the connection failed; then the message may have been sent.
    pub async fn send_mail(&mut self, content: &[u8]) -> Result<Reply, SmtpError> {
        let body = STANDARD.encode(content);
        let began = Instant::now();
        let request = Request::post("/sendMail", Some(("text/plain", body.as_bytes())), MAX_REPLY);
        self.submit(&request, began).await
    }

    async fn submit(&mut self, request: &Request<'_>, began: Instant) -> Result<Reply, SmtpError> {
        let response = match self.ask(request).await {
            Ok(response) => response,
            Err(failure) => {
                // Whether the request came is not known.
                let uncertain = matches!(failure, GraphError::Wire(_) | GraphError::Unreadable(_));
                return Err(SmtpError { uncertain, ..self.failed(&failure) });
            }
        };
        if response.status != ACCEPTED {
            return Err(self.not_accepted(response.status));
        }
        let ended = response.ended;
        self.phases.data = Some(Micros::from(ended.saturating_duration_since(began)));
        self.phases.send = Some(Micros::from(ended.saturating_duration_since(self.began)));
        let lines = vec![format!("2.0.0 accepted by Microsoft Graph (HTTP {})", response.status)];
        Ok(Reply { code: 250, lines, at: ended })
    }

    /// Asks for properties of a message.
    ///
    /// # Errors
    /// The service refused, or the connection failed.
    pub async fn properties(
        &mut self,
        id: &str,
        names: &str,
    ) -> Result<serde_json::Value, GraphError> {
        let path = format!("/messages/{}?$select={names}", encoded(id));
        self.ask(&Request::get(&path, MAX_REPLY)).await?.json()
    }

    /// Asks for the identifier of a well-known folder.
    ///
    /// # Errors
    /// The service refused, or the connection failed.
    pub async fn folder_id(&mut self, name: &str) -> Result<Option<String>, GraphError> {
        let path = format!("/mailFolders/{name}?$select=id");
        let json = self.ask(&Request::get(&path, MAX_REPLY)).await?.json()?;
        Ok(json.get("id").and_then(|id| id.as_str()).map(str::to_owned))
    }

    /// Lists the newest messages of a well-known folder with these words in their subject: their
    /// identifiers, at most `most`.
    ///
    /// # Errors
    /// The service refused, or the connection failed.
    pub async fn newest(
        &mut self,
        folder: &str,
        most: u32,
        word: &str,
    ) -> Result<Vec<String>, GraphError> {
        let path = format!(
            "/mailFolders/{folder}/messages?$select=id,subject&$orderby=receivedDateTime%20desc\
             &$top={most}"
        );
        let json = self.ask(&Request::get(&path, MAX_REPLY)).await?.json()?;
        let text = |value: &serde_json::Value, key: &str| {
            value.get(key).and_then(|text| text.as_str()).unwrap_or_default().to_owned()
        };
        let entries = json.get("value").and_then(|value| value.as_array());
        Ok(entries
            .into_iter()
            .flatten()
            .filter(|entry| text(entry, "subject").contains(word))
            .map(|entry| text(entry, "id"))
            .filter(|id| !id.is_empty())
            .collect())
    }

    /// Asks for the content of a message, at most `most` bytes of it.
    ///
    /// # Errors
    /// The service refused, or the connection failed.
    pub async fn content(&mut self, id: &str, most: usize) -> Result<Vec<u8>, GraphError> {
        let path = format!("/messages/{}/$value", encoded(id));
        Ok(self.ask(&Request::get(&path, most)).await?.body)
    }

    /// Deletes a message permanently; where that can't be done, it goes to Deleted Items.
    ///
    /// # Errors
    /// The service refused, or the connection failed.
    pub async fn delete(&mut self, id: &str) -> Result<(), GraphError> {
        let id = encoded(id);
        let path = format!("/messages/{id}/permanentDelete");
        match self.ask(&Request::post(&path, None, MAX_REPLY)).await {
            Err(GraphError::Refused(refusal)) if refusal.is_unknown_action() => {}
            result => return result.map(|_| ()),
        }
        let path = format!("/messages/{id}");
        let request = Request { method: "DELETE", ..Request::post(&path, None, MAX_REPLY) };
        self.ask(&request).await.map(|_| ())
    }

    /// Sends a request, with another token if the first is rejected.
    async fn ask(&mut self, request: &Request<'_>) -> Result<Response, GraphError> {
        let Some(graph) = &mut self.graph else {
            return Err(GraphError::Wire(WireError::Closed));
        };
        let mut result = graph.send(request).await;
        let is_rejected = |result: &Result<Response, GraphError>| {
            let refusal = result.as_ref().err().and_then(GraphError::refusal);
            refusal.is_some_and(super::Refusal::is_token)
        };
        if is_rejected(&result) && !self.is_renewed {
            self.is_renewed = true;
            if let Some(Ok(credentials)) = self.credentials.renewed().await {
                self.phases.auth = Some(credentials.took.unwrap_or(Micros::ZERO));
                graph.wire.note("the access token was rejected; using a new one");
                graph.use_token(&credentials);
                self.credentials = credentials;
                result = graph.send(request).await;
                if is_rejected(&result) {
                    self.credentials.renewed().await;
                }
            }
        }
        self.status = match &result {
            Ok(response) => Some(response.status),
            Err(failure) => failure.refusal().map(|refusal| refusal.status),
        };
        result
    }

    /// The failure in the form of SMTP, whose codes say whether another attempt may succeed.
    fn failed(&self, failure: &GraphError) -> SmtpError {
        let refusal = match failure {
            GraphError::Wire(failure) => return wire_error(self.graph.as_ref(), failure),
            GraphError::Unreadable(text) => return SmtpError::new(Stage::SmtpData, text),
            GraphError::Refused(refusal) | GraphError::Throttled { refusal, .. } => refusal,
        };
        let is_login = !refusal.has_code(&["ErrorSendAsDenied"])
            && (refusal.is_token() || refusal.is_permission() || refusal.is_missing_mailbox());
        let (code, status) = match refusal.status {
            _ if is_login => (535, "5.7.8"),
            413 => (552, "5.3.4"),
            _ if refusal.has_code(&["ErrorMessageSizeExceeded"]) => (552, "5.3.4"),
            _ if refusal.has_code(&["ErrorQuotaExceeded", "quotaLimitReached"]) => (452, "4.2.2"),
            _ if refusal.is_throttling() || refusal.status >= 500 => (451, "4.3.2"),
            _ => (554, "5.6.0"),
        };
        let stage = if is_login { Stage::SmtpAuth } else { Stage::SmtpData };
        let text = failure.to_string();
        let lines = vec![format!("{status} {text}")];
        SmtpError {
            reply: Some(Reply { code, lines, at: Instant::now() }),
            ..SmtpError::new(stage, &text)
        }
    }

    /// The failure of a message that was not accepted although the response is not an error: too large
    /// messages were answered with 200 instead of 202, and not sent
    /// (<https://github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/3079>).
    fn not_accepted(&self, status: u16) -> SmtpError {
        let text = format!(
            "Microsoft Graph answered HTTP {status} instead of {ACCEPTED}, as it does to messages that \
             are too large; the message was not accepted"
        );
        let lines = vec![format!("5.3.4 {text}")];
        SmtpError {
            reply: Some(Reply { code: 552, lines, at: Instant::now() }),
            ..SmtpError::new(Stage::SmtpData, &text)
        }
    }

    /// The transcript so far.
    pub fn transcript(&self) -> Option<Transcript> {
        let open = self.graph.as_ref().map(|graph| graph.wire.transcript().clone());
        open.or_else(|| self.transcript.clone())
    }

    /// Properties of the TLS session.
    pub fn tls(&self) -> Option<mailqos_net::TlsSession> {
        self.graph.as_ref().and_then(|graph| graph.wire.tls().cloned())
    }

    /// Ends the conversation.
    pub async fn close(self) {
        if let Some(graph) = self.graph {
            graph.close().await;
        }
    }
}

fn wire_error(open: Option<&Graph>, failure: &WireError) -> SmtpError {
    let stage = match open {
        Some(_) => Stage::SmtpData,
        None if failure.is_tls() => Stage::SmtpTls,
        None => Stage::SmtpConnect,
    };
    SmtpError {
        own_network: failure.is_own_network(),
        ..SmtpError::new(stage, &failure.to_string())
    }
}

/// Returns a message for exactly the recipients of an envelope: those that its header does not name
/// become hidden ones (`Bcc`), and others that it names are removed.
pub fn for_recipients(content: Vec<u8>, envelope: &[Address]) -> Vec<u8> {
    let named = recipients(&content);
    let wanted: Vec<String> = envelope.iter().map(ToString::to_string).collect();
    let is_in = |list: &[String], address: &str| {
        list.iter().any(|known| known.eq_ignore_ascii_case(address))
    };
    let (shown, hidden): (Vec<_>, Vec<_>) =
        wanted.iter().cloned().partition(|address| is_in(&named, address));
    let names_others = named.iter().any(|address| !is_in(&wanted, address));
    if !names_others && hidden.is_empty() {
        return content;
    }
    let dropped: &[&str] = if names_others { &["to", "cc", "bcc"] } else { &["bcc"] };
    let shown = if names_others { shown } else { Vec::new() };
    with_recipients(&content, dropped, &[("To", &shown), ("Bcc", &hidden)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_to_the_recipients_of_its_envelope_and_to_no_others() {
        let mail = |to: &str| format!("From: a@b\r\nTo: {to}\r\nSubject: x\r\n\r\nTo: body\r\n");
        let text = |to: &str, envelope: &[&str]| {
            let envelope: Vec<Address> =
                envelope.iter().map(|address| address.parse().expect("an address")).collect();
            let mail = for_recipients(mail(to).into_bytes(), &envelope);
            String::from_utf8(mail).expect("text")
        };
        let both = "\"An, na\" <anna@example.com>,\r\n ben@example.com";
        assert_eq!(text(both, &["ben@example.com", "Anna@example.com"]), mail(both));
        // The others have it already.
        let one = text(both, &["ben@example.com"]);
        assert!(one.contains("To: ben@example.com\r\n") && !one.contains("anna"), "{one}");
        // No one is named.
        let hidden = text("undisclosed-recipients:;", &["ben@example.com", "eva@example.com"]);
        assert!(hidden.contains("Bcc: ben@example.com,\r\n eva@example.com\r\n"), "{hidden}");
        let more = text("anna@example.com", &["anna@example.com", "eva@example.com"]);
        assert!(more.contains("To: anna@example.com\r\n"), "{more}");
        assert!(more.contains("Bcc: eva@example.com\r\n"), "{more}");
        for mail in [one, hidden, more] {
            assert!(mail.ends_with("\r\n\r\nTo: body\r\n"), "{mail}");
        }
    }
}
