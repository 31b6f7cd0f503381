//! Who may ask: the name that the page was opened by, the page that asks, and the token.
//!
//! A page elsewhere may make a browser send requests here. Its own name is none of this device's (`Host`), it is told as what asks
//! (`Origin`), it has no cookie that goes along with it (`SameSite=Strict`), and it cannot set a header without asking first.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::Path;

use super::http::{Answer, Content, Head, Refusal};
use crate::bundle::sha256;
use crate::error::ErrorKind as Kind;
use crate::error::{Error, Result};

/// Bytes of a token, before they are written as text.
const TOKEN_BYTES: usize = 16;
/// Fewest letters of a token that the operator has chosen.
const FEWEST_LETTERS: usize = 16;
/// A cookie stays for a year.
const COOKIE_SECONDS: u32 = 365 * 24 * 60 * 60;
/// What every request that changes something has; only a page of this server can send it.
const HEADER: &str = "x-srlora";

/// Who may ask.
pub(crate) struct Access {
    token: Option<Token>,
    /// Names of this device, in lowercase, beside the address that was connected to.
    names: Vec<String>,
    cookie: String,
    is_encrypted: bool,
}

/// What whoever asks has to know.
struct Token {
    text: String,
    /// Hashes of it, so that comparing tells nothing of what it is, letter by letter.
    hash: String,
    session: String,
}

impl Access {
    /// Of a server at `port`; `token`, where one is needed. Its own names are those of the machine, and `more`. Where what is sent
    /// `is_encrypted`, its cookie goes no other way.
    pub(crate) fn new(token: Option<String>, port: u16, more: &[String], is_encrypted: bool) -> Self {
        let token = token.map(|text| {
            let session = sha256(format!("srlora session {text}").as_bytes());
            Token { hash: sha256(text.as_bytes()), session, text }
        });
        let mut names = vec!["localhost".to_owned()];
        if let Some(own) = hostname() {
            names.extend([own.clone(), format!("{own}.local")]);
        }
        names.extend_from_slice(more);
        // Cookies of a name go to all ports.
        Access { token, names, cookie: format!("srlora-{port}"), is_encrypted }
    }

    /// What the address of the page ends with.
    pub(crate) fn query(&self) -> String {
        self.token.as_ref().map_or_else(String::new, |token| format!("?token={}", token.text))
    }

    /// Whether a token is needed.
    pub(crate) fn is_guarded(&self) -> bool {
        self.token.is_some()
    }

