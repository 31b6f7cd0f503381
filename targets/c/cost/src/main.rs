//! Measures what `predict` through libsrlora.so costs over the same call in Rust: one process, the two in turns, on the same frame.
//!
//!     cargo run --release -p cost -- PREFIX/lib/libsrlora.so BUNDLE [CALLS]

use std::error::Error;
use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use srlora::bundle::Bundle;
use srlora::session::{Classifier, Layout, Picture, Pixels};

// What the C library of any Linux has.
unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn clock_gettime(clock: c_int, time: *mut [c_long; 2]) -> c_int;
}

const RTLD_NOW: c_int = 2;
const CLOCK_PROCESS_CPUTIME_ID: c_int = 2;

/// `srlora_frame`, as the header has it.
#[repr(C)]
struct Frame {
    struct_size: usize,
    format: u32,
    width: u32,
    height: u32,
    data: *const u8,
    size: usize,
    stride: usize,
    chroma: *const u8,
    chroma_size: usize,
    chroma_stride: usize,
}

type Code = c_int;
type Open = unsafe extern "C" fn(*const c_char, *mut *mut c_void, *mut *mut c_void) -> Code;
type Make = unsafe extern "C" fn(*const c_void, *const c_void, *mut *mut c_void, *mut *mut c_void) -> Code;
type Predict = unsafe extern "C" fn(*const c_void, *const Frame, usize, *mut *mut c_void, *mut *mut c_void) -> Code;
type Free = unsafe extern "C" fn(*mut c_void);

/// The function `name` of a library.
///
/// # Safety
/// It has the type `F`, a function pointer.
unsafe fn function<F: Copy>(library: *mut c_void, name: &str) -> Result<F, Box<dyn Error>> {
    // SAFETY: the name ends with a zero.
    let found = unsafe { dlsym(library, CString::new(name)?.as_ptr()) };
    if found.is_null() {
        return Err(format!("the library has no {name}").into());
    }
    // SAFETY: a function pointer is as large as an address, and the caller says which type it has.
    Ok(unsafe { std::mem::transmute_copy(&found) })
}

/// Processor time of this process, in milliseconds: what others do on the machine counts little.
fn clock() -> f64 {
    let mut time = [0, 0];
    // SAFETY: `time` is what a `timespec` is on 64-bit Linux, and can be written.
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time[0] as f64 * 1e3 + time[1] as f64 / 1e6
}

/// Through C: a frame classified.
struct Foreign {
    classifier: *mut c_void,
    predict: Predict,
    free: Free,
}

impl Foreign {
    fn open(library: &str, bundle: &str) -> Result<Self, Box<dyn Error>> {
        let (path, mut opened, mut classifier) = (CString::new(bundle)?, null_mut(), null_mut());
        // SAFETY: paths end with a zero; the functions have the types that the header gives them; out-parameters can be written.
        unsafe {
            let library = dlopen(CString::new(library)?.as_ptr(), RTLD_NOW);
            if library.is_null() {
                return Err("the library cannot be loaded".into());
            }
            let (open, make) =
                (function::<Open>(library, "srlora_bundle_open")?, function::<Make>(library, "srlora_classifier_new")?);
            let codes =
                [open(path.as_ptr(), &mut opened, null_mut()), make(opened, null(), &mut classifier, null_mut())];
            if codes != [0, 0] {
                return Err(format!("codes {codes:?}").into());
            }
            let predict = function(library, "srlora_classifier_predict")?;
            Ok(Foreign { classifier, predict, free: function(library, "srlora_prediction_free")? })
        }
    }

    fn predict(&self, frame: &Frame) {
        let mut prediction = null_mut();
        // SAFETY: the classifier was made by the library, and the frame's bytes live until the end.
        unsafe {
            assert_eq!((self.predict)(self.classifier, frame, 5, &mut prediction, null_mut()), 0);
            (self.free)(prediction);
        }
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, bundle, rest @ ..] = &arguments[..] else { return Err("cost LIBRARY BUNDLE [CALLS]".into()) };
    let calls: usize = rest.first().map_or(Ok(200), |calls| calls.parse())?;
    let (width, height) = (640, 480);
    let bytes: Vec<u8> = (0..width * height * 3).map(|at: usize| (at * 31 % 251) as u8).collect();
    let frame = Frame {
        struct_size: size_of::<Frame>(),
        format: 2,
        width: width as u32,
        height: height as u32,
        data: bytes.as_ptr(),
        size: bytes.len(),
        stride: width * 3,
        chroma: null(),
        chroma_size: 0,
        chroma_stride: 0,
    };
    let foreign = Foreign::open(library, bundle)?;
    let mut own = Classifier::new(&Bundle::open(Path::new(bundle))?, None)?;
    let mut times = [Vec::new(), Vec::new()];
    for call in 0..2 * (calls + 5) {
        let begin = clock();
        // Who comes first changes with every pair.
        let is_foreign = (call % 2 == 0) ^ (call / 2 % 2 == 0);
        if is_foreign {
            foreign.predict(&frame);
        } else {
            let pixels = Pixels::new(&bytes, Layout::Bgr8, [frame.width, frame.height], frame.stride)?;
            own.predict(Picture::pixels("the frame", pixels), 5)?;
        }
        // The first ones of each warm up.
        if call >= 10 {
            times[usize::from(is_foreign)].push(clock() - begin);
        }
    }
    let [rust, c] = times.map(median);
    println!(
        "Rust {rust:.3} ms, through C {c:.3} ms of processor time a call: {:+.2} % ({calls} calls each)",
        100.0 * (c / rust - 1.0)
    );
    Ok(())
}
