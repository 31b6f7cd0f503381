//! `srlora serve`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use qrcodegen::{QrCode, QrCodeEcc};
use serde::Serialize;

use super::flags::TrustFlags;
use super::output::{Output, tell};
use super::signals::call_on_signals;
use super::values::parse_bytes;
use crate::error::Result;
use crate::serve::{DEFAULT_LISTEN, Page, Settings};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The bundle, which `pack` wrote.
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustFlags,
    /// The store that lessons are kept in. The first lesson makes it.
    #[arg(long)]
    store: PathBuf,
    /// The photos: one folder per class, as `train --data` takes them. It is made where there is none.
    #[arg(long, value_name = "DIR")]
    photos: PathBuf,
    /// Where to listen, with a port or without. 0.0.0.0 lets other devices of the network in; then the page needs a token.
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    listen: String,
    /// A command that writes pictures of a camera on its stdout as MJPEG, for instance 'rpicam-vid -t 0 --codec mjpeg -o -'. A shell runs
    /// it while somebody watches, and again when it ends.
    #[arg(long, value_name = "COMMAND")]
    camera: Option<String>,
    /// A file with the token that the page needs; made, where there is none, so that its address stays the same. Without it, and open to
    /// the network, every start has a new token.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// A name that the page may be opened by, beside the device's address, its own name and localhost.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// A PEM file with a certificate of this device, and those that lead from it to one that browsers know. With it, the page is sent
    /// encrypted (TLS 1.3), and browsers let it use their camera.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the private key of the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The most that photos may take on the medium.
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse_bytes)]
    photos_limit: u64,
    /// The memory that lessons may plan with.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    ram_limit: Option<u64>,
    /// Threads of lessons. Guesses have one of their own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
}

/// A server that is ready.
#[derive(Serialize)]
struct Ready<'p> {
    url: &'p str,
}

pub(super) fn run(args: &ServeArgs, output: &Output) -> Result<()> {
    let page = Page::open(Settings {
        bundle: args.trust.open(&args.bundle)?,
        store: args.store.clone(),
        photos: args.photos.clone(),
        listen: args.listen.clone(),
        camera: args.camera.clone(),
        token: args.token.clone(),
        hosts: args.hosts.clone(),
        photos_limit: args.photos_limit,
        threads: args.threads as usize,
        tls: args.tls_cert.clone().zip(args.tls_key.clone()).map(|(certificate, key)| [certificate, key]),
        ram_limit: args.ram_limit,
    })?;
    page.warnings().iter().for_each(|warning| tell(format_args!("warning: {warning}")));
    let ender = page.ender();
    call_on_signals(move || ender.end())?;
    output.result(&Ready { url: page.url() }, |ready| format!("listening on {}\n", ready.url))?;
    if page.is_guarded() && io::stderr().is_terminal() {
        let _ = io::stderr().write_all(code(page.url()).as_bytes());
    }
    page.run();
    Ok(())
}

/// A QR code of a text, for a terminal of any colours: two rows of modules in a line of half blocks, dark on light.
fn code(text: &str) -> String {
    const QUIET: i32 = 2;
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Low) else { return String::new() };
    let (mut drawn, end) = (String::new(), code.size() + QUIET);
    for y in (-QUIET..end).step_by(2) {
        drawn += "\x1b[30;47m";
        drawn.extend((-QUIET..end).map(|x| match (code.get_module(x, y), code.get_module(x, y + 1)) {
            (false, false) => ' ',
            (true, false) => '▀',
            (false, true) => '▄',
            (true, true) => '█',
        }));
        drawn += "\x1b[0m\n";
    }
    drawn + "scan this with a phone in the same network\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_square_with_three_corners_to_find_it_by() {
        let drawn = code("http://192.168.1.7:8080/?token=0123456789abcdef0123456789abcdef");
        let lines: Vec<&str> =
            drawn.lines().filter_map(|line| line.strip_prefix("\x1b[30;47m")?.strip_suffix("\x1b[0m")).collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width) && lines.len() == width.div_ceil(2));
        // The upper edge of a corner is seven dark modules.
        assert_eq!(lines[1].matches("█▀▀▀▀▀█").count(), 2);
        assert_eq!(lines.iter().filter(|line| line.trim_start().starts_with("█▀▀▀▀▀█")).count(), 2);
    }
}
