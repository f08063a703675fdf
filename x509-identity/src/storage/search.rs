//! Conditions on certificates as SQL. Texts of clients are always bound, never part of a statement.

use common::wire::Tenant;
use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

use crate::domain::filter::{Condition, Member, Operand, Operator};

/// A search in the certificates of one tenant.
pub(crate) struct Search<'a> {
    tenant: &'a Tenant,
    conditions: &'a [Condition],
    /// The part of the statement after `WHERE`; `$1` is the tenant, `$2` and so on belong to the conditions.
    clause: String,
}

impl<'a> Search<'a> {
    pub(crate) fn new(tenant: &'a Tenant, conditions: &'a [Condition]) -> Self {
        let mut clause = "tenant = $1".to_owned();
        for (index, condition) in conditions.iter().enumerate() {
            clause.push_str(" AND ");
            clause.push_str(&test(condition, index + 2));
        }
        Self { tenant, conditions, clause }
    }

    /// Counts what is found.
    pub(crate) fn count(&self) -> Query<'a, Any, AnyArguments> {
        self.bound(format!("SELECT COUNT(*) FROM certificates WHERE {}", self.clause))
    }

    /// A part of what is found, the oldest first.
    pub(crate) fn page(&self, columns: &str, offset: i64, limit: i64) -> Query<'a, Any, AnyArguments> {
        let next = self.conditions.len() + 2;
        let statement = format!(
            "SELECT {columns} FROM certificates WHERE {} ORDER BY created_ms, fingerprint LIMIT ${next} OFFSET ${}",
            self.clause,
            next + 1
        );
        self.bound(statement).bind(limit).bind(offset)
    }

    fn bound(&self, statement: String) -> Query<'a, Any, AnyArguments> {
        let query = sqlx::query(AssertSqlSafe(statement)).bind(self.tenant.as_str());
        self.conditions.iter().fold(query, |query, condition| match &condition.operand {
            Operand::Text(text) => query.bind(text.as_str()),
            Operand::Date(ms) => query.bind(*ms),
        })
    }
}

/// `LIKE` does not heed the case in one of the engines; these functions do what they say in both.
fn test(condition: &Condition, number: usize) -> String {
    let (member, value) = (expression(condition.member), format!("${number}"));
    match condition.operator {
        Operator::Equals => format!("{member} = {value}"),
        Operator::Differs => format!("({member} IS NULL OR {member} <> {value})"),
        Operator::BeginsWith => format!("substr({member}, 1, length({value})) = {value}"),
        Operator::EndsWith => {
            format!("substr({member}, length({member}) - length({value}) + 1) = {value}")
        }
        Operator::Contains => format!("replace({member}, {value}, '') <> {member}"),
        Operator::Above => format!("{member} > {value}"),
        Operator::Below => format!("{member} < {value}"),
        // Every condition has one value; this one does not look at it.
        Operator::Absent => format!("({member} IS NULL AND {value} = '')"),
    }
}

fn expression(member: Member) -> &'static str {
    match member {
        Member::Fingerprint => "fingerprint",
        Member::SubjectDn => "subject_dn",
        Member::Device => "device",
        Member::Tenant => "tenant",
        Member::IssuedByDojotPki => "'true'",
        Member::AutoRegistered => "'false'",
        Member::Missing => "CAST(NULL AS TEXT)",
        Member::NotBefore => "not_before_ms",
        Member::NotAfter => "not_after_ms",
        Member::CreatedAt => "created_ms",
        Member::ModifiedAt => "modified_ms",
    }
}
