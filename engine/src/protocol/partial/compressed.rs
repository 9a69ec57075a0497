//! Compressed messages: kept as they come and decompressed as a whole, or decompressed piece by piece.

use super::{Partial, Progress, make_room};
use crate::protocol::assembler::{DecoderConfig, Input};
use crate::protocol::deflate::{InflateError, Inflater, Inflaters};
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::{MessageKind, compressed_bytes_max};
use crate::protocol::mask::{apply_mask, rotate};

impl Partial {
    /// Takes what the input has of the payload of a compressed message's frame.
    pub(super) fn continue_compressed(
        &mut self,
        config: &DecoderConfig,
        inflaters: &mut Inflaters,
        input: &mut Input<'_>,
    ) -> Result<Progress, ProtocolError> {
        let (Some(frame), Some(kind)) = (&mut self.frame, self.message) else {
            return Ok(Progress::Fragment);
        };
        if self.in_pieces {
            return self.inflate_piece(config, inflaters, input, kind);
        }
        // The header of the first frame is judged before it is known whether the message goes out in pieces.
        let (bytes_max, kept_bytes_max) = (config.message_bytes_max, compressed_bytes_max(config.message_bytes_max));
        if frame.missing_bytes > kept_bytes_max.saturating_sub(self.payload.len()) {
            return Err(ProtocolError::MessageTooBig { bytes_max });
        }
        let range = input.advance(frame.missing_bytes.min(input.remaining()));
        let chunk = input.at(range);
        if let Some(mask) = &mut frame.mask {
            apply_mask(chunk, *mask, 0);
            *mask = rotate(*mask, chunk.len());
        }
        frame.missing_bytes -= chunk.len();
        let (complete, fin) = (frame.missing_bytes == 0, frame.fin);
        if complete {
            self.frame = None;
        }
        if complete && fin && self.payload.is_empty() {
            return self.inflate_whole(config, inflaters, chunk, kind);
        }
        // Until it is complete it is kept as it came: a peer that makes us hold something has sent as much.
        make_room(&mut self.payload, chunk.len(), kept_bytes_max);
        self.payload.extend_from_slice(chunk);
        match (complete, fin) {
            (true, true) => {
                let compressed = std::mem::take(&mut self.payload);
                self.inflate_whole(config, inflaters, &compressed, kind)
            }
            (true, false) => Ok(Progress::Fragment),
            (false, _) => Ok(Progress::Starved),
        }
    }

    /// Decompresses a message of which every byte has come.
    fn inflate_whole(
        &mut self,
        config: &DecoderConfig,
        inflaters: &mut Inflaters,
        compressed: &[u8],
        kind: MessageKind,
    ) -> Result<Progress, ProtocolError> {
        let bytes_max = config.message_bytes_max;
        let window_bytes = config.deflate.inbound(config.role).window_bytes();
        let mut inflater = inflaters.take(self.window.as_slice())?;
        let mut position = 0;
        loop {
            let step = inflater.step(&compressed[position..], inflaters.output())?;
            position += step.read;
            let output = &inflaters.output()[..step.written];
            if output.len() > bytes_max - self.message_bytes {
                return Err(ProtocolError::MessageTooBig { bytes_max });
            }
            self.window.slide(output, window_bytes);
            let last = position == compressed.len() && !step.is_full;
            let in_one_piece = last && self.payload.is_empty();
            if in_one_piece {
                self.check_payload(output)?;
            } else {
                self.keep_payload(output, None, bytes_max)?;
            }
            if last {
                self.end_compressed(inflaters, inflater)?;
                let bytes = step.written;
                return Ok(if in_one_piece { Progress::Inflated { kind, bytes } } else { Progress::Message(kind) });
            }
        }
    }

    /// Decompresses the next piece of a message: output may come of a frame's last byte, or later.
    fn inflate_piece(
        &mut self,
        config: &DecoderConfig,
        inflaters: &mut Inflaters,
        input: &mut Input<'_>,
        kind: MessageKind,
    ) -> Result<Progress, ProtocolError> {
        let bytes_max = config.pieces_bytes_max;
        let window_bytes = config.deflate.inbound(config.role).window_bytes();
        loop {
            let Some(frame) = &mut self.frame else {
                return Ok(Progress::Fragment);
            };
            let chunk = input.front(frame.missing_bytes);
            let masked = &mut chunk[frame.unmasked_bytes..];
            if let Some(mask) = &mut frame.mask {
                apply_mask(masked, *mask, 0);
                *mask = rotate(*mask, masked.len());
            }
            let chunk_bytes = chunk.len();
            let mut inflater = match self.inflater.take() {
                Some(inflater) => inflater,
                None => inflaters.take(self.window.as_slice())?,
            };
            let step = inflater.step(chunk, inflaters.output())?;
            input.advance(step.read);
            frame.missing_bytes -= step.read;
            frame.unmasked_bytes = chunk_bytes - step.read;
            let frame_complete = frame.missing_bytes == 0 && !step.is_full;
            let last = frame_complete && frame.fin;
            if frame_complete {
                self.frame = None;
            }

            let output = &inflaters.output()[..step.written];
            if output.len() > bytes_max.saturating_sub(self.message_bytes) {
                return Err(ProtocolError::MessageTooBig { bytes_max });
            }
            self.window.slide(output, window_bytes);
            self.check_payload(output)?;
            if last {
                self.end_compressed(inflaters, inflater)?;
            } else {
                self.inflater = Some(inflater);
            }
            if last || step.written > 0 {
                return Ok(Progress::InflatedPiece { kind, bytes: step.written, last });
            }
            if frame_complete {
                return Ok(Progress::Fragment);
            }
            if input.remaining() == 0 && !step.is_full {
                return Ok(Progress::Starved);
            }
        }
    }

    /// Checks the end of a compressed message, and gives its decompressor back.
    fn end_compressed(&mut self, inflaters: &mut Inflaters, mut inflater: Box<Inflater>) -> Result<(), ProtocolError> {
        inflater.finish()?;
        inflaters.give_back(inflater);
        inflaters.decompressed.messages += 1;
        inflaters.decompressed.bytes_in += self.compressed_bytes as u64;
        inflaters.decompressed.bytes_out += self.message_bytes as u64;
        self.utf8.finish().map_err(|_| ProtocolError::InvalidUtf8)?;
        self.message = None;
        self.handed_out = true;
        Ok(())
    }
}

impl From<InflateError> for ProtocolError {
    fn from(InflateError: InflateError) -> Self {
        Self::InvalidDeflate
    }
}
