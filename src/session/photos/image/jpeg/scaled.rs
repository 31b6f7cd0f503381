//! From coefficients to pixels at a half, a quarter or an eighth of the size, and to RGB.

use core::f64::consts::PI;

use image::RgbImage;

use super::{Component, Frame};

/// Fixed point of the cosines.
const COSINE_BITS: u32 = 12;
/// Fixed point between the two axes.
const HALF_BITS: u32 = 3;
/// Largest coefficient, either way; those of 8-bit pictures are below 2^11. With this the sums stay below 2^31.
const LARGEST: i32 = 1 << 12;

/// Where the coefficients of the zigzag order lie in a block, 8 v + u.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// One axis of a component's blocks.
struct Axis {
    /// Points that a block is transformed to.
    points: usize,
    /// Pixels that each of them fills.
    each: usize,
    /// c(u) cos((2 x + 1) u pi / 2 points) / 2, c(0) = sqrt(1/2), c(u) = 1; row u, column x, 0 beyond the points.
    cosines: [[i32; 8]; 8],
}

impl Axis {
    fn new(pixels: usize) -> Self {
        let points = pixels.min(8);
        let cosine = |u: usize, x: usize| {
            let c = if u == 0 { libm::sqrt(0.5) } else { 1.0 };
            let angle = ((2 * x + 1) * u) as f64 * PI / (2 * points) as f64;
            let value = libm::round(0.5 * c * libm::cos(angle) * f64::from(1 << COSINE_BITS)) as i32;
            if u < points && x < points { value } else { 0 }
        };
        let cosines = core::array::from_fn(|u| core::array::from_fn(|x| cosine(u, x)));
        Axis { points, each: pixels / points, cosines }
    }
}

/// How a component's blocks become pixels.
///
/// The inverse transform is taken of the lowest n x n coefficients F at n points an axis:
/// f(x, y) = sum over u, v < n of C(x, u) C(y, v) F(u, v), with C as of [`Axis`]. A component that has fewer samples than pixels
/// has more points, up to all 8: what is left out of it and what it lacks cancel.
pub(super) struct Scaling {
    x: Axis,
    y: Axis,
    /// By place in the zigzag order: place among the coefficients that are kept; 64 of the others.
    pub(super) kept: [u8; 64],
}

impl Scaling {
    /// For blocks of the component with the most samples to become `points` x `points` pixels.
    pub(super) fn new(component: &Component, frame: &Frame, points: usize) -> Self {
        let axis = |axis: usize| Axis::new(points * frame.most()[axis] / component.sampling[axis]);
        let [x, y] = [axis(0), axis(1)];
        let place = |at: u8| {
            let (u, v) = (usize::from(at % 8), usize::from(at / 8));
            if u < x.points && v < y.points { (v * x.points + u) as u8 } else { 64 }
        };
        let kept = ZIGZAG.map(place);
        Scaling { x, y, kept }
    }

    /// How many coefficients are kept.
    pub(super) fn coefficients(&self) -> usize {
        self.x.points * self.y.points
    }

    /// Writes the block at `block` (in blocks, from the left and the top) into channel `channel` of `picture`. `quantization` is in
    /// the order of `kept`.
    pub(super) fn draw(
        &self,
        coefficients: &[i16],
        quantization: &[i32; 64],
        block: [usize; 2],
        (channel, picture): (usize, &mut ScaledPicture),
    ) {
        let (x, y) = (&self.x, &self.y);
        let mut half = [[0; 8]; 8];
        for ((row, quantization), v) in
            coefficients.chunks_exact(x.points).zip(quantization.chunks_exact(x.points)).zip(0..)
        {
            let mut values = [0; 8];
            for ((value, coefficient), by) in values.iter_mut().zip(row).zip(quantization) {
                *value = (i32::from(*coefficient) * by).clamp(-LARGEST, LARGEST);
            }
            if values != [0; 8] {
                half.iter_mut().zip(&y.cosines[v]).for_each(|(sums, cosine)| add(sums, *cosine, &values));
            }
        }
        let [left, top] = [block[0] * x.points * x.each, block[1] * y.points * y.each];
        for (row, values) in half.iter().enumerate().take(y.points) {
            let mut sums = [0; 8];
            for (value, cosines) in values.iter().zip(&x.cosines).filter(|(value, _)| **value != 0) {
                add(&mut sums, rounded(*value, COSINE_BITS - HALF_BITS), cosines);
            }
            let pixels = sums.map(|sum| (128 + rounded(sum, COSINE_BITS + HALF_BITS)).clamp(0, 255) as u8);
            for down in 0..y.each {
                picture.draw([left, top + row * y.each + down], &pixels[..x.points], x.each, channel);
            }
        }
    }
}

/// `sums` += `factor` `values`.
fn add(sums: &mut [i32; 8], factor: i32, values: &[i32; 8]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}

/// `value` / 2^`bits`, to the nearest.
fn rounded(value: i32, bits: u32) -> i32 {
    (value + (1 << (bits - 1))) >> bits
}

/// Three channels a pixel; what blocks have beyond its borders is left out.
pub(super) struct ScaledPicture {
    size: [usize; 2],
    values: Vec<u8>,
}

impl ScaledPicture {
    pub(super) fn new(size: [usize; 2]) -> Self {
        ScaledPicture { size, values: vec![0; 3 * size[0] * size[1]] }
    }

    /// Writes `values` into a channel of a row, from the place (x, y) on, `each` times.
    fn draw(&mut self, [x, y]: [usize; 2], values: &[u8], each: usize, channel: usize) {
        if x < self.size[0] && y < self.size[1] {
            let row = &mut self.values[3 * y * self.size[0]..][3 * x..3 * self.size[0]];
            let pixels = row.as_chunks_mut::<3>().0.chunks_mut(each);
            pixels.zip(values).for_each(|(pixels, value)| pixels.iter_mut().for_each(|pixel| pixel[channel] = *value));
        }
    }

    /// Y, Cb, Cr as JFIF has them to R, G, B; or Y alone to grey.
    pub(super) fn into_rgb(mut self, is_grey: bool) -> Option<RgbImage> {
        // In 1/65536: R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr, B = Y + 1.772 Cb, with Cb and Cr around 128.
        for pixel in self.values.as_chunks_mut::<3>().0 {
            let [y, cb, cr] = pixel.map(i32::from);
            let [cb, cr] = if is_grey { [0, 0] } else { [cb - 128, cr - 128] };
            let rgb = [91_881 * cr, -22_554 * cb - 46_802 * cr, 116_130 * cb];
            *pixel = rgb.map(|colour| (y + ((colour + (1 << 15)) >> 16)).clamp(0, 255) as u8);
        }
        RgbImage::from_raw(self.size[0] as u32, self.size[1] as u32, self.values)
    }
}
