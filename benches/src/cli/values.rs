//! How the values of options are read, and written into reports.

use std::str::FromStr;
use std::time::Duration;

use crore_engine::uring::DescriptorSetting;
use jiff::SignedDuration;
use serde::{Serialize, Serializer};

use crate::client::frame::STAMP_BYTES;

/// `5s`, `1m 30s`, `500ms`, or a plain number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let advice = || format!("`{text}` is no duration: write 5s, 500ms or 2m");
    if let Ok(seconds) = f64::from_str(text) {
        return Duration::try_from_secs_f64(seconds).map_err(|_| advice());
    }
    let parsed: SignedDuration = text.parse().map_err(|_| advice())?;
    Duration::try_from(parsed).map_err(|_| advice())
}

/// A duration between two messages.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval.is_zero() {
        return Err(format!("`{text}` is no interval: it has to be longer than nothing, such as 5ms"));
    }
    Ok(interval)
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match f64::from_str(text) {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(format!("`{text}` is no rate: write messages per second of all connections together, such as 50000")),
    }
}

/// Payload bytes that a message may have: 16 MiB.
const SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) fn size(text: &str) -> Result<usize, String> {
    match usize::from_str(text) {
        Ok(size) if (STAMP_BYTES..=SIZE_BYTES_MAX).contains(&size) => Ok(size),
        _ => Err(format!(
            "`{text}` is no message size: every message carries its number and its time, so use {STAMP_BYTES} to {SIZE_BYTES_MAX} bytes"
        )),
    }
}

pub(super) fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

pub(super) fn as_optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

pub(super) fn as_debug<S: Serializer>(setting: &DescriptorSetting, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{setting:?}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    }
}
