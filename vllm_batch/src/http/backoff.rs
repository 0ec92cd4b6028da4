//! How long to wait before another try?

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use chrono::DateTime;

/// How often, how soon and how long a request is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Tries after the first one.
    pub(crate) max_retries: u32,
    /// The longest first pause; it doubles with each try.
    pub(crate) base: Duration,
    /// No pause is longer, unless the server asks for it.
    pub(crate) max_pause: Duration,
    /// All tries and pauses of a request together.
    pub(crate) deadline: Duration,
}

impl RetryPolicy {
    /// The pause after the given number of tries: a random part of the whole ("full jitter"), so that requests that failed
    /// together do not come back together; what the server asks for is added.
    pub(crate) fn pause(&self, tries: u32, retry_after: Option<Duration>) -> Duration {
        let factor = 2_u32.saturating_pow(tries.saturating_sub(1));
        let longest = self.base.saturating_mul(factor).min(self.max_pause);
        longest.mul_f64(random()).saturating_add(retry_after.unwrap_or_default())
    }
}

/// A random number in [0, 1). The standard library's hash maps are keyed at random; nothing better is needed here.
pub(crate) fn random() -> f64 {
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}

/// What a `Retry-After` header asks for: seconds, or a date. One that says neither is as good as none.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(header.trim()).ok()?.timestamp();
    let date = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(date).ok()?))?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_one() {
        let ms = Duration::from_millis;
        let policy = RetryPolicy { max_retries: 9, base: ms(100), max_pause: ms(350), deadline: ms(1) };
        for (tries, longest) in [(1, 100), (2, 200), (3, 350), (40, 350), (u32::MAX, 350)] {
            for _ in 0..100 {
                assert!(policy.pause(tries, None) <= ms(longest), "{tries}");
            }
            let asked = policy.pause(tries, Some(ms(5000)));
            assert!((ms(5000)..=ms(5000 + longest)).contains(&asked), "{tries}: {asked:?}");
        }
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| policy.pause(3, None)).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
        assert_eq!(policy.pause(1, Some(Duration::MAX)), Duration::MAX);
    }

    #[test]
    fn both_forms_of_retry_after_are_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        let cases = [
            ("0", Some(Duration::ZERO)),
            (" 12 ", Some(Duration::from_secs(12))),
            ("0.5", Some(Duration::from_millis(500))),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(Duration::from_secs(10))),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(Duration::ZERO)),
            ("-1", None),
            ("NaN", None),
            ("1e300", None),
            ("soon", None),
        ];
        for (header, expected) in cases {
            assert_eq!(retry_after(header, now), expected, "{header}");
        }
    }
}
