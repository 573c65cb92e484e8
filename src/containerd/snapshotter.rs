//! The snapshots service: containerd's words for what the [`Store`] does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tonic::transport::server::UdsConnectInfo;
use tonic::{Code, Request, Response, Status};

use super::differ::{explained, lines};
use super::filter::Filters;
use super::proto::snapshots as proto;
use super::proto::snapshots::snapshots_server::Snapshots;
use super::proto::types::{Empty, Mount, Timestamp};
use super::queue::Queue;
use super::running::{Own, Running};
use super::store::{Document, Kind, Mounted, Seer, Store, StoreError};
use super::{Event, Tell};
use crate::core::cancel::Cancel;
use crate::core::chain::Chain;

/// So many snapshots are in one message of a list.
const LISTED: usize = 100;

/// Serves snapshots.
#[derive(Debug, Clone)]
pub(super) struct Snapshotter {
    store: Arc<Store>,
    running: Running,
    queue: Queue,
    tell: Tell,
}

impl Snapshotter {
    pub(super) fn new(store: Arc<Store>, running: Running, queue: Queue, tell: Tell) -> Self {
        Self { store, running, queue, tell }
    }

    /// Does something to a snapshot, on a thread that may wait. When containerd gives up, the work is cancelled.
    async fn work<T: Send + 'static>(
        &self,
        call: &'static str,
        key: &str,
        work: impl FnOnce(&Store, &Cancel) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let own = self.running.begin();
        self.finish(&own, call, key, work).await
    }

    /// The same, of what was begun before.
    async fn finish<T: Send + 'static>(
        &self,
        own: &Own,
        call: &'static str,
        key: &str,
        work: impl FnOnce(&Store, &Cancel) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let (store, cancel) = (Arc::clone(&self.store), own.cancel.clone());
        let done = tokio::task::spawn_blocking(move || work(&store, &cancel)).await;
        let error = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => status(&error),
            Err(panic) => Status::internal(panic.to_string()),
        };
        // That something is there, or is not, is what containerd asks for.
        if matches!(error.code(), Code::Internal | Code::DataLoss | Code::InvalidArgument | Code::ResourceExhausted) {
            let (key, error) = (key.to_owned(), error.message().to_owned());
            self.tell.tell(&Event::SnapshotFailed { call, key, error });
        }
        Err(error)
    }

    async fn make(&self, call: &'static str, kind: Kind, wanted: New, seer: Seer) -> Result<Vec<Mount>, Status> {
        let key = wanted.key.clone();
        let mounted = self.work(call, &key, move |store, _| {
            store.prepare(kind, &wanted.key, &wanted.parent, wanted.labels.into_iter().collect(), &seer)
        });
        Ok(mounted.await?.into_iter().map(mount).collect())
    }
}

/// A snapshot to be made.
struct New {
    key: String,
    parent: String,
    labels: std::collections::HashMap<String, String>,
}

