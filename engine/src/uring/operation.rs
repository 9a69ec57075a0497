//! User data of a request: which operation it was, and the caller's token.

use crate::driver::Token;

/// The operation that a completion belongs to; the upper 8 bits of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    Poll = 2,
    Receive = 3,
    ReceiveMultishot = 4,
    Send = 5,
    Tick = 6,
    /// The doorbell of a host without a runtime.
    Wake = 7,
    Shutdown = 8,
    /// Requests whose success posts no completion and whose failure needs no answer: a close, the
    /// cancel of what has just ended.
    Unanswered = 9,
    Peer = 10,
}

impl Operation {
    /// The user data of a request for `token`.
    pub(super) const fn user_data(self, token: Token) -> u64 {
        ((self as u64) << Token::BITS) | token.value()
    }

    /// The inverse of [`Self::user_data`].
    pub(super) const fn split(user_data: u64) -> (Self, Token) {
        let operation = match user_data >> Token::BITS {
            1 => Self::Accept,
            2 => Self::Poll,
            3 => Self::Receive,
            4 => Self::ReceiveMultishot,
            5 => Self::Send,
            6 => Self::Tick,
            7 => Self::Wake,
            8 => Self::Shutdown,
            10 => Self::Peer,
            _ => Self::Unanswered,
        };
        (operation, Token::new(user_data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_keeps_operation_and_token() {
        let token = Token::new(u64::MAX);
        for operation in [
            Operation::Accept,
            Operation::Poll,
            Operation::Receive,
            Operation::ReceiveMultishot,
            Operation::Send,
            Operation::Tick,
            Operation::Wake,
            Operation::Shutdown,
            Operation::Unanswered,
            Operation::Peer,
        ] {
            assert_eq!(Operation::split(operation.user_data(token)), (operation, token));
        }
    }
}
