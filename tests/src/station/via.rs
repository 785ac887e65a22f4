//! The way out through a proxy: HTTP CONNECT (RFC 9110, 9.3.6) or SOCKS5 (RFC 1928). The proxy is told where to go and says
//! yes or no; the session begins behind its yes. No name is resolved here but the proxy's own.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use super::failure::Failure;

/// No honest answer to CONNECT has a longer head.
const LONGEST_HEAD: usize = 8192;
/// As much of a refusal's body as is looked at.
const LONGEST_SENTENCE: usize = 1024;

/// A proxy that calls are made through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// `http://HOST:PORT`: CONNECT.
    Http(String),
    /// `socks5://HOST:PORT`: SOCKS5 without authentication.
    Socks5(String),
}

/// Why the proxy did not open the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyRefusal {
    /// Anything but a 2xx.
    Http {
        /// Status code.
        status: u16,
        /// Status line.
        line: String,
        /// First line of the body; empty when there is none.
        sentence: String,
    },
    /// REP, where it is not 00; FF stands for "no acceptable methods" (RFC 1928, 3).
    Socks5(u8),
    /// It closed the connection instead of answering.
    Nothing,
    /// What it answered is not of its protocol.
    Malformed(String),
}

/// Where to go, as both protocols take it apart.
struct Target<'a> {
    host: &'a str,
    port: u16,
}

impl Via {
    /// Connects to the proxy and has it connect to `to` (`host:port`). Nothing behind the proxy's answer is read.
    ///
    /// # Errors
    /// [`Failure::Proxy`] when it refuses; [`Failure::Silent`] when it does not answer within `patience`.
    pub fn open(&self, to: &str, patience: Duration) -> Result<TcpStream, Failure> {
        let target = Target::read(to)?;
        let (Self::Http(proxy) | Self::Socks5(proxy)) = self;
        let mut socket = connect(proxy, patience)?;
        let prepare = || {
            socket.set_read_timeout(Some(patience))?;
            socket.set_write_timeout(Some(patience))
        };
        prepare().map_err(Failure::io("set up the connection to the proxy"))?;
        let answered = match self {
            Self::Http(_) => ask_http(&mut socket, to),
            Self::Socks5(_) => ask_socks5(&mut socket, &target),
        };
        answered.map(|()| socket).map_err(|trouble| trouble.failure(patience))
    }
}

impl FromStr for Via {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let proxy = rest.trim_end_matches('/').to_owned();
        if Target::read(&proxy).is_err() {
            return Err("http://HOST:PORT or socks5://HOST:PORT".into());
        }
        match scheme {
            "http" => Ok(Self::Http(proxy)),
            "socks5" => Ok(Self::Socks5(proxy)),
            _ => Err(format!("\"{scheme}\" is no way to a proxy; http and socks5 are")),
        }
    }
}

impl<'a> Target<'a> {
    fn read(text: &'a str) -> Result<Self, Failure> {
        let wrong = || Failure::Setting(format!("{text} is not HOST:PORT"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare {
            Some(address) if address.parse::<Ipv6Addr>().is_ok() => Ok(Self { host: address, port }),
            // More colons would be an IPv6 address without its brackets.
            None if !host.is_empty() && !host.contains(':') => Ok(Self { host, port }),
            _ => Err(wrong()),
        }
    }

    /// ATYP, DST.ADDR and DST.PORT (RFC 1928, 4 and 5).
    fn socks5(&self) -> Option<Vec<u8>> {
        let mut octets = match self.host.parse() {
            Ok(IpAddr::V4(address)) => [&[1], address.octets().as_slice()].concat(),
            Ok(IpAddr::V6(address)) => [&[4], address.octets().as_slice()].concat(),
            Err(_) => [&[3, u8::try_from(self.host.len()).ok()?], self.host.as_bytes()].concat(),
        };
        octets.extend(self.port.to_be_bytes());
        Some(octets)
    }
}

/// What can go wrong between question and answer.
enum Trouble {
    Io(io::Error),
    Refused(ProxyRefusal),
    Setting(String),
}

impl Trouble {
    fn failure(self, patience: Duration) -> Failure {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Silent(patience.as_secs()),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Failure::Proxy(ProxyRefusal::Nothing)
                }
                _ => Failure::Io { doing: "ask the proxy", source: error },
            },
            Self::Refused(refusal) => Failure::Proxy(refusal),
            Self::Setting(what) => Failure::Setting(what),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Refused(ProxyRefusal::Malformed(what.into())))
}

fn ask_http(socket: &mut TcpStream, to: &str) -> Result<(), Trouble> {
    socket.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())?;
    let head = http_head(socket)?;
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    // RFC 9112, 4: HTTP-version SP status-code SP reason.
    let status = match line.split(' ').collect::<Vec<_>>().as_slice() {
        [version, status, ..] if version.starts_with("HTTP/1.") && status.len() == 3 => status.parse::<u16>().ok(),
        _ => None,
    };
    match status {
        Some(200..=299) => Ok(()),
        Some(status) => {
            // A body that does not come is no reason to hide the status line.
            let mut body = Vec::new();
            let _ = socket.take(announced_length(lines)).read_to_end(&mut body);
            let sentence = String::from_utf8_lossy(&body).lines().next().unwrap_or_default().trim().to_owned();
            Err(Trouble::Refused(ProxyRefusal::Http { status, line, sentence }))
        }
        None => malformed(format!("\"{}\" is no status line", line.escape_debug())),
    }
}

