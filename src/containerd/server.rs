//! What is served, and the end of the program.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::task::Context as TaskContext;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Poll, Service, http};
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use super::differ::Differ;
use super::metrics::{Metrics, Page};
use super::proto::diff::diff_server::{self, DiffServer};
use super::proto::snapshots::snapshots_server::{self, SnapshotsServer};
use super::queue::Queue;
use super::running::Running;
use super::snapshotter::{Snapshotter, clean};
use super::socket::MetricsListener;
use super::store::Store;
use super::{Event, Settings, Tell};
use crate::core::chain::Context;

/// Serves containerd until SIGTERM or SIGINT. Then no more is begun; what is being unpacked may still be finished within
/// [`Settings::grace`], or until a second signal, and is cancelled then. `ready` is called as soon as there are answers.
/// Metrics are there until the very end.
///
/// # Errors
/// The directory of the snapshots cannot be used, the system has no threads or signals to give, or the socket breaks.
pub fn serve(
    listener: UnixListener,
    asked: Option<MetricsListener>,
    settings: Settings,
    ready: impl FnOnce(),
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let metrics = Metrics::default();
    let settings = &Settings { tell: counted(settings.tell.clone(), metrics.clone()), ..settings };
    let store = settings.root.as_deref().map(|root| open(root, settings)).transpose()?;
    let queue = Queue::of(settings.jobs.get(), settings.tell.clone());
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut signalled = async || {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let running = Running::default();
        if let Some(asked) = asked {
            let (running, queue) = (running.clone(), queue.clone());
            settings.tell.tell(&Event::Metrics { address: asked.address()? });
            Page { metrics: metrics.clone(), running, queue, store: store.clone() }.serve(asked)?;
        }
        let mut reporter = HealthReporter::new();
        let mut served = vec!["", diff_server::SERVICE_NAME];
        served.extend(store.is_some().then_some(snapshots_server::SERVICE_NAME));
        for &name in &served {
            reporter.set_service_status(name, ServingStatus::Serving).await;
        }
        let services = Services {
            metrics,
            health: HealthServer::new(HealthService::from_health_reporter(reporter.clone())),
            diff: DiffServer::new(Differ::new(settings, store.clone(), running.clone(), queue.clone())),
            snapshots: store.clone().map(|store| {
                SnapshotsServer::new(Snapshotter::new(store, running.clone(), queue.clone(), settings.tell.clone()))
            }),
        };
        if let Some(store) = store {
            // What a killed process left may be large.
            let tell = settings.tell.clone();
            tokio::task::spawn_blocking(move || clean(&store, &tell));
        }
        ready();
        let (stop, stopped) = oneshot::channel::<()>();
        let server =
            Server::builder().serve_with_incoming_shutdown(services, UnixListenerStream::new(listener), async {
                drop(stopped.await)
            });
        let ending = async {
            signalled().await;
            let waiting = queue.waiting();
            settings.tell.tell(&Event::Ending { layers: running.count().saturating_sub(waiting), waiting });
            // Nobody waits for what was not begun.
            queue.close();
            for &name in &served {
                reporter.set_service_status(name, ServingStatus::NotServing).await;
                // Whoever watches has heard it. The server would wait for them.
                reporter.clear_service_status(name).await;
            }
            drop(stop);
            tokio::select! {
                () = tokio::time::sleep(settings.grace) => {}
                () = signalled() => {}
            }
            running.cancel();
            // The server ends when the last of them has.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = server => served.map_err(io::Error::other),
            () = ending => Ok(()),
        }
    })
}

fn open(root: &Path, settings: &Settings) -> io::Result<Arc<Store>> {
    let (store, unread) = Store::open(root, settings)
        .map_err(|error| io::Error::other(Context::new(format!("cannot keep snapshots in {root:?}"), error)))?;
    for (directory, problem) in unread {
        settings.tell.tell(&Event::Unusable { directory, problem });
    }
    Ok(Arc::new(store))
}

/// The same, counted.
fn counted(tell: Tell, metrics: Metrics) -> Tell {
    Tell::to(move |event| {
        metrics.hear(event);
        tell.tell(event);
    })
}

/// All services on one socket. tonic's own router would bring axum.
#[derive(Clone)]
struct Services {
    metrics: Metrics,
    health: HealthServer<HealthService>,
    diff: DiffServer<Differ>,
    /// With a directory to keep them in.
    snapshots: Option<SnapshotsServer<Snapshotter>>,
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let call = self.metrics.begin(path);
        let answer = match (path.split('/').nth(1), &mut self.snapshots) {
            (Some(snapshots_server::SERVICE_NAME), Some(snapshots)) => snapshots.call(request),
            (Some(health_server::SERVICE_NAME), _) => self.health.call(request),
            // It answers what is none of them with UNIMPLEMENTED.
            _ => self.diff.call(request),
        };
        let Some(call) = call else { return answer };
        Box::pin(async {
            let answer = answer.await;
            answer.as_ref().map_or_else(|never| match *never {}, |answer| call.end(answer));
            answer
        })
    }
}
