//! The diff service: unpacks a layer onto the mounts of a snapshot; of our own snapshots it is only staged there. And makes
//! a layer of what a snapshot has on top of another.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tonic::{Code, Request, Response, Status};

use super::content::{Content, NewBlob};
use super::mounts::Target;
use super::packing::{Order, Packed, Place};
use super::proto::diff::diff_server::Diff;
use super::proto::diff::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse};
use super::proto::types::Descriptor;
use super::queue::Queue;
use super::running::Running;
use super::store::Store;
use super::{Event, LayerDone, Settings, Tell};
use crate::blob::{Blob, Compression};
use crate::core::cancel::Cancel;
use crate::core::chain::Chain;
use crate::core::digest::Digest;
use crate::core::layer::LayerError;
use crate::core::limits::Limits;
use crate::fs::open_regular;
use crate::image::{Layer, MediaType};
use crate::unpack::{Error, LayerOver, Loss, Options, layer_over};

/// Where containerd keeps its blobs, from its root on (its plugin io.containerd.content.v1.content).
const BLOBS: &str = "io.containerd.content.v1.content/blobs";

/// Unpacks layers, so many at a time.
#[derive(Debug, Clone)]
pub(super) struct Differ {
    blobs: Arc<Path>,
    no_sync: bool,
    store: Option<Arc<Store>>,
    containerd: Arc<Path>,
    scratch: Arc<Path>,
    layer_jobs: Option<NonZero<usize>>,
    limits: Limits,
    queue: Queue,
    running: Running,
    tell: Tell,
}

/// Why a layer was not unpacked, or not made.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is for another differ.
    Left(String),
    /// It cannot be done.
    Failed(Code, String),
}

impl Differ {
    /// `store` has our own snapshots, if there are any.
    pub(super) fn new(settings: &Settings, store: Option<Arc<Store>>, running: Running, queue: Queue) -> Self {
        Self {
            blobs: settings.containerd_root.join(BLOBS).into(),
            no_sync: settings.no_sync,
            store,
            containerd: settings.containerd_address.as_path().into(),
            scratch: settings.root.as_ref().unwrap_or(&settings.containerd_root).as_path().into(),
            layer_jobs: settings.layer_jobs,
            limits: settings.limits,
            queue,
            running,
            tell: settings.tell.clone(),
        }
    }

    fn apply_now(&self, request: &ApplyRequest, cancel: &Cancel) -> Result<ApplyResponse, Refusal> {
        let started = Instant::now();
        let stated = request.diff.clone().unwrap_or_default();
        let target = Target::of(&request.mounts).map_err(|unknown| Refusal::Left(unknown.to_string()))?;
        let layer = self.layer(&stated)?;
        let own = self.store.as_ref().and_then(|store| Some((store, store.slot(&target.upper)?)));
        let unpacked = match own {
            Some((store, slot)) => {
                let options = Options { replace: true, ..store.options(cancel) };
                slot.unpack(&layer, &options)?
            }
            None => {
                let options = Options {
                    xattr_namespace: Some(target.namespace),
                    no_sync: self.no_sync,
                    jobs: self.layer_jobs,
                    limits: self.limits,
                    cancel: cancel.clone(),
                    ..Options::default()
                };
                layer_over(&layer, &target.lower, &target.upper, &options)?
            }
        };
        let LayerOver { diff_id, expanded, entries, not_kept, .. } = unpacked;
        self.tell.tell(&Event::Unpacked(LayerDone {
            digest: stated.digest,
            diff_id: diff_id.to_string(),
            directory: target.upper,
            entries,
            bytes: expanded,
            not_kept: lines(&not_kept),
            seconds: started.elapsed().as_secs_f64(),
        }));
        let applied = Descriptor {
            media_type: MediaType::oci_layer(Compression::None).to_owned(),
            digest: diff_id.to_string(),
            size: i64::try_from(expanded).unwrap_or(i64::MAX),
            annotations: HashMap::new(),
        };
        Ok(ApplyResponse { applied: Some(applied) })
    }

    /// What containerd is told.
    fn refused(&self, what: &str, digest: String, refusal: Refusal) -> Status {
        match refusal {
            Refusal::Left(reason) => {
                self.tell.tell(&Event::Left { digest, reason: reason.clone() });
                Status::unimplemented(format!("layflat leaves this to others: {reason}"))
            }
            Refusal::Failed(code, error) => {
                self.tell.tell(&Event::Failed { digest: digest.clone(), error: error.clone() });
                Status::new(code, format!("layflat: {what} {digest}: {error}"))
            }
        }
    }

    /// A layer in containerd's content store.
    fn layer(&self, stated: &Descriptor) -> Result<Layer, Refusal> {
        if !matches!(MediaType::of(&stated.media_type), MediaType::Layer | MediaType::ForeignLayer) {
            return Err(Refusal::Left(format!("the media type {:?}", stated.media_type)));
        }
        let digest: Digest = stated
            .digest
            .parse()
            .map_err(|error| Refusal::Failed(Code::InvalidArgument, format!("{:?}: {error}", stated.digest)))?;
        let path = self.blobs.join(digest.algorithm().name()).join(digest.hex());
        let missing = |error| match error {
            // In another store than the one on disk.
            ErrorKind::NotFound => Refusal::Left(format!("{path:?} is not there")),
            error => Refusal::Failed(Code::Internal, format!("cannot open {path:?}: {error}")),
        };
        let Some((_, length)) = open_regular(&path).map_err(|error| missing(error.kind()))? else {
            return Err(Refusal::Left(format!("{path:?} is not a regular file")));
        };
        let size = u64::try_from(stated.size).ok().filter(|&size| size > 0);
        let blob = Blob::from_path(&path, length).stated(Some(digest), size);
        Ok(Layer { media_type: Some(stated.media_type.clone()), ..Layer::bare(blob) })
    }
}

