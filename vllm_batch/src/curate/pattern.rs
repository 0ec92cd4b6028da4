//! How long is a text that a regular expression matches?

use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange, parse::Parser, print::Printer};
use regex_syntax::hir::{Hir, HirKind};

/// So often at most may that be repeated which may be repeated without end: on the outermost level, and within what is
/// repeated itself.
const MOST: [u32; 2] = [64, 8];

/// The same expression, in which nothing is repeated without end; `None` if it is not one in Rust's syntax.
pub(super) fn bounded(pattern: &str) -> Option<String> {
    let mut ast = Parser::new().parse(pattern).ok()?;
    bound(&mut ast, 0);
    let mut bounded = String::with_capacity(pattern.len());
    Printer::new().print(&ast, &mut bounded).ok()?;
    Some(bounded)
}

/// `depth` is 1 within what is repeated.
fn bound(ast: &mut Ast, depth: usize) {
    match ast {
        Ast::Repetition(repetition) => {
            let least = match repetition.op.kind {
                RepetitionKind::ZeroOrMore => Some(0),
                RepetitionKind::OneOrMore => Some(1),
                RepetitionKind::Range(RepetitionRange::AtLeast(least)) => Some(least),
                RepetitionKind::ZeroOrOne | RepetitionKind::Range(_) => None,
            };
            if let Some(least) = least {
                let range = RepetitionRange::Bounded(least, least.max(MOST[depth]));
                repetition.op.kind = RepetitionKind::Range(range);
            }
            let is_many = !matches!(repetition.op.kind, RepetitionKind::ZeroOrOne);
            bound(&mut repetition.ast, if is_many { 1 } else { depth });
        }
        Ast::Group(group) => bound(&mut group.ast, depth),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(|one| bound(one, depth)),
        Ast::Concat(concat) => concat.asts.iter_mut().for_each(|one| bound(one, depth)),
        _ => {}
    }
}

/// The most characters that an expression matches; `None` if there is no limit, or if it is no expression in Rust's syntax.
pub(super) fn longest(pattern: &str) -> Option<usize> {
    most_chars(&regex_syntax::parse(pattern).ok()?)
}

fn most_chars(hir: &Hir) -> Option<usize> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(0),
        HirKind::Literal(literal) => Some(String::from_utf8_lossy(&literal.0).chars().count()),
        HirKind::Class(_) => Some(1),
        HirKind::Capture(capture) => most_chars(&capture.sub),
        HirKind::Repetition(repetition) => match (repetition.max, most_chars(&repetition.sub)) {
            (_, Some(0)) => Some(0),
            (Some(max), Some(each)) => Some(each.saturating_mul(max as usize)),
            _ => None,
        },
        HirKind::Concat(parts) => {
            parts.iter().try_fold(0_usize, |sum, part| Some(sum.saturating_add(most_chars(part)?)))
        }
        HirKind::Alternation(parts) => parts.iter().try_fold(0, |most, part| Some(most_chars(part)?.max(most))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_without_end_gets_one() {
        let cases = [
            (r"[^@\s]+@[^@\s]+", r"[^@\s]{1,64}@[^@\s]{1,64}", Some(129)),
            (r"[0-9]+(\.[0-9]+)*", r"[0-9]{1,64}(\.[0-9]{1,8}){0,64}", Some(64 + 64 * 9)),
            (r"(?:a*?b){3,}c{100,}", r"(?:a{0,8}?b){3,64}c{100,100}", Some(64 * 9 + 100)),
            (r"[A-Z]{2}-[0-9]{3}|é*", r"[A-Z]{2}-[0-9]{3}|é{0,64}", Some(64)),
            (r"(a+)?\+\*", r"(a{1,64})?\+\*", Some(66)),
            ("^(?:x|yz)$", "^(?:x|yz)$", Some(2)),
            ("", "", Some(0)),
        ];
        for (pattern, expected, chars) in cases {
            let found = bounded(pattern).unwrap();
            assert_eq!((found.as_str(), longest(&found)), (expected, chars), "{pattern}");
        }
        assert_eq!((bounded("("), longest("("), longest("a+")), (None, None, None));
    }
}
