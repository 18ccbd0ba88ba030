//! How memory goes with sessions, told from points of (sessions, KiB).

/// The most there was, MiB.
pub(crate) fn most(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|point| point.1 / 1024.0).fold(0.0, f64::max)
}

/// How memory goes with sessions, bytes a session.
pub(crate) struct Growth {
    /// The middle of the slopes between any two points (Theil and Sen).
    pub(crate) middle: f64,
    /// Kendall's 95 % bounds of it. Databases are opened, filled and closed, so memory goes up and down by
    /// megabytes: growth is shown when the lower bound is above nothing.
    pub(crate) bounds: (f64, f64),
}

/// From points of (sessions, KiB).
pub(crate) fn growth(points: &[(f64, f64)]) -> Growth {
    let mut slopes = Vec::new();
    for (at, a) in points.iter().enumerate() {
        slopes.extend(points[at + 1..].iter().map(|b| (b.1 - a.1) / (b.0 - a.0) * 1024.0));
    }
    slopes.sort_by(f64::total_cmp);
    let (n, count) = (points.len() as f64, slopes.len() as f64);
    let spread = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let at = |place: f64| slopes[(place.max(0.0) as usize).min(slopes.len() - 1)];
    Growth { middle: at(count / 2.0), bounds: (at((count - spread) / 2.0), at((count + spread) / 2.0)) }
}

/// Means of points next to each other, so many of them: ups and downs within one even out.
pub(crate) fn blocks(points: &[(f64, f64)], count: usize) -> Vec<(f64, f64)> {
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    points.chunks(points.len().div_ceil(count).max(1)).map(mean).collect()
}

#[test]
fn growth_is_told_from_ups_and_downs() {
    let points = |each: f64| -> Vec<(f64, f64)> {
        (0..30)
            .map(|n| (f64::from(n) * 1_000.0, 200_000.0 + f64::from(n * 7 % 10) * 1_000.0 + f64::from(n) * each * 1_000.0 / 1_024.0))
            .collect()
    };
    for (each, grows) in [(0.0, false), (-300.0, false), (1_100.0, true)] {
        let found = growth(&points(each));
        assert_eq!(found.bounds.0 > 1.0, grows, "{each}: {} {:?}", found.middle, found.bounds);
        assert!((found.middle - each).abs() < 200.0, "{each}: {}", found.middle);
    }
}

#[test]
fn means_even_ups_and_downs_out() {
    let points: Vec<(f64, f64)> = (0..600).map(|n| (f64::from(n), f64::from(n % 30) * 1_000.0 + f64::from(n))).collect();
    let means = blocks(&points, 20);
    assert_eq!((means.len(), means[0], means[19].0), (20, (14.5, 14_514.5), 584.5));
    assert!((growth(&means).middle - 1_024.0).abs() < 1.0, "{}", growth(&means).middle);
}