#[tonic::async_trait]
impl Diff for Differ {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let request = request.into_inner();
        let digest = request.diff.as_ref().map(|stated| stated.digest.clone()).unwrap_or_default();
        // When containerd gives up, this is dropped.
        let own = self.running.begin();
        let turn = self.queue.turn(|| format!("layer {digest}")).await?;
        let (differ, cancel) = (self.clone(), own.cancel.clone());
        let work = move || {
            let _turn = turn;
            match cancel.is_cancelled() {
                true => Err(Error::Cancelled.into()),
                false => differ.apply_now(&request, &cancel),
            }
        };
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|panic| Err(Refusal::Failed(Code::Internal, panic.to_string())));
        done.map(Response::new).map_err(|refusal| self.refused("layer", digest, refusal))
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let started = Instant::now();
        let stated = request.metadata().get("containerd-namespace").cloned();
        let request = request.into_inner();
        let refused = |refusal| {
            let of = request.right.first().map(|mount| mount.options.join(",")).unwrap_or_default();
            self.refused("changes", of, refusal)
        };
        let mut order = Order::of(&request).map_err(refused)?;
        let directory = order.changes.upper.clone();
        let own_maps = self.store.as_ref().and_then(|store| store.id_maps_of(&directory));
        order.changes.id_maps = order.changes.id_maps.or(own_maps);
        let own_name = self.store.as_ref().and_then(|store| store.name_of(&directory));
        // containerd 1.7 does not say it, but begins its names of snapshots with it.
        let named = || own_name.as_ref()?.split_once('/')?.0.parse().ok();
        let namespace = stated
            .or_else(named)
            .ok_or_else(|| refused(Refusal::Left("the namespace is not said, as by containerd 1.7".to_owned())))?;
        let content = Content::at(&self.containerd, namespace)?;
        let is_own = own_name.is_some();
        // When containerd gives up, this is dropped.
        let own = self.running.begin();
        let turn = self.queue.turn(|| format!("changes in {directory:?}")).await?;
        let place = Place { is_own, scratch: Arc::clone(&self.scratch), jobs: self.layer_jobs, limits: self.limits };
        let cancel = own.cancel.clone();
        let work = move || {
            let _turn = turn;
            order.pack(&place, &cancel)
        };
        let packed = tokio::task::spawn_blocking(work).await;
        let packed = packed.unwrap_or_else(|panic| Err(Refusal::Failed(Code::Internal, panic.to_string())));
        let Packed { file, facts, media_type, report } = packed.map_err(refused)?;
        let mut labels = request.labels.clone();
        if facts.compression != Compression::None {
            labels.insert("containerd.io/uncompressed".to_owned(), facts.diff_id.to_string());
        }
        let (digest, size) = (facts.digest.to_string(), facts.size);
        let reference = match request.r#ref.as_str() {
            "" => format!("layflat-{digest}"),
            stated => stated.to_owned(),
        };
        content.write(NewBlob { file, digest: digest.clone(), size, reference, labels }).await?;
        self.tell.tell(&Event::Packed(LayerDone {
            digest: digest.clone(),
            diff_id: facts.diff_id.to_string(),
            directory,
            entries: report.entries,
            bytes: facts.expanded,
            not_kept: lines(&report.not_kept),
            seconds: started.elapsed().as_secs_f64(),
        }));
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let made = Descriptor { media_type, digest, size, annotations: HashMap::new() };
        Ok(Response::new(DiffResponse { diff: Some(made) }))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (code, text) = explained(&error);
        Self::Failed(code, text)
    }
}

/// What containerd is told of a layer that cannot be unpacked.
pub(super) fn explained(error: &Error) -> (Code, String) {
    let (code, cause): (_, &(dyn std::error::Error + 'static)) = match error {
        Error::Layer { error: LayerError::Limit { name: MEMORY, .. }, .. } | Error::Limit { name: MEMORY, .. } => {
            return (Code::ResourceExhausted, too_large(error));
        }
        Error::Limit { .. } => (Code::InvalidArgument, error),
        Error::Cancelled => (Code::Cancelled, error),
        // Each but for the layer's number, which says nothing here.
        Error::Blob { error, .. } => (Code::DataLoss, error),
        Error::Layer { error, .. } => (Code::InvalidArgument, error),
        Error::Stack(error) => (Code::InvalidArgument, error),
        error => (Code::Internal, error),
    };
    (code, Chain(cause).to_string())
}

/// The limit on memory, by its name.
pub(super) const MEMORY: &str = "memory";

/// What is said of a layer that exceeds it.
pub(super) fn too_large(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = error.source().unwrap_or(error);
    format!("{}; --memory of layflat-containerd raises it", Chain(cause))
}

/// What could not be kept, a line for each kind.
pub(super) fn lines(not_kept: &[Loss]) -> Vec<String> {
    not_kept.iter().map(|loss| format!("{}: {} {}", loss.describe(), loss.count, loss.noun())).collect()
}