#[tonic::async_trait]
impl Snapshots for Snapshotter {
    async fn prepare(
        &self,
        request: Request<proto::PrepareSnapshotRequest>,
    ) -> Result<Response<proto::PrepareSnapshotResponse>, Status> {
        let seer = seer(&request);
        let proto::PrepareSnapshotRequest { key, parent, labels } = request.into_inner();
        let mounts = self.make("prepare", Kind::Active, New { key, parent, labels }, seer).await?;
        Ok(Response::new(proto::PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<proto::ViewSnapshotRequest>,
    ) -> Result<Response<proto::ViewSnapshotResponse>, Status> {
        let seer = seer(&request);
        let proto::ViewSnapshotRequest { key, parent, labels } = request.into_inner();
        let mounts = self.make("view", Kind::View, New { key, parent, labels }, seer).await?;
        Ok(Response::new(proto::ViewSnapshotResponse { mounts }))
    }

    async fn mounts(&self, request: Request<proto::MountsRequest>) -> Result<Response<proto::MountsResponse>, Status> {
        let seer = seer(&request);
        let key = request.into_inner().key;
        let asked = key.clone();
        let mounted = self.work("mounts", &key, move |store, cancel| store.mounts(&asked, cancel, &seer)).await?;
        Ok(Response::new(proto::MountsResponse { mounts: mounted.into_iter().map(mount).collect() }))
    }

    async fn commit(&self, request: Request<proto::CommitSnapshotRequest>) -> Result<Response<Empty>, Status> {
        let started = Instant::now();
        let proto::CommitSnapshotRequest { name, key, parent, labels } = request.into_inner();
        let own = self.running.begin();
        // It takes memory, as unpacking does.
        let turn = self.queue.turn(|| format!("snapshot {name:?}")).await?;
        let (asked, tell) = (key.clone(), self.tell.clone());
        let work = move |store: &Store, cancel: &Cancel| {
            // Until it is told, as with layers: what is told is in the order of the turns.
            let _turn = turn;
            let committed = store.commit(&name, &asked, &parent, labels.into_iter().collect(), cancel)?;
            tell.tell(&Event::Committed {
                name,
                parent,
                is_layer: committed.is_layer,
                size: committed.usage.size,
                not_kept: lines(&committed.not_kept),
                seconds: started.elapsed().as_secs_f64(),
            });
            Ok(())
        };
        self.finish(&own, "commit", &key, work).await?;
        Ok(Response::new(Empty {}))
    }

    async fn remove(&self, request: Request<proto::RemoveSnapshotRequest>) -> Result<Response<Empty>, Status> {
        let key = request.into_inner().key;
        let asked = key.clone();
        self.work("remove", &key, move |store, _| store.remove(&asked)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn stat(
        &self,
        request: Request<proto::StatSnapshotRequest>,
    ) -> Result<Response<proto::StatSnapshotResponse>, Status> {
        let document = self.store.stat(&request.into_inner().key).map_err(|error| status(&error))?;
        Ok(Response::new(proto::StatSnapshotResponse { info: Some(info(document)) }))
    }

    async fn update(
        &self,
        request: Request<proto::UpdateSnapshotRequest>,
    ) -> Result<Response<proto::UpdateSnapshotResponse>, Status> {
        let request = request.into_inner();
        let proto::Info { name, labels, .. } = request.info.unwrap_or_default();
        let paths = request.update_mask.unwrap_or_default().paths;
        if let Some(path) = paths.iter().find(|path| *path != "labels" && !path.starts_with("labels.")) {
            return Err(Status::invalid_argument(format!("layflat: {path:?} of a snapshot cannot be changed")));
        }
        let key = name.clone();
        let change = move |own: &mut BTreeMap<String, String>| {
            if paths.is_empty() || paths.iter().any(|path| path == "labels") {
                own.clear();
                own.extend(labels.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            for label in paths.iter().filter_map(|path| path.strip_prefix("labels.")) {
                own.insert(label.to_owned(), labels.get(label).cloned().unwrap_or_default());
            }
            // As containerd's own have it: a label without a value is none.
            own.retain(|_, value| !value.is_empty());
        };
        let document = self.work("update", &key, move |store, _| store.relabel(&name, change)).await?;
        Ok(Response::new(proto::UpdateSnapshotResponse { info: Some(info(document)) }))
    }

    type ListStream = tokio_stream::Iter<std::vec::IntoIter<Result<proto::ListSnapshotsResponse, Status>>>;

    async fn list(&self, request: Request<proto::ListSnapshotsRequest>) -> Result<Response<Self::ListStream>, Status> {
        let filters = Filters::parse(&request.into_inner().filters)
            .map_err(|problem| Status::invalid_argument(format!("layflat: {problem}")))?;
        let documents = self.store.list_for_containerd().into_iter();
        let mut found: Vec<proto::Info> =
            documents.filter(|document| filters.match_snapshot(document)).map(info).collect();
        let mut messages = Vec::new();
        while !found.is_empty() {
            let rest = found.split_off(LISTED.min(found.len()));
            messages.push(Ok(proto::ListSnapshotsResponse { info: std::mem::replace(&mut found, rest) }));
        }
        Ok(Response::new(tokio_stream::iter(messages)))
    }

    async fn usage(&self, request: Request<proto::UsageRequest>) -> Result<Response<proto::UsageResponse>, Status> {
        let key = request.into_inner().key;
        let asked = key.clone();
        let usage = self.work("usage", &key, move |store, _| store.usage(&asked)).await?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(Response::new(proto::UsageResponse { size: number(usage.size), inodes: number(usage.inodes) }))
    }

    async fn cleanup(&self, _request: Request<proto::CleanupRequest>) -> Result<Response<Empty>, Status> {
        let tell = self.tell.clone();
        self.work("cleanup", "", move |store, _| {
            clean(store, &tell);
            Ok(())
        })
        .await?;
        Ok(Response::new(Empty {}))
    }
}

/// Removes what is left of snapshots that are none, and tells what could not be removed.
pub(super) fn clean(store: &Store, tell: &Tell) {
    let unusable = |directory, problem| tell.tell(&Event::Unusable { directory, problem });
    match store.clean() {
        Ok(kept) => kept.into_iter().for_each(|(directory, error)| {
            unusable(directory, format!("cannot be removed: {}", std::io::Error::from(error)));
        }),
        Err(error) => unusable(std::path::PathBuf::new(), format!("cannot look for what is left: {error}")),
    }
}

/// Who asks.
fn seer<T>(request: &Request<T>) -> Seer {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|connection| connection.peer_cred);
    Seer::process(peer.and_then(|peer| peer.pid()))
}

fn status(error: &StoreError) -> Status {
    let (code, text) = match error {
        StoreError::Missing(text) => (Code::NotFound, text.clone()),
        StoreError::Exists(text) => (Code::AlreadyExists, text.clone()),
        StoreError::Precondition(text) => (Code::FailedPrecondition, text.clone()),
        StoreError::Invalid(text) => (Code::InvalidArgument, text.clone()),
        StoreError::Unpack(error) => explained(error),
        // What an EROFS image cannot hold is the layer's.
        error @ StoreError::Image(cause) if cause.is_unavailable() => (Code::InvalidArgument, Chain(error).to_string()),
        error @ StoreError::Image(_) => (Code::Internal, Chain(error).to_string()),
        error @ StoreError::Io { .. } => (Code::Internal, error.to_string()),
    };
    Status::new(code, format!("layflat: {text}"))
}

fn mount(mounted: Mounted) -> Mount {
    Mount {
        r#type: mounted.kind.to_owned(),
        // As options, which are text: the root is UTF-8.
        source: mounted.source.to_string_lossy().into_owned(),
        target: String::new(),
        options: mounted.options,
    }
}

fn info(document: Document) -> proto::Info {
    let kind = match document.kind {
        Kind::View => proto::Kind::View,
        Kind::Active => proto::Kind::Active,
        Kind::Committed => proto::Kind::Committed,
    };
    proto::Info {
        name: document.name,
        parent: document.parent,
        kind: kind.into(),
        created_at: Some(timestamp(document.created)),
        updated_at: Some(timestamp(document.updated)),
        labels: document.labels.into_iter().collect(),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
