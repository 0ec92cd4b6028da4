//! Which connections are taken, and when are they given up?
//!
//! More than so many at a time are closed at once. One that sends no request in time is closed by the server's own timers; one
//! that takes nothing of its answer is closed here. So neither can keep others out for long.

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::Control;
use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Takes connections while there are not too many.
#[derive(Debug, Clone)]
pub(crate) struct Limited {
    /// Counts the connections that there are.
    pub(crate) control: Control,
    pub(crate) max_connections: usize,
    pub(crate) write_timeout: Duration,
}

impl<S> Accept<TcpStream, S> for Limited {
    type Stream = WriteTimeout<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // The new one is counted already.
        if self.control.connection_count() > self.max_connections {
            return ready(Err(io::Error::other("there are as many connections as there may be")));
        }
        let taken = stream.set_nodelay(true);
        ready(taken.map(|()| (WriteTimeout::new(stream, self.write_timeout), service)))
    }
}

/// Fails with [`TimedOut`](io::ErrorKind::TimedOut) if the other side takes nothing for some time.
#[derive(Debug)]
pub(crate) struct WriteTimeout<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, sleep: None }
    }

    fn limited<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.sleep = None;
            return written;
        }
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        sleep.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.limited(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.limited(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn whoever_takes_nothing_is_given_up_and_whoever_reads_is_not() {
        let limit = Duration::from_millis(50);
        let (idle, ours) = tokio::io::duplex(16);
        let error = WriteTimeout::new(ours, limit).write_all(&[7; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(idle);

        let (mut reader, ours) = tokio::io::duplex(16);
        let write = async move { WriteTimeout::new(ours, limit).write_all(&[7; 64]).await };
        let mut read = Vec::new();
        let (written, _) = tokio::join!(write, reader.read_to_end(&mut read));
        assert!(written.is_ok() && read == [7; 64]);
    }
}
