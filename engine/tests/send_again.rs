//! A message may be sent back more than once, and as another kind, whatever lies behind it in the receive buffer.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crore_engine::{Context, Engine, Handler, Message};

struct Thrice;

impl Handler for Thrice {
    type Connection = ();

    fn on_message(&mut self, context: &mut Context<'_>, _: &mut (), message: Message<'_>) {
        context.send(message.payload());
        context.send(message);
        context.send(message);
    }
}

#[test]
fn a_message_can_be_sent_back_again_and_as_another_kind() {
    let engine = Engine::bind("127.0.0.1:0").expect("an address").cores(1).start(|_core| Thrice).expect("starts");
    let mut socket = TcpStream::connect(engine.address()).expect("connects");
    let head = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(head.as_bytes()).expect("writes");
    let mut reader = BufReader::new(socket.try_clone().expect("clones"));
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).expect("the answer to the upgrade");
        answer.push(byte[0]);
    }

    // Together they lie in one receive buffer; a mask of zeros leaves the payload as it is.
    let messages = ["a", "the second message", "three", "the fourth and last"];
    let frame = |text: &&str| [&[0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0], text.as_bytes()].concat();
    socket.write_all(&messages.iter().flat_map(frame).collect::<Vec<u8>>()).expect("writes");
    for (first_byte, text) in messages.iter().flat_map(|text| [(0x82, text), (0x81, text), (0x81, text)]) {
        let mut header = [0; 2];
        reader.read_exact(&mut header).expect("a frame");
        let mut payload = vec![0; usize::from(header[1])];
        reader.read_exact(&mut payload).expect("its payload");
        assert_eq!((header[0], String::from_utf8_lossy(&payload).as_ref()), (first_byte, *text));
    }
    engine.handle().drain(Duration::ZERO);
    engine.join().expect("ends");
}
