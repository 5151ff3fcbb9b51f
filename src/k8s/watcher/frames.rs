//! Frames: cuts the body of a watch into its events.

use bytes::{Buf, Bytes, BytesMut};

use super::event::{Encoding, Garbled};

/// The longest event, in bytes. etcd takes objects of 1.5 MiB by default, and their JSON can be some times
/// that.
pub(super) const MAX_FRAME: usize = 16 << 20;

/// The bytes of a watch that have come and are no whole event yet.
pub(super) struct Frames {
    encoding: Encoding,
    buffer: BytesMut,
    /// The number of bytes in which there is no end of a line
    searched: usize,
}

impl Frames {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding, buffer: BytesMut::new(), searched: 0 }
    }

    /// Adds what has come.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Returns the next whole event.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Garbled> {
        match self.encoding {
            Encoding::Protobuf => self.next_delimited(),
            Encoding::Json => self.next_line(),
        }
    }

    /// Events in Protocol Buffers follow their length, of four bytes.
    fn next_delimited(&mut self) -> Result<Option<Bytes>, Garbled> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(too_long(length));
        }
        if self.buffer.len() - prefix.len() < length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Events in JSON are lines.
    fn next_line(&mut self) -> Result<Option<Bytes>, Garbled> {
        while let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + end + 1).freeze();
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
        self.searched = self.buffer.len();
        if self.searched > MAX_FRAME { Err(too_long(self.searched)) } else { Ok(None) }
    }
}

fn too_long(length: usize) -> Garbled {
    Garbled(format!("an event of {length} bytes is longer than any object"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delimited(frames: &[Vec<u8>]) -> Vec<u8> {
        let length = |frame: &Vec<u8>| u32::try_from(frame.len()).expect("short").to_be_bytes();
        frames.iter().flat_map(|frame| [length(frame).to_vec(), frame.clone()].concat()).collect()
    }

    fn all(encoding: Encoding, body: &[u8], step: usize) -> Result<Vec<Vec<u8>>, Garbled> {
        let (mut frames, mut found) = (Frames::new(encoding), Vec::new());
        for chunk in body.chunks(step) {
            frames.push(chunk);
            while let Some(frame) = frames.next()? {
                found.push(frame.to_vec());
            }
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_the_body_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
            step in 1_usize..50,
        ) {
            prop_assert_eq!(all(Encoding::Protobuf, &delimited(&frames), step), Ok(frames.clone()));
            let lines: Vec<Vec<u8>> = frames
                .into_iter()
                .map(|frame| frame.into_iter().map(|byte| byte % 26 + b'a').chain([b'\n']).collect())
                .collect();
            let expected = lines.iter().filter(|line| line.len() > 1).cloned().collect();
            prop_assert_eq!(all(Encoding::Json, &lines.concat(), step), Ok(expected));
        }

        #[test]
        fn random_bytes_neither_panic_nor_grow(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                let found = all(encoding, &body, 7).unwrap_or_default();
                prop_assert!(found.iter().map(Vec::len).sum::<usize>() <= body.len());
            }
        }
    }

    #[test]
    fn event_longer_than_any_object_is_refused() {
        let announced = u32::try_from(MAX_FRAME + 1).expect("it fits").to_be_bytes();
        assert!(all(Encoding::Protobuf, &announced, 4).is_err());
        assert!(all(Encoding::Json, &vec![b'a'; MAX_FRAME + 1], 1 << 20).is_err());
        assert_eq!(all(Encoding::Json, &vec![b'a'; MAX_FRAME], 1 << 20), Ok(vec![]));
    }
}
