//! HTTP CONNECT (RFC 9110, 9.3.6; RFC 9112, 3): one request, whose header is read whole and not kept.

use super::request::Wrong;
use super::target::Target;

/// Octets of the request with all its header fields. Proxies commonly take 8 KiB.
pub const LARGEST: usize = 8 * 1024;

/// Reads a request; `None` while its end has not come. The number is that of its octets.
///
/// # Errors
/// It is none that could be served; [`Wrong`] holds what the station is told.
pub fn read(octets: &[u8]) -> Result<Option<(Target, usize)>, Wrong> {
    let mut rest = octets;
    // RFC 9112, 3: the request line. Judged as soon as it is whole.
    let Some(request_line) = line(&mut rest)? else { return within(octets) };
    let target = request_line_of(request_line)?;
    loop {
        match line(&mut rest)? {
            None => return within(octets),
            Some(b"") => {
                let length = octets.len() - rest.len();
                return if length > LARGEST { within(octets) } else { Ok(Some((target, length))) };
            }
            // RFC 9112, 5: a name, a colon. What a field says is not looked at; Proxy-Authorization neither.
            // Tolerated: a request without Host (RFC 9112, 3.2), which would only repeat the target.
            Some(field) => {
                let (name, _) = split(field, b':').ok_or_else(|| malformed("a header field has no colon"))?;
                if name.is_empty() || !name.iter().copied().all(is_token) {
                    return Err(malformed("a header field's name is no token"));
                }
            }
        }
    }
}

/// Nothing yet, unless too much has come for any request.
fn within(octets: &[u8]) -> Result<Option<(Target, usize)>, Wrong> {
    if octets.len() > LARGEST {
        let text = format!("the request is longer than {LARGEST} octets");
        return Err(Wrong { text: text.clone(), answer: refusal(431, "", &text) });
    }
    Ok(None)
}

/// The next line without its end, if that has come.
///
/// RFC 9112, 2.2: lines end with CRLF; LF alone may be taken, CR alone may not.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Wrong> {
    let Some((line, behind)) = split(rest, b'\n') else { return Ok(None) };
    *rest = behind;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.iter().any(|octet| matches!(octet, b'\r' | 0)) {
        return Err(malformed("a line has a CR or NUL in it"));
    }
    Ok(Some(line))
}

fn request_line_of(line: &[u8]) -> Result<Target, Wrong> {
    let words = || malformed("its first line is not CONNECT HOST:PORT HTTP/1.1");
    let text = str::from_utf8(line).map_err(|_| words())?;
    let mut parts = text.split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(words());
    };
    let minor = version.strip_prefix("HTTP/1.");
    if !minor.is_some_and(|minor| matches!(minor.as_bytes(), [digit] if digit.is_ascii_digit())) {
        return Err(words());
    }
    if method != "CONNECT" {
        let text = "the method is not CONNECT; nothing else is served here".to_owned();
        return Err(Wrong { answer: refusal(405, "", &text), text });
    }
    Target::read(target).map_err(|error| malformed(&format!("CONNECT names no HOST:PORT: {error}")))
}

fn malformed(text: &str) -> Wrong {
    Wrong { text: text.to_owned(), answer: refusal(400, "", text) }
}

/// RFC 9110, 5.6.2: tchar.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

fn split(octets: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = octets.iter().position(|octet| *octet == at)?;
    Some((octets.get(..place)?, octets.get(place + 1..)?))
}

