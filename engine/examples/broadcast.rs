//! Every client hears what any client says: `cargo run --release --example broadcast -- [ADDRESS] [--cores N]
//! [--compress[=takeover]]`.

use crore_engine::{Context, Engine, Handler, Message};

mod support;

/// The topic that everyone is subscribed to.
const EVERYONE: &str = "everyone";

struct Broadcast;

impl Handler for Broadcast {
    type Connection = ();

    fn on_open(&mut self, context: &mut Context<'_>, _: &mut ()) {
        context.subscribe(EVERYONE).expect("one subscription is within the limits");
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.publish(EVERYONE, message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments.first().filter(|first| !first.starts_with("--"));
    let mut engine = Engine::bind(address.map_or("127.0.0.1:9001", String::as_str))?;
    if let Some(flag) = arguments.iter().position(|argument| argument == "--cores") {
        engine = engine.cores(arguments.get(flag + 1).ok_or("--cores needs a number")?.parse()?);
    }
    engine = engine.compression(support::compression(&arguments)?);
    Ok(engine.run(|_core| Broadcast)?)
}
