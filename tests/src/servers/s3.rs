//! An object store with as much of S3 as a lake needs: whole objects, conditions, listings. It can
//! be made unavailable.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use mailqos_model::UtcMicros;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::signature::is_signed_with;
use crate::{
    http::{self, serve_each},
    lock,
};

/// Differences of a store from Amazon's.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreHabits {
    /// ETags have no quotes in answers, and conditions with quotes never match: Ceph's gateway and
    /// stores built on it (<https://github.com/versity/versitygw/issues/1710> is another one:
    /// `If-Match` fails when it should succeed).
    pub unquoted: bool,
    /// Conditions are refused with 501: Backblaze B2, "A header you provided implies functionality
    /// that is not implemented"
    /// (<https://github.com/sathinduga/obsidian-s3-sync-and-backup/issues/78>).
    pub refuses_conditions: bool,
    /// Conditions are ignored: proxies and small servers
    /// (<https://github.com/developmentseed/multistore/issues/120>), and Amazon's own before August
    /// 2024.
    pub ignores_conditions: bool,
    /// An object without Content-MD5 or x-amz-checksum-… is refused: Amazon and Backblaze with an
    /// object lock (<https://github.com/apache/arrow-rs-object-store/issues/190>,
    /// <https://github.com/zmanda/amanda/issues/275>).
    pub wants_checksum: bool,
    /// An object is never replaced or deleted: stores with a retention policy that keeps the first
    /// version (S3 "compliance" of several vendors, Azure's immutable storage).
    pub write_once: bool,
    /// Answers have no ETag (<https://github.com/FilenCloudDienste/filen-s3/issues/146>).
    pub no_etag: bool,
    /// Answers contain a version, listings don't: any bucket with versioning.
    pub versioned: bool,
    /// Google's XML API: no signature, generations instead of ETags in conditions.
    pub google: bool,
    /// ETags in answers are weak, and conditions must repeat them exactly: proxies that compress
    /// (<https://github.com/gocd/gocd/pull/2247>).
    pub weak: bool,
    /// The first request for each object is answered with 503 SlowDown, as any store may.
    pub slow_down: bool,
    /// Keys in listings are URL-encoded without a request for it, as with Hitachi's platform
    /// (<https://github.com/minio/minio-go/issues/1723>).
    pub encoded_keys: bool,
    /// Ranges are ignored, and the whole object is returned with 200: caches and small servers
    /// (<https://github.com/apache/arrow-rs-object-store/issues/134>).
    pub ignores_ranges: bool,
}

/// The access key id that is accepted.
pub const KEY_ID: &str = "AKIATESTTESTTEST";

#[derive(Debug, Clone)]
struct Object {
    bytes: Vec<u8>,
    e_tag: String,
    modified: UtcMicros,
}

