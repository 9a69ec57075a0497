//! Lists that are asked for a part at a time, and such as have a best part.

use std::time::Duration;

use crore_engine::{CoreId, EngineHandle};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::control::ask::{self, PART_MAX};
use crate::control::error::ApiError;
use crate::control::survey::TOP_MAX;

/// Entries of a part, unless it is asked for another number.
const PART_DEFAULT: usize = 100;

/// The same of a list of the largest.
const TOP_DEFAULT: usize = 20;

/// Which part.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Entries that the answer may have.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next` of the answer before.
    #[param(pattern = "^[0-9]{1,5}-[0-9]{1,10}$")]
    cursor: Option<String>,
}

impl Part {
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        within(self.limit.unwrap_or(PART_DEFAULT), PART_MAX)
    }

    /// A core, and a place in its table.
    pub(super) fn cursor(&self) -> Result<(usize, usize), ApiError> {
        let Some(cursor) = &self.cursor else { return Ok((0, 0)) };
        let parts = cursor.split_once('-').and_then(|(core, place)| Some((digits(core)?, digits(place)?)));
        parts.ok_or_else(|| ApiError::Invalid("`cursor` is not what an answer had as `next`".to_owned()))
    }
}

/// How many.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Top {
    /// Entries that the answer may have.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<usize>,
}

impl Top {
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        within(self.limit.unwrap_or(TOP_DEFAULT), TOP_MAX)
    }
}

/// The `cursor` behind a part: the core's next place, or the next core.
pub(super) fn cursor(engine: &EngineHandle, core: CoreId, next: Option<usize>) -> Option<String> {
    match next {
        Some(place) => Some(format!("{core}-{place}")),
        None => ask::cores(engine).nth(core.index() + 1).map(|CoreId(core)| format!("{core}-0")),
    }
}

pub(super) fn age_ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

fn within(limit: usize, most: usize) -> Result<usize, ApiError> {
    let right = (1..=most).contains(&limit);
    right.then_some(limit).ok_or_else(|| ApiError::Invalid(format!("`limit` is a number from 1 to {most}")))
}

fn digits(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
