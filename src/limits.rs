//! Every limit on what comes from outside, in one place: what the number is, and why it is not another.
//!
//! Two rules are behind them. Nothing that a file claims is allocated before it is checked; and a file of at most 1 MiB
//! makes no command take more than 64 MiB over what the program takes anyway. Larger files may ask for more, in proportion.
//! A limit that a real classifier meets is a mistake: raise it here.

/// Longest JSON header of a bundle or a generation, in bytes: names, shapes and metadata. ImageNet-21k's labels take 1 MiB.
pub const MOST_HEADER_BYTES: u64 = 16 << 20;
/// Tensors of a bundle, a generation or a checkpoint: nine a site of 2048 sites, twice while events are on trial, and those of the head
/// and of class means.
pub const MOST_TENSORS: usize = 1 << 16;
/// Axes of a tensor, in any file. A window attention has six.
pub const MOST_AXES: usize = 8;
/// Lists and objects in the header of a bundle or a generation, or in its record: three for each tensor, one for each event. What
/// reads JSON takes some 150 bytes for each.
pub const MOST_LISTS: usize = 1 << 17;
/// Metadata entries of a bundle or a generation; there are about ten.
pub const MOST_ENTRIES: usize = 64;
/// Longest name of a tensor, node, site or class, in bytes. Exporters join the names of all modules around a layer.
pub const MOST_NAME_BYTES: usize = 1024;
/// Classes of a model or a lesson: ImageNet-21k has 21 843.
pub const MOST_CLASSES: usize = 1 << 16;
/// Classes of a confusion matrix that is given whole, in JSON: 8 MiB of counts. Above, the cells that were counted are listed.
pub const MOST_MATRIX_CLASSES: usize = 1 << 10;
/// Mistakes that an evaluation lists: more than anybody looks through, and 6 MiB with the longest names and paths.
pub const MOST_MISTAKES: usize = 1000;
/// Photos with a wrong guess that an evaluation keeps to be shown: some ten for each of the pairs of classes that a report shows.
pub const MOST_WRONG: usize = 256;
/// Values of the photos that a head is solved from, their features or their scores: 2 MiB. That is 400 photos of 1280 features, or 8000
/// of 64.
pub const MOST_SOLVED: usize = 1 << 19;
/// Rows of the matrix that is inverted for it, photos or features, whichever are fewer: two of 2 MiB.
pub const MOST_SOLVED_SIDE: usize = 1 << 9;
/// Examples of a replay buffer: two tensors each.
pub const MOST_EXAMPLES: usize = 1 << 12;
/// Photos in a step.
pub const MOST_BATCH: usize = 4096;
/// Threads that photos are run on: each has a network of its own.
pub const MOST_THREADS: usize = 256;
/// Sites of a bundle. Large transformers have some 300 linear layers.
pub const MOST_SITES: usize = 2048;
/// How many values the sites of a bundle may have together for each byte of its backbone: a weight takes a byte a value at
/// least, and may be that of several sites.
pub const SITE_SHARE: usize = 4;
/// Pairs of a site; the core's own limit.
pub const MOST_PAIRS: usize = 256;
/// Directions of a site; the core's own limit.
pub const MOST_DIRECTIONS: usize = 2048;
/// Values of the directions of an adapter that do not ship, all sites together: 16 MiB, and four times that while they are looked for. A
/// ViT-base at rank 8 has 4 million.
pub const MOST_DIRECTION_VALUES: usize = 1 << 23;
/// Longest feature vector: that of VGG has 25 088 values. A convolution of a few weights makes any number of them, and a lesson
/// takes some 40 bytes for each of them and each class.
pub const MOST_FEATURES: usize = 1 << 16;
/// Weights of a head: ImageNet-21k on 2048 features.
pub const MOST_HEAD_VALUES: usize = 1 << 26;

/// Longest side of a network's input, in pixels.
pub const MOST_INPUT_SIDE: usize = 4096;
/// Values of the largest input, batch x 3 x height x width: half a GiB.
pub const MOST_INPUT_VALUES: usize = 1 << 27;

