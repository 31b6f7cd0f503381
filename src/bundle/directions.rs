//! The truncated SVD of a site's weight: the directions that ship.

use faer::{Mat, MatRef};
use half::f16;
use ndarray::ArrayView2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::adapter::DirectionsBuf;
use crate::error::{Error, ErrorKind, Result};

/// Up to this smaller dimension the full thin SVD is taken: it is exact, and fast enough.
const FULL_UP_TO: usize = 384;
/// Extra dimensions of the random subspace.
const OVERSAMPLING: usize = 32;
/// Power iterations: weights have slowly falling spectra.
const ITERATIONS: usize = 8;

/// The first `count` singular triplets of `weight` (out_dim x in_dim), fewer where it has fewer.
///
/// sigma falls; the largest |v| entry of every direction is positive; u and v are rounded to f16. Computed in f64, on one
/// thread, from a fixed seed, so the same weight always gives the same bytes. Where the smaller dimension exceeds 384 and
/// is much larger than `count`, by subspace iteration on a random start (Halko, Martinsson, Tropp, arXiv 0909.4061,
/// algorithm 4.4).
///
/// # Errors
/// Kind `Check` where a weight is not finite; the caller adds the site's name.
pub fn directions(weight: ArrayView2<f32>, count: usize) -> Result<DirectionsBuf> {
    let fault = |message: &str| Error::new(ErrorKind::Check, "", message);
    if weight.iter().any(|w| !w.is_finite()) {
        return Err(fault("its weight holds values that are not finite; export the model again"));
    }
    let (rows, columns) = weight.dim();
    let count = count.min(rows).min(columns);
    let w = Mat::from_fn(rows, columns, |i, j| f64::from(weight[[i, j]]));
    let smaller = rows.min(columns);
    let (u, sigma, v) = if smaller <= FULL_UP_TO || 4 * (count + OVERSAMPLING) > smaller {
        triplets(w.as_ref())
    } else {
        subspace(w.as_ref(), count)
    }
    .map_err(|e| fault(&format!("its singular values do not converge ({e:?})")))?;
    let sign = |k: usize| {
        let larger = |best: f64, x: f64| if x.abs() > best.abs() { x } else { best };
        if (0..columns).map(|j| v[(j, k)]).fold(0.0, larger) < 0.0 { -1.0 } else { 1.0 }
    };
    let column = |m: &Mat<f64>, k: usize| -> Vec<f16> {
        let sign = sign(k);
        m.col(k).iter().map(|x| f16::from_f64(sign * x)).collect()
    };
    Ok(DirectionsBuf {
        sigma: sigma.iter().take(count).map(|&s| s as f32).collect(),
        u: (0..count).flat_map(|k| column(&u, k)).collect(),
        v: (0..count).flat_map(|k| column(&v, k)).collect(),
    })
}

type Triplets = core::result::Result<(Mat<f64>, Vec<f64>, Mat<f64>), faer::linalg::solvers::SvdError>;

fn triplets(w: MatRef<f64>) -> Triplets {
    let svd = w.thin_svd()?;
    Ok((svd.U().to_owned(), svd.S().column_vector().iter().copied().collect(), svd.V().to_owned()))
}

/// W ~ Q (Q^T W) with Q an orthonormal basis of (W W^T)^q W times a random matrix.
fn subspace(w: MatRef<f64>, count: usize) -> Triplets {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let probe = Mat::from_fn(w.ncols(), count + OVERSAMPLING, |_, _| random.random::<f64>() - 0.5);
    let basis = |m: Mat<f64>| m.qr().compute_thin_Q();
    let mut q = basis(w * probe);
    for _ in 0..ITERATIONS {
        let back = basis(w.transpose() * &q);
        q = basis(w * back);
    }
    let (u, sigma, v) = triplets((q.transpose() * w).as_ref())?;
    Ok((q * u, sigma, v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn weight(rows: usize, columns: usize, falling: f32) -> Array2<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let noise = Array2::from_shape_fn((rows, columns), |_| random.random::<f32>() - 0.5);
        let left = Array2::from_shape_fn((rows, 40), |(i, k)| (falling.powi(k as i32)) * ((i * (k + 3)) as f32).sin());
        let right = Array2::from_shape_fn((40, columns), |(k, j)| ((j * (k + 5)) as f32 * 0.7).cos());
        left.dot(&right) + noise * 0.1
    }

    fn row(values: &[f16], k: usize, n: usize) -> Vec<f64> {
        values[k * n..(k + 1) * n].iter().map(|v| v.to_f64()).collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn directions_are_orthonormal_singular_and_signed() {
        for (rows, columns) in [(24, 60), (60, 24), (1, 9), (9, 1), (500, 460)] {
            let w = weight(rows, columns, 0.9);
            let d = directions(w.view(), 12).unwrap();
            assert_eq!(d.sigma.len(), 12.min(rows).min(columns));
            assert!(d.sigma.windows(2).all(|pair| pair[0] >= pair[1]));
            for k in 0..d.sigma.len() {
                let (u, v) = (row(&d.u, k, rows), row(&d.v, k, columns));
                // W v = sigma u, up to the rounding of u and v to f16.
                let wv: Vec<f64> =
                    w.rows().into_iter().map(|r| r.iter().zip(&v).map(|(&w, v)| f64::from(w) * v).sum()).collect();
                let off = wv.iter().zip(&u).map(|(wv, u)| (wv - f64::from(d.sigma[k]) * u).abs()).fold(0.0, f64::max);
                assert!(off <= 2e-3 * f64::from(d.sigma[0]), "{rows}x{columns}, direction {k}: {off}");
                assert!((dot(&v, &v) - 1.0).abs() < 2e-3);
                assert!((0..k).all(|j| dot(&v, &row(&d.v, j, columns)).abs() < 3e-3));
                let largest = v.iter().copied().fold(0.0, |best: f64, x| if x.abs() > best.abs() { x } else { best });
                assert!(largest > 0.0);
            }
        }
    }

    #[test]
    fn the_random_subspace_finds_what_the_full_decomposition_finds() {
        let w = weight(520, 600, 0.95);
        let fast = directions(w.view(), 32).unwrap();
        let full = triplets(Mat::from_fn(520, 600, |i, j| f64::from(w[[i, j]])).as_ref()).unwrap();
        let worst = (0..32).map(|k| (f64::from(fast.sigma[k]) / full.1[k] - 1.0).abs()).fold(0.0, f64::max);
        println!("largest relative error of a singular value: {worst:e}");
        assert!(worst < 1e-4);
        assert_eq!(fast, directions(w.view(), 32).unwrap());
    }

    #[test]
    fn a_weight_that_is_not_finite_is_refused_and_zeros_are_not() {
        let mut w = Array2::zeros((4, 5));
        assert_eq!(*directions(w.view(), 3).unwrap().sigma, [0.0; 3]);
        w[[1, 2]] = f32::NAN;
        assert_eq!(directions(w.view(), 3).unwrap_err().kind(), ErrorKind::Check);
    }
}
