//! Who made a bundle: an Ed25519 signature over its content hash, and a release number against going back.
//!
//! ```text
//! signed message = "srlora bundle signature 1\n" and the 64 hexadecimal digits of content_sha256
//! ```
//!
//! The message is text, so that any tool can check it; its first line keeps a signature from being taken for one of
//! something else. The signature stands in the metadata entry `signature`, beside `content_sha256`, as 128 hexadecimal
//! digits; neither is part of what is hashed. Everything else is: the release too. Keys are PEM files, as
//! `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them (RFC 8410). Source: RFC 8032.

use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{SECRET_KEY_LENGTH, Signature, Signer, SigningKey, VerifyingKey};

use super::Container;
use super::container::hex;
use super::pack::read_file;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::MOST_KEY_BYTES;

/// The metadata entry of the signature.
pub(super) const SIGNATURE: &str = "signature";
/// The metadata entry of the release.
pub(super) const RELEASE: &str = "release";
const DOMAIN: &str = "srlora bundle signature 1\n";

/// What a bundle must be to be taken.
#[derive(Debug, Clone)]
pub struct Trust {
    key: VerifyingKey,
    /// The file that the key was read from.
    named: String,
    min_release: u64,
}

impl Trust {
    /// Trust in bundles that the owner of the public key in the file `key` has signed, of the release `min_release` or a
    /// later one.
    ///
    /// # Errors
    /// `Io`; `Usage` where the file holds no Ed25519 public key.
    pub fn read(key: &Path, min_release: u64) -> Result<Self> {
        let pem = read_pem(key)?;
        let read = VerifyingKey::from_public_key_pem(&pem).ok().filter(|key| !key.is_weak());
        let advice = "holds no Ed25519 public key in PEM; make one with `openssl pkey -in KEY -pubout`";
        let found = read.ok_or_else(|| Error::new(ErrorKind::Usage, key.display(), advice))?;
        Ok(Trust { key: found, named: key.display().to_string(), min_release })
    }

    /// # Errors
    /// Kind `Bundle` where the bundle is not signed, not with this key, or of an earlier release.
    pub(super) fn check(&self, container: &Container) -> Result<()> {
        let Some(text) = container.metadata.get(SIGNATURE) else {
            return Err(container.refused(
                "is not signed, and option `verify_key` asks for a signature; ask its maker for a signed one",
            ));
        };
        let message = message(container.text("content_sha256")?);
        let signature = unhex(text).map(|bytes| Signature::from_bytes(&bytes));
        if signature.is_none_or(|signature| self.key.verify_strict(message.as_bytes(), &signature).is_err()) {
            return Err(container.refused(format_args!(
                "its signature is not one of the key in {}; take the key of its maker, or another bundle",
                self.named
            )));
        }
        match (release(container)?, self.min_release) {
            (_, 0) => Ok(()),
            (Some(release), least) if release >= least => Ok(()),
            (Some(release), least) => Err(container.refused(format_args!(
                "is of release {release}, and option `min_release` asks for {least}; get a newer one"
            ))),
            (None, least) => Err(container
                .refused(format_args!("has no release, and option `min_release` asks for {least}; get a newer one"))),
        }
    }
}

/// The release of a bundle, if it has one.
pub(super) fn release(container: &Container) -> Result<Option<u64>> {
    container.metadata.contains_key(RELEASE).then(|| container.parse(RELEASE)).transpose()
}

/// What signs bundles.
pub(super) struct Signet(SigningKey);

impl Signet {
    /// # Errors
    /// `Io`; `Usage` where the file holds no Ed25519 private key.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let pem = read_pem(path)?;
        let advice = match pem.contains("ENCRYPTED") {
            true => "is an encrypted key; take off its password with `openssl pkey -in KEY -out PLAIN`",
            false => "holds no Ed25519 private key in PEM; make one with `openssl genpkey -algorithm ed25519`",
        };
        SigningKey::from_pkcs8_pem(&pem).map(Signet).map_err(|_| Error::new(ErrorKind::Usage, path.display(), advice))
    }

    /// Puts the signature of all that `container` holds into it.
    ///
    /// # Errors
    /// None that a container leaves possible (kind `Internal`).
    pub(super) fn sign(&self, container: &mut Container) -> Result<()> {
        let signature = self.0.sign(message(&container.content_sha256()?).as_bytes());
        container.metadata.insert(SIGNATURE.to_owned(), hex(&signature.to_bytes()));
        Ok(())
    }
}