/// Largest ONNX file, in bytes: protobuf has no larger messages.
pub const MOST_MODEL_BYTES: u64 = 2 << 30;
/// Nodes of any ONNX file. Classifiers have 20 to 6000.
pub const MOST_NODES: usize = 1 << 14;
/// Nodes that a file of any size may have; above, [`BYTES_A_NODE`] bytes of file for each.
pub const FEWEST_NODES: usize = 2048;
/// Bytes of file for a node above [`FEWEST_NODES`]: what is decoded of a node, and made of it, takes some kilobytes.
pub const BYTES_A_NODE: usize = 1024;
/// Attributes, tensors, and inputs and outputs, of each kind, for each node that a file may have.
pub const PARTS_A_NODE: usize = 4;
/// All other messages and texts (dimensions, entries, opsets), for each node that a file may have.
pub const PIECES_A_NODE: usize = 16;
/// Numbers in the list of one attribute; the longest are pads, two for each axis.
pub const MOST_LISTED: usize = 1024;
/// Messages within messages of an ONNX file: model, graph, node, attribute, tensor, and the type of an input.
pub const MOST_NESTED: usize = 8;
/// The versions of ONNX's own operators that are taken.
pub const OPSETS: core::ops::RangeInclusive<i64> = 7..=64;
/// Numbers of an integer tensor: shapes, axes, indices. They are worked out one by one before anything is planned. The
/// largest are the relative positions of window attention.
pub const MOST_INTEGERS: usize = 1 << 16;
/// Nodes between two branches and the tensor that both begin at, where that is looked for. An activation or a norm that is written
/// out has up to twelve.
pub const MOST_BRANCH_NODES: usize = 64;
/// Weights of a first layer's filter that tells of preprocessing; stems have 27 to 147. The work grows with the square.
pub const MOST_FILTER_WEIGHTS: usize = 768;
/// A kernel's side, in pixels.
pub const MOST_KERNEL: usize = 512;
/// A stride and a dilation, in pixels.
pub const MOST_STRIDE: usize = 512;
/// Padding on one side of an axis, in pixels.
pub const MOST_PAD: usize = 512;
/// Multiply-adds of one forward pass. A ViT-L at 384 pixels takes 2e11.
pub const MOST_MULTIPLY_ADDS: u64 = 1 << 42;
/// Activations that live at the same time, in bytes, in a network whose file is small; above, [`ACTIVATION_SHARE`] times
/// the file.
pub const SMALL_ACTIVATIONS: usize = 32 << 20;
/// How many times its file a network's activations may take: networks of small files work on small images.
pub const ACTIVATION_SHARE: usize = 32;
/// Bytes that constants other than the weights of maps may take in f32, in a network whose file is small; above,
/// [`CONSTANT_SHARE`] times the file. A constant of 8 bits becomes four times as large, and may have several names.
pub const SMALL_CONSTANTS: usize = 8 << 20;
/// How many times its file such constants may take.
pub const CONSTANT_SHARE: usize = 8;

/// Largest file of an adapter of another program, or of the weights that it stands beside, in bytes: a ViT-large in fp32 has 1.2 GB.
pub const MOST_ADAPTER_BYTES: u64 = 2 << 30;
/// Largest file of labels, in bytes.
pub const MOST_LABEL_BYTES: u64 = 16 << 20;
/// Largest file with a key, in bytes; they have about 120.
pub const MOST_KEY_BYTES: u64 = 1 << 14;

/// Largest photo, in pixels: 50-megapixel cameras with room to spare.
pub const MOST_PIXELS: u64 = 64_000_000;
/// Longest side of a photo, in pixels: what a JPEG can have.
pub const MOST_PHOTO_SIDE: u32 = 65_535;
/// Largest file of a photo, in bytes.
pub const MOST_PHOTO_BYTES: u64 = 512 << 20;
/// How many times its own size a photo may take while it is decoded and made RGB. Cameras write at least half a bit a pixel,
/// which a JPEG without passes takes 48 times.
pub const PHOTO_EXPANSION: u64 = 48;
/// A photo smaller than this may take what one of this size may, in bytes.
pub const SMALL_PHOTO: u64 = 1 << 20;
/// What a decoder may take for one row or one metadata chunk, in bytes.
pub const MOST_CHUNK_BYTES: u64 = 16 << 20;
/// Scans of a JPEG that is decoded in parts; encoders write about ten. A few bytes of one may pass over the whole picture.
pub const MOST_SCANS: usize = 256;
/// A photo's size stands among its first bytes, behind its metadata.
pub const MOST_HEAD_BYTES: u64 = 1 << 18;