/// RFC 9110, 15.3.1, and 9.3.6: after it the connection is a tunnel, and no content follows.
pub const GRANTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The refusal with a sentence. The code stands in the status line too, since many stations show no more of it.
pub fn refusal(status: u16, code: &str, sentence: &str) -> Vec<u8> {
    let phrase = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Bad Gateway",
    };
    let (shown, colon) = if code.is_empty() { (String::new(), "") } else { (format!(" ({code})"), ": ") };
    let body = format!("{code}{colon}{sentence}\n");
    // RFC 9110, 15.5.6: a 405 must name what is allowed.
    let allow = if status == 405 { "Allow: CONNECT\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {phrase}{shown}\r\n{allow}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(request: &str) -> String {
        match read(request.as_bytes()) {
            Ok(None) => "more".to_owned(),
            Ok(Some((target, length))) => format!("{target} {}", &request[length..]).trim_end().to_owned(),
            Err(wrong) => String::from_utf8_lossy(&wrong.answer)[9..12].to_owned(),
        }
    }

    #[test]
    fn requests_of_the_rfcs_and_their_neighbours() {
        for (request, expected) in [
            // RFC 9110, 9.3.6.
            ("CONNECT server.example.com:80 HTTP/1.1\r\nHost: server.example.com\r\n\r\n", "server.example.com:80"),
            // RFC 9112, 3.2.3.
            ("CONNECT www.example.com:80 HTTP/1.1\r\nHost: www.example.com\r\n\r\n", "www.example.com:80"),
            (
                "CONNECT server.example.com:80 HTTP/1.1\r\nHost: server.example.com\r\n\
                 Proxy-Authorization: basic aGVsbG86d29ybGQ=\r\n\r\n",
                "server.example.com:80",
            ),
            ("CONNECT [2001:db8::1]:6619 HTTP/1.0\r\n\r\n", "[2001:db8::1]:6619"),
            ("CONNECT acme:6619 HTTP/1.1\n\n", "acme:6619"),
            ("CONNECT acme:6619 HTTP/1.1\r\n\r\nSSRM?", "acme:6619 SSRM?"),
            ("CONNECT acme:6619 HTTP/1.1\r\nHost: acme\r\n", "more"),
            ("GET http://acme/ HTTP/1.1\r\n", "405"),
            ("connect acme:6619 HTTP/1.1\r\n", "405"),
            ("CONNECT acme:6619\r\n", "400"),
            ("CONNECT  acme:6619 HTTP/1.1\r\n", "400"),
            ("CONNECT acme:6619 HTTP/2.0\r\n", "400"),
            ("CONNECT acme:6619 HTTP/1.10\r\n", "400"),
            ("CONNECT acme HTTP/1.1\r\n", "400"),
            ("CONNECT http://acme:6619 HTTP/1.1\r\n", "400"),
            ("CONNECT u@acme:6619 HTTP/1.1\r\n", "400"),
            ("CONNECT acme:6619 HTTP/1.1\r\nHost\r\n", "400"),
            ("CONNECT acme:6619 HTTP/1.1\r\nHost : acme\r\n", "400"),
            ("CONNECT acme:6619 HTTP/1.1\r\n folded: line\r\n", "400"),
            ("CONNECT acme:6619 HTTP/1.1\r\nA: b\rc\r\n", "400"),
            ("\r\nCONNECT acme:6619 HTTP/1.1\r\n\r\n", "400"),
        ] {
            assert_eq!(verdict(request), expected, "{request:?}");
        }
    }

    #[test]
    fn a_request_ends_at_eight_kib() {
        let request = |filler: usize| format!("CONNECT acme:1 HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(filler));
        let most = LARGEST - request(0).len();
        assert_eq!(verdict(&request(most)), "acme:1");
        assert_eq!(verdict(&request(most + 1)), "431");
        assert_eq!(verdict(&"C".repeat(LARGEST)), "more");
        assert_eq!(verdict(&"C".repeat(LARGEST + 1)), "431");
    }

    #[test]
    fn a_refusal_is_a_whole_response() {
        let text = String::from_utf8(refusal(502, "call-refused", "ü")).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 502 Bad Gateway (call-refused)\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 17\r\nConnection: close\r\n\r\ncall-refused: ü\n"
        );
        assert!(String::from_utf8(refusal(405, "", "no")).unwrap().contains("\r\nAllow: CONNECT\r\n"));
    }
}
