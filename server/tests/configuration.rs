//! The commands about the configuration, as their users have them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A file of its own for each test; gone when the test ends.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crore-configuration-{}-{name}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn crore() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crore"));
    command.env_clear();
    command
}

fn code_and_text(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

// capability: 7
#[test]
fn a_right_file_is_accounted_for_and_a_public_address_is_warned_of() {
    let file = File::new("right", "cores = 1\n[http]\npaths = [\"/chat\"]\n");
    let (code, text, _) = code_and_text(crore().arg("check-config").arg(&file.0).output().unwrap());
    let first = format!(
        "{} is right\nit would listen on 127.0.0.1:8080, with 1 core, for WebSocket at /chat\n",
        file.0.display()
    );
    assert_eq!((code, text.as_str()), (Some(0), first.as_str()));
    // As for serving: CRORE_CONFIG names the file, a variable outranks it, and a flag that.
    let output = crore()
        .args(["check-config", "--cores", "2"])
        .env("CRORE_CONFIG", &file.0)
        .env("CRORE_LISTEN", "0.0.0.0:9000")
        .output();
    let (code, text, _) = code_and_text(output.unwrap());
    assert_eq!(code, Some(0));
    assert!(
        text.contains("listen on 0.0.0.0:9000, with 2 cores, for WebSocket at /chat\nwarning: `listen`: "),
        "{text}"
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let file = File::new("wrong", "lissen = \"127.0.0.1:1\"\n[limits]\nping_interval = 30\n");
    let output = crore().arg("check-config").arg(&file.0).env("CRORE_LOG_FORMAT", "xml").output();
    let (code, text, errors) = code_and_text(output.unwrap());
    assert_eq!((code, text.as_str()), (Some(2), ""));
    let path = file.0.display();
    let expected = format!(
        "crore: {path}:1: there is no setting `lissen`; the nearest is `listen`\n\
         crore: {path}:3: `limits.ping_interval`: expected a duration with its unit, such as \"30s\" or \"500ms\", \
         found a whole number\n\
         crore: environment variable CRORE_LOG_FORMAT: `log.format`: expected text or json, found `xml`\n"
    );
    assert_eq!(errors, expected);
    // The server itself says the same, and does not start.
    let output = crore().arg("--config").arg(&file.0).env("CRORE_LOG_FORMAT", "xml").output();
    assert_eq!(code_and_text(output.unwrap()), (Some(2), String::new(), expected));
    let (code, _, error) = code_and_text(crore().args(["check-config", "/nowhere/crore.toml"]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(error.starts_with("crore: the configuration file /nowhere/crore.toml can't be read: "), "{error}");
}

#[test]
fn the_default_configuration_is_printed_and_is_right() {
    let (code, text, _) = code_and_text(crore().arg("default-config").output().unwrap());
    assert_eq!(code, Some(0));
    let file = File::new("default", &text);
    let (code, account, _) = code_and_text(crore().arg("check-config").arg(&file.0).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(account.contains("listen on 127.0.0.1:8080") && !account.contains("warning"), "{account}");
}

#[test]
fn the_reference_is_printed() {
    let (code, text, _) = code_and_text(crore().arg("config-doc").output().unwrap());
    assert_eq!(code, Some(0));
    assert!(text.starts_with("# Settings\n"), "{text}");
}
