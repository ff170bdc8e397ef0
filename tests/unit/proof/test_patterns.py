"""Globs and regexes as terms: the same texts as RE2's own matching, construct by construct, and an end to what explodes."""

import time

import pytest

from broker.policy.conditions import compile_pattern, glob_to_re2, matches
from broker.proof import languages, region_of
from broker.proof.alphabet import ranges
from broker.proof.languages import Pattern
from broker.proof.syntax import Opaque, glob_term, regex_term
from broker.proof.terms import Budget, Exhausted, after, shortest

TEXTS = [
    "", "a", "b", "ab", "aab", "abab", "A", "AB", "main", "MAIN", "Main", "main-x", "refs/heads/main", "refs/heads/a/b", "/",
    "a/b", "a/b/c", "//", "0", "7", "42", "a1", "_", "-", ".", "a.b", "a b", " ", "é", "É", "日本", "ß", "\u017f", "\u212a", "k",
    "K", "s", "S", "a\n", "\n", "a\x07", "\x07", "\x7f", "\u00a0", "\u200b", "a{2}", "{", "}", "a{,2}", "a]", "]", "[", "^", "$",
    "^a$", "a|b", "a*", "(a)", "\\", "aaaa", "aaaaa", "x" * 40, "\U0001f600", "a-z", "a-", "\t",
]  # fmt: skip
READ = [
    "a", "ab", "a|b", "a|", "(a|b)*", "(?:ab)+", "(?P<n>a)b?", "(?<n>a)b?", "a*b", "a+?b", "a??", "a{2}", "a{2,}", "a{0,2}", "a{2,5}?",
    "a{,2}", "a{", "{", "}", ".", ".*", "a.b", "a\\.b", "[ab]+", "[^/]*", "[^/]+/[^/]+", "[a-c/]+", "[]a]+", "[^]a]+", "[a\\]]+", "[\\w.-]+",
    "[[:alpha:]]+", "[[:^alpha:]]+", "[^[:digit:]]+", "[a-]+", "[-a]+", "[a\\-z]+", "\\d+", "\\D+", "\\s", "\\S+", "\\w+", "\\W+", "\\pL+",
    "\\p{Lu}+", "\\P{L}+", "\\p{^L}+", "\\p{Han}+", "[\\p{Greek}\\d]+", "[^\\pL]+", "(?i)main", "(?i:m)ain", "(?i)k", "(?i)[ks]+", "(?i)[^k]",
    "(?i)\\w+", "(?i)\\W", "(?i)é", "(?i)ß", "(?-i)a", "(?i)a(?-i)b", "(?i)a|b", "((?i)a)b", "a(?i)b|c", "(?s).+", "(?m)^a$", "(?U)a*b", "(?is)A.B",
    "^a$", "^(a|b)$", "(^a|^b)$", "(?:^a)", "^^a$$", "\\Aa\\z", "(?:a$|b$)", "(?:^a)?", "^", "$", "\\Qa.b\\E", "\\Qa|b", "\\x61", "\\x{e9}", "\\x{1F600}",
    "\\141", "\\07", "\\n", "a\\n", "\\a", "\\t", "é+", "日本", "[é-ü]", "(a*)*", "(a|b*)+", "(a?){2,3}", "((a{1,2}){1,2}){1,2}", "[^a-zA-Z0-9]",
    "a\\/b", "\\-", "\\_", "x{40}", "[\\x61-\\x63]+", "[\\141]", "[[:word:]]+", "()", "(|a)", "a(?:)b", "[a-\\x{10FFFF}]", "[^\\x00-\\x{10FFFF}]",
]  # fmt: skip
UNREAD = ["\\bmain\\b", "a\\Bb", "a^b", "a$b", "(a^)*", "(?:^a)+b^", "\\C", "a(?:$)b?", "(" * 80 + "a" + ")" * 80]
GLOBS = [
    "*",
    "**",
    "a*",
    "a**",
    "*/*",
    "**/b",
    "a?",
    "refs/heads/*",
    "refs/heads/**",
    "a/*/c",
    "a.b",
    "[a]",
    "a{2}",
    "a\nb",
    "é*",
    "?",
    "^a$",
]


