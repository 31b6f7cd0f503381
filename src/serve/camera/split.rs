//! Pictures of a stream of JPEGs, one behind the other, as cameras write MJPEG.

use crate::limits::MOST_FRAME_BYTES;

/// Finds whole JPEGs in bytes that come piece by piece. What is none is passed over, and so is one beyond [`MOST_FRAME_BYTES`].
#[derive(Default)]
pub(crate) struct Splitter {
    held: Vec<u8>,
    /// Up to where `held` was looked through: the next segment, or the next byte of the picture's codes.
    at: usize,
    in_codes: bool,
}

/// What stands at a place of a JPEG.
enum Next {
    /// The picture ends before this byte.
    End(usize),
    /// More has to come.
    More,
    /// This is no JPEG.
    Wrong,
}

impl Splitter {
    /// Takes bytes, and gives each picture that is whole now to `found`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut found: impl FnMut(&[u8])) {
        self.held.extend_from_slice(bytes);
        loop {
            if self.at == 0 && !self.begins() {
                return;
            }
            match self.next() {
                Next::End(end) => {
                    found(&self.held[..end]);
                    self.drop_until(end);
                }
                Next::More if self.held.len() <= MOST_FRAME_BYTES => return,
                // It begins anew behind its first byte.
                Next::More | Next::Wrong => self.drop_until(1),
            }
        }
    }

    /// Bytes that are held.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.held.len()
    }

    fn drop_until(&mut self, end: usize) {
        self.held.drain(..end);
        (self.at, self.in_codes) = (0, false);
    }

    /// Drops what stands before the next beginning of a picture; whether there is one.
    fn begins(&mut self) -> bool {
        let begin = self.held.windows(3).position(|bytes| bytes == [0xff, 0xd8, 0xff]);
        match begin {
            Some(begin) => {
                self.held.drain(..begin);
                self.at = 2;
                true
            }
            None => {
                // The last two bytes may be the beginning of one.
                let rest = self.held.len().saturating_sub(2);
                self.held.drain(..rest);
                false
            }
        }
    }

    /// Goes from segment to segment: a picture within a picture's metadata is no end.
    fn next(&mut self) -> Next {
        loop {
            if self.in_codes {
                let codes = &self.held[self.at..];
                // In codes, 0xff is followed by 0 or stands before a restart.
                let marker =
                    codes.windows(2).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xd0..=0xd7 | 0xff));
                let Some(marker) = marker else {
                    self.at = self.held.len().saturating_sub(1).max(self.at);
                    return Next::More;
                };
                (self.at, self.in_codes) = (self.at + marker, false);
            }
            let &[mark, kind, ref rest @ ..] = &self.held[self.at..] else { return Next::More };
            match (mark, kind) {
                (0xff, 0xff) => self.at += 1,
                (0xff, 0xd9) => return Next::End(self.at + 2),
                (0xff, 0x01 | 0xd0..=0xd7) => self.at += 2,
                (0xff, 0xc0..=0xfe) if kind != 0xd8 => {
                    let &[high, low, ..] = rest else { return Next::More };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if length < 2 {
                        return Next::Wrong;
                    }
                    if self.held.len() < self.at + 2 + length {
                        return Next::More;
                    }
                    self.at += 2 + length;
                    self.in_codes = kind == 0xda;
                }
                _ => return Next::Wrong,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with a picture in its metadata, and codes that look like ends.
    fn picture(nth: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, 0xff, 0xd9, nth, 0];
        bytes.extend([0xff, 0xda, 0, 4, 1, 2, 7, 0xff, 0, 0xd9, 0xff, 0xd0, nth, 0xff, 0xd9]);
        bytes
    }

    fn split(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        stream.chunks(piece).for_each(|piece| splitter.push(piece, |picture| found.push(picture.to_vec())));
        found
    }

    #[test]
    fn pictures_are_found_whole_whatever_pieces_they_come_in() {
        let (a, b) = (picture(1), picture(2));
        let stream = [&b"noise\xff\xd8no picture"[..], &a, b"--frame\r\n\r\n", &b, &a, &b[..9]].concat();
        for piece in 1..stream.len() {
            assert_eq!(split(&stream, piece), [a.clone(), b.clone(), a.clone()], "{piece}");
        }
    }

    #[test]
    fn real_files_are_found_as_they_are() {
        use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
        let pixels: Vec<u8> = (0..64 * 48 * 3u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, 80).encode(&pixels, 64, 48, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(split(&[file.clone(), file.clone()].concat(), 1000), [file.clone(), file]);
    }

    #[test]
    fn what_never_ends_is_let_go() {
        let mut splitter = Splitter::default();
        let mut found = 0;
        let begin = [0xff, 0xd8, 0xff, 0xda, 0, 2];
        splitter.push(&begin, |_| found += 1);
        for _ in 0..2 * MOST_FRAME_BYTES / 4096 {
            splitter.push(&[7; 4096], |_| found += 1);
        }
        assert!(found == 0 && splitter.held() <= MOST_FRAME_BYTES + 4096, "{}", splitter.held());
        splitter.push(&picture(1), |_| found += 1);
        assert_eq!(found, 1);
    }
}
