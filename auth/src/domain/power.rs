//! What somebody may hand out who is no administrator of the platform: no more than he has himself.

use std::collections::HashSet;

/// A permission that somebody shall get or lose, directly or with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stake {
    pub(crate) permission: i64,
    /// Whether it takes a right away.
    pub(crate) denies: bool,
}

/// What counts as somebody's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Power {
    /// A member of the group `admin`, who has everything.
    pub(crate) is_admin: bool,
    /// The permissions, directly and through groups.
    pub(crate) has: HashSet<i64>,
    /// One of them takes a right away. What is left then cannot be compared with what others have.
    pub(crate) is_restricted: bool,
}

impl Power {
    /// Whether he may give all of these to somebody, or act for somebody who has them.
    pub(crate) fn covers(&self, stakes: &[Stake]) -> bool {
        let has = |stake: &Stake| self.is_admin || self.has.contains(&stake.permission);
        !self.is_restricted && stakes.iter().all(has)
    }

    /// Whether he may take these from somebody. To take away a `deny` is to give.
    pub(crate) fn may_take(&self, stakes: &[Stake]) -> bool {
        self.is_unlimited() || stakes.iter().all(|stake| !stake.denies)
    }

    /// Whether there is nothing that he lacks.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.is_admin && !self.is_restricted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_hands_out_what_he_lacks() {
        let power = |is_admin, has: &[i64], is_restricted| Power {
            is_admin,
            has: has.iter().copied().collect(),
            is_restricted,
        };
        let permit = |permission| Stake { permission, denies: false };
        let deny = |permission| Stake { permission, denies: true };
        let cases = [
            // Who, what, whether he may give it and take it.
            (power(false, &[], false), vec![], true, true),
            (power(false, &[], false), vec![permit(1)], false, true),
            (power(false, &[1], false), vec![permit(1)], true, true),
            (power(false, &[1], false), vec![permit(1), permit(2)], false, true),
            (power(false, &[1, 2], true), vec![permit(1)], false, true),
            (power(false, &[1], false), vec![deny(2)], false, false),
            (power(true, &[1], false), vec![permit(7), deny(8)], true, true),
            (power(true, &[1, 8], true), vec![permit(7)], false, true),
            (power(true, &[1, 8], true), vec![deny(8)], false, false),
        ];
        for (who, what, may_give, may_take) in cases {
            assert_eq!((who.covers(&what), who.may_take(&what)), (may_give, may_take), "{who:?} {what:?}");
        }
    }
}