#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Object>>,
    away: AtomicBool,
    full: AtomicBool,
    refusing: AtomicBool,
    writes: AtomicU64,
    reads: AtomicU64,
    /// Bytes of objects in answers.
    read_bytes: AtomicU64,
    /// The names of objects that were read.
    read_names: Mutex<BTreeSet<String>>,
    /// Objects that change after this many more reads of their parts.
    replaced_after: Mutex<Option<(u64, String, Vec<u8>)>>,
    habits: StoreHabits,
    /// Objects whose names contain one of these are refused.
    refused: Mutex<Vec<String>>,
    /// The access key id that is accepted instead of [`KEY_ID`].
    key: Mutex<Option<String>>,
    /// The secret with which requests must be signed; any secret if absent.
    secret: Mutex<Option<String>>,
    /// The code with which every request is refused.
    refusal: Mutex<Option<&'static str>>,
    requests: AtomicU64,
    /// Objects that are listed but do not exist.
    ghosts: Mutex<BTreeSet<String>>,
}

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct ObjectStore {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl ObjectStore {
    /// Starts the server on a free port of the loopback interface.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(StoreHabits::default()).await
    }

    /// Starts a server with habits.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start_with(habits: StoreHabits) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { habits, ..Shared::default() });
        let for_task = shared.clone();
        Ok(Self {
            address,
            shared,
            _task: serve_each(listener, move |stream| serve(stream, for_task.clone())),
        })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns its address.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes it unavailable, or available again.
    pub fn set_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::SeqCst);
    }

    /// Fills it, or frees it again.
    pub fn set_full(&self, full: bool) {
        self.shared.full.store(full, Ordering::SeqCst);
    }

    /// Makes it refuse the client's key, or accept it again.
    pub fn set_refusing(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Makes it refuse writes of objects whose names contain this text; none if it is empty.
    pub fn set_refused(&self, part: &str) {
        let mut refused = lock(&self.shared.refused);
        refused.clear();
        refused.extend((!part.is_empty()).then(|| part.to_owned()));
    }

    /// Makes it accept only this access key id.
    pub fn set_key(&self, id: &str) {
        *lock(&self.shared.key) = Some(id.to_owned());
    }

    /// Requires requests to be signed with this secret.
    pub fn set_secret(&self, secret: &str) {
        *lock(&self.shared.secret) = Some(secret.to_owned());
    }

    /// Makes it refuse every request with 403 and this code, or none.
    pub fn set_refusal(&self, code: Option<&'static str>) {
        *lock(&self.shared.refusal) = code;
    }

    /// Returns how many objects were read in total.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::SeqCst)
    }

    /// Returns how many bytes of objects were read in total.
    pub fn read_bytes(&self) -> u64 {
        self.shared.read_bytes.load(Ordering::SeqCst)
    }

    /// Returns the names of objects that were read since the last call.
    pub fn take_read_names(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.shared.read_names))
    }

    /// Replaces an object after this many more reads of any, as its probe may at any time.
    pub fn replace_after(&self, reads: u64, name: &str, bytes: Vec<u8>) {
        *lock(&self.shared.replaced_after) = Some((reads, name.to_owned(), bytes));
    }

    /// Lists an object that it does not have, as a store with late listings does after a deletion.
    pub fn add_ghost(&self, name: &str) {
        self.put(name, b"");
        lock(&self.shared.ghosts).insert(name.to_owned());
    }

    /// Returns how many objects were written in total.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Returns the names of all objects, with their buckets.
    pub fn names(&self) -> Vec<String> {
        lock(&self.shared.objects).keys().cloned().collect()
    }

    /// Returns an object's content.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.shared.objects).get(name).map(|object| object.bytes.clone())
    }

    /// Writes the objects with a prefix into a folder, as the files of a lake.
    ///
    /// # Panics
    /// The folder can't be written.
    pub fn copy_to(&self, prefix: &str, folder: &Path) {
        for name in self.names() {
            if let (Some(path), Some(bytes)) = (name.strip_prefix(prefix), self.get(&name)) {
                let path = folder.join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, bytes).expect("a file");
            }
        }
    }

    /// Adds an object, as if another client had.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.shared.put(name, bytes.to_vec());
    }
}

impl Shared {
    /// Returns the fields of an answer that identify an object's version.
    fn described(&self, e_tag: &str) -> String {
        let mut fields = match self.habits {
            StoreHabits { no_etag: true, .. } => String::new(),
            StoreHabits { unquoted: true, .. } => format!("ETag: {}\r\n", e_tag.trim_matches('"')),
            StoreHabits { weak: true, .. } => format!("ETag: W/{e_tag}\r\n"),
            _ => format!("ETag: {e_tag}\r\n"),
        };
        if self.habits.google {
            let _ = write!(fields, "x-goog-generation: {}\r\n", generation(e_tag));
        }
        if self.habits.versioned {
            let _ = write!(fields, "x-amz-version-id: v{}\r\n", e_tag.trim_matches('"'));
        }
        fields
    }

    /// Returns why a PUT is refused before its conditions are checked.
    fn refusal(&self, request: &Request, is_there: bool) -> Option<Reply> {
        let has = |name: &str| request.http.field(name).is_some();
        let has_condition = has("if-match") || has("if-none-match");
        if self.habits.refuses_conditions && has_condition {
            return Some(Reply::error("501 Not Implemented", "NotImplemented"));
        }
        if self.habits.wants_checksum && !has("content-md5") && !has("x-amz-checksum-sha256") {
            let text = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
            return Some(Reply {
                body: format!(
                    "<Error><Code>InvalidRequest</Code><Message>{text}</Message></Error>"
                )
                .into_bytes(),
                ..Reply::new("400 Bad Request")
            });
        }
        (self.habits.write_once && is_there && !has("if-none-match"))
            .then(|| Reply::error("403 Forbidden", "AccessDenied"))
    }

