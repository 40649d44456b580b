//! Clients of object stores, with a layer below them that handles every request and response.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt as _;
use hyper::{Method, http::HeaderValue};
use md5::{Digest as _, Md5};
use object_store::{
    ClientOptions, Error as StoreError, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum},
    azure::MicrosoftAzureBuilder,
    client::{
        HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService, ReqwestConnector,
    },
    gcp::GoogleCloudStorageBuilder,
};

use mailqos_base::{Secret, one_line};
use mailqos_net::{MAX_CA_FILE, http::Route};

use super::{
    Bucket,
    dialect::{Dialect, NO_ETAG},
};

/// Timeout of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of a request, including the transfer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a failed request is retried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// Clients of a store.
pub(super) struct Clients {
    pub(super) store: Arc<dyn ObjectStore>,
    /// A client that sends a checksum with each object, if the library supports it.
    pub(super) summing: Option<Arc<dyn ObjectStore>>,
}

/// Creates the clients of a bucket without sending anything.
///
/// # Errors
/// The options are invalid; returns the reason.
pub(super) fn open(
    bucket: &Bucket<'_>,
    via: &Route,
    dialect: &Arc<Dialect>,
) -> Result<Clients, String> {
    let client = client(bucket, via)?;
    let retry =
        RetryConfig { max_retries: 4, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let refused = |error: StoreError| one_line(&error.to_string(), &[]);
    let mut summing: Option<Arc<dyn ObjectStore>> = None;
    let request = Request { bucket, client, retry, connector: Connector(Arc::clone(dialect)) };
    let store: Arc<dyn ObjectStore> = match bucket.scheme {
        "s3" | "s3a" => {
            let builder = request.s3();
            let with = builder.clone().with_checksum_algorithm(Checksum::SHA256);
            summing = Some(Arc::new(with.build().map_err(refused)?));
            Arc::new(builder.build().map_err(refused)?)
        }
        "az" | "azure" | "abfs" | "abfss" => Arc::new(request.azure().build().map_err(refused)?),
        "gs" => Arc::new(request.google().build().map_err(refused)?),
        other => {
            return Err(format!(
                "{other}:// is not an object store that mailqos supports; use s3://, az:// or gs://"
            ));
        }
    };
    Ok(Clients { store, summing })
}

fn client(bucket: &Bucket<'_>, via: &Route) -> Result<ClientOptions, String> {
    let client = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(bucket.options.allow_http);
    let mut client = match via {
        Route::Environment => client,
        // The library has no option for no proxy, but can exempt all servers from one.
        Route::Direct => client.with_proxy_url("http://none.invalid").with_proxy_excludes("*"),
        Route::Proxy(proxy) => client.with_proxy_url(proxy_url(proxy)),
        Route::ProxyExcept(proxy, exempt) => client
            .with_proxy_url(proxy_url(proxy))
            .with_proxy_excludes(format!("localhost,127.0.0.0/8,::1,{exempt}")),
    };
    if let Some(file) = &bucket.options.ca_file {
        let pem = mailqos_base::files::read(file, MAX_CA_FILE)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let certificates = object_store::Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        for certificate in certificates {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// Returns the proxy's address with `http://` added if it is missing.
fn proxy_url(address: &Secret) -> String {
    let text = address.expose().trim();
    if text.contains("://") { text.to_owned() } else { format!("http://{text}") }
}

/// Settings for creating a client of a store.
struct Request<'a> {
    bucket: &'a Bucket<'a>,
    client: ClientOptions,
    retry: RetryConfig,
    connector: Connector,
}

impl Request<'_> {
    fn s3(self) -> AmazonS3Builder {
        let mut builder = s3_environment(self.bucket.credentials.is_some())
            .with_bucket_name(self.bucket.name)
            .with_client_options(self.client)
            .with_http_connector(self.connector)
            .with_retry(self.retry);
        if let Some(region) = &self.bucket.options.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &self.bucket.options.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some((id, secret)) = self.bucket.credentials {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
        }
        builder
    }

    /// If the configuration has an account, no credentials are taken from the environment.
    fn azure(self) -> MicrosoftAzureBuilder {
        let builder = match self.bucket.credentials {
            Some(_) => MicrosoftAzureBuilder::new(),
            None => MicrosoftAzureBuilder::from_env(),
        };
        let mut builder = builder
            .with_container_name(self.bucket.name)
            .with_client_options(self.client)
            .with_http_connector(self.connector)
            .with_retry(self.retry);
        if let Some(endpoint) = &self.bucket.options.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        if let Some((account, key)) = self.bucket.credentials {
            builder = builder.with_account(account).with_access_key(key.expose());
        }
        builder
    }

    fn google(self) -> GoogleCloudStorageBuilder {
        let builder = match self.bucket.credentials {
            Some(_) => GoogleCloudStorageBuilder::new(),
            None => GoogleCloudStorageBuilder::from_env(),
        };
        let mut builder = builder
            .with_bucket_name(self.bucket.name)
            .with_client_options(self.client)
            .with_http_connector(self.connector)
            .with_retry(self.retry);
        if let Some(endpoint) = &self.bucket.options.endpoint {
            builder = builder.with_base_url(endpoint.trim_end_matches('/'));
        }
        if let Some((_, key)) = self.bucket.credentials {
            builder = builder.with_service_account_key(key.expose());
        }
        builder
    }
}

/// Returns the builder of a client for S3, with settings from the environment. If the configuration
/// has an account, no credentials are taken from there: with another key's session token, the store
/// would reject it.
fn s3_environment(has_account: bool) -> AmazonS3Builder {
    const PLACE: [&str; 6] = [
        "aws_region",
        "aws_default_region",
        "aws_endpoint",
        "aws_endpoint_url",
        "aws_endpoint_url_s3",
        "aws_virtual_hosted_style_request",
    ];
    if !has_account {
        return AmazonS3Builder::from_env();
    }
    std::env::vars_os().fold(AmazonS3Builder::new(), |builder, (name, value)| {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            return builder;
        };
        let name = name.to_ascii_lowercase();
        match name.parse::<AmazonS3ConfigKey>() {
            Ok(key) if PLACE.contains(&name.as_str()) => builder.with_config(key, value),
            _ => builder,
        }
    })
}

/// Creates connections that pass through the layer.
#[derive(Debug)]
pub(super) struct Connector(pub(super) Arc<Dialect>);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Layer {
            inner: ReqwestConnector::default().connect(options)?,
            dialect: Arc::clone(&self.0),
        }))
    }
}

