//! How does a file come in, without ever being held as a whole?

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request};
use futures::Stream;
use vllm_batch::jobs::{FileObject, FilePurpose, JobError, NewFile};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::AppState;

/// The longest value of a field that is not the file.
const MAX_FIELD_BYTES: usize = 1024;
/// The most fields, the file included.
const MAX_FIELDS: usize = 8;
/// How much may have come in that belongs to no field yet: heads of fields, and what stands before the first boundary.
const MAX_UNREAD_BYTES: u64 = 1 << 20;

/// Reads the form of an upload, and stores the file in it while it comes.
///
/// # Errors
/// For what is wrong with the form. Nothing is left of the file then.
pub(crate) async fn receive(state: &AppState, caller: &Caller, request: Request) -> Result<FileObject, ApiError> {
    let unread = Arc::new(AtomicU64::new(0));
    let paced = request.map(|body| Body::from_stream(Paced::new(body, Arc::clone(&unread))));
    let mut form = Form { state, caller, unread, expires_after: ExpiresAfter::default(), purpose: None, file: None };
    let read = match Multipart::from_request(paced, state).await {
        Ok(multipart) => form.read(multipart).await,
        Err(rejection) => Err(rejection.into()),
    };
    match (read.and_then(|()| form.check()), form.file) {
        (Ok(()), Some(file)) => Ok(file),
        (Ok(()), None) => Err(ApiError::missing("file")),
        (Err(error), Some(file)) => {
            // If this fails, too, its owner finds the file in the list.
            let _ = state.jobs().delete_file(caller.owner(), &file.id).await;
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// The form, as far as it was read.
struct Form<'a> {
    state: &'a AppState,
    caller: &'a Caller,
    unread: Arc<AtomicU64>,
    purpose: Option<String>,
    expires_after: ExpiresAfter,
    file: Option<FileObject>,
}

/// The two fields of `expires_after`.
#[derive(Debug, Default)]
struct ExpiresAfter {
    anchor: Option<String>,
    seconds: Option<String>,
}

impl Form<'_> {
    async fn read(&mut self, mut multipart: Multipart) -> Result<(), ApiError> {
        for _ in 0..MAX_FIELDS {
            let Some(field) = multipart.next_field().await? else { return Ok(()) };
            self.read_field(field).await?;
        }
        match multipart.next_field().await? {
            Some(_) => Err(ApiError::invalid("file", format!("the form has more than {MAX_FIELDS} fields"))),
            None => Ok(()),
        }
    }

    async fn read_field(&mut self, field: Field<'_>) -> Result<(), ApiError> {
        let name = field.name().unwrap_or_default().to_owned();
        let place = match name.as_str() {
            "file" => return self.read_file(field).await,
            "purpose" => &mut self.purpose,
            "expires_after[anchor]" => &mut self.expires_after.anchor,
            "expires_after[seconds]" => &mut self.expires_after.seconds,
            _ => return Err(ApiError::invalid(&name, "the form has no such field".to_owned())),
        };
        if self.file.is_some() && name != "purpose" {
            return Err(ApiError::invalid(&name, "it must come before the file".to_owned()));
        }
        if place.is_some() {
            return Err(ApiError::invalid(&name, "it is there twice".to_owned()));
        }
        *place = Some(text(field, &name, &self.unread).await?);
        Ok(())
    }

    async fn read_file(&mut self, field: Field<'_>) -> Result<(), ApiError> {
        if self.file.is_some() {
            return Err(ApiError::invalid("file", "it is there twice".to_owned()));
        }
        let Some(filename) = field.file_name() else {
            return Err(ApiError::invalid("file", "it must be a file, with a filename".to_owned()));
        };
        let new = NewFile {
            filename: filename.to_owned(),
            purpose: purpose(self.purpose.as_deref().unwrap_or(FilePurpose::Batch.as_str()))?,
            owner: self.caller.owner().to_owned(),
            expires_after: self.expires_after.seconds()?,
        };
        let failure = Arc::new(Mutex::new(None));
        let max_bytes = self.caller.limits().max_file_bytes.unwrap_or(u64::MAX);
        let content =
            Content { field, failure: Arc::clone(&failure), left: max_bytes, max_bytes, unread: &self.unread };
        let stored = self.state.jobs().create_file(new, content).await;
        // Why the content ended says more than what the store made of it.
        let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.file = Some(stored.map_err(|error| failure.unwrap_or_else(|| error.into()))?);
        Ok(())
    }

    fn check(&self) -> Result<(), ApiError> {
        purpose(self.purpose.as_deref().ok_or_else(|| ApiError::missing("purpose"))?).map(drop)
    }
}

impl ExpiresAfter {
    fn seconds(&self) -> Result<Option<u64>, ApiError> {
        let (anchor, seconds) = match (&self.anchor, &self.seconds) {
            (None, None) => return Ok(None),
            (Some(anchor), Some(seconds)) => (anchor, seconds),
            (None, Some(_)) => return Err(ApiError::missing("expires_after[anchor]")),
            (Some(_), None) => return Err(ApiError::missing("expires_after[seconds]")),
        };
        if anchor != "created_at" {
            return Err(ApiError::invalid("expires_after[anchor]", "it must be `created_at`"));
        }
        let seconds =
            seconds.parse().map_err(|_| ApiError::invalid("expires_after[seconds]", "it must be an integer"))?;
        Ok(Some(seconds))
    }
}

fn purpose(name: &str) -> Result<FilePurpose, ApiError> {
    let unknown =
        || ApiError::invalid("purpose", format!("{name:?} is not `batch`: files of other purposes are not uploaded."));
    FilePurpose::from_name(name).filter(|purpose| *purpose == FilePurpose::Batch).ok_or_else(unknown)
}

/// A short value.
async fn text(mut field: Field<'_>, name: &str, unread: &AtomicU64) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await? {
        unread.store(0, Ordering::Relaxed);
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_FIELD_BYTES {
            return Err(ApiError::invalid(name, format!("it has more than {MAX_FIELD_BYTES} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::invalid(name, "it is not valid UTF-8"))
}

/// The content of a file, as it comes in. Why it broke off is kept: stores only say that it did.
struct Content<'a> {
    field: Field<'a>,
    failure: Arc<Mutex<Option<ApiError>>>,
    left: u64,
    max_bytes: u64,
    unread: &'a AtomicU64,
}

impl Content<'_> {
    fn take(&mut self, chunk: Bytes) -> Result<Bytes, ApiError> {
        self.unread.store(0, Ordering::Relaxed);
        let left = self.left.checked_sub(chunk.len() as u64);
        self.left = left.ok_or_else(|| ApiError::from(JobError::FileTooLarge { limit: self.max_bytes }))?;
        Ok(chunk)
    }
}

impl Stream for Content<'_> {
    type Item = Result<Bytes, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let content = &mut *self;
        let Poll::Ready(next) = Pin::new(&mut content.field).poll_next(context) else { return Poll::Pending };
        let taken = match next {
            None => return Poll::Ready(None),
            Some(chunk) => chunk.map_err(ApiError::from).and_then(|chunk| content.take(chunk)),
        };
        Poll::Ready(Some(taken.map_err(|error| {
            *content.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            "the upload broke off"
        })))
    }
}

/// A body that gives one piece at a time.
///
/// The reader of forms takes all that it can get before it looks at any of it, so that a fast client would fill the memory. It
/// stops where nothing is there yet; so after each piece this one says so, and to come again at once.
struct Paced {
    pieces: BodyDataStream,
    rests: bool,
    unread: Arc<AtomicU64>,
}

impl Paced {
    fn new(body: Body, unread: Arc<AtomicU64>) -> Self {
        Self { pieces: body.into_data_stream(), rests: false, unread }
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.rests) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.pieces).poll_next(context);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.rests = true;
            let unread = self.unread.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
            if unread > MAX_UNREAD_BYTES {
                return Poll::Ready(Some(Err(axum::Error::new("there is no field where one should begin"))));
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_body_comes_piece_by_piece_and_not_without_end() {
        let piece = Bytes::from(vec![b'x'; 1 << 19]);
        let body = Body::from_stream(futures::stream::repeat_with(move || Ok::<_, axum::Error>(piece.clone())));
        let mut paced = Paced::new(body, Arc::default());
        let sizes: Vec<_> =
            (0..6).map(|_| paced.next().now_or_never().map(|piece| piece.map(|piece| piece.is_ok()))).collect();
        assert_eq!(sizes, [Some(Some(true)), None, Some(Some(true)), None, Some(Some(false)), None]);
    }
}