/// Up to the empty line, octet by octet: what follows belongs to the session.
fn http_head(socket: &mut TcpStream) -> Result<String, Trouble> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD {
            return malformed(format!("the head of its answer is longer than {LONGEST_HEAD} octets"));
        }
        let mut octet = [0];
        socket.read_exact(&mut octet)?;
        head.extend(octet);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Content-Length, bounded; without it the body ends with the connection (RFC 9112, 6.3).
fn announced_length<'a>(headers: impl Iterator<Item = &'a str>) -> u64 {
    let mut fields = headers.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(u64::MAX);
    length.min(LONGEST_SENTENCE as u64)
}

fn ask_socks5(socket: &mut TcpStream, target: &Target<'_>) -> Result<(), Trouble> {
    let Some(named) = target.socks5() else {
        return Err(Trouble::Setting(format!(
            "{} is longer than the 255 octets that SOCKS5 has room for",
            target.host
        )));
    };
    // RFC 1928, 3: VER 5, one method, 00 "no authentication required".
    socket.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    socket.read_exact(&mut chosen)?;
    match chosen {
        [5, 0] => {}
        [5, 0xff] => return Err(Trouble::Refused(ProxyRefusal::Socks5(0xff))),
        other => return malformed(format!("{other:02x?} is no choice of a method that was offered")),
    }
    // RFC 1928, 4: VER 5, CMD 1 (CONNECT), RSV.
    socket.write_all(&[&[5, 1, 0], named.as_slice()].concat())?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer)?;
    match answer {
        [5, 0, 0, kind] => drop_bound_address(socket, kind),
        [5, code, ..] if code != 0 => Err(Trouble::Refused(ProxyRefusal::Socks5(code))),
        other => malformed(format!("{other:02x?} is no reply")),
    }
}

/// BND.ADDR and BND.PORT, which say nothing that a caller needs.
fn drop_bound_address(socket: &mut TcpStream, kind: u8) -> Result<(), Trouble> {
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => {
            let mut length = [0];
            socket.read_exact(&mut length)?;
            usize::from(length[0])
        }
        other => return malformed(format!("address type {other:02x} in a reply")),
    };
    socket.read_exact(&mut vec![0; length + 2])?;
    Ok(())
}

fn connect(proxy: &str, patience: Duration) -> Result<TcpStream, Failure> {
    let addresses = proxy.to_socket_addrs().map_err(Failure::io("find the address of the proxy"))?;
    let mut last = Failure::Setting(format!("{proxy} has no address"));
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(socket) => return Ok(socket),
            Err(source) => last = Failure::Io { doing: "connect to the proxy", source },
        }
    }
    Err(last)
}

impl fmt::Display for ProxyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { line, sentence, .. } if sentence.is_empty() => f.write_str(&printable(line)),
            Self::Http { line, sentence, .. } => write!(f, "{}: {}", printable(line), printable(sentence)),
            Self::Socks5(code) => write!(f, "SOCKS5 reply {code:02x} ({})", meaning(*code)),
            Self::Nothing => f.write_str("it closed the connection without an answer"),
            Self::Malformed(what) => write!(f, "it does not speak its protocol: {what}"),
        }
    }
}

fn printable(said: &str) -> String {
    said.replace(char::is_control, "?")
}

