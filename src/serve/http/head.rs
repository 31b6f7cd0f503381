//! The head of a request: its method, its path in parts, its query, its headers.

use httparse::Status;

use super::answer::Refusal;
use crate::limits::MOST_REQUEST_HEADERS;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Delete,
}

impl Method {
    /// Whether it may change something.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Method::Post | Method::Delete)
    }
}

/// Names with their values.
type Pairs = Vec<(String, String)>;

/// The head of a request. Parts of the path and the query are decoded; what they mean is for routes to say, and none of them is a path of a
/// file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// `/api/photos/1` is `api`, `photos`, `1`; `/` is nothing.
    pub(crate) path: Vec<String>,
    query: Pairs,
    /// Names in lowercase.
    headers: Pairs,
    /// Bytes of the body.
    pub(crate) length: u64,
    /// Whether another request may follow.
    pub(crate) keeps: bool,
    /// Whether the peer waits to be told to send the body.
    pub(crate) waits: bool,
}

impl Head {
    /// Reads a head at the beginning of `bytes`, and its length; `None` where it does not end yet.
    ///
    /// # Errors
    /// 400 where it is none; 405, 411, 431, 505.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_REQUEST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::new(431, "the request has too many headers")),
            Err(httparse::Error::Version) => return Err(Refusal::new(505, "this server speaks HTTP/1.1")),
            Err(error) => return Err(Refusal::new(400, format_args!("the request is no HTTP ({error})"))),
        };
        let method = match request.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("POST") => Method::Post,
            Some("DELETE") => Method::Delete,
            _ => return Err(Refusal::new(405, "this server takes GET, HEAD, POST and DELETE")),
        };
        let (path, query) = target(request.path.unwrap_or_default())?;
        let mut named = Vec::with_capacity(request.headers.len());
        for header in request.headers.iter() {
            let value = std::str::from_utf8(header.value)
                .map_err(|_| Refusal::new(400, format_args!("the header {} is not text", header.name)))?;
            named.push((header.name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let is_new = request.version == Some(1);
        let mut head = Head { method, path, query, headers: named, length: 0, keeps: is_new, waits: false };
        head.length = head.body_length()?;
        let connection = head.header("connection")?.unwrap_or_default().to_ascii_lowercase();
        head.keeps = is_new && !connection.split(',').any(|word| word.trim() == "close");
        head.waits = head.header("expect")?.is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue"));
        Ok(Some((head, length)))
    }

    fn body_length(&self) -> Result<u64, Refusal> {
        if self.header("transfer-encoding")?.is_some() {
            return Err(Refusal::new(411, "say how long the body is (Content-Length), and send it as it is"));
        }
        match self.header("content-length")? {
            None => Ok(0),
            Some(digits) if !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| Refusal::new(400, "its Content-Length is no number"))
            }
            Some(_) => Err(Refusal::new(400, "its Content-Length is no number")),
        }
    }

    /// The only header of that name, which is in lowercase.
    ///
    /// # Errors
    /// 400 where there are two: whoever stands between might read the other one.
    pub(crate) fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Refusal::new(400, format_args!("the request has two headers {name}"))),
            (first, None) => Ok(first),
        }
    }

    /// All cookies of that name.
    pub(crate) fn cookies<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        let lines = self.headers.iter().filter(|(known, _)| known == "cookie");
        let pairs = lines.flat_map(|(_, line)| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The first value of that name in the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The path, as routes are matched.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// A path and a query, decoded.
fn target(target: &str) -> Result<(Vec<String>, Pairs), Refusal> {
    let wrong = || Refusal::new(400, "the address is no path of this server");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix('/').ok_or_else(wrong)?;
    let parts = path.split('/').map(|part| decoded(part, false).ok_or_else(wrong));
    let path = if path.is_empty() { Vec::new() } else { parts.collect::<Result<_, _>>()? };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(name, true)?, decoded(value, true)?))
    });
    Ok((path, pairs.map(|pair| pair.ok_or_else(wrong)).collect::<Result<_, _>>()?))
}

/// `%41` as `A`, and where `plus`, `+` as a space; `None` where it is not UTF-8 then.
fn decoded(text: &str, plus: bool) -> Option<String> {
    let (mut bytes, mut out) = (text.bytes(), Vec::with_capacity(text.len()));
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let [high, low] = [bytes.next()?, bytes.next()?].map(|digit| char::from(digit).to_digit(16));
                u8::try_from(16 * high? + low?).ok()?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<(Head, usize)>, u16> {
        Head::parse(text.as_bytes()).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_head_is_taken_apart() {
        let text = "POST /api/photos?class=red%20cup+1&x HTTP/1.1\r\nHost: a\r\nCookie: a=1; srlora=t; b=2\r\ncontent-LENGTH: 5\r\n\r\nhello";
        let (head, length) = parsed(text).unwrap().unwrap();
        assert_eq!((head.method, head.parts(), length), (Method::Post, vec!["api", "photos"], text.len() - 5));
        assert_eq!((head.query("class"), head.query("x"), head.query("y")), (Some("red cup 1"), Some(""), None));
        assert_eq!((head.length, head.keeps, head.header("host").unwrap()), (5, true, Some("a")));
        assert_eq!(head.cookies("srlora").collect::<Vec<_>>(), ["t"]);
        assert_eq!(parsed("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None), "it goes on");
        assert!(parsed("GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().0.path.is_empty());
        assert!(!parsed("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.keeps);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 411),
            ("GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
            ("GET /%2 HTTP/1.1\r\n\r\n", 400),
            ("GET /%ff HTTP/1.1\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\n\r\n", 405),
            ("nonsense\r\n\r\n", 400),
        ] {
            assert_eq!(parsed(text), Err(status), "{text}");
        }
    }
}
