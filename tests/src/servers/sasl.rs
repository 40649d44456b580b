//! The server's side of SASL, for all protocols: PLAIN, LOGIN, SCRAM-SHA-256, XOAUTH2, OAUTHBEARER.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{Shared, lock};

/// Iteration count of SCRAM.
const ROUNDS: u32 = 4096;

/// Access tokens for mailboxes, shared by a token server and mail servers.
#[derive(Debug, Clone, Default)]
pub struct TokenBook(Arc<Mutex<BTreeMap<String, Admission>>>);

/// What a token is for.
#[derive(Debug, Clone)]
struct Admission {
    mailbox: String,
    /// Who signed in.
    person: String,
    scope: String,
}

/// Beginning of the scopes of Microsoft Graph.
const GRAPH_SCOPES: &str = "https://graph.microsoft.com/";

impl TokenBook {
    /// Makes a token valid for this user's mailbox.
    pub fn admit(&self, token: &str, user: &str) {
        self.admit_person(token, user, user, "");
    }

    /// Makes a token of a person valid for a mailbox, with these scopes.
    pub fn admit_person(&self, token: &str, person: &str, mailbox: &str, scope: &str) {
        let [mailbox, person, scope] = [mailbox, person, scope].map(str::to_owned);
        lock(&self.0).insert(token.to_owned(), Admission { mailbox, person, scope });
    }

    /// Revokes all tokens.
    pub fn revoke_all(&self) {
        lock(&self.0).clear();
    }

    /// Whether a token opens a mailbox over a mail protocol; one for Microsoft Graph does not.
    fn opens(&self, token: &str, user: &str) -> bool {
        lock(&self.0).get(token).is_some_and(|admitted| {
            admitted.mailbox.eq_ignore_ascii_case(user) && !admitted.scope.contains(GRAPH_SCOPES)
        })
    }

    /// The permissions for a mailbox over Microsoft Graph; `None` if the token is not known. The
    /// mailbox of another person takes those that end in `.Shared`
    /// (<https://learn.microsoft.com/graph/outlook-share-messages-folders>).
    pub(super) fn graph_roles(&self, token: &str, user: &str) -> Option<Vec<&'static str>> {
        let book = lock(&self.0);
        let admitted = book.get(token)?;
        let is_own = admitted.person.eq_ignore_ascii_case(user);
        let end = if is_own { "" } else { ".Shared" };
        let granted: Vec<&str> = admitted.scope.split(' ').collect();
        let has = |role: &&str| granted.contains(&format!("{GRAPH_SCOPES}{role}{end}").as_str());
        let roles = ["Mail.ReadWrite", "Mail.Send"].into_iter().filter(has).collect();
        Some(if admitted.mailbox.eq_ignore_ascii_case(user) { roles } else { Vec::new() })
    }
}

/// Next step of the server.
pub(super) enum Step {
    /// A challenge.
    Challenge(Vec<u8>),
    /// The end, with the authenticated user, if successful.
    End(Option<String>),
}

enum State {
    /// Nothing received yet.
    Begin,
    /// LOGIN: the name was received.
    Name(String),
    /// SCRAM: user, messages so far, the combined nonce, the salted password.
    Proof(String, String, String, [u8; 32]),
    /// SCRAM: the signature was sent.
    Signed(String),
    /// The client has to acknowledge the refusal with these bytes.
    Refused(&'static [u8]),
}

/// One authentication.
pub(super) struct Exchange {
    mechanism: String,
    state: State,
}

impl Exchange {
    /// Starts an authentication, if the server supports the mechanism.
    pub(super) fn begin(shared: &Shared, mechanism: &str) -> Option<Self> {
        let has = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case(mechanism));
        has(&shared.options.mechanisms)
            .then(|| Self { mechanism: mechanism.to_ascii_uppercase(), state: State::Begin })
    }

