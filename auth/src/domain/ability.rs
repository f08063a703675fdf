//! Abilities: what dojot's dashboards make of permissions (dojot-api.md 7.2). They know some paths and methods of the first start by
//! their exact texts, and show or hide their pages accordingly.

use std::collections::HashSet;

use super::permission::Permission;

/// That somebody may see something, or change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ability {
    /// What it is about.
    pub(crate) subject: &'static str,
    /// `viewer` or `modifier`.
    pub(crate) action: &'static str,
}

/// A permission that a group shall get or lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) ability: Ability,
    /// Identifier of the permission.
    pub(crate) permission: i64,
    /// Whether it is given, not taken away.
    pub(crate) gives: bool,
}

const VIEWER: &str = "viewer";
const MODIFIER: &str = "modifier";
/// Methods and their actions.
type Methods = &'static [(&'static str, &'static str)];

const ANY: Methods = &[("(.*)", MODIFIER)];
const GET: Methods = &[("GET", VIEWER)];
const GET_AND_ANY: Methods = &[("(.*)", MODIFIER), ("GET", VIEWER)];

/// Path, subject, and the actions of the methods.
const SUBJECTS: [(&str, &str, Methods); 13] = [
    ("/auth/user/(.*)", "user", GET_AND_ANY),
    ("/x509/v1/ca/(.*)", "ca", GET_AND_ANY),
    ("/x509/v1/certificates/(.*)", "ca-sign", GET_AND_ANY),
    ("/device/(.*)", "device", GET_AND_ANY),
    ("/export/(.*)", "export", GET),
    ("/flows/(.*)", "flows", GET_AND_ANY),
    ("/history/(.*)", "history", GET),
    ("/import/(.*)", "import", &[("POST", MODIFIER)]),
    ("/auth/pap/(.*)", "permission", GET_AND_ANY),
    ("/stream/socketio/", "socketio", GET),
    ("/template/(.*)", "template", GET_AND_ANY),
    ("/fw-image/(.*)", "fw-image", GET_AND_ANY),
    ("/graphql/(.*)", "backstage-graphql", ANY),
];

impl Ability {
    /// What a permission lets its holders do, if dashboards know it. One that denies lets nobody do anything.
    pub(crate) fn of(permission: &Permission) -> Option<Self> {
        let terms = &permission.terms;
        let (_, subject, methods) = SUBJECTS.iter().find(|(path, ..)| *path == terms.path)?;
        let (_, action) = methods.iter().find(|(method, _)| *method == terms.method)?;
        (terms.effect == "permit").then_some(Self { subject, action })
    }
}

/// The actions of each subject, each once, in the order of the permissions.
pub(crate) fn by_subject(permissions: &[Permission]) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut subjects: Vec<(&str, Vec<&str>)> = Vec::new();
    for Ability { subject, action } in permissions.iter().filter_map(Ability::of) {
        match subjects.iter_mut().find(|(known, _)| *known == subject) {
            None => subjects.push((subject, vec![action])),
            Some((_, actions)) if !actions.contains(&action) => actions.push(action),
            Some(_) => {}
        }
    }
    subjects
}

/// What has to change so that a group has the wanted abilities, of those that the platform's own permissions give, and no others.
/// What dashboards do not know is left alone.
pub(crate) fn changes(system: &[Permission], held: &[Permission], wanted: &HashSet<Ability>) -> Vec<Change> {
    let has: HashSet<Ability> = held.iter().filter_map(Ability::of).collect();
    let change = |gives| {
        move |permission: &Permission| {
            Ability::of(permission).map(|ability| Change { ability, permission: permission.id, gives })
        }
    };
    let mut given = HashSet::new();
    let missing = system.iter().filter_map(change(true)).filter(|change| {
        wanted.contains(&change.ability) && !has.contains(&change.ability) && given.insert(change.ability)
    });
    let unwanted = held.iter().filter_map(change(false)).filter(|change| !wanted.contains(&change.ability));
    missing.chain(unwanted).collect()
}

