//! Frames over an encrypted connection. A frame on the wire is its length (2 bytes) and as many bytes of ciphertext.

use super::handshake::TAG;
use crate::proto::sync::message::MAX_MESSAGE;
use snow::TransportState;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender};

/// Bytes of a frame's length.
const LENGTH: usize = 2;
/// Bytes that wait to be written beyond which no more frames are taken from the queue.
const FULL: usize = 256 * 1024;
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

const _: () = assert!(MAX_MESSAGE + TAG == u16::MAX as usize);

/// Carries frames both ways until the connection ends or nobody wants it any more; why it ended.
pub async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    mut keys: TransportState,
    mut outgoing: Receiver<Vec<u8>>,
    incoming: &Sender<super::Heard>,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut heard, mut said) = (Heard::default(), Said::default());
    let mut chunk = vec![0; CHUNK];
    loop {
        let stalled = loop {
            if !heard.is_whole() {
                break false;
            }
            let Ok(place) = incoming.try_reserve() else { break true };
            let Some(frame) = heard.frame(&mut keys)? else { break false };
            place.send(super::Heard::Frame(frame));
        };
        tokio::select! {
            read = reader.read(&mut chunk), if !stalled => match read? {
                0 => return Ok(()),
                count => heard.bytes.extend(&chunk[..count]),
            },
            // Who takes the frames has room again, or is gone.
            place = incoming.reserve(), if stalled => drop(place.map_err(|_| io::ErrorKind::BrokenPipe)?),
            written = writer.write(said.rest()), if !said.rest().is_empty() => said.written(written?)?,
            frame = outgoing.recv(), if said.rest().len() < FULL => {
                let Some(frame) = frame else { return Ok(()) };
                said.seal(&mut keys, &frame)?;
                // What else waits goes out by the same system call.
                while said.rest().len() < FULL {
                    match outgoing.try_recv() {
                        Ok(frame) => said.seal(&mut keys, &frame)?,
                        Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                    }
                }
            }
        }
    }
}

/// What has come and was not handed on.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Heard {
    /// The next frame's bytes, when all have come.
    fn next(&self) -> Option<&[u8]> {
        let (length, rest) = self.bytes.get(self.at..)?.split_first_chunk()?;
        rest.get(..usize::from(u16::from_be_bytes(*length)))
    }

    fn is_whole(&mut self) -> bool {
        let whole = self.next().is_some();
        if !whole && self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        whole
    }

    fn frame(&mut self, keys: &mut TransportState) -> io::Result<Option<Vec<u8>>> {
        let Some(sealed) = self.next() else { return Ok(None) };
        let taken = LENGTH + sealed.len();
        let mut frame = vec![0; sealed.len()];
        let length = keys.read_message(sealed, &mut frame).map_err(not_sealed)?;
        frame.truncate(length);
        self.at += taken;
        Ok(Some(frame))
    }
}

/// What is to be written.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    written: usize,
}

impl Said {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn written(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += count;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        Ok(())
    }

    fn seal(&mut self, keys: &mut TransportState, frame: &[u8]) -> io::Result<()> {
        let sealed = frame.len() + TAG;
        let length = u16::try_from(sealed).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.bytes.extend(length.to_be_bytes());
        let start = self.bytes.len();
        self.bytes.resize(start + sealed, 0);
        keys.write_message(frame, &mut self.bytes[start..]).map_err(not_sealed)?;
        Ok(())
    }
}

fn not_sealed(_: snow::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame that the peer did not seal")
}
