//! layflat-containerd's socket, spoken to as containerd does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_prost::ProstCodec;

use crate::common::tree::Tree;
use crate::common::wait::PATIENCE;

#[path = "../../src/containerd/proto/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each service has more than is used here")]
pub(crate) mod proto;

use proto::snapshots as messages;
use proto::types::{Descriptor, Empty, Mount};

const SNAPSHOTS: &str = "/containerd.services.snapshots.v1.Snapshots";
const DIFF: &str = "/containerd.services.diff.v1.Diff";
const HEALTH: &str = "/grpc.health.v1.Health";

/// What a call is answered with.
pub(crate) type Answer<T> = Result<T, Status>;

pub(crate) struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = format!("unix:{}", socket.display());
        // It connects when it is first used, and again when the connection is gone.
        let channel = runtime.block_on(async { Endpoint::try_from(address).unwrap().connect_lazy() });
        Self { runtime, channel }
    }

    fn call<M, R>(&self, service: &str, method: &str, message: M) -> Answer<R>
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("{service}/{method}")).unwrap();
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let answer = grpc.unary(Request::new(message), path, ProstCodec::<M, R>::default()).await?;
            Ok(answer.into_inner())
        })
    }

    pub(crate) fn prepare(&self, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        self.prepare_labelled(key, parent, &[])
    }

    pub(crate) fn prepare_labelled(&self, key: &str, parent: &str, labels: &[(&str, &str)]) -> Answer<Vec<Mount>> {
        let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let request = messages::PrepareSnapshotRequest { key: key.to_owned(), parent: parent.to_owned(), labels };
        let answer: messages::PrepareSnapshotResponse = self.call(SNAPSHOTS, "Prepare", request)?;
        Ok(answer.mounts)
    }

    pub(crate) fn view(&self, key: &str, parent: &str) -> Answer<Vec<Mount>> {
        let request =
            messages::ViewSnapshotRequest { key: key.to_owned(), parent: parent.to_owned(), ..Default::default() };
        let answer: messages::ViewSnapshotResponse = self.call(SNAPSHOTS, "View", request)?;
        Ok(answer.mounts)
    }

    pub(crate) fn mounts(&self, key: &str) -> Answer<Vec<Mount>> {
        let request = messages::MountsRequest { key: key.to_owned() };
        let answer: messages::MountsResponse = self.call(SNAPSHOTS, "Mounts", request)?;
        Ok(answer.mounts)
    }

    pub(crate) fn apply(&self, layer: &Descriptor, mounts: &[Mount]) -> Answer<Descriptor> {
        let request = proto::diff::ApplyRequest { diff: Some(layer.clone()), mounts: mounts.to_vec() };
        let answer: proto::diff::ApplyResponse = self.call(DIFF, "Apply", request)?;
        Ok(answer.applied.unwrap())
    }

    /// Begins to unpack a layer.
    pub(crate) fn begin_apply(&self, layer: &Descriptor, mounts: &[Mount]) -> Pending<'_> {
        let request = proto::diff::ApplyRequest { diff: Some(layer.clone()), mounts: mounts.to_vec() };
        self.begin::<_, proto::diff::ApplyResponse>(DIFF, "Apply", request)
    }

    /// Begins to commit a snapshot.
    pub(crate) fn begin_commit(&self, name: &str, key: &str) -> Pending<'_> {
        let request =
            messages::CommitSnapshotRequest { name: name.to_owned(), key: key.to_owned(), ..Default::default() };
        self.begin::<_, Empty>(SNAPSHOTS, "Commit", request)
    }

    fn begin<M, R>(&self, service: &str, method: &str, message: M) -> Pending<'_>
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("{service}/{method}")).unwrap();
        let mut grpc = Grpc::new(self.channel.clone());
        let task = self.runtime.spawn(async move {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.unary(Request::new(message), path, ProstCodec::<M, R>::default()).await.map(drop)
        });
        Pending { runtime: &self.runtime, task }
    }

    pub(crate) fn commit(&self, name: &str, key: &str, parent: &str) -> Answer<()> {
        let request = messages::CommitSnapshotRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        self.call::<_, Empty>(SNAPSHOTS, "Commit", request).map(drop)
    }

    pub(crate) fn remove(&self, key: &str) -> Answer<()> {
        let request = messages::RemoveSnapshotRequest { key: key.to_owned() };
        self.call::<_, Empty>(SNAPSHOTS, "Remove", request).map(drop)
    }

    pub(crate) fn stat(&self, key: &str) -> Answer<messages::Info> {
        let request = messages::StatSnapshotRequest { key: key.to_owned() };
        let answer: messages::StatSnapshotResponse = self.call(SNAPSHOTS, "Stat", request)?;
        Ok(answer.info.unwrap())
    }

    /// Sets the labels that are named.
    pub(crate) fn label(&self, key: &str, labels: &[(&str, &str)]) -> Answer<messages::Info> {
        let labels = labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let labels: std::collections::HashMap<String, String> = labels.collect();
        let paths = labels.keys().map(|name| format!("labels.{name}")).collect();
        let info = messages::Info { name: key.to_owned(), labels, ..Default::default() };
        let update_mask = Some(proto::types::FieldMask { paths });
        let request = messages::UpdateSnapshotRequest { info: Some(info), update_mask };
        let answer: messages::UpdateSnapshotResponse = self.call(SNAPSHOTS, "Update", request)?;
        Ok(answer.info.unwrap())
    }

    pub(crate) fn usage(&self, key: &str) -> Answer<(i64, i64)> {
        let request = messages::UsageRequest { key: key.to_owned() };
        let answer: messages::UsageResponse = self.call(SNAPSHOTS, "Usage", request)?;
        Ok((answer.size, answer.inodes))
    }

    pub(crate) fn clean(&self) -> Answer<()> {
        self.call::<_, Empty>(SNAPSHOTS, "Cleanup", messages::CleanupRequest {}).map(drop)
    }

    /// Names and parents.
    pub(crate) fn list(&self, filters: &[&str]) -> Answer<BTreeMap<String, String>> {
        let request =
            messages::ListSnapshotsRequest { filters: filters.iter().map(|&filter| filter.to_owned()).collect() };
        let path = PathAndQuery::try_from(format!("{SNAPSHOTS}/List")).unwrap();
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<_, messages::ListSnapshotsResponse>::default();
            let mut answers = grpc.server_streaming(Request::new(request), path, codec).await?.into_inner();
            let mut found = BTreeMap::new();
            while let Some(answer) = answers.message().await? {
                found.extend(answer.info.into_iter().map(|info| (info.name, info.parent)));
            }
            Ok(found)
        })
    }

    /// Whether a service is well.
    pub(crate) fn health(&self, service: &str) -> Answer<i32> {
        let answer: HealthCheckResponse =
            self.call(HEALTH, "Check", HealthCheckRequest { service: service.to_owned() })?;
        Ok(answer.status)
    }

    /// The same, until no more is said; what is to be done once the first is heard.
    pub(crate) fn watch_health(&self, service: &str, then: impl FnOnce()) -> Answer<Vec<i32>> {
        let path = PathAndQuery::try_from(format!("{HEALTH}/Watch")).unwrap();
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<_, HealthCheckResponse>::default();
            let request = Request::new(HealthCheckRequest { service: service.to_owned() });
            let mut answers = grpc.server_streaming(request, path, codec).await?.into_inner();
            let mut heard = Vec::from_iter(answers.message().await?.map(|answer| answer.status));
            then();
            while let Some(answer) = answers.message().await? {
                heard.push(answer.status);
            }
            Ok(heard)
        })
    }

    /// Removes all that there are, those on top first.
    pub(crate) fn remove_all(&self) -> Answer<()> {
        let mut left = self.list(&[])?;
        while !left.is_empty() {
            let is_parent = |name: &String| left.values().any(|parent| parent == name);
            let tops: Vec<String> = left.keys().filter(|name| !is_parent(name)).cloned().collect();
            for top in tops {
                self.remove(&top)?;
                left.remove(&top);
            }
        }
        Ok(())
    }

    /// What a view of a committed snapshot shows.
    pub(crate) fn shown(&self, name: &str, mountpoint: &Path) -> Tree {
        self.try_shown(name, mountpoint).unwrap()
    }

    /// The same where a containerd is, too: what it does not know it removes when it collects its garbage, our view and what that is of.
    pub(crate) fn try_shown(&self, name: &str, mountpoint: &Path) -> Answer<Tree> {
        const VIEW: &str = "test/view";
        let begun = Instant::now();
        let view = loop {
            match Mounted::try_at(&self.view(VIEW, name)?, mountpoint) {
                // Also what does not fit into a page of options.
                Err(Errno::NOENT) if begun.elapsed() < PATIENCE => {
                    let _ = self.remove(VIEW);
                }
                mounted => break mounted.unwrap(),
            }
        };
        let tree = Tree::of_directory(&view.0);
        drop(view);
        match self.remove(VIEW) {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(tree),
        }
    }
}

