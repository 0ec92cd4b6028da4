//! The web page: a few files without a build step, which are part of the program.
//!
//! They are served below wherever the router is mounted: the page names its files and the API relative to itself. The browser
//! asks for each of them every time, and is told by an entity tag that it has it already; so a page never runs with the
//! scripts of another version.

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{MethodRouter, get};
use sha2::{Digest as _, Sha256};

use crate::ranges::is_known;

/// What the page may do: run and show what comes from here, ask this server, and nothing else. Scripts cannot make elements
/// from text.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of each file besides its type and entity tag.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Types by the ends of names.
const TYPES: [(&str, &str); 4] = [
    (".html", "text/html; charset=utf-8"),
    (".css", "text/css; charset=utf-8"),
    (".js", "text/javascript; charset=utf-8"),
    (".svg", "image/svg+xml"),
];

macro_rules! files {
    ($($name:literal),+ $(,)?) => { [$(($name, include_str!(concat!("../web/", $name)))),+] };
}

/// The files that the page consists of besides `index.html`, by their names.
const FILES: &[(&str, &str)] = &files![
    "agreement.js",
    "api.js",
    "app.js",
    "arrangements.js",
    "batch.js",
    "controls.js",
    "dom.js",
    "export.js",
    "fields.js",
    "icon.svg",
    "markdown.js",
    "new_batch.js",
    "queue.js",
    "questions.js",
    "review.js",
    "style.css",
    "task.js",
    "visible.js",
];

/// The page and its files at `/page/`, and the way there from `/`. To be merged into a router of any state.
///
/// # Example
/// ```
/// let router: axum::Router = axum::Router::new().nest("/batches", vllm_batch_http::page::routes());
/// ```
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let index = File::new("index.html", include_str!("../web/index.html"));
    let router = Router::new().route("/", get(to_page)).route("/page/", index.route());
    FILES.iter().fold(router, |router, (name, content)| {
        router.route(&format!("/page/{name}"), File::new(name, content).route())
    })
}

/// From wherever the router is mounted to the page below it. The address begins with one slash, so it is never another server's.
async fn to_page(OriginalUri(uri): OriginalUri) -> Redirect {
    match uri.path().trim_matches('/') {
        "" => Redirect::temporary("/page/"),
        mount => Redirect::temporary(&format!("/{mount}/page/")),
    }
}

/// A file of the page, with what is said of it.
#[derive(Debug)]
struct File {
    content: &'static str,
    content_type: &'static str,
    /// The SHA-256 of the content, in quotes.
    entity_tag: String,
}

impl File {
    fn new(name: &str, content: &'static str) -> Self {
        let known = TYPES.iter().find(|(end, _)| name.ends_with(end));
        let content_type = known.map_or("application/octet-stream", |(_, content_type)| content_type);
        Self { content, content_type, entity_tag: format!("\"{:x}\"", Sha256::digest(content)) }
    }

    fn route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        let file = Arc::new(self);
        get(move |headers: HeaderMap| async move { file.answer(&headers) })
    }

    /// The file, or that the browser has it.
    fn answer(&self, asked: &HeaderMap) -> Response {
        let mut response = if is_known(asked, &self.entity_tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.content_type)], self.content).into_response()
        };
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if let Ok(tag) = HeaderValue::from_str(&self.entity_tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    const INDEX: &str = include_str!("../web/index.html");

    async fn ask(router: Router, path: &str, headers: &[(HeaderName, &str)]) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn every_file_of_the_folder_is_part_of_the_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let served: BTreeSet<String> = names.filter(|name| name != "index.html" && !name.ends_with(".d.ts")).collect();
        assert_eq!(served, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    /// What stands between the quotes after `before`, in all places.
    fn quoted<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        let after = text.split(before).skip(1);
        after.filter_map(|rest| rest.split(['"', '\'']).next()).collect()
    }

    #[test]
    fn all_that_files_ask_for_is_there() {
        let mut asked: Vec<&str> = quoted(INDEX, "src=\"");
        asked.extend(quoted(INDEX, "href=\"").into_iter().filter(|target| !target.starts_with('#')));
        asked.extend(FILES.iter().flat_map(|(_, content)| quoted(content, " from './")));
        assert!(asked.len() > FILES.len(), "{asked:?}");
        for name in asked {
            assert!(FILES.iter().any(|(known, _)| *known == name), "{name} is not there");
        }
    }

    #[tokio::test]
    async fn files_have_types_and_are_not_sent_twice() {
        for (path, content_type) in [
            ("/page/", "text/html; charset=utf-8"),
            ("/page/style.css", "text/css; charset=utf-8"),
            ("/page/app.js", "text/javascript; charset=utf-8"),
            ("/page/icon.svg", "image/svg+xml"),
        ] {
            let (status, headers, body) = ask(routes(), path, &[]).await;
            assert_eq!(
                (status, headers[header::CONTENT_TYPE].to_str().unwrap()),
                (StatusCode::OK, content_type),
                "{path}"
            );
            assert!(!body.is_empty(), "{path}");
            let tag = headers[header::ETAG].to_str().unwrap();

            for known in [tag.to_owned(), format!("\"other\", W/{tag}"), "*".to_owned()] {
                let (status, again, body) = ask(routes(), path, &[(header::IF_NONE_MATCH, &known)]).await;
                assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path} {known}");
                assert_eq!(again[header::ETAG], headers[header::ETAG], "{path}");
            }
            let (status, ..) = ask(routes(), path, &[(header::IF_NONE_MATCH, "\"other\"")]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
        }
    }

    #[tokio::test]
    async fn the_page_may_only_do_what_it_has_to() {
        let (_, headers, _) = ask(routes(), "/page/", &[]).await;
        for (name, value) in HEADERS {
            assert_eq!(headers[&name], value);
        }
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
        // What the policy forbids is not there either.
        assert!(!INDEX.contains("style=") && !INDEX.contains(" onclick=") && !INDEX.contains("<style"));
        assert_eq!(INDEX.matches("<script").count(), 1);
    }

    #[tokio::test]
    async fn the_way_to_the_page_is_that_of_the_mounted_router() {
        let mounted = Router::new().nest("/llm/jobs", routes());
        for (router, path, to) in [
            (routes(), "/", "/page/"),
            (mounted.clone(), "/llm/jobs", "/llm/jobs/page/"),
            (Router::new().nest("/{tenant}", routes()), "/a%2F%2Fb", "/a%2F%2Fb/page/"),
        ] {
            let (status, headers, _) = ask(router, path, &[]).await;
            assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::TEMPORARY_REDIRECT, to));
        }
        let (status, ..) = ask(mounted, "/llm/jobs/page/api.js", &[]).await;
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn nothing_else_of_the_folder_is_served() {
        for path in ["/page/types.d.ts", "/page/index.html", "/page/../src/page.rs", "/page/%2e%2e/Cargo.toml", "/page"]
        {
            assert_eq!(ask(routes(), path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
}