    /// Refuses what another page may have sent, whatever it asks for.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn check_source(&self, head: &Head, local: IpAddr) -> std::result::Result<(), Refusal> {
        let host = head.header("host")?.unwrap_or_default();
        if !self.is_own(host, local) {
            let name = split(host).0;
            let message = format!(
                "{host:.80?} is no name of this device; open the page by its address, or start srlora serve with --host {name:.80?}"
            );
            return Err(Refusal::new(403, message));
        }
        // Where TLS ends elsewhere, the page is https and this is not.
        let schemes: &[&str] = if self.is_encrypted { &["https"] } else { &["http", "https"] };
        let is_own = head.header("origin")?.is_none_or(|origin| {
            let asks = origin.split_once("://").filter(|(scheme, _)| schemes.contains(scheme));
            asks.is_some_and(|(_, asks)| asks.eq_ignore_ascii_case(host))
        });
        // Pictures that a page shows have no origin; newer browsers say where they are shown. A link that leads here is no such picture.
        let is_elsewhere =
            head.header("sec-fetch-site")?.is_some_and(|site| ["cross-site", "same-site"].contains(&site));
        if !is_own || is_elsewhere && head.parts().first() == Some(&"api") {
            return Err(Refusal::new(403, "another page has sent this; only this device's own page may"));
        }
        Ok(())
    }

    fn is_own(&self, host: &str, local: IpAddr) -> bool {
        let (name, port) = split(host);
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return false;
        }
        let canonical = |ip: IpAddr| ip.to_canonical();
        let is_address = name.parse().is_ok_and(|ip: IpAddr| canonical(ip) == canonical(local));
        is_address || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether the request shows the token: in a cookie, as `Authorization: Bearer`, or in its address.
    pub(crate) fn is_paired(&self, head: &Head) -> std::result::Result<bool, Refusal> {
        let Some(token) = &self.token else { return Ok(true) };
        let bearer = head.header("authorization")?.and_then(|value| value.strip_prefix("Bearer "));
        let shown = bearer.into_iter().chain(head.query("token")).any(|shown| sha256(shown.as_bytes()) == token.hash);
        let session = sha256(token.session.as_bytes());
        Ok(shown || head.cookies(&self.cookie).any(|shown| sha256(shown.as_bytes()) == session))
    }

    /// Refuses what is not known to come from whoever has the token, and changes that no page of this server has sent.
    ///
    /// # Errors
    /// 401, 403.
    pub(crate) fn check(&self, head: &Head, changes: bool) -> std::result::Result<(), Refusal> {
        if !self.is_paired(head)? {
            return Err(Refusal::new(
                401,
                "open the address that srlora serve has printed, with its token, or scan its code",
            ));
        }
        if changes && head.header(HEADER)? != Some("1") {
            return Err(Refusal::new(403, "a request that changes something has the header X-Srlora: 1"));
        }
        Ok(())
    }

    /// Turns the token of an address into a cookie. A page does the rest: a cookie that is strict does not go along where another page
    /// leads here, and so not to where a redirection would lead.
    pub(crate) fn pair(&self) -> Option<Answer> {
        let token = self.token.as_ref()?;
        let secure = if self.is_encrypted { "; Secure" } else { "" };
        let cookie = format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_SECONDS}{secure}",
            self.cookie, token.session
        );
        let page = include_bytes!("page/paired.html");
        Some(Answer::new(200, "text/html; charset=utf-8", Content::Bytes(page.into())).with("Set-Cookie", cookie))
    }
}

/// The machine's name.
pub(crate) fn hostname() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    (!name.is_empty() && name != "(none)").then_some(name)
}

/// A token that nobody can guess.
///
/// # Errors
/// Kind `Io` where the system has no random numbers.
pub(crate) fn new_token() -> Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Kind::Io, "the token", format_args!("the system gives no random numbers: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The token in `file`; where there is no such file, a new one is made and kept there, for its owner alone.
///
/// # Errors
/// Kind `Io`; `Usage` where the file holds none.
pub(crate) fn read_token(file: &Path) -> Result<String> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return keep_token(file),
        text => text.map_err(|e| Error::io(file, e))?,
    };
    let token = text.trim();
    let is_one = token.len() >= FEWEST_LETTERS
        && token.len() <= 256
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b));
    if !is_one {
        let message = format!(
            "is no token: it has to be {FEWEST_LETTERS} to 256 letters and digits; remove the file, and srlora serve makes a good one"
        );
        return Err(Error::new(Kind::Usage, format_args!("option `token` {}", file.display()), message));
    }
    Ok(token.to_owned())
}

fn keep_token(file: &Path) -> Result<String> {
    let token = new_token()?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut kept = options.open(file).map_err(|e| Error::io(file, e))?;
    kept.write_all(format!("{token}\n").as_bytes()).and_then(|()| kept.sync_all()).map_err(|e| Error::io(file, e))?;
    Ok(token)
}

/// The name and the port of a `Host`.
fn split(host: &str) -> (&str, Option<&str>) {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    }
}

