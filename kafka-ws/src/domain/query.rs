//! The query of a subscription (dojot-connectors.md 1.2).

use super::ticket::Ticket;

/// What the query asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subscribe {
    /// The secret that opens the socket.
    pub(crate) ticket: Ticket,
    /// Whether `fields` or `where` ask for a part of the messages.
    pub(crate) has_filters: bool,
}

/// Why a query opens no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadQuery {
    /// There is no ticket.
    MissingTicket,
    /// What is given cannot be a ticket.
    InvalidTicket,
}

/// Reads the parameters. Unknown ones are ignored.
pub(crate) fn parse(parameters: &[(String, String)]) -> Result<Subscribe, BadQuery> {
    let mut tickets = parameters.iter().filter(|(name, _)| name == "ticket");
    let (_, ticket) = tickets.next().ok_or(BadQuery::MissingTicket)?;
    if ticket.is_empty() {
        return Err(BadQuery::MissingTicket);
    }
    if tickets.next().is_some() {
        return Err(BadQuery::InvalidTicket);
    }
    let has_filters = parameters
        .iter()
        .any(|(name, value)| matches!(name.as_str(), "fields" | "where") && !value.is_empty());
    let ticket = Ticket::parse(ticket).ok_or(BadQuery::InvalidTicket)?;
    Ok(Subscribe { ticket, has_filters })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(parameters: &[(&str, &str)]) -> Result<Subscribe, BadQuery> {
        let owned: Vec<_> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(&owned)
    }

    #[test]
    fn the_ticket_is_needed_once_and_well_formed() {
        let good = "0".repeat(64);
        assert_eq!(query(&[]), Err(BadQuery::MissingTicket));
        assert_eq!(query(&[("ticket", "")]), Err(BadQuery::MissingTicket));
        assert_eq!(query(&[("Ticket", &good)]), Err(BadQuery::MissingTicket));
        assert_eq!(query(&[("ticket", "short")]), Err(BadQuery::InvalidTicket));
        assert_eq!(query(&[("ticket", &good), ("ticket", &good)]), Err(BadQuery::InvalidTicket));
        assert!(query(&[("x", "y"), ("ticket", &good)]).is_ok());
    }

    #[test]
    fn empty_filters_are_no_filters() {
        let good = "0".repeat(64);
        for (parameters, has_filters) in [
            (vec![("ticket", good.as_str())], false),
            (vec![("ticket", good.as_str()), ("fields", ""), ("where", "")], false),
            (vec![("ticket", good.as_str()), ("fields", "a,b")], true),
            (vec![("ticket", good.as_str()), ("where", ""), ("where", "a=1;")], true),
        ] {
            assert_eq!(query(&parameters).unwrap().has_filters, has_filters, "{parameters:?}");
        }
    }
}
