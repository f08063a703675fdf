//! What is logged about requests that are refused.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use tracing::{debug, info, warn};

use crate::{error::Refusal, proxy::Trace};

/// Logs refusals, but not more than somebody can read: strangers must not be able to fill a disk.
#[derive(Default)]
pub(crate) struct Reporter {
    second: AtomicI64,
    lines: AtomicU32,
}

/// Most lines in a second.
const MAX_LINES: u32 = 100;
/// More of a path is not shown.
const MAX_PATH: usize = 200;

impl Reporter {
    /// Says who was refused what, and why. What a client may do wrong by accident is for those who look for it.
    pub(crate) fn report(&self, refusal: &Refusal, trace: &Trace<'_>, now_s: i64) {
        let route = trace.route.as_ref().map_or("none", |route| route.name.as_str());
        let rule = refusal.rule();
        let (status, reason, id) = (refusal.status().as_u16(), refusal.to_string(), trace.id.as_str());
        let method = trace.method.as_str();
        let path = trace.uri.path();
        let path = path.get(..path.floor_char_boundary(MAX_PATH)).unwrap_or_default();
        let caller = match refusal {
            Refusal::Forbidden(caller) => Some(caller),
            _ => trace.caller.as_ref(),
        };
        let tenant = caller.map(|caller| caller.tenant.as_str());
        let user = caller.map(|caller| caller.user.as_str());
        let interests = matches!(
            refusal,
            Refusal::Forbidden(_)
                | Refusal::Fixed(..)
                | Refusal::Token(_)
                | Refusal::RateLimited(_)
                | Refusal::Path(_)
                | Refusal::Framing(_)
        );
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
        if interests && self.has_room(now_s) {
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
