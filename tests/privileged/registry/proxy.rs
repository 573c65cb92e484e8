//! A proxy that fails on purpose: it hands requests on to a registry, and does to the answers what bad networks and
//! busy servers do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::images::gzip;

/// A request, without its body.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.method == "GET" && self.path.contains("/blobs/sha256:")
    }
}

/// What is done with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Pass,
    /// Handed on without a header.
    Without(&'static str),
    /// The answer has one more header.
    With(&'static str),
    /// Answered here: a status line, headers and a body.
    Answer(String),
    /// Of the answer's body only so many bytes come, then the connection ends.
    Cut(usize),
    /// The byte at this place of the answer's body is another one.
    Flip(usize),
    /// The answer's body is shorter by one byte, and said to be.
    Shorten,
    /// Of the answer's body so many bytes come, and then nothing, for ever.
    Stall(usize),
    /// Answered here, the end of it byte by byte, one in a while, for ever.
    Drip(String),
    /// The answer comes late.
    Late(Duration),
    /// The registry does what was asked, and nobody hears of it.
    Lose,
    /// A header of the answer has another value, made from its own.
    Change(&'static str, fn(&str) -> String),
    /// The answer has another status line.
    Status(&'static str),
    /// The answer's body comes compressed, and its length is not said if not so wanted.
    Encode {
        length: bool,
    },
}

/// A decision, by the request and how many of them there have been before.
type Decide = dyn Fn(&Head, usize) -> Act + Send + Sync;

struct Shared {
    upstream: Option<SocketAddr>,
    decide: Box<Decide>,
    heads: Mutex<Vec<Head>>,
    held: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn start(
        upstream: Option<SocketAddr>,
        decide: impl Fn(&Head, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            decide: Box::new(decide),
            heads: Mutex::default(),
            held: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let mine = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if mine.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&mine);
                // A client that hangs up is what some tests are about.
                std::thread::spawn(move || shared.serve(connection?));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    /// All requests so far.
    pub(crate) fn heads(&self) -> Vec<Head> {
        self.shared.heads.lock().unwrap().clone()
    }
}

/// How often each blob was asked for.
pub(crate) type Asked = Arc<Mutex<BTreeMap<String, usize>>>;

/// A registry that counts how often each blob is asked for.
pub(crate) fn counting(registry: SocketAddr) -> (Proxy, Asked) {
    let asked = Asked::default();
    let count = Arc::clone(&asked);
    let proxy = Proxy::start(Some(registry), move |head, _| {
        if head.is_blob() {
            *count.lock().unwrap().entry(head.path.clone()).or_default() += 1;
        }
        Act::Pass
    });
    (proxy, asked)
}

/// A registry that sends so many bytes of each blob and then no more, unless it is asked again; and what it was asked for whole.
pub(crate) fn stalling(registry: SocketAddr, bytes: usize) -> (Proxy, Receiver<String>) {
    let (told, stalls) = channel();
    let asked = Mutex::new(BTreeSet::new());
    let proxy = Proxy::start(Some(registry), move |head, _| {
        if !head.is_blob() || head.header("range").is_some() {
            return Act::Pass;
        }
        let _ = told.send(head.path.clone());
        if asked.lock().unwrap().insert(head.path.clone()) { Act::Stall(bytes) } else { Act::Pass }
    });
    (proxy, stalls)
}

/// The option of who is to wait for a registry that stalls until it is killed, however long that takes on a busy machine.
pub(crate) const PATIENTLY: [&str; 2] = ["--timeout", "600"];

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let Some(head) = read_head(&mut reader)? else { return Ok(()) };
        let count = {
            let mut heads = self.heads.lock().unwrap();
            heads.push(head.clone());
            heads.len() - 1
        };
        if head.method == "CONNECT" {
            return tunnel(&client, reader, TcpStream::connect(self.upstream.unwrap())?);
        }
        let act = (self.decide)(&head, count);
        let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if let Act::Answer(answer) = act {
            // Who hangs up with unread bytes may be heard hanging up before the answer is.
            if length < 1 << 16 {
                std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
            }
            return client.write_all(answer.as_bytes());
        }
        if let Act::Drip(beginning) = act {
            client.write_all(beginning.as_bytes())?;
            while !self.over.load(Ordering::Relaxed) {
                client.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(20));
            }
            return Ok(());
        }
        let without = if let Act::Without(name) = act { name } else { "" };
        let mut upstream = TcpStream::connect(self.upstream.unwrap())?;
        let mut request = format!("{} {} HTTP/1.1\r\n", head.method, head.path);
        for (name, value) in &head.headers {
            if !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case(without) {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        upstream.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes())?;
        std::io::copy(&mut reader.take(length), &mut upstream)?;

        let mut answer = BufReader::new(upstream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            answer.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut body = Vec::new();
        answer.read_to_end(&mut body)?;
        match act {
            Act::Late(wait) => std::thread::sleep(wait),
            Act::Lose => return Ok(()),
            Act::Status(status) => lines[0] = format!("HTTP/1.1 {status}\r\n"),
            Act::Change(name, change) => {
                for line in &mut lines {
                    if let Some((key, value)) = line.split_once(": ")
                        && key.eq_ignore_ascii_case(name)
                    {
                        *line = format!("{key}: {}\r\n", change(value.trim_end()));
                    }
                }
            }
            Act::Encode { length } => {
                body = gzip(&body);
                lines.retain(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
                lines.push("Content-Encoding: gzip\r\n".to_owned());
                if length {
                    lines.push(format!("Content-Length: {}\r\n", body.len()));
                }
            }
            Act::Flip(at) => body[at] ^= 1,
            Act::With(header) => lines.push(format!("{header}\r\n")),
            Act::Shorten => {
                body.pop();
                for line in &mut lines {
                    if line.to_ascii_lowercase().starts_with("content-length:") {
                        *line = format!("Content-Length: {}\r\n", body.len());
                    }
                }
            }
            _ => {}
        }
        client.write_all(lines.concat().as_bytes())?;
        client.write_all(b"\r\n")?;
        match act {
            Act::Cut(count) => client.write_all(&body[..count.min(body.len())]),
            Act::Stall(count) => {
                client.write_all(&body[..count.min(body.len())])?;
                self.held.lock().unwrap().push(client);
                Ok(())
            }
            _ => client.write_all(&body),
        }
    }
}

/// Hands all bytes on, both ways.
fn tunnel(mut client: &TcpStream, mut from_client: impl Read + Send, upstream: TcpStream) -> std::io::Result<()> {
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut from_client, &mut &upstream);
            upstream.shutdown(std::net::Shutdown::Write)
        });
        std::io::copy(&mut &upstream, &mut client)?;
        client.shutdown(std::net::Shutdown::Both)
    })
}

/// A request's head; nothing, if what comes is none: a greeting of TLS, or nothing at all.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Head>> {
    if reader.fill_buf()?.first().is_none_or(|byte| !byte.is_ascii_uppercase()) {
        return Ok(None);
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => return Ok(Some(Head { method, path, headers })),
        }
    }
}

/// An answer with a body.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> Act {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    Act::Answer(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}
