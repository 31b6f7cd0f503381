//! Photos, one at a time: none of them needs to be in RAM but the one that is looked at.

/// Digits.
pub const CLASSES: usize = 10;
/// Photos to learn from, first in the file; digit after digit in turn.
pub const TO_LEARN: usize = 12 * CLASSES;
/// Photos held back, after them.
pub const HELD_BACK: usize = 40 * CLASSES;
/// A label and 8 x 8 pixels.
pub const PHOTO_BYTES: usize = 1 + 64;

/// Where photos come from: a camera, a link, a file, flash.
pub trait Album {
    /// What can go wrong.
    type Error;

    /// Fills `photo` with the label and the ink, 0 to 16 a pixel, of photo `index`.
    ///
    /// # Errors
    /// Where there is no such photo, or it cannot be had.
    fn photo(&mut self, index: usize, photo: &mut [u8; PHOTO_BYTES]) -> Result<(), Self::Error>;
}

/// Photos that lie in memory, one after another.
#[derive(Debug, Clone, Copy)]
pub struct InFlash<'a>(pub &'a [u8]);

/// An album ends before the photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoSuchPhoto(pub usize);

impl Album for InFlash<'_> {
    type Error = NoSuchPhoto;

    fn photo(&mut self, index: usize, photo: &mut [u8; PHOTO_BYTES]) -> Result<(), NoSuchPhoto> {
        let bytes = self.0.chunks_exact(PHOTO_BYTES).nth(index).ok_or(NoSuchPhoto(index))?;
        photo.copy_from_slice(bytes);
        Ok(())
    }
}