/// A call that is not answered yet.
pub(crate) struct Pending<'c> {
    runtime: &'c Runtime,
    task: JoinHandle<Answer<()>>,
}

impl Pending<'_> {
    /// Waits for the answer.
    pub(crate) fn answer(self) -> Answer<()> {
        self.runtime.block_on(self.task).unwrap()
    }

    /// Does not want it any more.
    pub(crate) fn give_up(self) {
        self.task.abort();
        assert!(self.runtime.block_on(self.task).unwrap_err().is_cancelled());
    }
}

/// Mounts that were made, until this is dropped.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn at(mounts: &[Mount], mountpoint: &Path) -> Self {
        Self::try_at(mounts, mountpoint).unwrap_or_else(|error| panic!("{error}: {mounts:?}"))
    }

    fn try_at(mounts: &[Mount], mountpoint: &Path) -> Result<Self, Errno> {
        let [mount] = mounts else { panic!("{mounts:?}") };
        fs::create_dir_all(mountpoint).unwrap();
        if mount.r#type == "bind" {
            rustix::mount::mount_bind(&mount.source, mountpoint)?;
        } else {
            let (ours, flags): (Vec<&String>, Vec<&String>) = mount.options.iter().partition(|option| *option != "ro");
            let ours: Vec<&str> = ours.into_iter().map(String::as_str).collect();
            let data = CString::new(ours.join(",")).unwrap();
            let flags = if flags.is_empty() { MountFlags::empty() } else { MountFlags::RDONLY };
            rustix::mount::mount(&mount.source, mountpoint, &mount.r#type, flags, data.as_c_str())?;
        }
        Ok(Self(mountpoint.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}
