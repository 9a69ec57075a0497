//! The keys as they are now, and the thread that keeps them so: files that change, and a key set behind a URL.
//!
//! The cores read; they never wait for a file or for the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::fetch::Fetcher;
use super::keys::{KeyError, KeySet, Publicity, read};
use crate::config::AuthConfig;

/// How often files with keys are looked at.
const FILES_INTERVAL: Duration = Duration::from_secs(1);

/// Connections whose tokens wait for keys to be fetched; those beyond are told at once that theirs is invalid.
const WAITING_MAX: usize = 1024;

/// The keys, shared by all cores.
#[derive(Debug)]
pub(crate) struct KeyStore {
    current: RwLock<Arc<KeySet>>,
    remote: Option<Remote>,
    /// Ends the thread when it is dropped.
    wishes: Option<SyncSender<()>>,
}

/// What is known of the fetches.
#[derive(Debug)]
struct Remote {
    /// Whether a fetch is under way or asked for.
    busy: Mutex<bool>,
    /// Fetches that have ended, well or not.
    ended: AtomicU64,
    waiting: Arc<AtomicUsize>,
    /// Tokens that found no place to wait.
    crowded_out: AtomicU64,
}

/// A place among those who wait for a fetch to end.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// [`Remote::ended`] when it began to wait.
    ended: u64,
    count: Arc<AtomicUsize>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl KeyStore {
    /// Reads what can be read at once. The rest is fetched by a thread, which ends with the store.
    pub(crate) fn open(config: &AuthConfig, settings: &'static KeySettings) -> Result<Arc<Self>, KeyError> {
        let mut files = Files::new(config, settings);
        let local = files.load()?;
        let fetcher = config.jwks_url.as_deref().map(Fetcher::new);
        let (wishes, wished) = sync_channel(1);
        let store = Arc::new(Self {
            current: RwLock::new(Arc::new(local.clone())),
            remote: fetcher.is_some().then(|| Remote {
                busy: Mutex::new(true),
                ended: AtomicU64::new(0),
                waiting: Arc::default(),
                crowded_out: AtomicU64::new(0),
            }),
            wishes: (fetcher.is_some() || files.exist()).then_some(wishes),
        });
        if store.wishes.is_some() {
            let keeper = Keeper {
                store: Arc::downgrade(&store),
                wished,
                files,
                complaint: None,
                local,
                fetcher,
                fetched: KeySet::default(),
                interval: config.jwks_refresh,
                interval_min: config.jwks_refresh_min,
                due: Instant::now(),
                due_min: Instant::now(),
            };
            thread::Builder::new().name("crore-keys".to_owned()).spawn(move || keeper.run()).map_err(|error| {
                KeyError::Unusable { setting: "auth", problem: format!("no thread can be started: {error}") }
            })?;
        }
        Ok(store)
    }

    /// The keys of this moment.
    pub(crate) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// No key verifies a token: is there hope that one will be fetched? If so, where to wait for it: for the fetch that is
    /// under way, or the next one, as soon as that may be. Else whoever shows bad tokens all the time could have each good
    /// one refused whose key is new.
    pub(crate) fn wait(&self) -> Option<Waiting> {
        let remote = self.remote.as_ref()?;
        let mut busy = remote.busy();
        if !*busy {
            *busy = true;
            // The channel has room for the one wish that there is at a time.
            let _ = self.wishes.as_ref()?.try_send(());
        }
        // Under the lock, under which it is counted up: else this could wait for the fetch after the next one.
        let waiting = Waiting { ended: remote.ended.load(Ordering::Acquire), count: Arc::clone(&remote.waiting) };
        drop(busy);
        let has_room = remote.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX;
        if !has_room {
            remote.crowded_out.fetch_add(1, Ordering::Relaxed);
        }
        has_room.then_some(waiting)
    }

    /// Tokens that were refused because as many waited for keys as may.
    pub(crate) fn crowded_out(&self) -> u64 {
        self.remote.as_ref().map_or(0, |remote| remote.crowded_out.load(Ordering::Relaxed))
    }

    /// Whether what was waited for has ended, well or not.
    pub(crate) fn is_over(&self, waiting: &Waiting) -> bool {
        self.remote.as_ref().is_none_or(|remote| remote.ended.load(Ordering::Acquire) != waiting.ended)
    }

    fn replace(&self, keys: KeySet) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

impl Remote {
    fn busy(&self) -> MutexGuard<'_, bool> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settings that name keys.
#[derive(Debug)]
pub(crate) struct KeySettings {
    secret: &'static str,
    secret_file: &'static str,
    public_key_file: &'static str,
    jwks_file: &'static str,
}

/// Those of the tokens that say who a connection is.
pub(crate) const KEY_SETTINGS: KeySettings = KeySettings {
    secret: "auth.secret",
    secret_file: "auth.secret_file",
    public_key_file: "auth.public_key_file",
    jwks_file: "auth.jwks_file",
};

/// Those of tokens for channels, which have no key sets of their own.
pub(crate) const SUBSCRIPTION_KEY_SETTINGS: KeySettings = KeySettings {
    secret: "auth.subscription_secret",
    secret_file: "auth.subscription_secret_file",
    public_key_file: "auth.subscription_public_key_file",
    ..KEY_SETTINGS
};

impl KeySettings {
    /// What to do where a secret is needed and there is none.
    pub(super) fn missing_secret(&self) -> String {
        format!("set `{}` or `{}`, or name a --private-key", self.secret, self.secret_file)
    }
}

/// Editors end a file with a line feed, which nobody means to be a part of the secret.
fn without_line_feed(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

/// The files that keys are read from, and how they looked when that was done last.
#[derive(Debug)]
pub(crate) struct Files {
    settings: &'static KeySettings,
    secret: Option<String>,
    paths: Vec<(&'static str, PathBuf)>,
    seen: Vec<Option<(SystemTime, u64)>>,
}

impl Files {
    /// The keys of a configuration, which the settings have named.
    pub(crate) fn new(config: &AuthConfig, settings: &'static KeySettings) -> Self {
        let named = [
            (settings.secret_file, &config.secret_file),
            (settings.public_key_file, &config.public_key_file),
            (settings.jwks_file, &config.jwks_file),
        ];
        let paths = named.into_iter().filter_map(|(setting, path)| Some((setting, path.clone()?)));
        let secret = config.secret.as_ref().map(|secret| secret.expose().to_owned());
        Self { settings, secret, paths: paths.collect(), seen: Vec::new() }
    }

    const fn exist(&self) -> bool {
        !self.paths.is_empty()
    }

    /// All keys but those behind a URL.
    pub(crate) fn load(&mut self) -> Result<KeySet, KeyError> {
        // Looked at before they are read, and remembered when that has worked: else what can't be read now, and can be later
        // though the file has not changed, would never be read again.
        self.seen.clear();
        let looks = self.looks();
        let mut keys = KeySet::default();
        if let Some(secret) = &self.secret {
            keys = KeySet::secret(self.settings.secret, secret.as_bytes())?;
        }
        for (setting, path) in &self.paths {
            let text = read(setting, path)?;
            let more = match *setting {
                name if name == self.settings.secret_file => {
                    KeySet::secret(setting, without_line_feed(&text).as_bytes())?
                }
                name if name == self.settings.public_key_file => KeySet::pem(setting, &text)?,
                _ => KeySet::jwks(setting, &text, Publicity::Secret)?,
            };
            keys = keys.joined(&more);
        }
        self.seen = looks;
        Ok(keys)
    }

    /// The secret that tokens are signed with, if there is one.
    pub(crate) fn secret(&self) -> Result<Option<String>, KeyError> {
        if self.secret.is_some() {
            return Ok(self.secret.clone());
        }
        let Some((setting, path)) = self.paths.iter().find(|(setting, _)| *setting == self.settings.secret_file) else {
            return Ok(None);
        };
        Ok(Some(without_line_feed(&read(setting, path)?).to_owned()))
    }

    fn looks(&self) -> Vec<Option<(SystemTime, u64)>> {
        let look = |path: &Path| fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
        self.paths.iter().map(|(_, path)| look(path)).collect()
    }

    fn have_changed(&self) -> bool {
        self.looks() != self.seen
    }
}

/// What the thread has.
struct Keeper {
    store: Weak<KeyStore>,
    wished: Receiver<()>,
    files: Files,
    /// What was wrong with the files when they were read last: said once, and tried every second.
    complaint: Option<String>,
    local: KeySet,
    fetcher: Option<Fetcher>,
    fetched: KeySet,
    interval: Duration,
    interval_min: Duration,
    due: Instant,
    /// Not before this, whoever wishes for it.
    due_min: Instant,
}

impl Keeper {
    fn run(mut self) {
        loop {
            if self.fetcher.is_some() && Instant::now() >= self.due && self.fetch().is_none() {
                return;
            }
            let until_due = self.due.saturating_duration_since(Instant::now());
            let patience = if self.fetcher.is_some() { until_due.min(FILES_INTERVAL) } else { FILES_INTERVAL };
            match self.wished.recv_timeout(patience) {
                Ok(()) => self.due = self.due.min(self.due_min),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.files.have_changed() && self.reload().is_none() {
                return;
            }
        }
    }

    /// What can't be read now may be in the middle of being written: the last good keys stay, and it is tried again.
    fn reload(&mut self) -> Option<()> {
        let store = self.store.upgrade()?;
        match self.files.load() {
            Ok(local) => {
                self.complaint = None;
                tracing::info!(keys = local.len(), "keys read again: their files have changed");
                self.local = local;
                store.replace(self.local.joined(&self.fetched));
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!("{complaint}; the keys from before stay in use");
                    self.complaint = Some(complaint);
                }
            }
        }
        Some(())
    }

    /// `None` when nobody needs the keys any more.
    fn fetch(&mut self) -> Option<()> {
        let outcome = self.fetcher.as_ref()?.fetch();
        let store = self.store.upgrade()?;
        let remote = store.remote.as_ref()?;
        let now = Instant::now();
        self.due_min = now + self.interval_min;
        self.due = now
            + match outcome {
                Ok(keys) => {
                    tracing::debug!(keys = keys.len(), "key set fetched");
                    self.fetched = keys;
                    store.replace(self.local.joined(&self.fetched));
                    self.interval
                }
                Err(error) => {
                    tracing::warn!(keys = self.fetched.len(), "{error}; the keys from before stay in use");
                    self.interval_min
                }
            };
        let mut busy = remote.busy();
        *busy = false;
        // What was wished for meanwhile has been done.
        let _ = self.wished.try_recv();
        remote.ended.fetch_add(1, Ordering::Release);
        Some(())
    }
}

#[cfg(test)]
mod tests;
