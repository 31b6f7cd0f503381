//! The camera's pictures.

use std::time::Duration;

use super::{Answered, App};
use crate::serve::http::{Answer, Content, Refusal};

/// How long a stream waits for the next picture before it looks whether the page is still there.
const WAIT: Duration = Duration::from_secs(1);
/// What stands between two pictures.
const BOUNDARY: &str = "picture";

impl App {
    /// Picture after picture, as browsers show them in an image: one that is slow skips some.
    pub(super) fn stream(&self) -> Answered {
        let camera = self.camera.as_ref().ok_or_else(no_camera)?;
        let viewer = camera
            .view()
            .ok_or_else(|| Refusal::new(503, "too many watch the camera already; close one of the pages"))?;
        let write = move |to: &mut dyn std::io::Write| {
            let mut number = 0;
            loop {
                let Some(frame) = viewer.next(number, WAIT) else {
                    to.flush()?;
                    if viewer.is_over() {
                        return Ok(());
                    }
                    continue;
                };
                number = frame.number;
                let head =
                    format!("--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", frame.jpeg.len());
                to.write_all(head.as_bytes())?;
                to.write_all(&frame.jpeg)?;
                to.write_all(b"\r\n")?;
            }
        };
        let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
        Ok(Answer::new(200, &kind, Content::Stream(None, Box::new(write))))
    }

    /// The newest picture.
    pub(super) fn frame(&self) -> Answered {
        let frame = self.newest_frame()?;
        Ok(Answer::new(200, "image/jpeg", Content::Bytes(frame.to_vec().into())))
    }
}

pub(super) fn no_camera() -> Refusal {
    Refusal::new(404, "the device has no camera: srlora serve was started without --camera")
}
