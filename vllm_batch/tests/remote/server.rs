//! An HTTP server on loopback that answers as a test tells it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// What the server does with a request.
pub(crate) enum Reaction {
    /// Answers with a status, headers (each with its line end) and a body.
    Reply(u16, &'static str, String),
    /// Writes this and closes the connection.
    Raw(String),
    /// Says nothing until the client gives up.
    Silence,
}

impl Reaction {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Reply(status, "", body.to_string())
    }
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

impl Received {
    /// The prompt, or the last message.
    pub(crate) fn prompt(&self) -> String {
        let messages = self.body["messages"].as_array();
        let content = messages.and_then(|messages| messages.last()).map(|message| &message["content"]);
        content.unwrap_or(&self.body["prompt"]).as_str().unwrap_or_default().to_owned()
    }

    /// An answer to it in the form of its endpoint: the prompt in capitals.
    pub(crate) fn answer(&self) -> Reaction {
        let text = self.prompt().to_uppercase();
        let mut choice = json!({"index": 0, "finish_reason": "stop"});
        if self.path.ends_with("/chat/completions") {
            choice["message"] = json!({"role": "assistant", "content": text});
        } else {
            choice["text"] = json!(text);
        }
        let details = json!({"cached_tokens": 1});
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": details});
        Reaction::json(200, &json!({"choices": [choice], "usage": usage}))
    }
}

/// Gets the number of the request, from 0, and the request.
type Script = dyn Fn(usize, &Received) -> Reaction + Send + Sync;

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    in_flight: usize,
    max_in_flight: usize,
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<Seen>,
    stopped: AtomicBool,
}

pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn start(script: impl Fn(usize, &Received) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared =
            Arc::new(Shared { script: Box::new(script), seen: Mutex::default(), stopped: AtomicBool::new(false) });
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if state.stopped.load(Ordering::Acquire) {
                    return;
                }
                let state = Arc::clone(&state);
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.seen().received.clone()
    }

    pub(crate) fn prompts(&self) -> Vec<String> {
        self.received().iter().map(Received::prompt).collect()
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.shared.seen().max_in_flight
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the requests of one connection. The client may hang up at any time.
    fn serve(&self, stream: TcpStream) {
        let Ok(mut writer) = stream.try_clone() else { return };
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            let number = self.begin(&request);
            let reaction = (self.script)(number, &request);
            self.seen().in_flight -= 1;
            let sent = match reaction {
                Reaction::Reply(status, headers, body) => {
                    let length = body.len();
                    // In one write: small ones would wait for each other's acknowledgement.
                    let reply = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}");
                    writer.write_all(reply.as_bytes())
                }
                Reaction::Raw(bytes) => {
                    let _ = writer.write_all(bytes.as_bytes());
                    return;
                }
                Reaction::Silence => {
                    let _ = reader.read(&mut [0]);
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn begin(&self, request: &Received) -> usize {
        let mut seen = self.seen();
        seen.received.push(request.clone());
        seen.in_flight += 1;
        seen.max_in_flight = seen.max_in_flight.max(seen.in_flight);
        seen.received.len() - 1
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { method, path, authorization, body: serde_json::from_slice(&body).unwrap_or_default() })
}
