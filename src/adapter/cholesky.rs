//! The factor of a small symmetric matrix. Of our own, as the order of its sums is one for all processors.

/// Sums that run at a time. Their order is one for all processors, or a head would differ in its last bits.
const LANES: usize = 8;

/// a . b over the shorter of the two, in [`LANES`] sums that are added one after the other.
pub(super) fn dot<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    let (mut sums, len) = ([0.0; LANES], a.len().min(b.len()));
    let whole = len / LANES * LANES;
    for (a, b) in a[..whole].chunks_exact(LANES).zip(b[..whole].chunks_exact(LANES)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (x, y))| *sum += (*x).into() * (*y).into());
    }
    a[whole..len].iter().zip(&b[whole..len]).for_each(|(x, y)| sums[0] += (*x).into() * (*y).into());
    sums.iter().sum()
}

/// L of a symmetric `m` = L L^T, side x side; `None` where it has none.
pub(super) fn cholesky(mut m: Vec<f64>, side: usize) -> Option<Vec<f64>> {
    for i in 0..side {
        let (above, row) = m.split_at_mut(i * side);
        for j in 0..i {
            let other = &above[j * side..=j * side + j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let square = row[i] - dot(&row[..i], &row[..i]);
        if !(square.is_finite() && square > 0.0) {
            return None;
        }
        row[i] = square.sqrt();
    }
    Some(m)
}
