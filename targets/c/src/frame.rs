//! Frames: pixels, or a whole JPEG or PNG, where the caller has them.

use srlora::session::{Layout, Picture, Pixels};
use srlora::{Error, ErrorKind, Result};

use crate::pointers::{refuse, values};

/// How the bytes of a frame are to be read: 8 bits a channel, row by row from the top. The first byte of a pixel comes first.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum srlora_format {
    /// Red, green, blue.
    Rgb = 1,
    /// Blue, green, red: a `cv::Mat` of type `CV_8UC3`.
    Bgr = 2,
    /// Red, green, blue, alpha, which is not looked at.
    Rgba = 3,
    /// Blue, green, red, alpha, which is not looked at: a `cv::Mat` of type `CV_8UC4`.
    Bgra = 4,
    /// Blue, green, red, and a byte that is not looked at: what `nvvidconv` gives on a Jetson.
    Bgrx = 5,
    /// One channel.
    Gray8 = 6,
    /// A plane of brightness, and one of colour with a pair U, V for each 2 x 2 pixels; BT.601, narrow range.
    Nv12 = 7,
    /// No pixels: `size` bytes of a JPEG or PNG. Width, height and strides are not looked at.
    Encoded = 8,
}

/// One photo, in memory of the caller's. It is read during the call that takes it, and not after. Set what is not needed to 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct srlora_frame {
    /// `sizeof(srlora_frame)`.
    pub struct_size: usize,
    /// One of `srlora_format`.
    pub format: u32,
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The first byte.
    pub data: *const u8,
    /// Bytes that can be read from `data` on.
    pub size: usize,
    /// Bytes from the beginning of a row to that of the next one: `step` of OpenCV, `rowstride` or `GstVideoMeta.stride` of GStreamer. 0:
    /// rows without a gap.
    pub stride: usize,
    /// NV12 alone: the first byte of the plane of colour. NULL: it follows in `data`, after `height` rows.
    pub chroma: *const u8,
    /// NV12 alone: bytes that can be read from `chroma` on.
    pub chroma_size: usize,
    /// NV12 alone: the stride of the plane of colour. 0: that of the plane of brightness, rounded up to a whole pair.
    pub chroma_stride: usize,
}

impl srlora_frame {
    /// The photo, which messages call `name`. Its pixels are copied once, to the form that the library reads.
    ///
    /// # Errors
    /// `Usage` for NULL, another `struct_size` or an unknown format; `Image` for pixels that cannot be a photo.
    ///
    /// # Safety
    /// The promise of `pointers`, for `data` and `chroma`.
    pub(crate) unsafe fn picture(&self, name: &str) -> Result<Picture> {
        if self.struct_size < size_of::<Self>() {
            let message = format_args!("is {}; set it to sizeof(srlora_frame)", self.struct_size);
            return Err(refuse("frame->struct_size", message));
        }
        // SAFETY: `size` bytes can be read from `data` on, or it is NULL.
        let bytes = unsafe { values(self.data, self.size, "frame->data") }?;
        let is = |format: srlora_format| self.format == format as u32;
        if is(srlora_format::Encoded) {
            return Ok(Picture::encoded(name, bytes));
        }
        let pixels = match self.layout() {
            Some(layout) => Pixels::new(bytes, layout, [self.width, self.height], self.stride_of(layout.channels())),
            // SAFETY: the same promise.
            None if is(srlora_format::Nv12) => unsafe { self.nv12(bytes) },
            None => {
                let message = format_args!("is {}; it is one of srlora_format", self.format);
                return Err(refuse("frame->format", message));
            }
        };
        pixels.map(|pixels| Picture::pixels(name, pixels))
    }

    fn layout(&self) -> Option<Layout> {
        const LAYOUTS: [(srlora_format, Layout); 6] = [
            (srlora_format::Rgb, Layout::Rgb8),
            (srlora_format::Bgr, Layout::Bgr8),
            (srlora_format::Rgba, Layout::Rgba8),
            (srlora_format::Bgra, Layout::Bgra8),
            (srlora_format::Bgrx, Layout::Bgra8),
            (srlora_format::Gray8, Layout::Grey8),
        ];
        LAYOUTS.iter().find(|(format, _)| *format as u32 == self.format).map(|(_, layout)| *layout)
    }

    fn stride_of(&self, channels: usize) -> usize {
        // Sides that are too long are refused by their size.
        if self.stride == 0 { (self.width as usize).saturating_mul(channels) } else { self.stride }
    }

    /// # Safety
    /// The promise of `pointers`, for `chroma`.
    unsafe fn nv12(&self, bytes: &[u8]) -> Result<Pixels> {
        let stride = self.stride_of(1);
        let chroma_stride = if self.chroma_stride == 0 {
            stride.checked_next_multiple_of(2).unwrap_or(stride)
        } else {
            self.chroma_stride
        };
        let chroma = if self.chroma.is_null() {
            let above = stride.checked_mul(self.height as usize);
            above.and_then(|above| bytes.get(above..)).ok_or_else(|| {
                let message =
                    format_args!("with a stride of {stride} take more than the {} bytes that there are", bytes.len());
                Error::new(ErrorKind::Image, format_args!("{}x{} pixels of NV12", self.width, self.height), message)
            })?
        } else {
            // SAFETY: not NULL, so `chroma_size` bytes can be read from it on.
            unsafe { values(self.chroma, self.chroma_size, "frame->chroma") }?
        };
        Pixels::nv12([bytes, chroma], [self.width, self.height], [stride, chroma_stride])
    }
}
