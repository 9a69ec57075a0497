//! Sends every message back: `cargo run --release --example echo -- [ADDRESS] [--cores N]`.

use crore_engine::{Context, Engine, Handler, Message};

struct Echo;

impl Handler for Echo {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments.first().filter(|first| !first.starts_with("--"));
    let mut engine = Engine::bind(address.map_or("127.0.0.1:9001", String::as_str))?;
    if let Some(flag) = arguments.iter().position(|argument| argument == "--cores") {
        engine = engine.cores(arguments.get(flag + 1).ok_or("--cores needs a number")?.parse()?);
    }
    Ok(engine.run(|_core| Echo)?)
}