    fn put(&self, name: &str, bytes: Vec<u8>) -> String {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let e_tag = format!("\"{number:08x}\"");
        let object = Object { bytes, e_tag: e_tag.clone(), modified: UtcMicros::now() };
        lock(&self.objects).insert(name.to_owned(), object);
        e_tag
    }
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    http: http::Request,
}

struct Reply {
    status: &'static str,
    fields: String,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: &'static str) -> Self {
        Self { status, fields: String::new(), body: Vec::new() }
    }

    fn error(status: &'static str, code: &str) -> Self {
        Self {
            body: format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
            )
            .into_bytes(),
            ..Self::new(status)
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut heard = Vec::new();
    while let Some(request) = http::Request::read(&mut stream, &mut heard).await? {
        let request = Request::of(request);
        let reply = if shared.away.load(Ordering::SeqCst) {
            Reply::error("503 Service Unavailable", "SlowDown")
        } else {
            answer(&request, &shared)
        };
        let body = if request.method == "HEAD" { &[] } else { &reply.body[..] };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\n{}\r\n",
            reply.status,
            reply.body.len(),
            reply.fields
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
    }
    Ok(())
}

impl Request {
    fn of(http: http::Request) -> Self {
        let mut words = http.line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        // A proxy gets the complete address.
        let target = match target.strip_prefix("http://") {
            Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
            None => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        let path = decoded(path).trim_matches('/').to_owned();
        Self { method, path, query, http }
    }
}

/// Returns Google's number of an object's version.
fn generation(e_tag: &str) -> u64 {
    // Google's numbers are times in microseconds.
    u64::from_str_radix(e_tag.trim_matches('"'), 16)
        .map_or(0, |number| 1_790_000_000_000_000 + number)
}

pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns why the client is refused.
fn stranger(request: &Request, shared: &Shared) -> Option<Reply> {
    let refused = |code: &str| Some(Reply::error("403 Forbidden", code));
    if let Some(code) = *lock(&shared.refusal) {
        return refused(code);
    }
    if shared.habits.google {
        // A key with `disable_oauth`, as emulators use it, is anonymous.
        return None;
    }
    let key = lock(&shared.key).clone().unwrap_or_else(|| KEY_ID.to_owned());
    let credential = format!("Credential={key}/");
    // A session token belongs to a temporary key, which this one is not.
    if request.http.field("x-amz-security-token").is_some() {
        return refused("InvalidToken");
    }
    let field = request.http.field("authorization");
    if !field.is_some_and(|field| field.contains(&credential)) {
        return refused("AccessDenied");
    }
    let secret = lock(&shared.secret).clone();
    if secret.is_some_and(|secret| !is_signed_with(&request.http, &secret)) {
        return refused("SignatureDoesNotMatch");
    }
    None
}

fn answer(request: &Request, shared: &Shared) -> Reply {
    if let Some(refusal) = stranger(request, shared) {
        return refusal;
    }
    if shared.habits.slow_down && shared.requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
        return Reply::error("503 Slow Down", "SlowDown");
    }
    if shared.refusing.load(Ordering::SeqCst) {
        return Reply::error("403 Forbidden", "SignatureDoesNotMatch");
    }
    if request.method == "PUT" && shared.full.load(Ordering::SeqCst) {
        return Reply::error("507 Insufficient Storage", "XMinioStorageFull");
    }
    let known = lock(&shared.objects).get(&request.path).cloned();
    let known = known.filter(|_| !lock(&shared.ghosts).contains(&request.path));
    match request.method.as_str() {
        "GET" if request.query.contains_key("list-type") => list(request, shared),
        "GET" | "HEAD" => match known {
            None => Reply::error("404 Not Found", "NoSuchKey"),
            Some(object) => read(request, object, shared),
        },
        "PUT" if lock(&shared.refused).iter().any(|part| request.path.contains(part)) => {
            Reply::error("403 Forbidden", "AccessDenied")
        }
        "PUT" => {
            if let Some(refusal) = shared.refusal(request, known.is_some()) {
                return refusal;
            }
            let only_new = request.http.field("if-none-match").is_some();
            let same = |tag: &str| {
                let is = |object: &Object| match shared.habits {
                    StoreHabits { unquoted: true, .. } => object.e_tag.trim_matches('"') == tag,
                    // A weak tag never matches in If-Match (RFC 9110, section 13.1.1).
                    _ => object.e_tag == tag,
                };
                known.as_ref().is_some_and(is)
            };
            let wanted: Option<u64> = request
                .http
                .field("x-goog-if-generation-match")
                .and_then(|number| number.parse().ok());
            let present = known.as_ref().map_or(0, |object| generation(&object.e_tag));
            let changed = wanted.is_some_and(|wanted| wanted != present)
                || (only_new && known.is_some())
                || request.http.field("if-match").is_some_and(|tag| !same(tag));
            if changed && !shared.habits.ignores_conditions {
                return Reply::error("412 Precondition Failed", "PreconditionFailed");
            }
            let e_tag = shared.put(&request.path, request.http.body.clone());
            Reply { fields: shared.described(&e_tag), ..Reply::new("200 OK") }
        }
        "DELETE" if shared.habits.write_once => Reply::error("403 Forbidden", "AccessDenied"),
        "DELETE" => {
            lock(&shared.objects).remove(&request.path);
            Reply::new("204 No Content")
        }
        "POST" if request.query.contains_key("delete") => {
            let text = String::from_utf8_lossy(&request.http.body).into_owned();
            let mut reply = "<?xml version=\"1.0\"?><DeleteResult>".to_owned();
            for key in text.split("<Key>").skip(1).filter_map(|part| part.split_once("</Key>")) {
                lock(&shared.objects).remove(&format!("{}/{}", request.path, key.0));
                let _ = write!(reply, "<Deleted><Key>{}</Key></Deleted>", key.0);
            }
            Reply { body: (reply + "</DeleteResult>").into_bytes(), ..Reply::new("200 OK") }
        }
        _ => Reply::error("405 Method Not Allowed", "MethodNotAllowed"),
    }
}

