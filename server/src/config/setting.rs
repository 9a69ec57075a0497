//! What a setting is: everything that is known of it stands in its entry of the [table](super::settings).

use std::borrow::Cow;

use super::value::{SettingValue, Value};

/// What it takes for a changed setting to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// SIGHUP is enough.
    Live,
    /// The server has to be started anew.
    Restart,
}

/// Settings that stand together: in the file under `[name]`.
pub(super) struct Section {
    /// The part of the keys before the dot; empty for what stands at the top of the file.
    pub(super) name: &'static str,
    /// What they are about, if the name does not say it.
    pub(super) about: &'static str,
    /// The settings, in the order in which they are shown.
    pub(super) settings: &'static [Setting<super::Config>],
}

/// One setting of a `T`.
pub(super) struct Setting<T: 'static> {
    /// Section and name, joined by a dot.
    pub(super) key: &'static str,
    /// Whether it can be changed while the server runs.
    pub(super) reload: Reload,
    /// A sentence or two for operators: what it does, what limits it, why its default is what it is.
    pub(super) meaning: &'static str,
    /// A value as TOML, for a setting whose default is to be absent.
    pub(super) example: Option<&'static str>,
    place: Place<T>,
    check: Option<Check<T>>,
}

/// What a value has to be beyond its type.
struct Check<T> {
    expected: &'static str,
    check: fn(&T) -> Result<(), String>,
}

/// Where a setting lies in a `T`; made by [`place!`].
pub(super) struct Place<T> {
    /// Writes a value there, or says what is expected.
    pub(super) put: fn(&mut T, Value<'_>) -> Result<(), String>,
    /// What lies there.
    pub(super) show: fn(&T) -> Shown,
    /// Writes there what lies in another one.
    pub(super) copy: fn(&mut T, &T),
}

/// A value as operators see it.
pub(super) struct Shown {
    /// As TOML; `None` if the setting is absent.
    pub(super) toml: Option<String>,
    /// What its values are, as a phrase after "expected".
    pub(super) expected: Cow<'static, str>,
}

impl Shown {
    pub(super) fn of<V: SettingValue>(value: &V) -> Self {
        Self { toml: value.to_toml(), expected: V::expected() }
    }
}

/// The place of a field whose type is a [`SettingValue`]: `place!(welcome.message)`.
macro_rules! place {
    ($($field:ident).+) => {
        $crate::config::setting::Place {
            put: |target, value| {
                target.$($field).+ = $crate::config::value::SettingValue::from_value(value)?;
                Ok(())
            },
            show: |target| $crate::config::setting::Shown::of(&target.$($field).+),
            copy: |target, other| Clone::clone_from(&mut target.$($field).+, &other.$($field).+),
        }
    };
}
pub(super) use place;

impl<T: Clone + Default> Setting<T> {
    pub(super) const fn new(key: &'static str, reload: Reload, place: Place<T>, meaning: &'static str) -> Self {
        Self { key, reload, meaning, example: None, place, check: None }
    }

    /// Shows how to write a setting that is absent by default.
    pub(super) const fn example(mut self, toml: &'static str) -> Self {
        self.example = Some(toml);
        self
    }

    /// Refuses values that have the right type and are wrong none the less; `expected` says what they are for the
    /// reference, and the check what to do about one that is not.
    pub(super) const fn checked(mut self, expected: &'static str, check: fn(&T) -> Result<(), String>) -> Self {
        self.check = Some(Check { expected, check });
        self
    }

    /// The key without its section.
    pub(super) fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }

    /// Writes a value to its place, or says what is expected and changes nothing.
    pub(super) fn put(&self, target: &mut T, value: Value<'_>) -> Result<(), String> {
        let mut candidate = target.clone();
        (self.place.put)(&mut candidate, value)?;
        if let Some(Check { check, .. }) = &self.check {
            check(&candidate)?;
        }
        *target = candidate;
        Ok(())
    }

    /// Writes to its place what another one has there.
    pub(super) fn copy(&self, target: &mut T, other: &T) {
        (self.place.copy)(target, other);
    }

    /// Its value, as TOML.
    pub(super) fn toml(&self, of: &T) -> Option<String> {
        (self.place.show)(of).toml
    }

    /// Its default, as TOML.
    pub(super) fn default(&self) -> Option<String> {
        self.toml(&T::default())
    }

    /// What its values are.
    pub(super) fn expected(&self) -> Cow<'static, str> {
        match &self.check {
            Some(check) => check.expected.into(),
            None => (self.place.show)(&T::default()).expected,
        }
    }

    pub(super) fn find(settings: impl IntoIterator<Item = &'static Self>, key: &str) -> Option<&'static Self> {
        settings.into_iter().find(|setting| setting.key == key)
    }
}

/// The key that looks most like an unknown one. A name without its section is recognised too.
pub(super) fn nearest<'k>(unknown: &str, keys: impl Iterator<Item = &'k str>) -> String {
    let whole = |key: &str| strsim::jaro_winkler(unknown, key);
    let likeness = |key: &str| {
        let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
        whole(key).max(strsim::jaro_winkler(unknown, name))
    };
    // Of names that sections share, the one that stands outside of them is as it was written.
    let order = |a: &&str, b: &&str| likeness(a).total_cmp(&likeness(b)).then(whole(a).total_cmp(&whole(b)));
    keys.max_by(order).unwrap_or_default().to_owned()
}
