//! What examples have in common.

use crore_engine::Compression;

/// What `--compress` and `--compress=takeover` ask for; nothing without either.
pub(crate) fn compression(arguments: &[String]) -> Result<Option<Compression>, &'static str> {
    let takeover = match arguments.iter().find_map(|argument| argument.strip_prefix("--compress")) {
        None => return Ok(None),
        Some("") => false,
        Some("=takeover") => true,
        Some(_) => return Err("--compress is given alone or as --compress=takeover"),
    };
    let (server_context_takeover, client_context_takeover) = (takeover, takeover);
    Ok(Some(Compression { server_context_takeover, client_context_takeover, ..Compression::default() }))
}
