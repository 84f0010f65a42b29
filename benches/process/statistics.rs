//! What many rounds say.

/// Numbers that are random enough for shuffling and for resampling, and the same for the same seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// One of `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let wide = u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// The value below which this share of them lies, between neighbours in proportion.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many rounds")]
    let place = share * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let below = place.floor() as usize;
    sorted[below] + (sorted[(below + 1).min(last)] - sorted[below]) * place.fract()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// An estimate, and where 95 of 100 such experiments would find it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) estimate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The median, with the percentile bootstrap: as many values as there are, drawn from them with replacement, many times.
pub(crate) fn median_with_interval(values: &[f64], random: &mut Random) -> Interval {
    const RESAMPLES: usize = 2000;
    let mut resample = || median(&(0..values.len()).map(|_| values[random.below(values.len())]).collect::<Vec<_>>());
    let medians: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    Interval { estimate: median(values), low: quantile(&medians, 0.025), high: quantile(&medians, 0.975) }
}
