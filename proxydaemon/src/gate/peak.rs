//! When many sessions have gone: what a gate held for them goes back then, as each later fork would have to look at it.

/// The most sessions at once, until most of them have gone.
#[derive(Debug, Default)]
pub struct Peak(usize);

impl Peak {
    /// Fewer leave nothing behind that would be worth it.
    const WORTH: usize = 256;

    /// Whether, with so many left, seven of eight have gone. Told once for each peak.
    pub fn is_over(&mut self, left: usize) -> bool {
        self.0 = self.0.max(left);
        let over = self.0 >= Self::WORTH && left <= self.0 / 8;
        if over {
            self.0 = left;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_over_once_seven_of_eight_have_gone() {
        let mut peak = Peak::default();
        let mut over =
            |counts: &mut dyn Iterator<Item = usize>| counts.filter(|left| peak.is_over(*left)).collect::<Vec<_>>();
        assert_eq!(over(&mut (0..=5000).chain((0..5000).rev())), [625, 78]);
        assert_eq!(over(&mut (0..=255).chain((0..255).rev())), [0; 0], "too few");
        assert_eq!(over(&mut (0..=256).chain((0..256).rev())), [32]);
        assert_eq!(over(&mut (0..1000).map(|turn| 200 + turn % 2 * 100)), [0; 0], "they come and go");
    }
}
