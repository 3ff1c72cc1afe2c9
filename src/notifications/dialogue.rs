//! The bytes between us and a mail server, until the SMTP client takes them over: greeting, STARTTLS, limits.
//!
//! Owns the raw socket before it is encrypted, and how much a server may say. It must never send anything but `EHLO` and
//! `STARTTLS` unencrypted where encryption is demanded, and never carry a byte from before the encryption into what
//! comes after it (the injection of CVE-2011-0411): the TLS layer reads from the socket itself, and nothing is kept.
//!
//! Why not the client's own STARTTLS: it checks certificates by other rules than the rest of the appliance, shows none of
//! what it saw, and reads `STARTTLS` in capitals only (RFC 5321 §2.4 allows any).

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// Bytes that a server may say in one reply before the client takes over.
const REPLY_MAX: usize = 16 * 1024;
/// Bytes that a server may say in one connection: a hundred mails with long-winded replies.
const SAID_MAX: usize = 1024 * 1024;

/// A server's reply (RFC 5321 §4.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    pub lines: Vec<String>,
}

impl Reply {
    pub(super) fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Whether a reply to `EHLO` offers a keyword.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        // The first line is the server's name.
        let keywords = self.lines.iter().skip(1).filter_map(|line| line.split_whitespace().next());
        keywords.into_iter().any(|offered| offered.eq_ignore_ascii_case(keyword))
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("what it said is no reply of a mail server")]
    NotSmtp,
    #[error("it said more than it was asked")]
    Unasked,
}

/// Reads exactly one reply.
pub(super) async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> Result<Reply, Broken> {
    let mut heard = Vec::with_capacity(512);
    loop {
        if let Some(reply) = parse(&heard)? {
            return Ok(reply);
        }
        if heard.len() > REPLY_MAX {
            return Err(Broken::NotSmtp);
        }
        if stream.read_buf(&mut heard).await? == 0 {
            return Err(Broken::Closed);
        }
    }
}

/// One whole reply, `None` while its end is missing.
fn parse(heard: &[u8]) -> Result<Option<Reply>, Broken> {
    let mut lines = Vec::new();
    let mut rest = heard;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end);
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        rest = after.get(1..).unwrap_or_default();
        let code = line.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(code) = code.and_then(|code| code.parse().ok()) else { return Err(Broken::NotSmtp) };
        let is_last = match line.as_bytes().get(3) {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err(Broken::NotSmtp),
        };
        lines.push(line.get(4..).unwrap_or_default().trim().to_owned());
        if is_last {
            return if rest.is_empty() { Ok(Some(Reply { code, lines })) } else { Err(Broken::Unasked) };
        }
    }
    // Whoever does not begin with a digit will not end as a reply: another protocol's client would wait for ever.
    if rest.first().is_some_and(|byte| !byte.is_ascii_digit()) { Err(Broken::NotSmtp) } else { Ok(None) }
}

/// Sends one command and reads its reply.
pub(super) async fn command(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    command: &str,
) -> Result<Reply, Broken> {
    stream.write_all(command.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    stream.flush().await?;
    read_reply(stream).await
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// What the SMTP client is given: the socket, behind a greeting that was read already, with a limit on what is said.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    peer: SocketAddr,
    /// Read before anything of the socket.
    first: &'static [u8],
    left: usize,
}

impl Wire {
    /// The client waits for a greeting; it was heard before, in the clear where STARTTLS followed.
    pub(super) fn new(socket: Socket, peer: SocketAddr) -> Self {
        Self { socket, peer, first: b"220 heard before\r\n", left: SAID_MAX }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        if !own.first.is_empty() {
            let (now, later) = own.first.split_at(own.first.len().min(buf.remaining()));
            buf.put_slice(now);
            own.first = later;
            return Poll::Ready(Ok(()));
        }
        if own.left == 0 {
            return Poll::Ready(Err(io::Error::other("the server says more than a mail server has to say")));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut own.socket).poll_read(cx, buf);
        own.left = own.left.saturating_sub(buf.filled().len().saturating_sub(before));
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_whole_and_alone() {
        let text = |heard: &str| match parse(heard.as_bytes()) {
            Ok(Some(reply)) => format!("{} {}", reply.code, reply.text()),
            Ok(None) => "more".into(),
            Err(broken) => broken.to_string(),
        };
        for (heard, expected) in [
            ("", "more"),
            ("2", "more"),
            ("220 hello", "more"),
            ("220 hello\r\n", "220 hello"),
            ("220\r\n", "220 "),
            ("220 hello\n", "220 hello"),
            ("250-a\r\n250-b c\r\n", "more"),
            ("250-a\r\n250-b c\r\n250 d\r\n", "250 a b c d"),
            ("220 ready\r\n250 injected\r\n", "it said more than it was asked"),
            ("220 ready\r\nx", "it said more than it was asked"),
            ("SSH-2.0-OpenSSH\r\n", "what it said is no reply of a mail server"),
            ("SSH-2.0", "what it said is no reply of a mail server"),
            ("22\r\n", "what it said is no reply of a mail server"),
            ("220+x\r\n", "what it said is no reply of a mail server"),
            ("2é0 x\r\n", "what it said is no reply of a mail server"),
            ("250-\r\n250 \r\n", "250  "),
        ] {
            assert_eq!(text(heard), expected, "{heard:?}");
        }
    }

    #[test]
    fn a_keyword_is_found_in_any_case_and_not_in_the_servers_name() {
        let reply = |lines: &[&str]| Reply { code: 250, lines: lines.iter().map(|line| (*line).to_owned()).collect() };
        assert!(reply(&["mail.example", "SIZE 1000", "StartTls"]).offers("STARTTLS"));
        assert!(!reply(&["STARTTLS", "XSTARTTLS", "SIZE STARTTLS", ""]).offers("STARTTLS"));
    }

    #[tokio::test]
    async fn a_server_that_never_ends_its_reply_is_left() {
        let endless = vec![b'2'; REPLY_MAX * 2];
        assert!(matches!(read_reply(&mut endless.as_slice()).await, Err(Broken::NotSmtp | Broken::Closed)));
        assert!(matches!(read_reply(&mut &b"250-a\r\n"[..]).await, Err(Broken::Closed)));
    }
}
