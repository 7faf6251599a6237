//! Talking to the store: S3, or a local folder.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{HttpClient, HttpConnector, HttpError, HttpRequestBody, ReqwestConnector},
    local::LocalFileSystem,
    path::Path,
    signer::Signer,
};
use telemetry::config::Secret;
use tracing::Instrument;

use crate::{LakeError, Result};

/// How to reach a lake; made by [`crate::config::LakeArgs::settings`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// What keeps the objects.
    pub backend: Backend,
}

/// What keeps the objects.
#[derive(Clone, Debug)]
pub enum Backend {
    /// An S3 endpoint.
    S3(S3),
    /// A folder on this machine, made if absent.
    Folder(PathBuf),
}

/// An S3 endpoint.
#[derive(Clone, Debug)]
pub struct S3 {
    /// With scheme, without trailing slash.
    pub endpoint: String,
    /// Bucket, addressed path-style.
    pub bucket: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Access key.
    pub access_key: Secret,
    /// Secret key.
    pub secret_key: Secret,
    /// Limit for making a connection.
    pub connect_timeout: Duration,
    /// Limit for one request.
    pub request_timeout: Duration,
    /// Retries of one request.
    pub max_retries: usize,
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read one object.
    Get,
    /// Write one object.
    Put,
    /// List names.
    List,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store answered as wished.
    Ok,
    /// The store could not be reached or answered 5xx.
    Unavailable,
    /// The store answered and refused.
    Error,
}

impl Outcome {
    /// The value for a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unavailable => "unavailable",
            Self::Error => "error",
        }
    }

    /// The outcome of a result.
    pub fn of<T>(result: &Result<T>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(e) if e.is_unavailable() => Self::Unavailable,
            Err(_) => Self::Error,
        }
    }
}

/// Told of each request, for metrics.
pub trait Observer: Send + Sync {
    /// One request ended.
    fn request(&self, operation: Operation, outcome: Outcome, elapsed: Duration);
}

impl Observer for () {
    fn request(&self, _: Operation, _: Outcome, _: Duration) {}
}

/// A lake. Cheap to clone.
#[derive(Clone)]
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    bucket: Option<Bucket>,
    observer: Arc<dyn Observer>,
    /// Time in the name of the newest manifest written: two in one microsecond would be one.
    newest_manifest_us: Arc<AtomicI64>,
}

/// What making the bucket needs: `object_store` itself cannot.
#[derive(Clone)]
struct Bucket {
    signer: Arc<AmazonS3>,
    client: HttpClient,
}

impl Lake {
    /// Prepares the client. Does not connect: a lake that is down is no reason not to start.
    ///
    /// # Errors
    /// [`LakeError::Refused`] if the settings make no client or the folder cannot be made.
    pub fn open(settings: &Settings, observer: Arc<dyn Observer>) -> Result<Self> {
        match &settings.backend {
            Backend::Folder(dir) => {
                let refused = |e: &dyn std::fmt::Display| LakeError::Refused(format!("{}: {e}", dir.display()));
                std::fs::create_dir_all(dir).map_err(|e| refused(&e))?;
                let store = LocalFileSystem::new_with_prefix(dir).map_err(|e| refused(&e))?;
                Ok(Self { store: Arc::new(store), bucket: None, observer, newest_manifest_us: Arc::default() })
            }
            Backend::S3(s3) => {
                let store = Arc::new(s3_client(s3)?);
                let client = ReqwestConnector::default().connect(&options(s3))?;
                let bucket = Bucket { signer: store.clone(), client };
                Ok(Self { store, bucket: Some(bucket), observer, newest_manifest_us: Arc::default() })
            }
        }
    }

