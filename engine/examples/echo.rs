//! Sends every message back: `cargo run --release --example echo [ADDRESS] [--cores N]`.

use crore_engine::{Context, Engine, Handler, Message};

struct Echo;

impl Handler for Echo {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.send(message);
    }
}

fn main() -> Result<(), crore_engine::Error> {
    Engine::bind("127.0.0.1:9001")?.run(|_core| Echo)
}
