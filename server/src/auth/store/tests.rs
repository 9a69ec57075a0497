use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use super::*;
use crate::config::Secret;

/// Far longer than anything here takes; it only keeps a failing test from waiting for ever.
const PATIENCE: Duration = Duration::from_secs(20);

const ED25519: [&str; 2] =
    [include_str!("../../../tests/keys/ed25519.pem"), include_str!("../../../tests/keys/ed25519-other.pem")];

/// A set with the public halves of these keys, each by its index.
fn jwks(keys: &[usize]) -> String {
    let keys = keys.iter().map(|&index| {
        let key = EncodingKey::from_ed_pem(ED25519[index].as_bytes()).unwrap();
        let mut jwk =
            serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap()).unwrap();
        jwk["kid"] = json!(format!("key {index}"));
        jwk
    });
    json!({"keys": keys.collect::<Vec<_>>()}).to_string()
}

fn knows(store: &KeyStore, index: usize) -> bool {
    store.keys().candidates(Algorithm::EdDSA, Some(&format!("key {index}"))).count() == 1
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// An identity provider: answers every request with what it has been told to.
struct Provider {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Provider {
    fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new((200, answer))),
            requests: Arc::default(),
            stop: Arc::default(),
        };
        let (answer, requests, stop) =
            (Arc::clone(&provider.answer), Arc::clone(&provider.requests), Arc::clone(&provider.stop));
        thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.extend(byte);
                }
                requests.fetch_add(1, Ordering::Relaxed);
                let (status, body) = answer.lock().unwrap().clone();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = client.write_all((head + &body).as_bytes());
            }
        });
        provider
    }

    fn says(&self, status: u16, body: String) {
        *self.answer.lock().unwrap() = (status, body);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn config(&self, interval: Duration, interval_min: Duration) -> AuthConfig {
        AuthConfig {
            jwks_url: Some(format!("http://{}/keys?secret=hidden", self.address)),
            jwks_refresh: interval,
            jwks_refresh_min: interval_min,
            ..AuthConfig::default()
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn tokens_without_a_key_cause_one_fetch_at_a_time_and_wait_for_the_next_that_may_be() {
    let provider = Provider::start(jwks(&[0]));
    let interval_min = Duration::from_millis(300);
    let started = Instant::now();
    let store = KeyStore::open(&provider.config(LONG, interval_min), &KEY_SETTINGS).unwrap();
    let fetches = || store.remote.as_ref().unwrap().ended.load(Ordering::Acquire);
    eventually("the first fetch", || fetches() == 1);
    assert!(knows(&store, 0) && !knows(&store, 1));
    // Of a stranger, right behind a fetch; and behind it of somebody whose key is new.
    let bogus = store.wait().expect("the set may have changed");
    provider.says(200, jwks(&[0, 1]));
    let waiting: Vec<_> = (0..100).map(|_| store.wait().expect("the set may have changed")).collect();
    eventually("the rotation", || waiting.iter().chain([&bogus]).all(|waiting| store.is_over(waiting)));
    assert!(knows(&store, 0) && knows(&store, 1));
    assert_eq!((fetches(), provider.requests()), (2, 2), "a hundred unknown keys, one fetch");
    assert!(started.elapsed() >= interval_min, "not before it may be");
    provider.says(200, jwks(&[1]));
    let waiting = store.wait().unwrap();
    eventually("the second rotation", || store.is_over(&waiting));
    assert!(!knows(&store, 0), "what the provider has withdrawn is not accepted any more");
}

#[test]
fn the_last_good_keys_stay_whatever_the_provider_says() {
    let provider = Provider::start(jwks(&[0]));
    let store =
        KeyStore::open(&provider.config(Duration::from_millis(20), Duration::from_millis(20)), &KEY_SETTINGS).unwrap();
    eventually("the first fetch", || knows(&store, 0));
    let huge = "x".repeat(usize::try_from(super::super::keys::KEYS_BYTES_MAX).unwrap() + 1);
    for (status, body) in [
        (500, String::new()),
        (200, "<html>".to_owned()),
        (200, "{\"keys\":[]}".to_owned()),
        (302, String::new()),
        (200, huge),
    ] {
        provider.says(status, body);
        let before = provider.requests();
        eventually("two more fetches", || provider.requests() >= before + 2);
        assert!(knows(&store, 0));
    }
    provider.says(200, jwks(&[1]));
    eventually("a good answer", || knows(&store, 1));
}

#[test]
fn those_who_wait_are_bounded_and_the_thread_ends_with_the_store() {
    let provider = Provider::start(jwks(&[0]));
    // Nothing is answered while the lock is held.
    let lock = provider.answer.lock().unwrap();
    let store = KeyStore::open(&provider.config(LONG, LONG), &KEY_SETTINGS).unwrap();
    let waiting: Vec<_> = (0..WAITING_MAX + 10).filter_map(|_| store.wait()).collect();
    assert_eq!((waiting.len(), store.crowded_out()), (WAITING_MAX, 10));
    drop(waiting);
    assert!(store.wait().is_some(), "who has gone makes room");
    let weak = Arc::downgrade(&store);
    drop(store);
    drop(lock);
    eventually("the end", || weak.upgrade().is_none());
}

#[test]
fn files_are_read_again_when_they_change() {
    let directory = std::env::temp_dir().join(format!("crore-keys-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path: PathBuf = directory.join("keys.json");
    fs::write(&path, jwks(&[0])).unwrap();
    let config = AuthConfig { jwks_file: Some(path.clone()), ..AuthConfig::default() };
    let store = KeyStore::open(&config, &KEY_SETTINGS).unwrap();
    assert!(knows(&store, 0));
    assert!(store.wait().is_none(), "nothing is fetched");
    fs::write(&path, "{\"keys\":").unwrap();
    thread::sleep(FILES_INTERVAL + Duration::from_millis(300));
    assert!(knows(&store, 0), "half a file changes nothing");
    fs::write(&path, jwks(&[0, 1])).unwrap();
    eventually("the change is seen", || knows(&store, 1));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_file_that_could_not_be_read_is_read_though_it_looks_the_same() {
    let path = std::env::temp_dir().join(format!("crore-unread-{}", std::process::id()));
    let other = path.with_extension("other");
    fs::write(&path, jwks(&[0])).unwrap();
    fs::write(&other, jwks(&[1])).unwrap();
    let config = AuthConfig { jwks_file: Some(path.clone()), ..AuthConfig::default() };
    let mut files = Files::new(&config, &KEY_SETTINGS);
    files.load().unwrap();
    assert!(!files.have_changed());
    // A link to itself can't be read, whoever reads it; permissions keep nobody out who may do everything.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(files.have_changed() && files.load().is_err());
    assert!(files.have_changed(), "it is tried again");
    fs::rename(&other, &path).unwrap();
    assert!(files.have_changed());
    assert_eq!(files.load().unwrap().len(), 1);
    assert!(!files.have_changed());
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let config = AuthConfig { jwks_file: Some("nowhere.json".into()), ..AuthConfig::default() };
    let problem = KeyStore::open(&config, &KEY_SETTINGS).unwrap_err().to_string();
    assert!(problem.starts_with("`auth.jwks_file`: nowhere.json can't be read"), "{problem}");
}

#[test]
fn a_secret_in_a_file_ends_before_its_line_feed() {
    let path = std::env::temp_dir().join(format!("crore-secret-{}", std::process::id()));
    fs::write(&path, format!("{}\n", "s".repeat(32))).unwrap();
    let config = AuthConfig { secret_file: Some(path.clone()), ..AuthConfig::default() };
    let mut files = Files::new(&config, &KEY_SETTINGS);
    assert_eq!(files.load().unwrap().len(), 1);
    assert_eq!(files.secret().unwrap(), Some("s".repeat(32)));
    fs::write(&path, format!("{}\n", "s".repeat(31))).unwrap();
    assert!(files.load().is_err());
    fs::remove_file(path).unwrap();
    let given = AuthConfig { secret: Some(Secret::new("t".repeat(32))), ..AuthConfig::default() };
    assert_eq!(Files::new(&given, &KEY_SETTINGS).secret().unwrap(), Some("t".repeat(32)));
}

#[test]
fn keys_of_channels_are_read_from_their_own_settings() {
    let path = std::env::temp_dir().join(format!("crore-channels-{}", std::process::id()));
    fs::write(&path, "short").unwrap();
    let config = AuthConfig {
        secret: Some(Secret::new("t".repeat(32))),
        jwks_url: Some("https://id.example.com/keys".to_owned()),
        subscription_secret_file: Some(path.clone()),
        ..AuthConfig::default()
    };
    let own = config.of_subscriptions();
    assert!(own.secret.is_none() && own.jwks_url.is_none());
    let mut files = Files::new(&own, &SUBSCRIPTION_KEY_SETTINGS);
    assert!(files.load().unwrap_err().to_string().starts_with("`auth.subscription_secret_file`: a secret of 5 bytes"));
    fs::write(&path, "u".repeat(32)).unwrap();
    assert_eq!((files.load().unwrap().len(), files.secret().unwrap()), (1, Some("u".repeat(32))));
    fs::remove_file(path).unwrap();
}
