//! The one place that reads meaning into an HTTP status.
//!
//! Pure: the time is an argument. It promises that every status has exactly one reason, and that
//! nothing in an answer can make it fail. It does not look at bodies; a destination whose vendor
//! answers 200 with an error inside looks there itself.

use std::time::{Duration, SystemTime};

use holdfast_model::{DeliveryError, Reason};
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

/// Longest wait that is believed at all. A lane has its own, shorter limit
/// (`retry.server_wait_max`); this one only keeps sums of times from overflowing.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Turns a status into success, or the reason a lane acts on.
///
/// The classes are RFC 9110 section 15's. 408, 425 and 429 are the client errors that may succeed
/// unchanged later, and so is 409 here: a receiver that knows our `Idempotency-Key` says with it
/// that the same request is still being worked on
/// (draft-ietf-httpapi-idempotency-key-header, section 2.7).
///
/// `now` is needed because `Retry-After` may be a date.
pub fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<(), DeliveryError> {
    let reason = match status.as_u16() {
        200..=299 => return Ok(()),
        // We ask for no upgrade, so 101 answers something we did not say; hyper consumes the others.
        ..=199 | 600.. => Reason::BadAnswer,
        // A redirect is never followed: the body would go to an address nobody configured.
        300..=399 | 402 | 404 | 407 | 410 => Reason::Misconfigured,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        408 | 409 | 425 | 500..=599 => Reason::ServerFault,
        413 => Reason::TooLarge,
        429 => Reason::Throttled,
        400..=499 => Reason::Refused,
    };
    let mut error = DeliveryError::new(reason).with_status(status.as_u16());
    if matches!(reason, Reason::ServerFault | Reason::Throttled) {
        error.retry_after = retry_after(headers, now);
    }
    Err(error)
}

/// How long `Retry-After` asks us to stay away (RFC 9110 section 10.2.3), in either of its forms.
///
/// A date in the past is no wait. What is neither form is `None`: our own schedule is the better
/// answer then.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Only too many digits can fail here, and they mean "very long".
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let moment = httpdate::parse_http_date(text).ok()?;
        moment.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        httpdate::parse_http_date("Tue, 10 Mar 2026 06:00:00 GMT").unwrap()
    }

    fn headers(retry_after: Option<&str>) -> HeaderMap {
        retry_after.map(|text| (RETRY_AFTER, text.parse().unwrap())).into_iter().collect()
    }

    /// What a lane is told, in a few words per answer.
    fn verdict(status: u16, header: Option<&str>) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        match classify(status, &headers(header), now()) {
            Ok(()) => "delivered".into(),
            Err(error) => {
                assert_eq!(error.status, Some(status.as_u16()));
                match error.retry_after {
                    Some(wait) => format!("{} in {}s", error.reason.as_str(), wait.as_secs()),
                    None => error.reason.as_str().into(),
                }
            }
        }
    }

    #[test]
    fn every_status_has_one_reason() {
        #[rustfmt::skip]
        let table = [
            // status, Retry-After, verdict
            (101, None, "body_error"),
            (200, None, "delivered"),
            (202, Some("60"), "delivered"),
            (204, None, "delivered"),
            (299, None, "delivered"),
            (301, None, "wrong_setting"), // Never followed with a body.
            (304, None, "wrong_setting"),
            (307, None, "wrong_setting"),
            (400, None, "client_error"),
            (401, Some("60"), "auth"), // Waiting does not mend a credential.
            (402, None, "wrong_setting"),
            (403, Some("60"), "forbidden"),
            (404, None, "wrong_setting"),
            (405, None, "client_error"),
            (406, None, "client_error"),
            (407, None, "wrong_setting"),
            (408, None, "server_error"),
            (409, Some("2"), "server_error in 2s"),
            (410, None, "wrong_setting"),
            (411, None, "client_error"),
            (413, Some("60"), "too_large"),
            (415, None, "client_error"),
            (418, None, "client_error"),
            (422, None, "client_error"),
            (425, None, "server_error"),
            (429, None, "rate_limited"),
            (429, Some("30"), "rate_limited in 30s"),
            (429, Some("soon"), "rate_limited"),
            (499, None, "client_error"),
            (500, None, "server_error"),
            (501, None, "server_error"),
            (502, None, "server_error"),
            (503, Some("Tue, 10 Mar 2026 06:01:30 GMT"), "server_error in 90s"),
            (504, None, "server_error"),
            (599, None, "server_error"),
            (600, None, "body_error"),
            (999, None, "body_error"),
        ];
        for (status, header, expected) in table {
            assert_eq!(verdict(status, header), expected, "status {status}, header {header:?}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_garbage_is_none() {
        let seconds = |n| Some(Duration::from_secs(n));
        #[rustfmt::skip]
        let table = [
            ("0", seconds(0)),
            (" 30 ", seconds(30)),
            ("007", seconds(7)),
            ("99999999999999999999999", Some(RETRY_AFTER_MAX)),
            ("18446744073709551615", Some(RETRY_AFTER_MAX)),
            ("Tue, 10 Mar 2026 06:00:10 GMT", seconds(10)),
            ("Tuesday, 10-Mar-26 06:00:10 GMT", seconds(10)), // RFC 850, still to be accepted.
            ("Tue Mar 10 06:00:10 2026", seconds(10)),        // asctime, too.
            ("Mon, 09 Mar 2026 06:00:00 GMT", seconds(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(RETRY_AFTER_MAX)),
            ("", None), ("-1", None), ("+1", None), ("1.5", None), ("30s", None), ("soon", None),
        ];
        for (text, expected) in table {
            assert_eq!(retry_after(&headers(Some(text)), now()), expected, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_retry_after_can_make_it_fail(bytes: Vec<u8>) {
            if let Ok(value) = reqwest::header::HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
                let wait = retry_after(&headers, now());
                proptest::prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
            }
        }
    }
}