/// The ability that dashboards call so.
pub(crate) fn named(subject: &str, action: &str) -> Option<Ability> {
    let (_, subject, methods) = SUBJECTS.iter().find(|(_, name, _)| *name == subject)?;
    let (_, action) = methods.iter().find(|(_, name)| *name == action)?;
    Some(Ability { subject, action })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{bootstrap::PERMISSIONS, permission::Terms};

    fn permission(id: i64, path: &str, method: &str, effect: &str) -> Permission {
        let [path, method, effect] = [path, method, effect].map(str::to_owned);
        let terms = Terms { path, method, effect, kind: "system".to_owned() };
        Permission { id, name: format!("p{id}"), terms, created_ms: 0, created_by: 0 }
    }

    fn system() -> Vec<Permission> {
        let first = |(index, first): (usize, &crate::domain::bootstrap::FirstPermission)| {
            permission(index as i64 + 1, first.path, first.method, "permit")
        };
        PERMISSIONS.iter().enumerate().map(first).collect()
    }

    #[test]
    fn the_permissions_of_the_first_start_are_known_but_for_the_one_that_permits_all() {
        let system = system();
        let unknown: Vec<&str> = system
            .iter()
            .filter(|permission| Ability::of(permission).is_none())
            .map(|permission| permission.terms.path.as_str())
            .collect();
        assert_eq!(unknown, ["/(.*)"]);
        let expected = [
            ("template", vec![MODIFIER, VIEWER]),
            ("device", vec![MODIFIER, VIEWER]),
            ("flows", vec![MODIFIER, VIEWER]),
            ("history", vec![VIEWER]),
            ("user", vec![MODIFIER, VIEWER]),
            ("permission", vec![MODIFIER, VIEWER]),
            ("ca", vec![MODIFIER, VIEWER]),
            ("ca-sign", vec![MODIFIER, VIEWER]),
            ("socketio", vec![VIEWER]),
            ("import", vec![MODIFIER]),
            ("export", vec![VIEWER]),
            ("fw-image", vec![VIEWER, MODIFIER]),
            ("backstage-graphql", vec![MODIFIER]),
        ];
        assert_eq!(by_subject(&system), expected);
        assert_eq!(expected.len(), SUBJECTS.len());
    }

    #[test]
    fn what_dashboards_do_not_know_is_no_ability() {
        for (path, method, effect) in [
            ("/device/(.*)", "POST", "permit"),
            ("/device/(.*)", "GET", "deny"),
            ("/device/(.*)", "GET", "notApplicable"),
            ("/device", "GET", "permit"),
            ("/import/(.*)", "GET", "permit"),
        ] {
            assert_eq!(Ability::of(&permission(1, path, method, effect)), None, "{path} {method} {effect}");
        }
        assert_eq!(named("device", "owner"), None);
        assert_eq!(named("devices", VIEWER), None);
        assert_eq!(named("history", MODIFIER), None);
        // Each once, also when two permissions say the same.
        let twice =
            [permission(1, "/export/(.*)", "GET", "permit"), permission(2, "/export/(.*)", "GET", "permit")];
        assert_eq!(by_subject(&twice), [("export", vec![VIEWER])]);
    }

    #[test]
    fn a_group_gets_what_it_lacks_and_loses_what_is_not_wanted() {
        let system = system();
        let ability = |subject, action| named(subject, action).unwrap();
        let wanted = HashSet::from([ability("device", VIEWER), ability("history", VIEWER)]);
        let held = [
            permission(5, "/device/(.*)", "GET", "permit"),
            permission(4, "/device/(.*)", "(.*)", "permit"),
            permission(1, "/(.*)", "(.*)", "permit"),
            permission(30, "/device/(.*)", "PUT", "permit"),
            permission(31, "/template/(.*)", "GET", "deny"),
        ];
        let changes = |held| changes(&system, held, &wanted);
        let gives = |permission, gives, ability| Change { ability, permission, gives };
        let expected =
            [gives(8, true, ability("history", VIEWER)), gives(4, false, ability("device", MODIFIER))];
        assert_eq!(changes(&held), expected);
        // Somebody's own permission for the same counts, and is taken away as any other.
        let own = [
            permission(40, "/history/(.*)", "GET", "permit"),
            permission(41, "/flows/(.*)", "GET", "permit"),
        ];
        let expected =
            [gives(5, true, ability("device", VIEWER)), gives(41, false, ability("flows", VIEWER))];
        assert_eq!(changes(&own), expected);
    }
}
