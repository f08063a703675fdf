//! Which passwords a user may choose (dojot-api.md 2.6). The texts are dojot's, spaces included.

use std::collections::HashSet;

use super::user::User;

/// Said about the password that the user has.
pub(crate) const IS_CURRENT: &str = "Please, choose a password that was not used before.";
/// Said about one that the user had.
pub(crate) const IS_FORMER: &str = "Please, choose a password that was not used before";

/// The rules for passwords, all but that they must be new.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// Fewest characters.
    pub(crate) min_length: usize,
    /// Passwords that are known too well.
    pub(crate) blacklist: HashSet<String>,
}

impl Policy {
    const MAX_LENGTH: usize = 512;
    /// A text of the user's that is this long must not be in the password.
    const HINT: usize = 5;

    /// Says which rule a password breaks.
    pub(crate) fn check(&self, password: &str, user: &User) -> Result<(), String> {
        let characters: Vec<char> = password.chars().collect();
        if characters.len() < self.min_length {
            return Err(format!("password must have at least {} characters", self.min_length));
        }
        if characters.len() > Self::MAX_LENGTH {
            return Err("Calm down! 512 characters is the  maximum password length".to_owned());
        }
        if [&user.username, &user.email, &user.name].into_iter().any(|hint| shares(password, hint)) {
            return Err("Please, choose a password that is harder to guess. \
                        Your user info may give hints on this password"
                .to_owned());
        }
        if characters.windows(3).any(is_sequence) {
            return Err("do not use passwords with  easy to guess character sequences".to_owned());
        }
        if self.blacklist.contains(password) {
            return Err("This password can't be used, as it is  in our blacklist of bad passwords".to_owned());
        }
        Ok(())
    }
}

/// Whether a part of the hint is in the password, whatever their capitals.
fn shares(password: &str, hint: &str) -> bool {
    let password = password.to_lowercase();
    let hint: Vec<char> = hint.to_lowercase().chars().collect();
    hint.windows(Policy::HINT).any(|part| password.contains(&part.iter().collect::<String>()))
}

/// Whether three characters are equal, or count up or down.
fn is_sequence(three: &[char]) -> bool {
    let [a, b, c] = three else { return false };
    let (first, second) = (*b as i64 - *a as i64, *c as i64 - *b as i64);
    first == second && (-1..=1).contains(&first)
}

#[cfg(test)]
mod tests {
    use common::wire::Tenant;

    use super::*;

    #[test]
    fn rows_of_the_contract() {
        const SHORT: &str = "password must have at least 8 characters";
        const LONG: &str = "Calm down! 512 characters is the  maximum password length";
        const HINT: &str = "Please, choose a password that is harder to guess. Your user info may give hints on this password";
        const SEQUENCE: &str = "do not use passwords with  easy to guess character sequences";
        const BLACK: &str = "This password can't be used, as it is  in our blacklist of bad passwords";
        let user = User {
            id: 2,
            username: "joaosilva".to_owned(),
            name: "João da Conceição".to_owned(),
            tenant: Tenant::parse("t").unwrap(),
            email: "js@Example.com".to_owned(),
            profile: "user".to_owned(),
            created_ms: 0,
            created_by: 1,
        };
        let policy = Policy { min_length: 8, blacklist: ["pa55w0rd".to_owned()].into() };
        let fits = "xq".repeat(256);
        for (password, expected) in [
            ("", Err(SHORT)),
            ("äöüäöüä", Err(SHORT)),
            ("äöüäöüäö", Ok(())),
            (fits.as_str(), Ok(())),
            (&format!("{fits}y"), Err(LONG)),
            ("xxSILVxx", Ok(())),
            ("yyOSILVAy", Err(HINT)),
            ("qqexampqq", Err(HINT)),
            ("wwCONCEIÇÃOww", Err(HINT)),
            ("q7abcw9x", Err(SEQUENCE)),
            ("q7CBAw9x", Err(SEQUENCE)),
            ("q7111w9x", Err(SEQUENCE)),
            ("q7aBcw9x", Ok(())),
            ("q7acew9x", Ok(())),
            ("pa55w0rd", Err(BLACK)),
            ("Pa55w0rd", Ok(())),
        ] {
            assert_eq!(policy.check(password, &user), expected.map_err(str::to_owned), "{password}");
        }
    }
}
