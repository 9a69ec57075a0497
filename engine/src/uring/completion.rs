//! From completion entries to [`Completion`]s.

use io_uring::cqueue;

use super::buffers::BufferPool;
use super::operation::Operation;
use super::ring::InFlight;
use crate::driver::{Completion, Errno, Socket};

/// What a poll says of a peer that has gone (`poll(2)`): it ends its stream, or both are ended, or reset.
const GONE: u32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32;

/// What a completion entry says; `None` for those that nobody waits for.
pub(super) fn decode(entry: &cqueue::Entry, buffers: &mut BufferPool, in_flight: &mut InFlight) -> Option<Completion> {
    let (operation, token) = Operation::split(entry.user_data());
    let armed = cqueue::more(entry.flags());
    // A result is a count, a descriptor or a negative error number.
    let result = u32::try_from(entry.result()).map_err(|_| Errno(-entry.result()));
    match operation {
        Operation::Accept => Some(match result {
            Ok(descriptor) if armed => Completion::Accepted(Socket(descriptor)),
            Ok(descriptor) => {
                in_flight.note_accept_ended();
                Completion::Accepted(Socket(descriptor))
            }
            Err(Errno::CANCELED) => Completion::AcceptEnded(None),
            Err(errno) => Completion::AcceptEnded(Some(errno)),
        }),
        Operation::Poll => Some(Completion::Readable { token, gone: result.is_ok_and(|events| events & GONE != 0) }),
        Operation::Receive | Operation::ReceiveMultishot => {
            let buffer = cqueue::buffer_select(entry.flags()).map(|id| buffers.taken(id));
            Some(match (result, buffer) {
                (Ok(bytes), Some(buffer)) if bytes > 0 => {
                    Completion::Received { token, buffer, bytes, nonempty: cqueue::sock_nonempty(entry.flags()), armed }
                }
                (result, buffer) => {
                    // An end of stream may come with a buffer that was selected in vain.
                    if let Some(buffer) = buffer {
                        buffers.release(buffer);
                    }
                    Completion::ReceiveEnded(token, result.err())
                }
            })
        }
        Operation::Send => {
            let (token, outgoing) = in_flight.finish_send(token);
            Some(Completion::Sent { token, result, outgoing })
        }
        Operation::Peer => {
            let (token, address) = in_flight.finish_peer(token, result);
            Some(Completion::Peer { token, address })
        }
        Operation::Shutdown => Some(Completion::ShutDown(token)),
        Operation::Tick => Some(Completion::Tick),
        Operation::Wake => {
            in_flight.note_woken();
            None
        }
        Operation::Unanswered => None,
    }
}
