//! The functions that `f32` lacks without std. Nothing else in the core calls libm, so host and device agree.

pub(super) fn sqrt(x: f32) -> f32 {
    libm::sqrtf(x)
}

pub(super) fn exp(x: f32) -> f32 {
    libm::expf(x)
}

pub(super) fn ln(x: f32) -> f32 {
    libm::logf(x)
}

pub(super) fn cos(x: f32) -> f32 {
    libm::cosf(x)
}

pub(super) fn abs(x: f32) -> f32 {
    libm::fabsf(x)
}

/// To the nearest integer, halves to the even one.
pub(super) fn round_half_even(x: f32) -> f32 {
    libm::rintf(x)
}

/// x^n by squaring.
pub(super) fn powi(mut x: f32, mut n: u32) -> f32 {
    let mut power = 1.0;
    while n > 0 {
        if n & 1 == 1 {
            power *= x;
        }
        x *= x;
        n >>= 1;
    }
    power
}

/// a . b over the shorter of the two.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// y += factor x.
pub(super) fn axpy(factor: f32, x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

/// Euclidean length.
pub(super) fn norm(x: &[f32]) -> f32 {
    sqrt(dot(x, x))
}
