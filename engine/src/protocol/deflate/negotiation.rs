//! What is offered, what is agreed to (RFC 7692, section 7.1).

use std::fmt::Write as _;

use super::{Compression, DeflateAgreement, Direction, EXTENSION, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::protocol::extensions::{ExtensionOffer, ExtensionParameter, offers};

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// An offer that was agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiatedDeflate {
    /// What holds from now on.
    pub agreement: DeflateAgreement,
    /// The value of `Sec-WebSocket-Extensions` that says so to the client.
    pub answer: String,
}

/// The parameters of one offer, or of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Named without a value: any window will do. An answer always has a value.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` for an offer that must be declined: with a parameter that is unknown, comes twice, or
    /// has a value that it must not have (section 7).
    fn parse<'a>(parameters: impl Iterator<Item = ExtensionParameter<'a>>) -> Option<Self> {
        let mut parsed = Self::default();
        for ExtensionParameter { name, value } in parameters {
            let is_new = if name.eq_ignore_ascii_case(SERVER_NO_CONTEXT_TAKEOVER) {
                value.is_none().then_some(())?;
                !std::mem::replace(&mut parsed.server_no_context_takeover, true)
            } else if name.eq_ignore_ascii_case(CLIENT_NO_CONTEXT_TAKEOVER) {
                value.is_none().then_some(())?;
                !std::mem::replace(&mut parsed.client_no_context_takeover, true)
            } else if name.eq_ignore_ascii_case(SERVER_MAX_WINDOW_BITS) {
                parsed.server_max_window_bits.replace(window_bits(value?)?).is_none()
            } else if name.eq_ignore_ascii_case(CLIENT_MAX_WINDOW_BITS) {
                let bits = match value {
                    Some(value) => Some(window_bits(value)?),
                    None => None,
                };
                parsed.client_max_window_bits.replace(bits).is_none()
            } else {
                false
            };
            is_new.then_some(())?;
        }
        Some(parsed)
    }
}

/// A number from 8 to 15 without leading zeros (section 7.1.2.1).
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|_| !value.starts_with(['0', '+']))?;
    (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&bits).then_some(bits)
}

impl Compression {
    /// Chooses the first offer that we can agree to; `None` if there is none, and then nothing is
    /// said about extensions in the answer.
    #[must_use]
    pub fn negotiate<'a>(&self, offers: impl Iterator<Item = ExtensionOffer<'a>>) -> Option<NegotiatedDeflate> {
        offers
            .filter(|offer| offer.name.eq_ignore_ascii_case(EXTENSION))
            .find_map(|offer| Parameters::parse(offer.parameters()))
            .map(|offered| self.accept(&offered))
    }

    fn accept(&self, offered: &Parameters) -> NegotiatedDeflate {
        let server = Direction {
            context_takeover: self.server_context_takeover && !offered.server_no_context_takeover,
            window_bits: self.server_window_bits.min(offered.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX)),
        };
        // Only a client that names the parameter understands it (section 7.1.2.2).
        let limited = offered.client_max_window_bits.is_some();
        let offered_bits = offered.client_max_window_bits.flatten().unwrap_or(WINDOW_BITS_MAX);
        let client_bits = if limited { self.client_window_bits.min(offered_bits) } else { WINDOW_BITS_MAX };
        let client = Direction {
            context_takeover: self.client_context_takeover
                && !offered.client_no_context_takeover
                && client_bits <= self.client_window_bits,
            window_bits: client_bits,
        };

        let mut answer = EXTENSION.to_owned();
        if !server.context_takeover {
            push_parameter(&mut answer, SERVER_NO_CONTEXT_TAKEOVER, None);
        }
        if !client.context_takeover {
            push_parameter(&mut answer, CLIENT_NO_CONTEXT_TAKEOVER, None);
        }
        if offered.server_max_window_bits.is_some() || server.window_bits < WINDOW_BITS_MAX {
            push_parameter(&mut answer, SERVER_MAX_WINDOW_BITS, Some(server.window_bits));
        }
        if limited && (offered_bits < WINDOW_BITS_MAX || client.window_bits < WINDOW_BITS_MAX) {
            push_parameter(&mut answer, CLIENT_MAX_WINDOW_BITS, Some(client.window_bits));
        }
        NegotiatedDeflate { agreement: DeflateAgreement::new(server, client), answer }
    }
}

fn push_parameter(out: &mut String, name: &str, value: Option<u8>) {
    out.push_str("; ");
    out.push_str(name);
    if let Some(value) = value {
        write!(out, "={value}").expect("a string takes all that is written to it");
    }
}

/// Appends what a client offers, as a value of `Sec-WebSocket-Extensions`: the settings of
/// `compression`, in the same words.
pub fn append_offer(out: &mut String, compression: &Compression) {
    out.push_str(EXTENSION);
    if !compression.server_context_takeover {
        push_parameter(out, SERVER_NO_CONTEXT_TAKEOVER, None);
    }
    if !compression.client_context_takeover {
        push_parameter(out, CLIENT_NO_CONTEXT_TAKEOVER, None);
    }
    if compression.server_window_bits < WINDOW_BITS_MAX {
        push_parameter(out, SERVER_MAX_WINDOW_BITS, Some(compression.server_window_bits));
    }
    let client_bits = Some(compression.client_window_bits).filter(|&bits| bits < WINDOW_BITS_MAX);
    push_parameter(out, CLIENT_MAX_WINDOW_BITS, client_bits);
}

/// What a server's answer to [`append_offer`] agrees on; `None` if it is none of what was offered,
/// and the connection must fail (section 7.1). An empty answer agrees on nothing.
#[must_use]
pub fn parse_answer(answer: &str, offered: &Compression) -> Option<DeflateAgreement> {
    let mut chosen = offers(answer);
    let Some(first) = chosen.next() else {
        return Some(DeflateAgreement::NONE);
    };
    let first = first.ok().filter(|first| chosen.next().is_none() && first.name.eq_ignore_ascii_case(EXTENSION))?;
    let parameters = Parameters::parse(first.parameters())?;
    let server = Direction {
        context_takeover: !parameters.server_no_context_takeover,
        window_bits: parameters.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX),
    };
    let client = Direction {
        context_takeover: offered.client_context_takeover && !parameters.client_no_context_takeover,
        window_bits: match parameters.client_max_window_bits {
            // Not without a value, and none above what was offered (section 7.1.2.2).
            Some(bits) => bits.filter(|&bits| bits <= offered.client_window_bits)?,
            None => offered.client_window_bits,
        },
    };
    let as_offered = (offered.server_context_takeover || !server.context_takeover)
        && server.window_bits <= offered.server_window_bits;
    as_offered.then(|| DeflateAgreement::new(server, client))
}
