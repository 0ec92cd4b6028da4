//! Messages to real servers on this machine, by a store in memory.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proptest::prelude::*;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::post::{Attempt, Poster};
use super::*;
use crate::jobs::Batch;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn secret(text: &str) -> WebhookSecret {
    text.parse().unwrap()
}

#[test]
fn texts_that_are_no_secrets_are_refused_and_none_is_printed() {
    for text in [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_AAAA",
        "whsec_?",
        &format!("whsec_{}", "A".repeat(88)),
    ] {
        assert_eq!(text.parse::<WebhookSecret>(), Err(InvalidSecret), "{text}");
    }
    let config = WebhookConfig { url: "https://a.b".to_owned(), secret: Some(SECRET.to_owned()), events: vec![] };
    let policy = WebhookPolicy { secrets: vec![secret(SECRET)], ..WebhookPolicy::default() };
    assert!(!format!("{config:?} {policy:?}").contains("MfKQ"));
}

#[test]
fn signatures_are_checked_as_the_specification_says() {
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const AT: i64 = 1_614_265_330;
    let check = |id: Option<&str>, timestamp: Option<&str>, signature: Option<&str>, body: &[u8], now: i64| {
        let headers = [("Webhook-Id", id), ("WEBHOOK-TIMESTAMP", timestamp), ("webhook-signature", signature)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        verify_webhook(headers, body, &[secret(OTHER), secret(SECRET)], now, 300).map_err(|error| error.code())
    };
    let (id, at) = (Some("msg_p5jXN8AQM9LWM0D4loKWxJek"), Some("1614265330"));
    let with_others = format!("v1a,AAAA v1,AAAA nonsense {SIGNATURE}");
    assert_eq!(check(id, at, Some(SIGNATURE), BODY, AT), Ok(()));
    assert_eq!(check(id, at, Some(&with_others), BODY, AT + 300), Ok(()));
    assert_eq!(check(id, at, Some(SIGNATURE), BODY, AT + 301), Err("timestamp_out_of_tolerance"));
    assert_eq!(check(id, at, Some(SIGNATURE), BODY, AT - 301), Err("timestamp_out_of_tolerance"));
    assert_eq!(check(id, Some("soon"), Some(SIGNATURE), BODY, AT), Err("timestamp_out_of_tolerance"));
    assert_eq!(check(id, Some("1614265331"), Some(SIGNATURE), BODY, AT), Err("no_matching_signature"));
    assert_eq!(check(Some("msg_x"), at, Some(SIGNATURE), BODY, AT), Err("no_matching_signature"));
    assert_eq!(check(id, at, Some(SIGNATURE), b"{\"test\":2432232314}", AT), Err("no_matching_signature"));
    assert_eq!(check(id, at, Some("v1,"), BODY, AT), Err("no_matching_signature"));
    assert_eq!(check(id, at, Some(&SIGNATURE[..20]), BODY, AT), Err("no_matching_signature"));
    assert_eq!(check(id, at, Some(&SIGNATURE.replace("v1,", "v2,")), BODY, AT), Err("no_matching_signature"));
    assert_eq!(check(None, at, Some(SIGNATURE), BODY, AT), Err("missing_header"));
    assert_eq!(check(id, None, Some(SIGNATURE), BODY, AT), Err("missing_header"));
    assert_eq!(check(id, at, None, BODY, AT), Err("missing_header"));
}

proptest! {
    #[test]
    fn what_is_signed_is_found_right_and_what_was_changed_is_not(
        key in prop::collection::vec(any::<u8>(), 24..=64),
        body in prop::collection::vec(any::<u8>(), 1..200),
        flip in any::<prop::sample::Index>(),
    ) {
        let key: WebhookSecret = format!("whsec_{}", crate::batch::base64::encode_bytes(&key)).parse().unwrap();
        let signature = key.sign("evt_1", 100, &body);
        let headers = [("webhook-id", "evt_1"), ("webhook-timestamp", "100"), ("webhook-signature", &*signature)];
        prop_assert_eq!(verify_webhook(headers, &body, std::slice::from_ref(&key), 100, 5), Ok(()));
        let mut changed = body.clone();
        changed[flip.index(body.len())] ^= 1;
        prop_assert_eq!(verify_webhook(headers, &changed, &[key], 100, 5), Err(SignatureError::NoMatch));
    }
}

fn batch(url: &str, events: &[WebhookEvent]) -> Batch {
    let webhook = WebhookConfig { url: url.to_owned(), secret: None, events: events.to_vec() };
    let batch = serde_json::json!({
        "id": "batch_0123", "endpoint": "/v1/chat/completions", "model": "m", "errors": [], "input_file_id": "file-1",
        "completion_window": "24h", "status": "in_progress", "output_file_id": null, "error_file_id": null, "created_at": 5,
        "in_progress_at": 6, "expires_at": 90_000, "finalizing_at": null, "completed_at": null, "failed_at": null,
        "expired_at": null, "cancelling_at": null, "cancelled_at": null,
        "request_counts": {"total": 3, "completed": 1, "failed": 0},
        "usage": {"input_tokens": 0, "cached_tokens": 0, "output_tokens": 0}, "metadata": {"a": "b"}, "priority": 0,
        "output_expires_after": null, "webhook": webhook, "owner": "", "version": 1,
    });
    serde_json::from_value(batch).unwrap()
}

#[test]
fn a_message_has_the_form_of_openai_s_events() {
    let batch = batch("https://example.com", &[]);
    let delivery = Delivery::of(&batch, WebhookEvent::Completed, 100).unwrap();
    let body: serde_json::Value = serde_json::from_str(&delivery.body).unwrap();
    let expected = serde_json::json!({
        "object": "event", "id": "evt_0123_completed", "type": "batch.completed", "created_at": 100,
        "data": {
            "id": "batch_0123", "status": "in_progress", "request_counts": {"total": 3, "completed": 1, "failed": 0},
            "input_file_id": "file-1", "output_file_id": null, "error_file_id": null, "metadata": {"a": "b"},
        },
    });
    assert_eq!(body, expected);
    assert_eq!((delivery.id.as_str(), delivery.next_attempt_at, delivery.attempts), ("evt_0123_completed", 100, 0));
    for (status, event) in BatchStatus::ALL.map(|status| (status, WebhookEvent::of_status(status))) {
        assert_eq!(status.is_terminal(), event.is_some(), "{status:?}");
    }
}

#[test]
fn receivers_hear_what_they_asked_for_and_everything_but_progress_if_they_did_not() {
    use WebhookEvent::{Completed, Failed, Progress};
    let cases: [(&[WebhookEvent], WebhookEvent, bool); 5] = [
        (&[], Completed, true),
        (&[], Progress, false),
        (&[Progress], Progress, true),
        (&[Progress], Completed, false),
        (&[Failed, Completed], Completed, true),
    ];
    for (events, event, expected) in cases {
        assert_eq!(Delivery::of(&batch("https://a.b", events), event, 1).is_some(), expected, "{events:?} {event:?}");
    }
    for event in WebhookEvent::ALL {
        assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
    }
}

/// What a receiver got.
#[derive(Debug)]
struct Received {
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A server that answers its calls with these, one after another.
struct Receiver {
    url: String,
    port: u16,
    received: mpsc::Receiver<Received>,
}

impl Receiver {
    fn start(answers: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, received) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                let mut headers = BTreeMap::new();
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap() > 2 {
                    if let Some((name, value)) = line.split_once(':') {
                        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                    }
                    line.clear();
                }
                let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                sender.send(Received { headers, body }).unwrap();
                write!(reader.get_mut(), "HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
            }
        });
        Self { url: format!("http://127.0.0.1:{port}/hook"), port, received }
    }

    fn policy(&self) -> WebhookPolicy {
        WebhookPolicy {
            allow_http: true,
            ports: vec![self.port],
            allow: vec!["127.0.0.1".parse().unwrap()],
            secrets: vec![secret(SECRET), secret(OTHER)],
        }
    }
}

