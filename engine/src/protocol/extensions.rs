//! The `Sec-WebSocket-Extensions` header (RFC 6455, section 9.1).
//!
//! The one extension that is spoken is permessage-deflate: [`deflate`](super::deflate) judges what
//! its offers say. Others are read, checked, and declined by silence.

use super::http::{is_token, list_elements};

/// An offer that is not written as section 9.1 wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Sec-WebSocket-Extensions is malformed; write `name; parameter=value, name`")]
pub struct ExtensionSyntaxError;

/// One extension that a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionOffer<'a> {
    /// The name of the extension, such as `permessage-deflate`.
    pub name: &'a str,
    /// What follows the name, from the first semicolon on.
    parameters: &'a str,
}

/// One parameter of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionParameter<'a> {
    /// The name of the parameter.
    pub name: &'a str,
    /// The value without its quotes; `None` if the parameter is only named.
    pub value: Option<&'a str>,
}

impl<'a> ExtensionOffer<'a> {
    fn parse(offer: &'a str) -> Result<Self, ExtensionSyntaxError> {
        let (name, parameters) = offer.split_at(offer.find(';').unwrap_or(offer.len()));
        let name = name.trim_ascii();
        let offer = Self { name, parameters };
        let valid =
            offer.parameters().all(|parameter| is_token(parameter.name) && parameter.value.is_none_or(is_token));
        if is_token(name) && valid { Ok(offer) } else { Err(ExtensionSyntaxError) }
    }

    /// The parameters, in the order of the offer.
    pub fn parameters(&self) -> impl Iterator<Item = ExtensionParameter<'a>> + use<'a> {
        self.parameters.split(';').skip(1).map(|parameter| {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name, Some(unquote(value.trim_ascii()))),
                None => (parameter, None),
            };
            ExtensionParameter { name: name.trim_ascii(), value }
        })
    }
}

/// The offers of one header value, in the client's order of preference.
///
/// A quoted value must be a token once its quotes are off (section 9.1), so commas and semicolons
/// always separate; an escape within quotes is refused, since no token needs one.
pub fn offers(value: &str) -> impl Iterator<Item = Result<ExtensionOffer<'_>, ExtensionSyntaxError>> {
    list_elements(value).map(ExtensionOffer::parse)
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed<'a> = Vec<(&'a str, Vec<(&'a str, Option<&'a str>)>)>;

    fn parse(value: &str) -> Result<Parsed<'_>, ExtensionSyntaxError> {
        offers(value)
            .map(|offer| {
                let offer = offer?;
                let parameters = offer.parameters().map(|p| (p.name, p.value)).collect();
                Ok((offer.name, parameters))
            })
            .collect()
    }

    #[test]
    fn offers_are_read_in_order_with_their_parameters() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(
            parse("permessage-deflate; client_max_window_bits"),
            Ok(vec![("permessage-deflate", vec![("client_max_window_bits", None)])])
        );
        assert_eq!(
            parse("foo ; a = 1;b=\"10\" ,, permessage-deflate;server_no_context_takeover"),
            Ok(vec![
                ("foo", vec![("a", Some("1")), ("b", Some("10"))]),
                ("permessage-deflate", vec![("server_no_context_takeover", None)]),
            ])
        );
    }

    #[test]
    fn a_malformed_offer_is_refused() {
        for value in ["foo;", "foo; =1", ";a", "foo; a=", "foo a", "foo; a=\"", "foo; a=\"\\1\""] {
            assert_eq!(parse(value), Err(ExtensionSyntaxError), "{value}");
        }
    }
}
