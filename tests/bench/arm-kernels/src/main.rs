//! One product of the program, some times over: `arm-kernels KERNEL M K N WAY TIMES`.
//!
//! KERNEL is `srlora`, whose source this includes, or `ndarray`, which is the safe door of matrixmultiply. WAY is `forward` (W x, for W
//! of M x K and N pixels), `backward` (W^T dy, for W of K x M) or `gradient` (dy x^T, for W of M x K). Matrices lie by row, as in the program.

use faer::{Accum, MatMut, MatRef};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// The program's own modules.
#[allow(dead_code)]
#[path = "../../../../src/adapter"]
mod adapter {
    pub(crate) mod kernel;
    mod scratch;
    mod small;
    mod tiles;
}

/// Why the words of the command are no product.
const USAGE: &str = "arm-kernels srlora|ndarray M K N forward|backward|gradient TIMES";

struct Case {
    kernel: String,
    /// Rows, terms of a sum, and columns of the product.
    sizes: [usize; 3],
    way: String,
    times: usize,
}

impl Case {
    fn parse(words: &[String]) -> Option<Case> {
        let [kernel, m, k, n, way, times] = words else { return None };
        let number = |word: &String| word.parse().ok();
        let (k, n) = if way == "gradient" { (n, k) } else { (k, n) };
        let sizes = [number(m)?, number(k)?, number(n)?];
        Some(Case { kernel: kernel.clone(), sizes, way: way.clone(), times: number(times)? })
    }

    /// The sum of what was computed, so that nothing is left out.
    fn run(&self) -> Option<f32> {
        let [m, k, n] = self.sizes;
        let wave = |count: usize| -> Vec<f32> { (0..count).map(|at| (at % 509) as f32 / 254.0 - 1.0).collect() };
        let (a, b, mut c) = (wave(m * k), wave(k * n), vec![0.0; m * n]);
        for _ in 0..self.times {
            match self.kernel.as_str() {
                "srlora" => self.ours(&a, &b, &mut c),
                "ndarray" => self.theirs(&a, &b, &mut c)?,
                _ => return None,
            }
        }
        Some(c.iter().sum())
    }

    fn ours(&self, a: &[f32], b: &[f32], c: &mut [f32]) {
        let [m, k, n] = self.sizes;
        let a = match self.way.as_str() {
            "backward" => MatRef::from_row_major_slice(a, k, m).transpose(),
            _ => MatRef::from_row_major_slice(a, m, k),
        };
        let b = match self.way.as_str() {
            "gradient" => MatRef::from_row_major_slice(b, n, k).transpose(),
            _ => MatRef::from_row_major_slice(b, k, n),
        };
        adapter::kernel::product(MatMut::from_row_major_slice_mut(c, m, n), Accum::Replace, 1.0, a, b);
    }

    fn theirs(&self, a: &[f32], b: &[f32], c: &mut [f32]) -> Option<()> {
        let [m, k, n] = self.sizes;
        let a = match self.way.as_str() {
            "backward" => ArrayView2::from_shape((k, m), a).ok()?.reversed_axes(),
            _ => ArrayView2::from_shape((m, k), a).ok()?,
        };
        let b = match self.way.as_str() {
            "gradient" => ArrayView2::from_shape((n, k), b).ok()?.reversed_axes(),
            _ => ArrayView2::from_shape((k, n), b).ok()?,
        };
        general_mat_mul(1.0, &a, &b, 0.0, &mut ArrayViewMut2::from_shape((m, n), c).ok()?);
        Some(())
    }
}

fn main() -> Result<(), &'static str> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let sum = Case::parse(&words).and_then(|case| case.run()).ok_or(USAGE)?;
    println!("{sum}");
    Ok(())
}
