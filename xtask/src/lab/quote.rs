//! Words of a command line for a shell script.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The word in single quotes, so that no shell changes it. Bytes that are not UTF-8 are kept as they are.
pub(super) fn word(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            // Nothing can be escaped between single quotes: end them, add an escaped quote, begin anew.
            b'\'' => quoted.extend_from_slice(br"'\''"),
            other => quoted.push(other),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// A shell script that becomes the given command.
pub(super) fn script<'a>(command: impl IntoIterator<Item = &'a OsStr>) -> Vec<u8> {
    let mut script = b"#!/bin/sh\nexec".to_vec();
    for argument in command {
        script.push(b' ');
        script.extend(word(argument));
    }
    script.push(b'\n');
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn through_a_shell(arguments: &[&[u8]]) -> Vec<u8> {
        let words = [&b"printf"[..], b"%s\\0"].into_iter().chain(arguments.iter().copied());
        let script = script(words.map(OsStr::from_bytes));
        Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap().stdout
    }

    #[test]
    fn a_plain_word_is_only_put_in_quotes() {
        assert_eq!(word(OsStr::new("uname")), b"'uname'");
        assert_eq!(word(OsStr::new("")), b"''");
    }

    #[test]
    fn a_single_quote_survives() {
        assert_eq!(word(OsStr::new("it's")), br"'it'\''s'");
    }

    #[test]
    fn a_shell_gives_back_exactly_what_was_quoted() {
        let arguments: [&[u8]; 6] = [b"a b", b"$HOME `id` \\ \"x\"", b"it's", b"", b"two\nlines", b"\xff\xfe*"];
        let expected: Vec<u8> = arguments.iter().flat_map(|argument| [argument, &b"\0"[..]].concat()).collect();
        assert_eq!(through_a_shell(&arguments), expected);
    }
}