@pytest.mark.parametrize("pattern", READ)
def test_a_regex_is_read_as_re2_reads_it(pattern: str) -> None:
    compiled, term, budget = compile_pattern(pattern), regex_term(pattern), Budget()
    for text in TEXTS:
        assert after(term, text, budget).nullable == matches(compiled, text), text
    found = shortest(term, budget)
    assert (found is not None) or not any(text and matches(compiled, text) for text in TEXTS)
    assert found is None or matches(compiled, found)


@pytest.mark.parametrize("glob", GLOBS)
def test_a_glob_is_read_as_it_is_translated(glob: str) -> None:
    compiled, term = compile_pattern(glob_to_re2(glob)), glob_term(glob)
    for text in TEXTS:
        assert after(term, text, Budget()).nullable == matches(compiled, text), text


@pytest.mark.parametrize("pattern", UNREAD)
def test_what_is_beyond_the_reader_is_said_to_be(pattern: str) -> None:
    with pytest.raises(Opaque):
        regex_term(pattern)
    assert languages.opaque("regex", pattern)


@pytest.mark.parametrize("pattern", UNREAD[:5])
def test_what_is_not_read_still_equals_itself_and_never_matches_a_control_character(pattern: str) -> None:
    said = Pattern("regex", pattern)
    both = languages.both
    assert languages.is_empty(both(said, languages.complement(said)), Budget())
    assert languages.is_empty(both(said, languages.Words(frozenset({"main\n"}))), Budget())
    assert not languages.is_empty(both(said, Pattern("glob", "m*")), Budget())
    assert languages.is_empty(both(said, Pattern("glob", "m*"), languages.complement(said)), Budget())
    assert languages.is_empty(both(Pattern("glob", "a*"), said, Pattern("glob", "b*")), Budget())


def test_plain_values_are_tried_on_a_pattern_that_is_not_read() -> None:
    said = Pattern("regex", "\\bmain\\b")
    assert languages.both(said, languages.Words(frozenset({"main", "other"}))) == languages.Words(frozenset({"main"}))


@pytest.mark.parametrize(
    "source", ["[a-f]", "[^/]", ".", "\\d", "\\W", "[\\w.-]", "[^\\s]", "[a-zA-Z0-9_]", "[.@:/-]", "[\\^\\]]", "[^a]"]
)
def test_what_is_read_here_of_classes_is_what_re2_says(source: str) -> None:
    assert ranges(source) == ranges(f"(?:{source})")  # the second is asked of RE2


@pytest.mark.parametrize(
    "pattern",
    [
        "(a|b)*a(a|b){14}", "((a|b)*c(a|b){9}){3}", ".*a.{200}b.*", "(?:[ab]*a[ab]{12}|[bc]*c[bc]{12})*", "(a?){100}a{100}", "([a-z]*-){12}x",
        "((((a*b)*c)*d)*e)*", "(x+x+)+y", "(.*,){20}x",
    ],
)  # fmt: skip
def test_patterns_made_to_explode_end_within_the_budget(pattern: str) -> None:
    other = Pattern("regex", "(b|c)*b(b|c){13}|.*x.{60}")
    began = time.process_time()
    for language in (Pattern("regex", pattern), languages.both(Pattern("regex", pattern, negated=True), other)):
        try:
            found = languages.is_empty(language, Budget())
        except Exhausted:
            continue
        assert not found
    assert time.process_time() - began < 20  # a fraction of a second; what would not end takes minutes


def test_a_witness_is_short_and_looks_like_its_pattern() -> None:
    assert region_of({"glob": "refs/heads/*"}).example() == "refs/heads/x"
    assert region_of({"glob": "a/**"}).example() == "a/x/y"
    assert region_of({"regex": "v[0-9]+\\.[0-9]+"}).example() == "v1.1"
    assert (region_of({"glob": "main*"}) & ~region_of("main")).example() == "main-x"
    assert (~region_of("main")).example() == "main-x"
    assert (~region_of(True)).example() is None  # absence, where text was not the question
    assert region_of({"not": "main"}).example() == "main-x"
