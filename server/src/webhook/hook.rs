//! What a connection keeps for its backend: the headers it came with, and what the backend wants to be reminded of.

use std::sync::Arc;

use crore_engine::Request;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::history::Position;

/// Headers of a client's request that the backend sees.
pub(crate) type Forwarded = Arc<[(HeaderName, HeaderValue)]>;

/// Which headers these are.
#[derive(Debug)]
pub(super) struct HeaderNames(Vec<HeaderName>);

impl HeaderNames {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.parse().expect("the configuration has been checked")).collect())
    }

    /// A value that no header can have is left out.
    pub(super) fn pick(&self, request: &Request<'_>) -> Option<Forwarded> {
        let values = |name: &HeaderName| {
            let values = request.header_values(name.as_str()).filter_map(|value| HeaderValue::from_str(value).ok());
            values.map(|value| (name.clone(), value)).collect::<Vec<_>>()
        };
        let found: Vec<_> = self.0.iter().flat_map(values).collect();
        (!found.is_empty()).then(|| found.into())
    }
}

/// What a connection has where a backend decides about it.
#[derive(Debug, Default)]
pub(crate) struct Hook {
    pub(crate) forwarded: Option<Forwarded>,
    pub(super) meta: Option<Box<RawValue>>,
    /// Channels with a history to which the backend has subscribed it, and where they stood then.
    pub(crate) enrolled: Vec<(Box<str>, Position)>,
}

impl Hook {
    pub(crate) fn heap_bytes(&self) -> usize {
        let Self { forwarded, meta, enrolled } = self;
        let header = |(name, value): &(HeaderName, HeaderValue)| {
            size_of::<(HeaderName, HeaderValue)>() + name.as_str().len() + value.len()
        };
        let headers = forwarded.iter().flat_map(|forwarded| forwarded.iter()).map(header).sum::<usize>();
        let enrolled = enrolled.capacity() * size_of::<(Box<str>, Position)>()
            + enrolled.iter().map(|(channel, _)| channel.len()).sum::<usize>();
        headers + enrolled + meta.as_ref().map_or(0, |meta| meta.get().len())
    }
}
