//! One answer of the API server: its encoding, its body, and how long each part of it may take.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyDataStream, BodyExt};
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;

use super::event::{Encoding, Event, Garbled, Page, Refusal};
use super::frames::Frames;
use super::kind::Kind;
use super::session::End;
use super::{json, protobuf};

/// The longest time until the server begins to answer.
const FIRST_BYTE: Duration = Duration::from_secs(30);

/// The longest time between two parts of a page.
const NEXT_PART: Duration = Duration::from_secs(30);

/// The longest page, in bytes. One that is longer is asked for again with fewer objects.
const MAX_PAGE: usize = 32 << 20;

/// The longest error, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// An answer that has begun.
pub(super) struct Answer {
    encoding: Encoding,
    body: BodyDataStream<Body>,
}

impl Answer {
    /// Sends a request, and waits until the answer begins. Another than a success is an error.
    pub(super) async fn to<E: std::error::Error>(
        client: &Client,
        request: Result<http::Request<Vec<u8>>, E>,
    ) -> Result<Self, End> {
        let request = request.map_err(|error| End::Broken(error.to_string()))?.map(Body::from);
        // Meanwhile kube sends it again where the answer is 429 or 503.
        let Ok(response) = timeout(FIRST_BYTE, client.send(request)).await else { return Err(End::Silent) };
        let response = response.map_err(|error| End::Broken(error_with_causes(&error)))?;
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let encoding = Encoding::of(content_type.unwrap_or_default());
        let status = response.status();
        let mut answer = Self { encoding, body: response.into_body().into_data_stream() };
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.read_whole(MAX_ERROR).await.ok().flatten().unwrap_or_default();
        let refusal = match encoding {
            Encoding::Json => json::decode_refusal(&body),
            Encoding::Protobuf => protobuf::decode_refusal(&body),
        };
        let message = || status.canonical_reason().unwrap_or("an unknown status").to_owned();
        let code = status.as_u16();
        Err(End::Refused(match refusal {
            Some(refusal) if !refusal.message.is_empty() => Refusal { code, ..refusal },
            _ => Refusal { code, message: message(), next: None },
        }))
    }

    /// Returns the page that this answer is; none if it is too long.
    pub(super) async fn page(mut self, kind: &Kind) -> Result<Option<Page>, End> {
        let Some(body) = self.read_whole(MAX_PAGE).await? else { return Ok(None) };
        let page = match self.encoding {
            Encoding::Json => json::decode_page(kind, &body),
            Encoding::Protobuf => protobuf::decode_page(kind, &body),
        };
        page.map(Some).map_err(|Garbled(cause)| End::Garbled(cause))
    }

    /// Returns the events that this answer consists of.
    pub(super) fn events(self) -> Events {
        Events { frames: Frames::new(self.encoding), answer: self }
    }

    /// Returns the whole body; none if it is longer.
    async fn read_whole(&mut self, max: usize) -> Result<Option<Bytes>, End> {
        let mut body = BytesMut::new();
        while let Some(part) = self.next_part(NEXT_PART).await? {
            if body.len() + part.len() > max {
                return Ok(None);
            }
            body.extend_from_slice(&part);
        }
        Ok(Some(body.freeze()))
    }

    async fn next_part(&mut self, patience: Duration) -> Result<Option<Bytes>, End> {
        match timeout(patience, self.body.next()).await {
            Ok(part) => part.transpose().map_err(|error| End::Broken(error_with_causes(&error))),
            Err(_) => Err(End::Silent),
        }
    }
}

/// The events of a watch, as they come.
pub(super) struct Events {
    answer: Answer,
    frames: Frames,
}

impl Events {
    /// Returns the events that have come together, at least a part of one, or how the watch ended.
    pub(super) async fn next(&mut self, kind: &Kind, patience: Duration) -> Result<Vec<Event>, End> {
        let Some(part) = self.answer.next_part(patience).await? else {
            return Err(End::Broken("the API server ended the watch".to_owned()));
        };
        self.frames.push(&part);
        self.decode(kind).map_err(|Garbled(cause)| End::Garbled(cause))
    }

    fn decode(&mut self, kind: &Kind) -> Result<Vec<Event>, Garbled> {
        let mut events = Vec::new();
        while let Some(frame) = self.frames.next()? {
            events.push(match self.answer.encoding {
                Encoding::Json => json::decode_event(kind, &frame)?,
                Encoding::Protobuf => protobuf::decode_event(kind, frame)?,
            });
        }
        Ok(events)
    }
}

/// Returns the error's text with those of all its causes: kube's own text names the phase, only the causes
/// the fault.
fn error_with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