/// Photos that a report shows: what somebody looks through, and with [`MOST_REPORT_PHOTO_BYTES`] half of the 2 MiB that one is to be
/// smaller than.
pub const MOST_REPORT_PHOTOS: usize = 144;
/// Letters that their data may take in the file together.
pub const MOST_REPORT_PHOTO_BYTES: usize = 1 << 20;
/// Longer side of a photo in a report, in pixels: sharp at its width on a phone, and 3 to 5 KB as a JPEG.
pub const REPORT_PHOTO_SIDE: usize = 128;
/// Of these photos, those with the largest loss.
pub const MOST_REPORT_WORST: usize = 24;
/// Wrong cells of a confusion matrix whose photos a report shows.
pub const MOST_REPORT_CELLS: usize = 32;
/// Classes of a confusion matrix that a report shows: more columns than these fit on no screen.
pub const MOST_REPORT_MATRIX: usize = 24;
/// Rows of a table of a report; the JSON has all.
pub const MOST_REPORT_ROWS: usize = 64;
/// Points of a line of a report: about one for two pixels.
pub const MOST_REPORT_POINTS: usize = 240;
/// Sites whose importance a report draws; `inspect --svg` draws all.
pub const MOST_REPORT_SITES: usize = 24;
/// Points of all their courses together, 10 bytes each.
pub const MOST_REPORT_COURSE_POINTS: usize = 30_000;
/// Longest head of a request to `serve`, in bytes: its first line and its headers. Browsers send some 700.
pub const MOST_REQUEST_HEAD_BYTES: usize = 16 << 10;
/// Headers of a request. Browsers send some twenty.
pub const MOST_REQUEST_HEADERS: usize = 64;
/// Largest photo that is sent to `serve`, in bytes. Phones make 3 to 12 MB; the page sends a tenth of that.
pub const MOST_UPLOAD_BYTES: u64 = 32 << 20;
/// A photo of so many bytes is held in memory whoever else sends one: a page's has a quarter of that, and all connections together take
/// 16 MiB.
pub const SMALL_UPLOAD_BYTES: u64 = 256 << 10;
/// Larger photos that are held in memory to be classified, at the same time; others wait on the disk, or are asked to come again.
pub const MOST_UPLOADS_IN_MEMORY: usize = 2;
/// Largest JSON that is sent to `serve`, in bytes: the numbers of ten thousand photos.
pub const MOST_JSON_BYTES: u64 = 256 << 10;
/// Connections at the same time, each of which has a thread while it is answered. A page has six.
pub const MOST_CONNECTIONS: usize = 64;
/// Of these, those from one address.
pub const MOST_CONNECTIONS_A_PEER: usize = 48;
/// Requests of one address in a second, over a longer time. A page that shows a folder asks for a few hundred photos at once, which the next
/// limit lets through.
pub const MOST_REQUESTS_A_SECOND: f64 = 300.0;
/// Requests of one address that may come at once.
pub const MOST_REQUESTS_AT_ONCE: f64 = 1500.0;
/// Addresses whose requests are counted; the one that asked longest ago is forgotten.
pub const MOST_COUNTED_PEERS: usize = 256;
/// Seconds in which the head of a request has to come, and that a connection may rest between two requests.
pub const HEAD_SECONDS: u64 = 10;
/// Fewest bytes of a body in a second, over all of it, and of an answer: slower than any network that a page can be used over.
pub const FEWEST_BYTES_A_SECOND: u64 = 8 << 10;
/// Largest picture of a camera, in bytes: 12 megapixels of MJPEG take 6 MB.
pub const MOST_FRAME_BYTES: usize = 8 << 20;
/// Who watches the camera at the same time.
pub const MOST_VIEWERS: usize = 8;
/// Photos of a class that it is imprinted from while no lesson has learned it, the newest: more change its mean little.
pub const MOST_IMPRINTED: usize = 64;
/// Photos in the folder of `serve`: what it knows of one takes some hundred bytes.
pub const MOST_ALBUM_PHOTOS: usize = 100_000;
/// Photos that are looked through for wrong labels after a lesson: their features take 5 KiB each.
pub const MOST_REVIEWED: usize = 600;
/// Bytes that are left free on the medium that photos are written to, whatever its limit: a lesson needs some for its store and its cache.
pub const SPARE_BYTES: u64 = 64 << 20;

/// Bytes of activations that a network in a file of `file` bytes may have at the same time.
#[must_use]
pub const fn activation_bytes(file: usize) -> usize {
    let share = file.saturating_mul(ACTIVATION_SHARE);
    if share > SMALL_ACTIVATIONS { share } else { SMALL_ACTIVATIONS }
}

/// Bytes of constants in f32 that a network in a file of `file` bytes may have.
#[must_use]
pub const fn constant_bytes(file: usize) -> usize {
    let share = file.saturating_mul(CONSTANT_SHARE);
    if share > SMALL_CONSTANTS { share } else { SMALL_CONSTANTS }
}

/// Nodes that a file of `file` bytes may have.
#[must_use]
pub const fn nodes(file: usize) -> usize {
    let most = FEWEST_NODES + file / BYTES_A_NODE;
    if most < MOST_NODES { most } else { MOST_NODES }
}

/// The product of `dims`, an axis of 0 counted as 1, so that no part of it can overflow either; `None` above `most`, or with
/// more axes than [`MOST_AXES`].
#[must_use]
pub fn elements(dims: &[usize], most: usize) -> Option<usize> {
    let product = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)));
    product.filter(|product| *product <= most && dims.len() <= MOST_AXES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_dimensions_neither_overflow_nor_pass_the_limit() {
        assert_eq!(elements(&[2, 3, 4], 24), Some(24));
        assert_eq!(elements(&[2, 3, 4], 23), None);
        assert_eq!(elements(&[0, usize::MAX, 2], usize::MAX), None);
        assert_eq!(elements(&[1; MOST_AXES + 1], 10), None);
        assert_eq!(elements(&[], 1), Some(1));
    }

    #[test]
    fn larger_files_may_ask_for_more_up_to_an_end() {
        assert_eq!([activation_bytes(0), activation_bytes(1 << 20)], [32 << 20; 2]);
        assert_eq!(activation_bytes(14 << 20), 448 << 20);
        assert_eq!(activation_bytes(usize::MAX), usize::MAX);
        assert_eq!([nodes(0), nodes(1 << 20), nodes(usize::MAX)], [2048, 3072, 1 << 14]);
    }
}
