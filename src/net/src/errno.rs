//! The words nats-server uses for an error of the operating system.
//!
//! People and scripts look for them, and they differ between C libraries ("Address in use" on
//! musl), so the common ones are a table and not what the platform says.

use std::io;

/// The error in Go's words: lower case and without a number.
pub fn words(error: &io::Error) -> String {
    use io::ErrorKind as K;
    let known = match error.kind() {
        K::AddrInUse => "address already in use",
        K::AddrNotAvailable => "cannot assign requested address",
        K::BrokenPipe => "broken pipe",
        K::ConnectionAborted => "software caused connection abort",
        K::ConnectionRefused => "connection refused",
        K::ConnectionReset => "connection reset by peer",
        K::HostUnreachable => "no route to host",
        K::IsADirectory => "is a directory",
        K::NetworkUnreachable => "network is unreachable",
        K::NotADirectory => "not a directory",
        K::NotFound => "no such file or directory",
        K::PermissionDenied if error.raw_os_error() == Some(1) => "operation not permitted",
        K::PermissionDenied => "permission denied",
        K::ReadOnlyFilesystem => "read-only file system",
        K::StorageFull => "no space left on device",
        K::TimedOut => "connection timed out",
        _ => "",
    };
    if error.kind() == K::UnexpectedEof && error.get_ref().is_none() {
        return "closed by the peer".into();
    }
    // An error made by a library carries its own words, which say more than its kind.
    if error.raw_os_error().is_some() && !known.is_empty() {
        return known.into();
    }
    let text = error.to_string();
    let text = match text.rfind(" (os error ") {
        Some(end) => &text[..end],
        None => &text,
    };
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown error".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_words_are_kept() {
        for (error, want) in [
            (
                io::Error::new(io::ErrorKind::NotFound, "Zone not found"),
                "zone not found",
            ),
            (io::ErrorKind::UnexpectedEof.into(), "closed by the peer"),
            (io::Error::new(io::ErrorKind::UnexpectedEof, "EOF"), "eOF"),
            (io::Error::other(""), "unknown error"),
            (io::Error::other("x"), "x"),
        ] {
            assert_eq!(words(&error), want);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn system_errors_have_gos_words() {
        for (errno, want) in [
            (1, "operation not permitted"),
            (2, "no such file or directory"),
            (13, "permission denied"),
            (20, "not a directory"),
            (21, "is a directory"),
            (28, "no space left on device"),
            (30, "read-only file system"),
            (98, "address already in use"),
            (99, "cannot assign requested address"),
            (101, "network is unreachable"),
            (104, "connection reset by peer"),
            (110, "connection timed out"),
            (111, "connection refused"),
            (113, "no route to host"),
        ] {
            assert_eq!(words(&io::Error::from_raw_os_error(errno)), want);
        }
    }
}
