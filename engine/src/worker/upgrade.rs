//! From the first byte of a request to an open connection, or to the answer that it gets instead.

use super::Worker;
use super::connection::Phase;
use super::inbound::Source;
use crate::driver::{BufferId, Driver};
use crate::handler::{Answer, Handler, Response};
use crate::protocol::deflate::DeflateAgreement;
use crate::protocol::handshake::{
    HandshakeError, append_accept, append_refusal, append_response, is_upgrade, validate,
};
use crate::protocol::http::{HEADERS_MAX, HeadLimits, Request, has_broken_line_end, parse_request};

impl<D: Driver, H: Handler> Worker<D, H> {
    /// Bytes of a request head have come. It is copied out of the receive buffer: once in the life of
    /// a connection, and it may come in pieces.
    pub(super) fn on_head(&mut self, slot: u32, buffer: BufferId, length: usize) {
        let mut head = self.connections.at(slot).take_head(&mut self.held);
        if head.capacity() == 0 {
            head = self.corks.buffer();
        }
        let mut before = head.len();
        head.extend_from_slice(&self.driver.bytes(&buffer)[..length]);
        self.driver.release(buffer);
        if self.connections.at(slot).phase == Phase::Proxied {
            let Some(behind) = self.take_proxy_header(slot, head) else { return };
            (head, before) = (behind, 0);
            if head.is_empty() {
                self.corks.recycle(head);
                self.connections.at(slot).tidy(&mut self.held);
                return;
            }
        }

        let limits = HeadLimits { head_bytes_max: self.limits.head_bytes_max, headers_max: HEADERS_MAX };
        // Read again only once the end has come or never will, or a head sent byte by byte would cost its square.
        let parsed = if before == 0 || head.len() > limits.head_bytes_max || is_decided(&head, before) {
            parse_request(&head, &limits)
        } else {
            Ok(None)
        };
        let mut answer = self.corks.buffer();
        let head_bytes = match parsed {
            Ok(None) => {
                self.corks.recycle(answer);
                self.connections.at(slot).with_rare(&mut self.held, |rare| rare.head = head);
                return;
            }
            Ok(Some((request, head_bytes))) => {
                self.answer(slot, &request, &mut answer);
                head_bytes
            }
            Err(error) => {
                self.refuse(slot, &error, &mut answer);
                head.len()
            }
        };
        let connection = self.connections.at(slot);
        connection.tidy(&mut self.held);
        self.corks.append(slot, connection, &answer, 0);
        self.corks.recycle(answer);
        // What the handler has asked for with the request comes behind the answer to it.
        self.apply(slot, None);
        if self.connections.at(slot).phase == Phase::Open {
            self.open(slot);
        }
        // A client may speak before it has seen our answer.
        let length = head.len();
        if length > head_bytes && matches!(self.connections.at(slot).phase, Phase::Open | Phase::Closing) {
            self.on_bytes(slot, Source::Head(head), head_bytes..length, false);
        } else {
            self.corks.recycle(head);
        }
    }

    /// Writes the answer to a whole request head, and moves the connection on.
    fn answer(&mut self, slot: u32, request: &Request<'_>, out: &mut Vec<u8>) {
        let upgrade = if is_upgrade(request) {
            match validate(request) {
                Ok(upgrade) => Some(upgrade),
                Err(error) => return self.refuse(slot, &error, out),
            }
        } else {
            None
        };
        if upgrade.is_some() && self.turned_away(slot, out) {
            return;
        }
        let answer = self.ask(slot, |handler, context, state| handler.on_request(context, state, request));
        match (answer, upgrade) {
            (Answer::Respond(response), _) => self.respond(slot, &response, request.method == "HEAD", out),
            (Answer::Upgrade { .. }, None) => self.refuse(slot, &HandshakeError::NotUpgrade, out),
            (Answer::Upgrade { subprotocol }, Some(upgrade)) => {
                // One that was not offered would make the client fail the connection.
                let chosen = subprotocol.as_deref().filter(|ours| upgrade.select_subprotocol(&[ours]).is_some());
                let compression = self.deflating.as_ref().map(|deflating| deflating.compression);
                let deflate = compression.and_then(|compression| compression.negotiate(upgrade.extensions()));
                append_accept(out, upgrade.key, chosen, deflate.as_ref().map(|deflate| deflate.answer.as_str()));
                let connection = self.connections.at(slot);
                connection.deflate = deflate.map_or(DeflateAgreement::NONE, |deflate| deflate.agreement);
                connection.phase = Phase::Open;
            }
        }
    }

    fn open(&mut self, slot: u32) {
        self.stats.upgrades += 1;
        self.stats.connections_open += 1;
        self.connections.at(slot).announced = true;
        self.start_heartbeat(slot);
        self.call(slot, |handler, context, state| handler.on_open(context, state));
        self.peers.forget(slot);
    }

    fn respond(&mut self, slot: u32, response: &Response, head_only: bool, out: &mut Vec<u8>) {
        // A line break in a header would start another one: response splitting.
        let (headers, broken): (Vec<(&str, &str)>, Vec<_>) = response
            .headers
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
            .partition(|(name, value)| !has_line_break(name) && !has_line_break(value));
        if !broken.is_empty() || has_line_break(&response.content_type) {
            tracing::error!(headers = broken.len(), "the application answers with line breaks in headers");
            return self.respond(slot, &Response::text(500, "the answer can't be sent\n"), head_only, out);
        }
        append_response(out, response.status, &response.content_type, &headers, &response.body);
        if head_only {
            // RFC 9110, section 9.3.2: what a GET would be answered, without the body.
            out.truncate(out.len() - response.body.len());
        }
        self.finish(slot, true);
    }

    fn refuse(&mut self, slot: u32, error: &HandshakeError, out: &mut Vec<u8>) {
        self.stats.refused_requests += 1;
        tracing::debug!(connection = %self.connections.id_at(slot), %error, "request refused");
        append_refusal(out, error);
        self.finish(slot, true);
    }
}

fn has_line_break(text: &str) -> bool {
    text.contains(['\r', '\n'])
}

/// Whether an empty line ends in the part of the head that has come last, or a line is broken there.
fn is_decided(head: &[u8], before: usize) -> bool {
    let tail = |context: usize| &head[before.saturating_sub(context)..];
    tail(3).windows(4).any(|four| four == b"\r\n\r\n") || has_broken_line_end(tail(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_across_pieces() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for before in 1..head.len() {
            assert!(is_decided(head, before), "after {before} bytes");
            assert!(!is_decided(&head[..head.len() - 1], before.min(head.len() - 2)));
        }
    }

    #[test]
    fn a_head_that_never_ends_is_not_waited_for() {
        for head in [&b"GET / HTTP/1.1\n"[..], b"GET / HTTP/1.1\r\r", b"GET / HTTP/1.1\r\nHost: a\r\n\n"] {
            assert!(is_decided(head, head.len() - 1), "{head:?}");
        }
    }
}
