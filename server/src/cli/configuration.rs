//! What `crore check-config` says of a configuration that is right.

use std::path::Path;

use crate::config::Config;

/// What the server would do with it, and what should be looked at twice.
pub(super) fn account(config: &Config, file: Option<&Path>) -> String {
    let source = file.map_or_else(|| "the configuration (no file)".to_owned(), |file| file.display().to_string());
    let cores = config.workers();
    let mut text = format!("{source} is right\n");
    text += &format!(
        "it would listen on {}, with {cores} {}, for WebSocket at {}\n",
        config.listen,
        if cores == 1 { "core" } else { "cores" },
        config.http.paths.join(" and ")
    );
    for doubt in config.doubts() {
        text += &format!("warning: {doubt}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    #[test]
    fn it_says_where_the_server_would_listen_and_what_is_doubtful() {
        let mut config = Config { cores: NonZeroU16::new(1), ..Config::default() };
        assert_eq!(
            account(&config, None),
            "the configuration (no file) is right\n\
             it would listen on 127.0.0.1:8080, with 1 core, for WebSocket at / and /ws\n"
        );
        config.listen = "[::]:80".parse().unwrap();
        let text = account(&config, Some(Path::new("a.toml")));
        assert!(text.starts_with("a.toml is right\nit would listen on [::]:80, with 1 core"), "{text}");
        assert!(text.contains("\nwarning: `listen`: [::]:80 can be reached"), "{text}");
    }
}