#[derive(Debug)]
struct Layer {
    inner: HttpClient,
    dialect: Arc<Dialect>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Layer {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.answer(request))
    }
}

impl Layer {
    async fn answer(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_put = request.method() == Method::PUT;
        let query = request.uri().query().unwrap_or_default();
        let is_list = request.method() == Method::GET
            && ["list-type=2", "comp=list"].iter().any(|of| query.contains(of));
        if is_put
            && self.dialect.digest.load(Ordering::Relaxed)
            && let Some(bytes) = request.body().as_bytes()
            && let Ok(value) = HeaderValue::from_str(&STANDARD.encode(Md5::digest(bytes)))
        {
            request.headers_mut().insert("content-md5", value);
        }
        let mut response = self.inner.execute(request).await?;
        if is_put && response.status().is_success() && !response.headers().contains_key("etag") {
            response.headers_mut().insert("etag", HeaderValue::from_static(NO_ETAG));
        }
        if !(is_list && response.status().is_success()) {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let body = match std::str::from_utf8(&bytes) {
            Ok(text) => HttpResponseBody::from(self.dialect.tame(text)),
            Err(_) => HttpResponseBody::from(bytes),
        };
        let mut response = HttpResponse::from_parts(head, body);
        response.headers_mut().remove("content-length");
        Ok(response)
    }
}