/// RFC 1928, 6, and 3 for FF.
fn meaning(code: u8) -> &'static str {
    match code {
        0x01 => "general failure",
        0x02 => "not allowed by its rules",
        0x03 => "network unreachable",
        0x04 => "host unreachable",
        0x05 => "connection refused",
        0x06 => "time to live expired",
        0x07 => "command not supported",
        0x08 => "kind of address not supported",
        0xff => "no way of authentication in common",
        _ => "unassigned",
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A turn of a proxy: reads exactly that, then says that.
    type Turn = (Vec<u8>, Vec<u8>);

    /// Asks a proxy that holds these turns and then closes; what came behind its answer, or why it was none.
    fn ask(scheme: &str, to: &str, turns: Vec<Turn>) -> Result<Vec<u8>, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let via: Via = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
        let proxy = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            for (expected, answer) in turns {
                let mut asked = vec![0; expected.len()];
                socket.read_exact(&mut asked).unwrap();
                assert_eq!(asked, expected, "{}", String::from_utf8_lossy(&asked));
                socket.write_all(&answer).unwrap();
            }
        });
        let opened = via.open(to, PATIENCE);
        proxy.join().unwrap();
        opened.map(|mut socket| {
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).unwrap();
            rest
        })
    }

    fn connect_request(to: &str) -> Vec<u8> {
        format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").into_bytes()
    }

    fn refusal(asked: Result<Vec<u8>, Failure>) -> ProxyRefusal {
        match asked {
            Err(Failure::Proxy(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_a_yes_to_connect_is_left_to_the_session() {
        for to in ["oftp2.acme.example:6619", "192.0.2.7:6619", "[2001:db8::7]:6619"] {
            let yes = b"HTTP/1.1 200 Connection established\r\nX-Any: thing\r\n\r\nSSRM".to_vec();
            assert_eq!(ask("http", to, vec![(connect_request(to), yes)]).unwrap(), b"SSRM");
        }
    }

    #[test]
    fn a_no_to_connect_is_told_with_status_line_and_sentence() {
        let to = "elsewhere.example:80";
        let no = |answer: &str| refusal(ask("http", to, vec![(connect_request(to), answer.as_bytes().to_vec())]));
        let told = no("HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\nnot a partner's\r\nNEVER SEEN");
        assert_eq!(told.to_string(), "HTTP/1.1 403 Forbidden: not a partner's");
        assert!(matches!(told, ProxyRefusal::Http { status: 403, .. }));
        assert_eq!(no("HTTP/1.0 502 Bad Gateway\r\n\r\n").to_string(), "HTTP/1.0 502 Bad Gateway");
        assert!(matches!(no("HTTP/1.1 100 Continue\r\n\r\n"), ProxyRefusal::Http { status: 100, .. }));
    }

    #[test]
    fn a_proxy_that_speaks_otherwise_is_told_of() {
        let to = "a.example:1";
        let answer = |answer: Vec<u8>| refusal(ask("http", to, vec![(connect_request(to), answer)]));
        assert!(answer(b"220 smtp.example\r\n\r\n".to_vec()).to_string().contains("no status line"));
        assert!(answer(vec![b'x'; LONGEST_HEAD]).to_string().contains("longer than"));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n".to_vec()), ProxyRefusal::Nothing);
        let socks = |turns| refusal(ask("socks5", to, turns)).to_string();
        assert!(socks(vec![(vec![5, 1, 0], vec![5, 2])]).contains("[05, 02]"));
        assert!(socks(vec![(vec![5, 1, 0], b"HTTP".to_vec())]).contains("method"));
    }

    #[test]
    fn socks5_names_the_partner_by_name_and_by_both_kinds_of_address() {
        // RFC 1928, 4: ATYP 3 with a length, 1 with four octets, 4 with sixteen; the port last, 6619 = 19DB.
        let v6 = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        let cases: [(&str, Vec<u8>); 3] = [
            ("acme.example:6619", [b"\x03\x0cacme.example".as_slice(), &[0x19, 0xdb]].concat()),
            ("192.0.2.7:6619", vec![1, 192, 0, 2, 7, 0x19, 0xdb]),
            ("[2001:db8::7]:6619", [[4].as_slice(), &v6, &[0x19, 0xdb]].concat()),
        ];
        let replies: [&[u8]; 3] =
            [&[5, 0, 0, 1, 10, 0, 0, 1, 0, 80], &[5, 0, 0, 3, 2, b'h', b'i', 0, 80], &[5, 0, 0, 4]];
        for ((to, named), reply) in cases.into_iter().zip(replies) {
            let bound = if reply.len() == 4 { vec![0; 18] } else { Vec::new() };
            let turns = vec![
                (vec![5, 1, 0], vec![5, 0]),
                ([&[5, 1, 0], named.as_slice()].concat(), [reply, &bound, b"SSRM"].concat()),
            ];
            assert_eq!(ask("socks5", to, turns).unwrap(), b"SSRM", "{to}");
        }
    }

    #[test]
    fn a_no_of_socks5_is_told_with_its_code() {
        let request = vec![5, 1, 0, 1, 192, 0, 2, 7, 0, 80];
        for (code, text) in [(2, "02 (not allowed by its rules)"), (5, "05 (connection refused)"), (0x5b, "5b (un")] {
            let turns = vec![(vec![5, 1, 0], vec![5, 0]), (request.clone(), vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0])];
            let told = refusal(ask("socks5", "192.0.2.7:80", turns));
            assert_eq!(told, ProxyRefusal::Socks5(code));
            assert!(told.to_string().contains(text), "{told}");
        }
        let told = refusal(ask("socks5", "192.0.2.7:80", vec![(vec![5, 1, 0], vec![5, 0xff])]));
        assert!(told.to_string().contains("no way of authentication"), "{told}");
    }

    #[test]
    fn only_a_url_with_a_port_names_a_proxy() {
        assert_eq!("http://proxy:8080/".parse(), Ok(Via::Http("proxy:8080".into())));
        assert_eq!("socks5://[::1]:1080".parse(), Ok(Via::Socks5("[::1]:1080".into())));
        for wrong in ["proxy:8080", "http://proxy", "ftp://proxy:21", "http://", "socks5://::1:1080", "http://p:99999"]
        {
            assert!(wrong.parse::<Via>().is_err(), "{wrong}");
        }
        let long = format!("{}:80", "x".repeat(256));
        assert!(matches!(Via::Http("127.0.0.1:1".into()).open("x", PATIENCE), Err(Failure::Setting(_))));
        assert!(Target::read(&long).unwrap().socks5().is_none());
    }
}