#[test]
fn what_arrives_is_the_stored_body_signed_by_each_secret() {
    let receiver = Receiver::start(vec!["204 No Content"]);
    let batch = batch(&receiver.url, &[]);
    let delivery = Delivery::of(&batch, WebhookEvent::Failed, 50).unwrap();
    let poster = Poster::new(Arc::new(receiver.policy()), Duration::from_secs(5));
    assert_eq!(poster.post(batch.webhook.as_ref().unwrap(), &delivery, 77), Attempt::Delivered);
    let received = receiver.received.recv().unwrap();
    assert_eq!(received.body, delivery.body.as_bytes());
    assert_eq!(received.headers["webhook-id"], delivery.id);
    assert_eq!(received.headers["content-type"], "application/json");
    let headers = || received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for one in [SECRET, OTHER] {
        assert_eq!(verify_webhook(headers(), &received.body, &[secret(one)], 77, 0), Ok(()));
    }
}

#[test]
fn a_receiver_s_own_secret_is_the_only_one() {
    let receiver = Receiver::start(vec!["200 OK"]);
    let delivery = Delivery::of(&batch(&receiver.url, &[]), WebhookEvent::Failed, 50).unwrap();
    let poster = Poster::new(Arc::new(receiver.policy()), Duration::from_secs(5));
    let own = "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
    let config = WebhookConfig { url: receiver.url.clone(), secret: Some(own.to_owned()), events: vec![] };
    assert_eq!(poster.post(&config, &delivery, 77), Attempt::Delivered);
    let received = receiver.received.recv().unwrap();
    let headers = || received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    assert_eq!(verify_webhook(headers(), &received.body, &[secret(own)], 77, 0), Ok(()));
    assert_eq!(verify_webhook(headers(), &received.body, &[secret(SECRET)], 77, 0), Err(SignatureError::NoMatch));
}

