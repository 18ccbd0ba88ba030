//! A connection as the sessions see it: messages with deadlines.

use crate::error::LinkError;
use crate::frame::{Frame, FrameCodec, FrameError, GoAway, GoAwayWhy, Message};
use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::codec::Framed;

/// A write that takes longer means that the other side is gone.
const WRITE: Duration = Duration::from_secs(30);
/// How long the last word and the closing may take.
const LINGER: Duration = Duration::from_secs(2);

/// Any stream a link can run over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Wire<T>(Framed<T, FrameCodec>);

impl<T: Stream> Wire<T> {
    pub(crate) fn new(stream: T, max_frame: usize) -> Self {
        Self(Framed::new(stream, FrameCodec::new(max_frame)))
    }

    pub(crate) fn set_max(&mut self, max_frame: usize) {
        self.0.codec_mut().set_max(max_frame);
    }

    pub(crate) async fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        self.send_frame(message.frame()?).await
    }

    pub(crate) async fn send_frame(&mut self, frame: Frame) -> Result<(), LinkError> {
        match timeout(WRITE, self.0.send(frame)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(LinkError::Silent(WRITE)),
        }
    }

    /// The next frame; may be cancelled.
    pub(crate) async fn frame(&mut self) -> Result<Frame, LinkError> {
        match self.0.next().await {
            Some(frame) => Ok(frame?),
            None => Err(LinkError::Closed),
        }
    }

    /// The next message within `deadline`.
    pub(crate) async fn message(&mut self, deadline: Duration) -> Result<Message, LinkError> {
        let frame = timeout(deadline, self.frame()).await.map_err(|_| LinkError::Silent(deadline))??;
        match Message::decode(&frame)? {
            Message::GoAway(away) => Err(LinkError::away(away)),
            message => Ok(message),
        }
    }

    pub(crate) fn into_stream(self) -> T {
        self.0.into_inner()
    }

    /// Says why and closes so that the other side can still read it.
    pub(crate) async fn goodbye(mut self, why: GoAwayWhy, text: String, retry_after_ms: u64) {
        let text = text.chars().take(400).collect();
        let last = Message::GoAway(GoAway { retry_after_ms, why, text });
        let Ok(frame) = last.frame() else { return };
        let _ = timeout(LINGER, self.0.send(frame)).await;
        linger(self.0.into_inner()).await;
    }
}

/// Closes after the other side had its chance to read: closing with unread input would reset the connection and lose our last word.
pub(crate) async fn linger<T: Stream>(mut stream: T) {
    let drain = async {
        stream.shutdown().await?;
        let mut left = 256 * 1024usize;
        let mut buffer = [0u8; 4096];
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(LINGER, drain).await;
}

/// A frame that may not come now.
pub(crate) fn unexpected(frame: &Frame) -> LinkError {
    LinkError::Frame(FrameError::Unexpected(frame.kind))
}
