//! A photo that is coming: written beside the others under a name that none of them has, then made durable, then given its own.

use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::{Builder, NamedTempFile};

use super::{Album, Entry, Id, check_name};
use crate::bundle::TEMPORARY_PREFIX;
use crate::error::{Error, ErrorKind, Result};

/// What a file is, as its first bytes or its name say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Jpeg,
    Png,
}

impl Kind {
    /// Of a file that begins so; `None` where it is neither.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xff, 0xd8, ..] => Some(Kind::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => Some(Kind::Png),
            _ => None,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Kind::Jpeg => "jpg",
            Kind::Png => "png",
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Kind::Jpeg => "image/jpeg",
            Kind::Png => "image/png",
        }
    }
}

/// What its name says, as of [`crate::session::Dataset::open`].
pub(crate) fn kind_of(path: &Path) -> Option<Kind> {
    let suffix = path.extension()?.to_ascii_lowercase();
    match suffix.to_str()? {
        "jpg" | "jpeg" => Some(Kind::Jpeg),
        "png" => Some(Kind::Png),
        _ => None,
    }
}

/// A photo that is coming.
pub(crate) struct Incoming {
    file: NamedTempFile,
    class: String,
    hash: Sha256,
    first: Vec<u8>,
    /// Bytes that are kept free for it.
    promised: u64,
    written: u64,
    fault: Option<Error>,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        let more = 8usize.saturating_sub(self.first.len()).min(written);
        self.first.extend_from_slice(&bytes[..more]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Incoming {
    /// Where it lies while it comes.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Makes it durable, which takes a moment in which others may use the album.
    pub(crate) fn end(mut self) -> Self {
        let synced = self.file.as_file().sync_all();
        self.fault = synced.err().map(|e| Error::io(self.file.path(), e));
        self
    }

    fn name(&self) -> Option<String> {
        let kind = Kind::of_bytes(&self.first)?;
        let digits: String = self.hash.clone().finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{digits}.{}", kind.suffix()))
    }
}

impl Album {
    /// Room for a photo of so many bytes in a class, which is made when it has come.
    ///
    /// # Errors
    /// `Data` for a name that no class can have; `Memory` where there is no room; `Io`.
    pub(crate) fn expect(&mut self, class: &str, bytes: u64) -> Result<Incoming> {
        check_name(class)?;
        self.check_room(bytes)?;
        let mut builder = Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let file = builder.tempfile_in(self.root()).map_err(|e| Error::io(self.root(), e))?;
        self.coming += bytes;
        let (class, hash, first) = (class.to_owned(), Sha256::new(), Vec::new());
        Ok(Incoming { file, class, hash, first, promised: bytes, written: 0, fault: None })
    }

    /// Lets go of a photo that has not come.
    pub(crate) fn let_go(&mut self, incoming: Incoming) {
        self.coming = self.coming.saturating_sub(incoming.promised);
    }

    /// Gives a photo that has come whole its name; its number, and whether it is new: the same bytes are the same photo.
    ///
    /// # Errors
    /// `Image` where it is neither JPEG nor PNG; `Io`.
    pub(crate) fn take(&mut self, mut incoming: Incoming) -> Result<(Id, bool)> {
        self.coming = self.coming.saturating_sub(incoming.promised);
        if let Some(fault) = incoming.fault.take() {
            return Err(fault);
        }
        let Some(name) = incoming.name() else {
            let message = "is neither JPEG nor PNG; convert it, or set the phone to 'Most compatible'";
            return Err(Error::new(ErrorKind::Image, "the photo", message));
        };
        let Incoming { file, class, written, .. } = incoming;
        self.make_class(&class)?;
        let (id, path): (Id, PathBuf) = (Id::of(&class, &name), self.path(&class, &name));
        if path.exists() {
            return Ok((id, false));
        }
        file.persist_noclobber(&path).map_err(|e| Error::io(&path, e.error))?;
        let folder = self.root().join(&class);
        self.sync(&folder)?;
        // A folder is listed anew when others have changed it; what this has done is known.
        if let Some(known) = self.classes.get_mut(&class) {
            let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
            let taken = now.map_or(0, |now| now.as_secs());
            let at = known.photos.partition_point(|photo| photo.name < name);
            known.photos.insert(at, Entry { id, name, bytes: written, taken });
            known.changed = None;
        }
        Ok((id, true))
    }
}