/// Refuses what `Host` never is: an address of a page, or a name with its port.
///
/// # Errors
/// `Usage`.
pub(super) fn check_names(names: &[String]) -> Result<()> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || [b'.', b'-', b'_'].contains(&byte))
    };
    names.iter().find(|name| !is_name(name)).map_or(Ok(()), |wrong| {
        let message = "is no name of a device; give it as cam.example, without http://, port and path";
        Err(Error::new(Kind::Usage, format_args!("option `host` {wrong:.80?}"), message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 7));

    fn head(lines: &str) -> Head {
        let text = format!("POST /api/lesson?token=wrong HTTP/1.1\r\n{lines}\r\n\r\n");
        super::super::http::head_of_text(text.as_bytes()).unwrap().unwrap()
    }

    fn access() -> Access {
        Access::new(Some("0123456789abcdef".to_owned()), 8080, &["Cam.example".to_owned()], false)
    }

    #[test]
    fn a_name_is_no_address() {
        assert!(check_names(&["cam.example".to_owned(), "a_b-1".to_owned()]).is_ok() && check_names(&[]).is_ok());
        for wrong in ["", "http://cam.example", "cam.example:8080", "cam.example/", "[::1]", "zwei w\u{f6}rter"] {
            let error = check_names(&["cam".to_owned(), wrong.to_owned()]).unwrap_err();
            assert!(error.kind() == Kind::Usage && error.to_string().contains(wrong), "{error}");
        }
        let refused = access().check_source(&head("Host: pi.home:8080"), LOCAL).unwrap_err();
        assert!(refused.message.ends_with("--host \"pi.home\""), "{}", refused.message);
    }

    #[test]
    fn a_device_answers_to_its_own_names_alone() {
        let source = |lines: &str| access().check_source(&head(lines), LOCAL).map_err(|refusal| refusal.status);
        for host in ["localhost", "localhost:8080", "192.168.1.7", "192.168.1.7:81", "cam.example", "CAM.example:1"] {
            assert_eq!(source(&format!("Host: {host}")), Ok(()), "{host}");
            assert_eq!(source(&format!("Host: {host}\r\nOrigin: http://{host}")), Ok(()), "{host}");
        }
        for host in ["", "evil.example", "192.168.1.8", "localhost.evil.example", "localhost:x", "[::1", "127.0.0.1"] {
            assert_eq!(source(&format!("Host: {host}")), Err(403), "{host}");
        }
        assert_eq!(source("X: y"), Err(403));
        for origin in
            ["null", "http://evil.example", "http://localhost:81", "http://localhost", "file://localhost:8080"]
        {
            assert_eq!(source(&format!("Host: localhost:8080\r\nOrigin: {origin}")), Err(403), "{origin}");
        }
        let of = |path: &str, site: &str| {
            let text = format!("GET {path} HTTP/1.1\nHost: localhost\nSec-Fetch-Site: {site}\n\n");
            let head = super::super::http::head_of_text(text.as_bytes()).unwrap().unwrap();
            access().check_source(&head, LOCAL).map_err(|refusal| refusal.status)
        };
        assert_eq!(
            (of("/api/stream", "same-origin"), of("/api/stream", "none"), of("/", "cross-site")),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!((of("/api/stream", "cross-site"), of("/api/model.onnx", "same-site")), (Err(403), Err(403)));
        let v6 = Access::new(None, 1, &[], false);
        assert!(v6.check_source(&head("Host: [::1]:8080"), "::1".parse().unwrap()).is_ok());
        assert!(v6.check_source(&head("Host: 127.0.0.1"), "::ffff:127.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn who_has_the_token_may_ask_and_a_change_needs_the_header_too() {
        let access = access();
        let check = |lines: &str, changes| access.check(&head(lines), changes).map_err(|refusal| refusal.status);
        assert_eq!(check("X-Srlora: 1", true), Err(401), "the token in its address is wrong");
        assert_eq!(check("Authorization: Bearer 0123456789abcdef", false), Ok(()));
        assert_eq!(check("Authorization: Bearer 0123456789abcdef", true), Err(403));
        assert_eq!(check("Authorization: Bearer 0123456789abcdef\r\nX-Srlora: 1", true), Ok(()));
        let cookie = access.pair().unwrap().headers.into_iter().find(|(name, _)| *name == "Set-Cookie").unwrap().1;
        assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("0123456789abcdef"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        assert_eq!(check(&format!("Cookie: other=1; {pair}\r\nX-Srlora: 1"), true), Ok(()));
        assert_eq!(check(&format!("Cookie: {pair}0"), false), Err(401));
    }

    #[test]
    fn a_token_is_made_once_and_kept_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let token = read_token(&file).unwrap();
        assert_eq!((token.len(), read_token(&file).unwrap()), (32, token.clone()));
        assert_ne!(new_token().unwrap(), token);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
        fs::write(&file, "short").unwrap();
        assert_eq!(read_token(&file).unwrap_err().kind(), Kind::Usage);
    }
}
