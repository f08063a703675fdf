//! What is logged about requests that are refused.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use axum::http::StatusCode;
use common::http::Caller;
use tracing::{debug, info, warn};

use crate::{error::Refusal, proxy::Trace};

/// Logs refusals, but not more than somebody can read: strangers must not be able to fill a disk.
#[derive(Default)]
pub(crate) struct Reporter {
    second: AtomicI64,
    lines: AtomicU32,
}

/// What a line says beside the request.
#[derive(Clone, Copy)]
struct Line<'a> {
    rule: &'static str,
    status: StatusCode,
    reason: &'a str,
    caller: Option<&'a Caller>,
}

/// Most lines in a second.
const MAX_LINES: u32 = 100;
/// More of a path is not shown.
const MAX_PATH: usize = 200;

impl Reporter {
    /// Says who was refused what by the gateway, and why.
    pub(crate) fn report(&self, refusal: &Refusal, trace: &Trace<'_>, now_s: i64) {
        let caller = match refusal {
            Refusal::Forbidden(caller) => Some(caller),
            _ => trace.caller.as_ref(),
        };
        let (status, reason) = (refusal.status(), refusal.to_string());
        self.write(
            Line { rule: refusal.rule(), status, reason: &reason, caller: caller.map(AsRef::as_ref) },
            trace,
            now_s,
        );
    }

    /// Says who was refused by a service: a wrong password, or what its own rules forbid.
    pub(crate) fn report_service(&self, status: StatusCode, trace: &Trace<'_>, now_s: i64) {
        let caller = trace.caller.as_deref();
        self.write(Line { rule: "service", status, reason: "refused by the service", caller }, trace, now_s);
    }

    /// Beyond what somebody can read in a second, lines are for those who look for them.
    fn write(&self, line: Line<'_>, trace: &Trace<'_>, now_s: i64) {
        let Line { rule, status, reason, caller } = line;
        let route = trace.route.as_ref().map_or("none", |route| route.name.as_str());
        let (status, id) = (status.as_u16(), trace.id.as_str());
        let method = trace.method.as_str();
        let path = trace.uri.path();
        let path = path.get(..path.floor_char_boundary(MAX_PATH)).unwrap_or_default();
        let tenant = caller.map(|caller| caller.tenant.as_str());
        let user = caller.map(|caller| caller.user.as_str());
        // A level is part of the place in the code, so there is a place for each.
        macro_rules! refused {
            ($level:ident) => {
                $level!(
                    granted = false,
                    route,
                    rule,
                    status,
                    reason,
                    method,
                    path,
                    tenant,
                    user,
                    request.id = id,
                    "refused"
                )
            };
        }
        if self.has_room(now_s) {
            refused!(info);
        } else {
            refused!(debug);
        }
    }

    fn has_room(&self, now_s: i64) -> bool {
        if self.second.swap(now_s, Ordering::Relaxed) != now_s {
            let lines = self.lines.swap(0, Ordering::Relaxed);
            if let Some(left_out @ 1..) = lines.checked_sub(MAX_LINES) {
                warn!(count = left_out, "refusals were not logged because there were too many in a second");
            }
        }
        self.lines.fetch_add(1, Ordering::Relaxed) < MAX_LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_to_the_lines_of_a_second() {
        let reporter = Reporter::default();
        let logged = |now_s| (0..2 * MAX_LINES).filter(|_| reporter.has_room(now_s)).count();
        assert_eq!(logged(1), MAX_LINES as usize);
        assert_eq!(logged(2), MAX_LINES as usize);
    }
}