/// A name server of our own.
#[derive(Debug)]
struct Names(HashMap<&'static str, Vec<IpAddr>>);

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        let port = uri.port_u16().unwrap_or(80);
        let known = self.0.get(uri.host().unwrap_or_default()).ok_or(ureq::Error::HostNotFound)?;
        for address in known {
            found.push(SocketAddr::new(*address, port));
        }
        Ok(found)
    }
}

#[test]
fn a_name_of_an_internal_address_is_not_called() {
    let receiver = Receiver::start(vec!["200 OK"; 2]);
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let names = Names(HashMap::from([
        ("rebound.example", addresses(&["127.0.0.1"])),
        ("mapped.example", addresses(&["::ffff:127.0.0.1"])),
        ("metadata.example", addresses(&["169.254.169.254", "fd00:ec2::254"])),
        ("hooks.internal", addresses(&["127.0.0.1"])),
        // Only the address that may be called is called: the other one would take the connection at once.
        ("mixed.example", addresses(&["127.0.0.1", "10.0.0.1"])),
    ]));
    let mut policy = receiver.policy();
    policy.allow = vec!["hooks.internal".parse().unwrap()];
    let poster = Poster::with_resolver(Arc::new(policy), Duration::from_secs(5), names);
    let delivery = Delivery::of(&batch(&receiver.url, &[]), WebhookEvent::Failed, 50).unwrap();
    let post = |host: &str| {
        let url = format!("http://{host}:{}/", receiver.port);
        poster.post(&WebhookConfig { url, secret: None, events: vec![] }, &delivery, 1)
    };
    for host in ["rebound.example", "mapped.example", "metadata.example", "mixed.example", "127.0.0.1", "[::1]"] {
        let Attempt::Failed { message, .. } = post(host) else { panic!("{host} was called") };
        assert!(message.contains("not an address of the public internet"), "{host}: {message}");
    }
    assert!(receiver.received.try_recv().is_err());
    assert_eq!(post("hooks.internal"), Attempt::Delivered);
    receiver.received.recv().unwrap();
}

#[test]
fn a_status_says_whether_to_try_again() {
    let cases = [
        ("200 OK", Attempt::Delivered),
        ("410 Gone", Attempt::Gone),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", failed("status 302", None)),
        ("400 Bad Request", failed("status 400", None)),
        ("503 Service Unavailable\r\nretry-after: 120", failed("status 503", Some(120))),
    ];
    let receiver = Receiver::start(cases.iter().map(|(answer, _)| *answer).collect());
    let poster = Poster::new(Arc::new(receiver.policy()), Duration::from_secs(5));
    let delivery = Delivery::of(&batch(&receiver.url, &[]), WebhookEvent::Failed, 50).unwrap();
    let config = WebhookConfig { url: receiver.url.clone(), secret: None, events: vec![] };
    for (answer, expected) in cases {
        assert_eq!(poster.post(&config, &delivery, 1), expected, "{answer}");
    }
}

fn failed(message: &str, retry_after: Option<u64>) -> Attempt {
    Attempt::Failed { message: message.to_owned(), retry_after: retry_after.map(Duration::from_secs) }
}
