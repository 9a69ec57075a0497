//! Integer expressions as in the shell's `$(( ))`, so that the table means the same to the scripts and to the
//! doctor.
//!
//! ```text
//! choice  = compare [ "?" choice ":" choice ]
//! compare = sum [ ("<" | "<=" | ">" | ">=" | "==") sum ]
//! sum     = product { ("+" | "-") product }
//! product = term { ("*" | "/" | "%") term }
//! term    = number | variable | "(" choice ")"
//! ```
//!
//! A library for this would be larger than what it saves: those that compute as a shell does bring its variables and
//! assignments with them, the others have decimals or other precedences.

use std::iter::Peekable;
use std::str::Chars;

/// What the variables stand for; capital letters, one each.
pub(super) trait Variables {
    fn value(&self, name: char) -> Option<i64>;
}

impl<F: Fn(char) -> Option<i64>> Variables for F {
    fn value(&self, name: char) -> Option<i64> {
        self(name)
    }
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpressionError {
    /// It ends too early, or goes on after its end.
    #[error("`{0}` is no expression")]
    Syntax(String),
    /// A letter that stands for nothing.
    #[error("nothing is called `{0}`")]
    Unknown(char),
    /// It leaves what 64 bits hold, or divides by zero.
    #[error("`{0}` has no value in 64 bits")]
    Value(String),
}

/// The value of an expression.
pub(super) fn evaluate(text: &str, variables: &impl Variables) -> Result<i64, ExpressionError> {
    let mut reader = Reader { text, rest: text.chars().peekable(), variables };
    let value = reader.choice()?;
    match reader.next() {
        None => Ok(value),
        Some(_) => Err(reader.syntax()),
    }
}

struct Reader<'t, V> {
    text: &'t str,
    rest: Peekable<Chars<'t>>,
    variables: &'t V,
}

impl<V: Variables> Reader<'_, V> {
    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        self.peek()?;
        self.rest.next()
    }

    /// Takes one of some characters, if it comes next.
    fn take(&mut self, wanted: &str) -> Option<char> {
        let found = self.peek().filter(|c| wanted.contains(*c))?;
        self.rest.next();
        Some(found)
    }

    fn syntax(&self) -> ExpressionError {
        ExpressionError::Syntax(self.text.to_owned())
    }

    fn valued(&self, value: Option<i64>) -> Result<i64, ExpressionError> {
        value.ok_or_else(|| ExpressionError::Value(self.text.to_owned()))
    }

    fn choice(&mut self) -> Result<i64, ExpressionError> {
        let condition = self.compare()?;
        if self.take("?").is_none() {
            return Ok(condition);
        }
        // Both are computed: the table has no branch that only its condition saves.
        let then = self.choice()?;
        self.take(":").ok_or_else(|| self.syntax())?;
        let otherwise = self.choice()?;
        Ok(if condition == 0 { otherwise } else { then })
    }

    fn compare(&mut self) -> Result<i64, ExpressionError> {
        let left = self.sum()?;
        let Some(operator) = self.take("<>=") else { return Ok(left) };
        let or_equal = self.rest.next_if_eq(&'=').is_some();
        let right = self.sum()?;
        let holds = match (operator, or_equal) {
            ('<', false) => left < right,
            ('<', true) => left <= right,
            ('>', false) => left > right,
            ('>', true) => left >= right,
            ('=', true) => left == right,
            _ => return Err(self.syntax()),
        };
        Ok(holds.into())
    }

    fn sum(&mut self) -> Result<i64, ExpressionError> {
        let mut value = self.product()?;
        while let Some(operator) = self.take("+-") {
            let right = self.product()?;
            value = self.valued(if operator == '+' { value.checked_add(right) } else { value.checked_sub(right) })?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<i64, ExpressionError> {
        let mut value = self.term()?;
        while let Some(operator) = self.take("*/%") {
            let right = self.term()?;
            value = self.valued(match operator {
                '*' => value.checked_mul(right),
                '/' => value.checked_div(right),
                _ => value.checked_rem(right),
            })?;
        }
        Ok(value)
    }

    fn term(&mut self) -> Result<i64, ExpressionError> {
        match self.next() {
            Some('(') => {
                let value = self.choice()?;
                self.take(")").map(|_| value).ok_or_else(|| self.syntax())
            }
            Some(name @ 'A'..='Z') => self.variables.value(name).ok_or(ExpressionError::Unknown(name)),
            Some(first @ '0'..='9') => {
                let mut value = first.to_digit(10).map(i64::from);
                while let Some(digit) = self.rest.next_if(char::is_ascii_digit).and_then(|c| c.to_digit(10)) {
                    value = value.and_then(|value| value.checked_mul(10)?.checked_add(digit.into()));
                }
                self.valued(value)
            }
            _ => Err(self.syntax()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<i64, ExpressionError> {
        evaluate(text, &|name| match name {
            'N' => Some(1_000_000),
            'C' => Some(16),
            'D' => Some(1),
            _ => None,
        })
    }

    #[test]
    fn expressions_have_the_values_that_a_shell_gives_them() {
        for (text, expected) in [
            ("7", 7),
            (" 2 + 3 * 4 ", 14),
            ("(2 + 3) * 4", 20),
            ("100 / 7 / 2", 7),
            ("17 % 5 - 9", -7),
            ("N / C + N / C / 16 + 1280", 67_686),
            ("D ? N / C : N", 62_500),
            ("N < 4096 ? 4096 : N < 65535 ? N : 65535", 65_535),
            ("(1 < 2) + (2 <= 2) + (3 > 2) + (3 >= 4) + (4 == 4)", 4),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "1 +", "1 2", "(1", "1 ? 2", "1 = 2", "n", "1 << 2", "-1"] {
            assert_eq!(value(text), Err(ExpressionError::Syntax(text.to_owned())), "{text}");
        }
        assert_eq!(value("N + X"), Err(ExpressionError::Unknown('X')));
        for text in ["1 / 0", "1 % (C - 16)", "N * N * N * N", "99999999999999999999"] {
            assert_eq!(value(text), Err(ExpressionError::Value(text.to_owned())), "{text}");
        }
    }
}