    /// `now_us`, or a little later if that instant has named a manifest already.
    pub(crate) fn unused_instant(&self, now_us: i64) -> i64 {
        let next = |last: i64| now_us.max(last.saturating_add(1));
        let last = self.newest_manifest_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| Some(next(l)));
        next(last.unwrap_or_else(|l| l))
    }

    /// Writes an object whole or not at all, making the bucket if it does not exist yet.
    pub(crate) async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let location = parse(path)?;
        let write = || async {
            self.store.put(&location, PutPayload::from_bytes(bytes.clone())).await?;
            Ok(())
        };
        match self.observed(Operation::Put, write()).await {
            Err(LakeError::NotFound(_)) if self.bucket.is_some() => {
                self.make_bucket().await?;
                self.observed(Operation::Put, write()).await
            }
            other => other,
        }
    }

    /// Reads an object; one that is larger than `limit` is corrupt.
    pub(crate) async fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        let location = parse(path)?;
        self.observed(Operation::Get, async {
            let object = self.store.get(&location).await?;
            if object.meta.size > limit {
                return Err(LakeError::corrupt(path, format!("{} bytes are more than {limit}", object.meta.size)));
            }
            Ok(object.bytes().await?)
        })
        .await
    }

    /// File names under `folder` that sort after `after`, ascending, at most `limit`.
    pub(crate) async fn list(&self, folder: &str, after: &str, limit: usize) -> Result<Vec<String>> {
        let prefix = Path::from(folder);
        let offset = prefix.clone().join(after);
        self.observed(Operation::List, async {
            // S3 lists in order, so the first page is enough; a folder has no order.
            let ordered = self.bucket.is_some();
            let names = self.store.list_with_offset(Some(&prefix), &offset);
            let names = names.map_ok(|meta| meta.location.filename().unwrap_or_default().to_owned());
            let names: Result<Vec<String>, _> =
                if ordered { names.take(limit).try_collect().await } else { names.try_collect().await };
            let mut names = match names.map_err(LakeError::from) {
                // The first writer makes the bucket; until then the lake is empty, not broken.
                Err(LakeError::NotFound(_)) => Vec::new(),
                other => other?,
            };
            names.sort_unstable();
            names.truncate(limit);
            Ok(names)
        })
        .await
    }

    async fn make_bucket(&self) -> Result<()> {
        let Some(Bucket { signer, client }) = &self.bucket else { return Ok(()) };
        let url = signer.signed_url(http::Method::PUT, &Path::default(), Duration::from_secs(60)).await?;
        let request = http::Request::put(url.as_str())
            .body(HttpRequestBody::empty())
            .map_err(|e| LakeError::Refused(format!("making the bucket: {e}")))?;
        let unavailable =
            |e: HttpError| LakeError::Unavailable { status: None, detail: format!("making the bucket: {e}") };
        let status = client.execute(request).await.map_err(unavailable)?.status();
        // 409: another client was faster.
        if status.is_success() || status == http::StatusCode::CONFLICT {
            tracing::info!("made the bucket of the lake");
            return Ok(());
        }
        let detail = format!("making the bucket: status {status}");
        if status.is_server_error() {
            return Err(LakeError::Unavailable { status: Some(status.as_u16()), detail });
        }
        Err(LakeError::Refused(detail))
    }

    async fn observed<T>(&self, operation: Operation, work: impl Future<Output = Result<T>>) -> Result<T> {
        let name = match operation {
            Operation::Get => "GET object",
            Operation::Put => "PUT object",
            Operation::List => "LIST objects",
        };
        let span = tracing::info_span!("lake", otel.name = name, otel.kind = "client", peer.service = "lake");
        let started = Instant::now();
        let result = async {
            let result = work.await;
            if let Err(error) = &result {
                telemetry::trace::set_error(&error.to_string());
            }
            result
        }
        .instrument(span)
        .await;
        self.observer.request(operation, Outcome::of(&result), started.elapsed());
        result
    }
}

fn options(s3: &S3) -> ClientOptions {
    let plain = s3.endpoint.starts_with("http://");
    ClientOptions::new()
        .with_allow_http(plain)
        // A container without CA certificates must still build a client for plain HTTP.
        .with_no_system_certificates(plain)
        .with_connect_timeout(s3.connect_timeout)
        .with_timeout(s3.request_timeout)
        .with_pool_max_idle_per_host(2)
}

fn s3_client(s3: &S3) -> Result<AmazonS3> {
    // The default of 10 retries within 180 s would hide an outage for minutes.
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
        },
        max_retries: s3.max_retries,
        retry_timeout: s3.request_timeout,
    };
    AmazonS3Builder::new()
        .with_endpoint(&s3.endpoint)
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_access_key_id(s3.access_key.expose())
        .with_secret_access_key(s3.secret_key.expose())
        .with_virtual_hosted_style_request(false)
        .with_client_options(options(s3))
        .with_retry(retry)
        .build()
        .map_err(|e| LakeError::Refused(e.to_string()))
}

fn parse(path: &str) -> Result<Path> {
    Path::parse(path).map_err(|e| LakeError::corrupt(path, e))
}