fn message(content_sha256: &str) -> String {
    format!("{DOMAIN}{content_sha256}")
}

fn read_pem(path: &Path) -> Result<String> {
    let bytes = read_file(path, MOST_KEY_BYTES, ErrorKind::Usage)?;
    String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::Usage, path.display(), "is no key in PEM: it is not text"))
}

fn unhex(text: &str) -> Option<[u8; 2 * SECRET_KEY_LENGTH]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 2 * SECRET_KEY_LENGTH];
    if digits.len() != 2 * bytes.len() || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let value = |digit: u8| if digit < b'a' { digit - b'0' } else { digit - b'a' + 10 };
    bytes.iter_mut().zip(digits.as_chunks().0).for_each(|(byte, [high, low])| *byte = 16 * value(*high) + value(*low));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::pkcs8::KeypairBytes;
    use tempfile::TempDir;

    use super::super::Kind;
    use super::*;

    /// RFC 8032, section 7.1, tests 1 to 3: secret, public, message, signature.
    const VECTORS: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    fn bytes(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The key files that hold the vector's keys.
    fn files(vector: &[&str; 4]) -> (TempDir, Signet, Trust) {
        use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
        use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
        let place = TempDir::new().unwrap();
        let (private, public) = (place.path().join("private.pem"), place.path().join("public.pem"));
        let pair = KeypairBytes { secret_key: bytes(vector[0]).try_into().unwrap(), public_key: None };
        std::fs::write(&private, pair.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        let key = VerifyingKey::from_bytes(&bytes(vector[1]).try_into().unwrap()).unwrap();
        std::fs::write(&public, key.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        let (signet, trust) = (Signet::read(&private).unwrap(), Trust::read(&public, 0).unwrap());
        (place, signet, trust)
    }

    #[test]
    fn keys_from_files_give_the_signatures_of_rfc_8032() {
        for vector in &VECTORS {
            let (_place, signet, trust) = files(vector);
            let signature = signet.0.sign(&bytes(vector[2]));
            assert_eq!(hex(&signature.to_bytes()), vector[3]);
            let published = Signature::from_bytes(&unhex(vector[3]).unwrap());
            trust.key.verify_strict(&bytes(vector[2]), &published).unwrap();
            assert!(trust.key.verify_strict(b"other", &published).is_err());
        }
    }

    #[test]
    fn what_is_not_signed_or_by_another_or_of_an_earlier_release_is_refused() {
        let (_place, signet, trust) = files(&VECTORS[0]);
        let (_other_place, _, other) = files(&VECTORS[1]);
        let mut container = Container::new(Kind::Bundle);
        container.metadata.insert(RELEASE.into(), "7".into());
        let hash = container.content_sha256().unwrap();
        let checked = |trust: &Trust, container: &Container, hash: &str| {
            let mut container = container.clone();
            container.metadata.insert("content_sha256".into(), hash.into());
            trust.check(&container).map_err(|e| e.message().to_string())
        };
        assert!(checked(&trust, &container, &hash).unwrap_err().contains("not signed"));
        signet.sign(&mut container).unwrap();
        assert_eq!(container.content_sha256().unwrap(), hash, "the signature is not part of what is signed");
        checked(&trust, &container, &hash).unwrap();
        assert!(checked(&other, &container, &hash).unwrap_err().contains("not one of the key"));
        assert!(
            checked(&trust, &container, &hash.replace(['0', '1'], "2")).unwrap_err().contains("not one of the key")
        );
        for (least, taken) in [(7, true), (8, false), (u64::MAX, false)] {
            let trust = Trust { min_release: least, ..trust.clone() };
            assert_eq!(checked(&trust, &container, &hash).is_ok(), taken, "release 7, at least {least}");
        }
        let good = container.metadata[SIGNATURE].clone();
        for bad in ["", "00", &good[2..], &good.to_uppercase(), &"é".repeat(64), &"0".repeat(128), &format!("{good}00")]
        {
            container.metadata.insert(SIGNATURE.into(), bad.into());
            assert!(checked(&trust, &container, &hash).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_that_hold_no_such_key_are_refused() {
        let place = TempDir::new().unwrap();
        let path = place.path().join("key.pem");
        for text in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "words", "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Trust::read(&path, 0).unwrap_err().kind(), ErrorKind::Usage);
            assert_eq!(Signet::read(&path).map(|_| ()).unwrap_err().kind(), ErrorKind::Usage);
        }
    }
}
