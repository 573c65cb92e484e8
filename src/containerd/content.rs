//! containerd's content store, written to by way of containerd: it knows of no blob that was put beside the others.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::proto::content::content_client::ContentClient;
use super::proto::content::{Info, UpdateRequest, WriteAction, WriteContentRequest};
use super::proto::leases::CreateRequest;
use super::proto::leases::leases_client::LeasesClient;
use super::proto::types::FieldMask;

/// Bytes of one message; containerd takes up to sixteen times as many.
const PIECE: u64 = 1 << 20;
/// How long a blob is kept that nothing refers to yet: in that time whoever asked for it makes an image with it.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// A containerd, and the namespace that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Content {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
}

/// A blob to be written.
#[derive(Debug)]
pub(super) struct NewBlob {
    pub(super) file: Arc<File>,
    pub(super) digest: String,
    pub(super) size: u64,
    /// What it is called as long as it is not whole.
    pub(super) reference: String,
    pub(super) labels: HashMap<String, String>,
}

impl Content {
    /// The one that listens on this socket; it is connected to when it is asked for something.
    pub(super) fn at(socket: &Path, namespace: MetadataValue<Ascii>) -> Result<Self, Status> {
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display()));
        let endpoint = endpoint.map_err(|error| Status::internal(format!("layflat: {socket:?}: {error}")))?;
        Ok(Self { channel: endpoint.connect_lazy(), namespace })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request
    }

    /// Writes a blob. It is not removed for an hour.
    pub(super) async fn write(&self, blob: NewBlob) -> Result<(), Status> {
        let failed = |status: Status| {
            Status::new(status.code(), format!("layflat: containerd does not take the layer: {}", status.message()))
        };
        let expire =
            jiff::Timestamp::now().saturating_add(KEPT).map_err(|error| Status::internal(error.to_string()))?;
        let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), expire.to_string())]);
        let created = LeasesClient::new(self.channel.clone()).create(self.request(CreateRequest { labels })).await;
        let lease = created.map_err(failed)?.into_inner().lease.unwrap_or_default().id;
        let lease = MetadataValue::try_from(lease).map_err(|error| Status::internal(error.to_string()))?;
        let (digest, labels) = (blob.digest.clone(), blob.labels.clone());
        let mut request = self.request(tokio_stream::iter(messages(blob)));
        request.metadata_mut().insert("containerd-lease", lease);
        let written = async {
            let answers = ContentClient::new(self.channel.clone()).write(request).await?;
            let mut answers = answers.into_inner();
            // The last one says that it is there.
            while answers.message().await?.is_some() {}
            Ok::<(), Status>(())
        };
        match written.await {
            Err(status) if status.code() == Code::AlreadyExists => self.label(digest, labels).await.map_err(failed),
            written => written.map_err(failed),
        }
    }

    /// Labels a blob that was there already, perhaps without: BuildKit and Docker read the DiffID there.
    async fn label(&self, digest: String, labels: HashMap<String, String>) -> Result<(), Status> {
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|name| format!("labels.{name}")).collect();
        let request = UpdateRequest { info: Some(Info { digest, labels }), update_mask: Some(FieldMask { paths }) };
        ContentClient::new(self.channel.clone()).update(self.request(request)).await.map(drop)
    }
}

/// The pieces of a blob, each read when it is sent. What cannot be read is missing, and containerd finds that by size and
/// digest.
fn messages(blob: NewBlob) -> impl Iterator<Item = WriteContentRequest> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let NewBlob { file, digest, size, reference, labels } = blob;
    let step = usize::try_from(PIECE).unwrap_or(usize::MAX);
    let message = move |action: WriteAction, offset: u64| WriteContentRequest {
        action: action.into(),
        r#ref: reference.clone(),
        total: number(size),
        expected: digest.clone(),
        offset: number(offset),
        ..WriteContentRequest::default()
    };
    let last = WriteContentRequest { labels, ..message(WriteAction::Commit, size) };
    let pieces = (0..size).step_by(step).map(move |offset| {
        let mut data = vec![0; usize::try_from(PIECE.min(size - offset)).unwrap_or_default()];
        let read = file.read_exact_at(&mut data, offset);
        let data = if read.is_ok() { data } else { Vec::new() };
        WriteContentRequest { data, ..message(WriteAction::Write, offset) }
    });
    pieces.chain(std::iter::once(last))
}
