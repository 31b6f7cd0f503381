//! The head of a request: its method, its path in parts, its query, its headers.

use hyper::HeaderMap;
use hyper::http::Uri;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::answer::Refusal;

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

/// The head of a request. Parts of the path and the query are decoded; what they mean is for routes to say, and none of them is a path of a
/// file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// `/api/photos/1` is `api`, `photos`, `1`; `/` is nothing.
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    /// Bytes of the body.
    pub(crate) length: u64,
}

impl Head {
    /// Of what hyper has read.
    ///
    /// # Errors
    /// 400 where it can be read in two ways, or asks for no path; 405, 411.
    pub(crate) fn new(parts: Parts) -> Result<Self, Refusal> {
        let method = match parts.method.as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            _ => return Err(Refusal::new(405, "this server takes GET, HEAD, POST and DELETE")),
        };
        let path = path(&parts.uri).ok_or_else(|| Refusal::new(400, "the address is no path of this server"))?;
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let mut head = Head { method, path, query, headers: parts.headers, length: 0 };
        head.length = head.body_length()?;
        Ok(head)
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
        let mut found = self.headers.get_all(name).iter();
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Refusal::new(400, format_args!("the request has two headers {name}"))),
            (Some(value), None) => {
                let text = value.to_str().map(|text| Some(text.trim()));
                text.map_err(|_| Refusal::new(400, format_args!("the header {name} is not text")))
            }
            (None, None) => Ok(None),
        }
    }

    /// Whether the peer waits to be told to send the body.
    pub(super) fn waits(&self) -> bool {
        self.headers.contains_key("expect")
    }

    /// All cookies of that name.
    pub(crate) fn cookies<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        let lines = self.headers.get_all("cookie").iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
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

/// A path in parts, each decoded; `None` where there is none, or where it is not UTF-8 then.
fn path(uri: &Uri) -> Option<Vec<String>> {
    if uri.authority().is_some() {
        return None;
    }
    let path = uri.path().strip_prefix('/')?;
    let decoded = |part| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
    if path.is_empty() { Some(Vec::new()) } else { path.split('/').map(decoded).collect() }
}

/// A head as it is sent, for tests and for fuzzing, which hyper would have read; `None` where it would not.
pub(crate) fn head_of_text(bytes: &[u8]) -> Option<Result<Head, Refusal>> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = hyper::Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some(Head::new(request.body(()).ok()?.into_parts().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Head, u16> {
        head_of_text(text.as_bytes()).unwrap().map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_head_is_taken_apart() {
        let text = "POST /api/photos?class=red%20cup+1&x HTTP/1.1\r\nHost: a\r\nCookie: a=1; srlora=t; b=2\r\ncontent-LENGTH: 5\r\n\r\nhello";
        let head = parsed(text).unwrap();
        assert_eq!((head.method, head.parts()), (Method::Post, vec!["api", "photos"]));
        assert_eq!((head.query("class"), head.query("x"), head.query("y")), (Some("red cup 1"), Some(""), None));
        assert_eq!((head.length, head.header("host").unwrap()), (5, Some("a")));
        assert_eq!(head.cookies("srlora").collect::<Vec<_>>(), ["t"]);
        assert!(parsed("GET / HTTP/1.1\r\n\r\n").unwrap().path.is_empty());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 411),
            ("GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
            ("GET /%ff HTTP/1.1\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\n\r\n", 405),
        ] {
            assert_eq!(parsed(text), Err(status), "{text}");
        }
    }
}
