//! An embedded identity provider (OpenID Connect Core 1.0 with Discovery): codes with PKCE, exact
//! redirect addresses, client secrets in the header, and signed tokens. It is as strict as RFC 9700
//! demands, and forges tokens on demand. It signs in the current person without a question.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::lock;

/// The RSA key of the server; nothing depends on it.
const RSA: &str = include_str!("service_account.pem");
/// Id of the only client.
pub const CLIENT: &str = "mailqos console";
/// Its secret, with characters that must be encoded (RFC 6749, section 2.3.1).
pub const CLIENT_SECRET: &str = "s3cret:%/+ü";
/// Longest wait for a request.
const DEADLINE: Duration = Duration::from_secs(10);

/// How a token is forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// It belongs to another sign-in.
    Nonce,
    /// It is of another issuer.
    Issuer,
    /// It is for another client.
    Audience,
    /// It has expired.
    Expired,
    /// It has the algorithm `none` and no signature (RFC 8725, section 2.1).
    None,
    /// It is signed with the public key as a shared secret (RFC 8725, section 2.1).
    Hmac,
    /// It is signed with a key that is not published.
    ForeignKey,
    /// Its signature was removed.
    Unsigned,
    /// The answer names another issuer (RFC 9207).
    MixUp,
    /// The user information is about another subject (OpenID Connect Core, section 5.3.2).
    OtherSubject,
}

enum SigningKey {
    Rsa(Box<RsaKeyPair>),
    Elliptic(Box<EcdsaKeyPair>),
}

struct Code {
    redirect: String,
    challenge: String,
    nonce: String,
    person: Map<String, Value>,
}

struct State {
    person: Map<String, Value>,
    user_info: Map<String, Value>,
    forgery: Option<Forgery>,
    key: SigningKey,
    key_id: String,
    redirects: BTreeSet<String>,
    codes: BTreeMap<String, Code>,
    access_tokens: BTreeSet<String>,
    requests: Vec<String>,
}

struct Shared {
    /// Base of all addresses.
    base: String,
    issuer: String,
    state: Mutex<State>,
    is_over: AtomicBool,
}

/// The running provider; dropping it ends it.
pub struct OidcServer {
    shared: Arc<Shared>,
    port: u16,
}

fn random() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("random numbers");
    URL_SAFE_NO_PAD.encode(bytes)
}

fn new_elliptic() -> SigningKey {
    let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let key = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).expect("a key");
    SigningKey::Elliptic(Box::new(key))
}

