//! Numbers of several rounds: median, spread, ratio.

use std::time::Duration;

/// What was measured of one thing, once a turn.
#[derive(Clone, Debug, Default)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    /// The middle one; none without any.
    pub fn median(&self) -> Option<f64> {
        quantile(&self.0, 0.5)
    }

    /// Half of what lies between the least and the largest, as a part of the median.
    pub fn spread(&self) -> Option<f64> {
        let least = self.0.iter().copied().reduce(f64::min)?;
        let largest = self.0.iter().copied().reduce(f64::max)?;
        Some((largest - least) / 2.0 / self.median()?)
    }
}

/// The value below which that part of the others lies; between two values what lies between them.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// A quantile of times, in milliseconds.
pub fn milliseconds(times: &[Duration], part: f64) -> f64 {
    let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
    quantile(&times, part).unwrap_or(f64::NAN)
}

/// As many digits as say something.
pub fn shown(value: f64) -> String {
    match value.abs() {
        value if !value.is_finite() => "–".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        let figures = Figures(vec![3.0, 1.0, 2.0]);
        assert_eq!((figures.median(), figures.spread()), (Some(2.0), Some(0.5)));
        assert_eq!(Figures(vec![1.0, 2.0]).median(), Some(1.5));
        assert_eq!(Figures::default().median(), None);
        assert_eq!(quantile(&[0.0, 10.0], 0.99), Some(9.9));
    }
}