/// Answers with an object, or with the range of it that was asked for.
fn read(request: &Request, object: Object, shared: &Shared) -> Reply {
    let modified = http_date(object.modified);
    let mut fields = format!("{}Last-Modified: {modified}\r\n", shared.described(&object.e_tag));
    let size = object.bytes.len();
    let asked = request.http.field("range").filter(|_| !shared.habits.ignores_ranges);
    let (status, body) = match asked.map(|range| bounds(range, size)) {
        None => ("200 OK", object.bytes),
        Some(None) => return Reply::error("416 Requested Range Not Satisfiable", "InvalidRange"),
        Some(Some((from, to))) => {
            let _ = write!(fields, "Content-Range: bytes {from}-{}/{size}\r\n", to - 1);
            ("206 Partial Content", object.bytes[from..to].to_vec())
        }
    };
    if request.method == "GET" {
        shared.reads.fetch_add(1, Ordering::SeqCst);
        shared.read_bytes.fetch_add(body.len() as u64, Ordering::SeqCst);
        lock(&shared.read_names).insert(request.path.clone());
        let mut replaced = lock(&shared.replaced_after);
        if let Some((left, ..)) = &mut *replaced {
            *left = left.saturating_sub(1);
        }
        if let Some((_, name, bytes)) = replaced.take_if(|(left, ..)| *left == 0) {
            shared.put(&name, bytes);
        }
    }
    Reply { fields, body, ..Reply::new(status) }
}

/// Returns the first and the end of a single range `bytes=first-last` (RFC 9110, section 14.1.2).
fn bounds(range: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = last.parse::<usize>().map_or(size, |last| (last + 1).min(size));
    (first < end).then_some((first, end))
}

fn list(request: &Request, shared: &Shared) -> Reply {
    let prefix = request.query.get("prefix").cloned().unwrap_or_default();
    let bucket = format!("{}/", request.path);
    let mut text =
        "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    if shared.habits.encoded_keys {
        text.push_str("<EncodingType>url</EncodingType>");
    }
    for (name, object) in lock(&shared.objects).iter() {
        let Some(key) = name.strip_prefix(&bucket).filter(|key| key.starts_with(&prefix)) else {
            continue;
        };
        let key = match shared.habits.encoded_keys {
            true => key.replace('=', "%3D").replace('/', "%2F"),
            false => key.to_owned(),
        };
        let _ = write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            object.modified,
            if shared.habits.no_etag {
                ""
            } else {
                object.e_tag.trim_matches(if shared.habits.unquoted { '"' } else { '\0' })
            },
            object.bytes.len()
        );
    }
    Reply { body: (text + "</ListBucketResult>").into_bytes(), ..Reply::new("200 OK") }
}

fn http_date(moment: UtcMicros) -> String {
    moment.timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
