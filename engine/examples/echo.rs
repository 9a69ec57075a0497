//! Sends every message back: `cargo run --release --example echo -- [ADDRESS] [--cores N]
//! [--message-bytes-max N] [--fragments-max N] [--compress[=takeover]]`.

use crore_engine::limits::RECEIVE_BUFFER_BYTES;
use crore_engine::{Context, Engine, Handler, Limits, Message};

mod support;

struct Echo;

impl Handler for Echo {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str| -> Result<Option<usize>, Box<dyn std::error::Error>> {
        let Some(position) = arguments.iter().position(|argument| argument == flag) else { return Ok(None) };
        let number = arguments.get(position + 1).and_then(|number| number.parse().ok());
        Ok(Some(number.ok_or_else(|| format!("{flag} needs a number"))?))
    };
    let address = arguments.first().filter(|first| !first.starts_with("--"));
    let mut engine = Engine::bind(address.map_or("127.0.0.1:9001", String::as_str))?;
    if let Some(cores) = number("--cores")? {
        engine = engine.cores(cores);
    }
    let mut limits = Limits::default();
    if let Some(bytes) = number("--message-bytes-max")? {
        limits.message_bytes_max = bytes;
        // Half of the outbox has room for the echo of what one receive can complete.
        limits.outbox_bytes_max = limits.outbox_bytes_max.max(2 * (bytes + RECEIVE_BUFFER_BYTES) + 1);
    }
    if let Some(fragments) = number("--fragments-max")? {
        limits.fragments_max = fragments.try_into()?;
    }
    engine = engine.compression(support::compression(&arguments)?);
    Ok(engine.limits(limits).run(|_core| Echo)?)
}
