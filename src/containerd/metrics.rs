//! What is counted, and the page on which Prometheus reads it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context as TaskContext;
use std::time::Instant;

use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{Poll, Service, http};
use tonic::transport::Server;

use super::Event;
use super::queue::Queue;
use super::running::Running;
use super::socket::{Listener, MetricsListener};
use super::store::Store;

/// The calls that are counted: no caller can make up another label.
const METHODS: [&str; 12] = [
    "Diff/Apply",
    "Diff/Diff",
    "Snapshots/Cleanup",
    "Snapshots/Commit",
    "Snapshots/List",
    "Snapshots/Mounts",
    "Snapshots/Prepare",
    "Snapshots/Remove",
    "Snapshots/Stat",
    "Snapshots/Update",
    "Snapshots/Usage",
    "Snapshots/View",
];

/// Upper bounds of the seconds of a call: a lookup, a small layer, a large one.
const BOUNDS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// What is counted. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// By method and code.
    calls: BTreeMap<(&'static str, i32), u64>,
    seconds: BTreeMap<&'static str, Histogram>,
    /// By what became of them.
    layers: BTreeMap<&'static str, u64>,
    bytes: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Histogram {
    /// Those that lie within each bound, and not within the one before.
    within: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

/// A call that is being answered. If it is dropped before, the caller has given up.
pub(super) struct Call {
    metrics: Metrics,
    method: &'static str,
    started: Instant,
    code: Code,
}

impl Metrics {
    /// A call of the method at this path, if it is one of those that are counted.
    pub(super) fn begin(&self, path: &str) -> Option<Call> {
        let (_, named) = path.rsplit_once('.')?;
        let &method = METHODS.iter().find(|&&method| method == named)?;
        Some(Call { metrics: self.clone(), method, started: Instant::now(), code: Code::Cancelled })
    }

    /// Counts what happened to layers.
    pub(super) fn hear(&self, event: &Event) {
        let (outcome, bytes) = match event {
            Event::Unpacked(layer) => ("unpacked", Some(layer.bytes)),
            Event::Packed(layer) => ("packed", Some(layer.bytes)),
            Event::Left { .. } => ("left", None),
            Event::Failed { .. } => ("failed", None),
            _ => return,
        };
        let mut counts = self.counts();
        *counts.layers.entry(outcome).or_default() += 1;
        if let Some(bytes) = bytes {
            *counts.bytes.entry(outcome).or_default() += bytes;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// It is answered.
    pub(super) fn end(mut self, answer: &http::Response<Body>) {
        // An error is all in the head. What comes after one does not fail: no service here streams anything that is not there yet.
        let status = answer.headers().get("grpc-status");
        self.code = status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut counts = self.metrics.counts();
        *counts.calls.entry((self.method, self.code.into())).or_default() += 1;
        let histogram = counts.seconds.entry(self.method).or_default();
        histogram.count += 1;
        histogram.sum += seconds;
        if let Some(bound) = BOUNDS.iter().position(|&bound| seconds <= bound) {
            histogram.within[bound] += 1;
        }
    }
}

/// What Prometheus reads.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) metrics: Metrics,
    pub(super) running: Running,
    pub(super) queue: Queue,
    pub(super) store: Option<Arc<Store>>,
}

impl Page {
    /// Answers until the runtime ends.
    pub(super) fn serve(self, MetricsListener(listener): MetricsListener) -> io::Result<()> {
        // HTTP/1.1 is what Prometheus and curl speak without TLS.
        let server = Server::builder().accept_http1(true);
        match listener {
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?);
                tokio::spawn(async move { server.serve_with_incoming(self, incoming).await });
            }
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
                tokio::spawn(async move { server.serve_with_incoming(self, incoming).await });
            }
        }
        Ok(())
    }

    /// In Prometheus' text format, 0.0.4.
    fn text(&self) -> String {
        let mut text = Text::default();
        text.head("build_info", "gauge", "The version of layflat-containerd.");
        text.line("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.head("working", "gauge", "Calls that work for containerd, or wait for their turn.");
        text.line("working", &[], self.running.count());
        text.head("waiting", "gauge", "Those of them that wait for their turn.");
        text.line("waiting", &[], self.queue.waiting());
        if let Some(store) = &self.store {
            let mut kinds = BTreeMap::from([("active", 0_u64), ("committed", 0), ("view", 0)]);
            for document in store.list() {
                *kinds.entry(document.kind.name()).or_default() += 1;
            }
            text.head("snapshots", "gauge", "Snapshots, by kind.");
            kinds.iter().for_each(|(kind, count)| text.line("snapshots", &[("kind", kind)], count));
        }
        let counts = self.metrics.counts();
        text.head(
            "layers_total",
            "counter",
            "Layers, by what became of them; those that are left go to the next differ.",
        );
        for outcome in ["unpacked", "packed", "left", "failed"] {
            text.line("layers_total", &[("outcome", outcome)], counts.layers.get(outcome).unwrap_or(&0));
        }
        text.head("layer_bytes_total", "counter", "Uncompressed bytes of the layers.");
        for outcome in ["unpacked", "packed"] {
            text.line("layer_bytes_total", &[("outcome", outcome)], counts.bytes.get(outcome).unwrap_or(&0));
        }
        text.head("calls_total", "counter", "Calls by containerd, by method and gRPC code.");
        for (&(method, code), count) in &counts.calls {
            text.line("calls_total", &[("method", method), ("code", &format!("{:?}", Code::from_i32(code)))], count);
        }
        text.head("call_seconds", "histogram", "Seconds until a call is answered, waiting included.");
        for (method, Histogram { within, count, sum }) in &counts.seconds {
            let mut so_far = 0;
            for (bound, within) in BOUNDS.iter().zip(within) {
                so_far += within;
                text.line("call_seconds_bucket", &[("method", method), ("le", &bound.to_string())], so_far);
            }
            text.line("call_seconds_bucket", &[("method", method), ("le", "+Inf")], count);
            text.line("call_seconds_sum", &[("method", method)], sum);
            text.line("call_seconds_count", &[("method", method)], count);
        }
        text.0
    }
}

/// The labels' values are all ours: nothing in them has to be escaped.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.0 += &format!("# HELP layflat_{name} {help}\n# TYPE layflat_{name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // A String takes all.
        let _ = writeln!(self.0, "layflat_{name}{labels} {value}");
    }
}

impl Service<http::Request<Body>> for Page {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_asked = matches!(*request.method(), http::Method::GET | http::Method::HEAD);
        let (status, kind, text) = match request.uri().path() {
            "/metrics" if is_asked => (http::StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.text()),
            "/metrics" => (http::StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned()),
            _ => (http::StatusCode::NOT_FOUND, "text/plain", "see /metrics\n".to_owned()),
        };
        let mut answer = http::Response::new(Body::new(text));
        *answer.status_mut() = status;
        answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        ready(Ok(answer))
    }
}
