//! How long a socket may live (dojot-connectors.md 1.7, 11.1).

/// The rule that the settings choose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    /// Longest life in seconds; 0 is without an end.
    pub(crate) max_s: u32,
    /// dojot's rule: the later of the two limits instead of the earlier.
    pub(crate) outlive_token: bool,
}

impl Lifetime {
    /// When a socket that opens now has to close, seconds since the epoch.
    pub(crate) fn end(self, now_s: i64, token_expires_s: i64) -> i64 {
        if self.max_s == 0 {
            return if self.outlive_token { i64::MAX } else { token_expires_s };
        }
        let own = now_s.saturating_add(i64::from(self.max_s));
        if self.outlive_token { own.max(token_expires_s) } else { own.min(token_expires_s) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_limit_wins_unless_the_old_rule_is_chosen() {
        for (max_s, outlive_token, expires, end) in [
            (7200, false, 1_500, 1_500),
            (7200, false, 99_999, 8_200),
            (7200, true, 1_500, 8_200),
            (7200, true, 99_999, 99_999),
            (0, false, 1_500, 1_500),
            (0, true, 1_500, i64::MAX),
            (7200, false, 10, 10),
        ] {
            assert_eq!(
                Lifetime { max_s, outlive_token }.end(1_000, expires),
                end,
                "{max_s} {outlive_token} {expires}"
            );
        }
    }
}