impl SigningKey {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Elliptic(_) => "ES256",
        }
    }

    fn jwk(&self, id: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(key) => {
                let public: rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256",
                    "n": encode(&public.n), "e": encode(&public.e)})
            }
            Self::Elliptic(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig",
                    "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public().as_ref().to_vec(),
            Self::Elliptic(key) => key.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut bytes = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, signed, &mut bytes).expect("signed");
                bytes
            }
            Self::Elliptic(key) => key.sign(&random, signed).expect("signed").as_ref().to_vec(),
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl OidcServer {
    /// Starts a provider that signs with an RSA key.
    ///
    /// # Panics
    /// It can't listen.
    pub fn start() -> Self {
        Self::start_as("")
    }

    /// Starts a provider whose issuer ends with this text, such as `/`.
    ///
    /// # Panics
    /// It can't listen.
    pub fn start_as(end: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let der = PrivatePkcs8KeyDer::from_pem_slice(RSA.as_bytes()).expect("PEM");
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key");
        let shared = Arc::new(Shared {
            base: format!("http://127.0.0.1:{port}/realms/test"),
            issuer: format!("http://127.0.0.1:{port}/realms/test{end}"),
            state: Mutex::new(State {
                person: Map::new(),
                user_info: Map::new(),
                forgery: None,
                key: SigningKey::Rsa(Box::new(key)),
                key_id: "first".to_owned(),
                redirects: BTreeSet::new(),
                codes: BTreeMap::new(),
                access_tokens: BTreeSet::new(),
                requests: Vec::new(),
            }),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { shared, port }
    }

    /// Address and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Allows redirects to this address.
    pub fn allow(&self, redirect: &str) {
        lock(&self.shared.state).redirects.insert(redirect.to_owned());
    }

    /// Sets who signs in: the claims of the token, and those of the user information.
    pub fn set_person(&self, claims: Value, user_info: Value) {
        let mut state = lock(&self.shared.state);
        (state.person, state.user_info) = (object(claims), object(user_info));
    }

    /// Forges tokens from now on.
    pub fn forge(&self, forgery: Option<Forgery>) {
        lock(&self.shared.state).forgery = forgery;
    }

    /// Replaces the key: the old one is no longer published.
    pub fn rotate_keys(&self) {
        let mut state = lock(&self.shared.state);
        (state.key, state.key_id) = (new_elliptic(), random());
    }

    /// The paths of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.state).requests.clone()
    }
}

impl Drop for OidcServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Status, more header fields, and content of an answer.
type Reply = (u16, String, String);

fn refuse(error: &str) -> Reply {
    (400, String::new(), json!({ "error": error }).to_string())
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(DEADLINE));
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let field = |name: &str| {
            let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let length = field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; usize::min(length, 1 << 20)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let line = head.lines().next().unwrap_or_default();
        let target = line.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        lock(&self.state).requests.push(path.to_owned());
        let fields = |bytes: &[u8]| -> BTreeMap<String, String> {
            form_urlencoded::parse(bytes).into_owned().collect()
        };
        let authorization = field("authorization").unwrap_or_default();
        let (status, more, content) = match path.strip_prefix("/realms/test").unwrap_or(path) {
            "/.well-known/openid-configuration" => (200, String::new(), self.discovery()),
            "/keys" => (200, String::new(), self.keys()),
            "/authorize" => self.authorize(&fields(query.as_bytes())),
            "/token" => self.token(&fields(&body), authorization),
            "/userinfo" => self.user_info(authorization),
            _ => (404, String::new(), String::new()),
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             {more}Connection: close\r\n\r\n{content}",
            content.len()
        );
        let _ = reader.into_inner().write_all(answer.as_bytes());
    }

    fn discovery(&self) -> String {
        let base = &self.base;
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "userinfo_endpoint": format!("{base}/userinfo"),
            "jwks_uri": format!("{base}/keys"),
            "end_session_endpoint": format!("{base}/logout"),
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": true,
        })
        .to_string()
    }

    fn keys(&self) -> String {
        let state = lock(&self.state);
        let encryption =
            json!({"kty": "RSA", "use": "enc", "kid": "enc", "n": "AQAB", "e": "AQAB"});
        json!({"keys": [encryption, state.key.jwk(&state.key_id)]}).to_string()
    }

    fn authorize(&self, fields: &BTreeMap<String, String>) -> Reply {
        let mut state = lock(&self.state);
        let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let redirect = text("redirect_uri");
        // A wrong redirect address is never followed (RFC 9700, section 4.1.3).
        if text("client_id") != CLIENT || !state.redirects.contains(redirect) {
            return refuse("invalid_request");
        }
        let is_valid = text("response_type") == "code"
            && text("scope").split(' ').any(|scope| scope == "openid")
            && text("state").len() >= 20
            && text("nonce").len() >= 20
            && text("code_challenge").len() == 43
            && text("code_challenge_method") == "S256";
        if !is_valid {
            return refuse("invalid_request");
        }
        let code = random();
        let (person, nonce) = (state.person.clone(), text("nonce").to_owned());
        let (redirect, challenge) = (redirect.to_owned(), text("code_challenge").to_owned());
        let is_mixed_up = state.forgery == Some(Forgery::MixUp);
        let issuer = if is_mixed_up { "https://other.example" } else { self.issuer.as_str() };
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", text("state"))
            .append_pair("iss", issuer)
            .finish();
        let location = format!("Location: {redirect}?{query}\r\n");
        state.codes.insert(code, Code { redirect, challenge, nonce, person });
        (302, location, String::new())
    }

    fn token(&self, fields: &BTreeMap<String, String>, authorization: &str) -> Reply {
        let encode =
            |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
        let pair = format!("{}:{}", encode(CLIENT), encode(CLIENT_SECRET));
        if authorization != format!("Basic {}", STANDARD.encode(pair)) {
            return (401, String::new(), json!({"error": "invalid_client"}).to_string());
        }
        let mut state = lock(&self.state);
        let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        // A code works once.
        let Some(code) = state.codes.remove(text("code")) else { return refuse("invalid_grant") };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(text("code_verifier")));
        if text("grant_type") != "authorization_code"
            || text("redirect_uri") != code.redirect
            || challenge != code.challenge
        {
            return refuse("invalid_grant");
        }
        let access = random();
        state.access_tokens.insert(access.clone());
        let token = self.id_token(&state, code);
        let answer = json!({"access_token": access, "token_type": "Bearer", "id_token": token});
        (200, String::new(), answer.to_string())
    }

    fn id_token(&self, state: &State, code: Code) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let now = i64::try_from(now.as_secs()).expect("a time");
        let mut claims = json!({"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300,
            "nonce": code.nonce});
        for (name, value) in code.person {
            claims[name] = value;
        }
        let mut header = json!({"alg": state.key.algorithm(), "kid": state.key_id, "typ": "JWT"});
        match state.forgery {
            Some(Forgery::Nonce) => claims["nonce"] = random().into(),
            Some(Forgery::Issuer) => claims["iss"] = "https://other.example".into(),
            Some(Forgery::Audience) => claims["aud"] = "another client".into(),
            Some(Forgery::Expired) => {
                (claims["iat"], claims["exp"]) = ((now - 900).into(), (now - 600).into());
            }
            Some(Forgery::None) => header["alg"] = "none".into(),
            Some(Forgery::Hmac) => header["alg"] = "HS256".into(),
            _ => {}
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = match state.forgery {
            Some(Forgery::None | Forgery::Unsigned) => Vec::new(),
            Some(Forgery::Hmac) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &state.key.public());
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            Some(Forgery::ForeignKey) => {
                let mut bytes = state.key.sign(signed.as_bytes());
                bytes.reverse();
                bytes
            }
            _ => state.key.sign(signed.as_bytes()),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn user_info(&self, authorization: &str) -> Reply {
        let state = lock(&self.state);
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        if !state.access_tokens.contains(token) {
            return (401, String::new(), json!({"error": "invalid_token"}).to_string());
        }
        let mut claims = Value::Object(state.user_info.clone());
        let is_other = state.forgery == Some(Forgery::OtherSubject);
        let own = state.person.get("sub").cloned().unwrap_or_default();
        claims["sub"] = if is_other { "someone else".into() } else { own };
        (200, String::new(), claims.to_string())
    }
}
