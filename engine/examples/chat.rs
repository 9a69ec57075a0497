//! A chat room on several cores: `cargo run --release --example chat -- [ADDRESS] [--cores N]`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crore_engine::{Answer, Closed, ConnectionId, Context, Engine, Handler, Message, Request};
use serde_json::{Value, json};

/// What a client's timestamps count: Python's clock seconds, JavaScript's milliseconds. Neither can show the
/// other's, so each client is told the time in its own, and all who count alike are subscribed to one topic.
type Clock = &'static str;
const CLOCKS: [Clock; 2] = ["milliseconds", "seconds"];

/// Everyone who has joined, on whichever core: all that the cores share.
#[derive(Clone, Default)]
struct Chat(Arc<Mutex<HashMap<ConnectionId, (String, Clock)>>>);

impl Handler for Chat {
    type Connection = Clock;

    fn on_request(&mut self, _: &mut Context<'_>, clock: &mut Clock, request: &Request<'_>) -> Answer {
        let python = request.header("User-Agent").is_some_and(|agent| agent.contains("Python"));
        *clock = CLOCKS[usize::from(python)];
        Answer::upgrade()
    }

    fn on_open(&mut self, context: &mut Context<'_>, clock: &mut Clock) {
        context.subscribe(clock).expect("one subscription is within the limits");
        context.send(&stamp(&says("message", "System", "Welcome! Please identify yourself."), clock));
    }

    fn on_message(&mut self, context: &mut Context<'_>, clock: &mut Clock, message: Message<'_>) {
        let said: Value = serde_json::from_slice(message.payload()).unwrap_or_default();
        let text = |key: &str| said[key].as_str().unwrap_or_default();
        let mut people = self.0.lock().expect("no handler panics");
        let name = people.get(&context.id()).map_or("Anonymous", |(name, _)| name);
        match text("type") {
            "join" => {
                people.insert(context.id(), (text("username").to_owned(), clock));
                publish(context, &says("message", "System", &format!("{} has joined the chat", text("username"))));
            }
            "message" => publish(context, &says("message", name, text("content"))),
            "private" => {
                let mut private = says("private", name, text("content"));
                (private["from"], private["to"]) = (name.into(), text("to").into());
                let mut addressees = people.iter().filter(|(_, (name, _))| name == text("to")).peekable();
                if addressees.peek().is_none() {
                    context.send(&stamp(&says("error", "System", &format!("{} is not online", text("to"))), clock));
                }
                addressees.for_each(|(id, (_, clock))| context.send_to(*id, &stamp(&private, clock)));
            }
            "typing" => {
                let content = if said["isTyping"] == true { "is typing..." } else { "has stopped typing" };
                let mut typing = says("typing", name, content);
                typing["isTyping"] = said["isTyping"].clone();
                for clock in CLOCKS {
                    context.publish_to_others(clock, &stamp(&typing, clock));
                }
            }
            _ => context.send(&stamp(&says("error", "System", "Invalid message"), clock)),
        }
    }

    fn on_close(&mut self, context: &mut Context<'_>, _: &mut Clock, _: Closed<'_>) {
        if let Some((name, _)) = self.0.lock().expect("no handler panics").remove(&context.id()) {
            publish(context, &says("message", "System", &format!("{name} has left the chat")));
        }
    }
}

fn says(kind: &str, username: &str, content: &str) -> Value {
    json!({"type": kind, "username": username, "content": content})
}

/// The message with the time, as those are told it whose clock counts so.
fn stamp(message: &Value, clock: Clock) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    let mut stamped = message.clone();
    stamped["timestamp"] = if clock == CLOCKS[0] { json!(now.as_millis()) } else { json!(now.as_secs_f64()) };
    stamped.to_string()
}

fn publish(context: &mut Context<'_>, message: &Value) {
    for clock in CLOCKS {
        context.publish(clock, &stamp(message, clock));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments.first().filter(|first| !first.starts_with("--"));
    let mut engine = Engine::bind(address.map_or("127.0.0.1:8080", String::as_str))?;
    if let Some(flag) = arguments.iter().position(|argument| argument == "--cores") {
        engine = engine.cores(arguments.get(flag + 1).ok_or("--cores needs a number")?.parse()?);
    }
    let chat = Chat::default();
    Ok(engine.run(move |_core| chat.clone())?)
}