    /// Processes a response in Base64; `None` if there is no initial response.
    pub(super) fn next(&mut self, shared: &Shared, response: Option<&str>) -> Step {
        let broken = &shared.options.broken_mechanisms;
        if broken.iter().any(|name| name.eq_ignore_ascii_case(&self.mechanism)) {
            return Step::End(None);
        }
        let Some(response) = response else {
            return Step::Challenge(match self.mechanism.as_str() {
                "LOGIN" => b"Username:".to_vec(),
                _ => Vec::new(),
            });
        };
        let response = if response == "=" { "" } else { response.trim() };
        let Some(text) =
            STANDARD.decode(response).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            return Step::End(None);
        };
        match (self.mechanism.as_str(), std::mem::replace(&mut self.state, State::Begin)) {
            ("PLAIN", State::Begin) => Step::End(shared.sasl_plain(response)),
            ("LOGIN", State::Begin) => {
                self.state = State::Name(text);
                Step::Challenge(b"Password:".to_vec())
            }
            ("LOGIN", State::Name(user)) => {
                Step::End(shared.may_log_in(&user, &text).then_some(user))
            }
            ("SCRAM-SHA-256", State::Begin) => {
                self.challenge(shared, &text).unwrap_or(Step::End(None))
            }
            ("SCRAM-SHA-256", State::Proof(user, said, nonce, salted)) => {
                self.verify(user, (&said, &nonce), &salted, &text).unwrap_or(Step::End(None))
            }
            ("SCRAM-SHA-256", State::Signed(user)) => Step::End(text.is_empty().then_some(user)),
            ("XOAUTH2" | "OAUTHBEARER", State::Begin) => self.bearer(shared, &text),
            // A client that does not answer the refusal as specified gets an unhelpful reply.
            (_, State::Refused(expected)) if text.as_bytes() == expected => Step::End(None),
            _ => Step::Challenge(b"malformed".to_vec()),
        }
    }

    fn bearer(&mut self, shared: &Shared, text: &str) -> Step {
        let new = self.mechanism == "OAUTHBEARER";
        let user = if new {
            text.strip_prefix("n,a=").and_then(|rest| rest.split_once(',')).map(|(user, _)| user)
        } else {
            text.strip_prefix("user=")
                .and_then(|rest| rest.split_once('\x01'))
                .map(|(user, _)| user)
        };
        let token =
            text.strip_suffix("\x01\x01").and_then(|rest| rest.rsplit_once("\x01auth=Bearer "));
        if let (Some(user), Some((_, token))) = (user, token)
            && shared.options.tokens.opens(token, user)
        {
            return Step::End(Some(user.to_owned()));
        }
        self.state = State::Refused(if new { b"\x01" } else { b"" });
        Step::Challenge(if new {
            br#"{"status":"invalid_token","scope":"mail.example.com"}"#.to_vec()
        } else {
            br#"{"status":"401","schemes":"Bearer","scope":"mail.example.com"}"#.to_vec()
        })
    }

    fn challenge(&mut self, shared: &Shared, text: &str) -> Option<Step> {
        let bare = text.strip_prefix("n,,")?;
        let (user, nonce) = bare.strip_prefix("n=")?.split_once(",r=")?;
        let user = user.replace("=2C", ",").replace("=3D", "=");
        let nonce = format!("{nonce}3rfcNHYJY1ZVvWVs7j");
        let salt = Sha256::digest(&user);
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(
            shared.password(&user)?.as_bytes(),
            &salt[..16],
            ROUNDS,
        );
        let challenge = format!("r={nonce},s={},i={ROUNDS}", STANDARD.encode(&salt[..16]));
        self.state = State::Proof(user, format!("{bare},{challenge}"), nonce, salted);
        Some(Step::Challenge(challenge.into_bytes()))
    }

    fn verify(
        &mut self,
        user: String,
        (said, nonce): (&str, &str),
        salted: &[u8; 32],
        text: &str,
    ) -> Option<Step> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let said = format!("{said},{without_proof}");
        let key = mac(salted, b"Client Key");
        let signature = mac(&Sha256::digest(key), said.as_bytes());
        let expected: Vec<u8> =
            key.iter().zip(signature).map(|(byte, other)| byte ^ other).collect();
        let right = without_proof == format!("c=biws,r={nonce}")
            && STANDARD.decode(proof).ok()? == expected;
        if !right {
            self.state = State::Refused(b"");
            return Some(Step::Challenge(b"e=invalid-proof".to_vec()));
        }
        self.state = State::Signed(user);
        let signature = STANDARD.encode(mac(&mac(salted, b"Server Key"), said.as_bytes()));
        Some(Step::Challenge(format!("v={signature}").into_bytes()))
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}
