//! Connections that are slow, many, secret or silent.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::Running;

fn without_engine(folder: &Path, args: &[&str]) -> Running {
    Running::start(folder, &[&["--no-worker", "--no-live"], args].concat())
}

/// A connection on which these bytes were sent.
fn connection(server: &Running, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// What comes until the other side closes.
fn read_to_end(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut read = Vec::new();
    match stream.read_to_end(&mut read) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the connection was not closed: {error}"),
        _ => String::from_utf8_lossy(&read).into_owned(),
    }
}

#[test]
fn whoever_sends_no_request_is_closed_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = without_engine(folder.path(), &["--set", "server.header_read_timeout=1s"]);
    let beginnings: [&[u8]; 5] =
        [b"", b"P", b"PRI * HTTP/2.0\r\n", b"GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\nx-a: "];
    let slow: Vec<_> = (0..100).map(|i| connection(&server, beginnings[i % beginnings.len()])).collect();
    assert_eq!(server.client().get("/health").0, 200);
    for stream in slow {
        let answer = read_to_end(stream);
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    // One that has been used is closed as well.
    let answer = read_to_end(connection(&server, b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn more_connections_than_there_may_be_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let server = without_engine(folder.path(), &["--set", "server.max_connections=4"]);
    let get = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut held: Vec<_> = (0..4).map(|_| connection(&server, get)).collect();
    for stream in &mut held {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    // Written to before or after it was closed.
    let mut refused = TcpStream::connect(server.address()).unwrap();
    let _ = refused.write_all(get);
    assert_eq!(read_to_end(refused), "");
    drop(held);
    let client = server.client();
    assert!((0..1000).any(|_| client.status("/health") == Some(200)), "places are free again");
}

#[test]
fn whoever_takes_nothing_of_its_answer_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let server = without_engine(folder.path(), &["--set", "server.write_timeout=1s"]);
    let client = server.client();
    let id = client.upload(&"x".repeat(64 << 20));
    let head = format!("GET /v1/files/{id}/content HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut idle = connection(&server, head.as_bytes());
    // The log says when the answer was begun; a read after the time is over finds less than the whole file.
    idle.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    std::thread::park_timeout(Duration::from_secs(4));
    let mut read = Vec::new();
    let _ = idle.read_to_end(&mut read);
    assert!(read.len() < 64 << 20, "{} bytes came", read.len());
    assert_eq!(client.get("/health").0, 200);
}

/// Bytes that no client sends, as they are: clients put paths in order before they send them.
#[test]
fn what_is_no_request_is_refused_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = without_engine(folder.path(), &["--set", "server.body_read_timeout=1s"]);
    let head = |method: &str, path: &str, rest: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{rest}\r\n").into_bytes()
    };
    let json = "content-type: application/json\r\n";
    let cases = [
        (b"\x16\x03\x01 no TLS\r\n\r\n".to_vec(), "400"),
        (b"GET /health\r\n\r\n".to_vec(), "400"),
        (head("G\0T", "/health", ""), "400"),
        (head("GET", "/health", &format!("x-long: {}\r\n", "x".repeat(1 << 20))), "431"),
        (head("GET", "/health", &"x: y\r\n".repeat(1000)), "431"),
        (head("GET", &format!("/{}", "x".repeat(1 << 17)), ""), "414"),
        (head("POST", "/v1/batches", "content-length: ten\r\n"), "400"),
        (head("POST", "/v1/batches", "content-length: 1\r\ncontent-length: 2\r\n"), "400"),
        (
            [head("POST", "/v1/batches", &format!("{json}transfer-encoding: chunked\r\n")), b"xyz\r\n".to_vec()]
                .concat(),
            "400",
        ),
        ([head("POST", "/v1/batches", &format!("{json}content-length: 9\r\n")), b"{".to_vec()].concat(), "408"),
        (head("GET", "/../../../etc/passwd", ""), "404"),
        (head("GET", "/v1/files/../../../../etc/passwd/content", ""), "404"),
        (head("GET", "/v1/files/..%2f..%2fjobs.db/content", ""), "404"),
        (head("GET", "/assets/../../Cargo.toml", ""), "404"),
    ];
    for (bytes, status) in cases {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        // It may be refused before all of it is there.
        let _ = stream.write_all(&bytes);
        let (answer, sent) = (read_to_end(stream), String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned());
        // An answer gets lost if the connection is closed while more is under way.
        let is_lost = answer.is_empty() && bytes.len() > 1 << 16;
        assert!(is_lost || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:?}: {answer}");
        assert!(!answer.contains("root:"), "{sent:?}: {answer}");
    }
    assert_eq!(server.client().get("/health").0, 200);
}

#[test]
fn it_speaks_tls_and_takes_a_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let make = |name: &str| {
        let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"];
        let command = &mut Command::new("openssl");
        let command = command.args(args).arg(format!("/CN={name}")).args([
            "-keyout",
            &path("key.pem"),
            "-out",
            &path("cert.pem"),
        ]);
        assert!(command.output().expect("openssl is installed").status.success());
    };
    let subject = |server: &Running| {
        let args = ["s_client", "-connect", &server.address(), "-showcerts"];
        let output = Command::new("openssl").args(args).stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    make("first");
    let tls = [format!("tls.certificate={}", path("cert.pem")), format!("tls.key={}", path("key.pem"))];
    let server = without_engine(&folder.path().join("data"), &["--set", &tls[0], "--set", &tls[1]]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    assert!(subject(&server).contains("CN=first") || subject(&server).contains("CN = first"));
    make("second");
    server.signal("HUP");
    server.logged("the certificate was read again");
    assert!(subject(&server).contains("second"));
    std::fs::write(path("key.pem"), "no key").unwrap();
    server.signal("HUP");
    server.logged("the old certificate stays");
    assert!(subject(&server).contains("second"));
}

#[test]
fn the_log_tells_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = without_engine(folder.path(), &["--log-level", "trace"]);
    let client = server.client().with_key("sk-in-the-header");
    assert_eq!(client.get("/v1/files?after=file-in-the-query").0, 404);
    client.upload("content-of-the-file");
    server.signal("TERM");
    assert!(server.wait().success());
    let log = format!("{:?}", server.rest_of_log());
    assert!(log.contains("/v1/files"), "{log}");
    for secret in ["sk-in-the-header", "content-of-the-file"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
