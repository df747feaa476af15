"""Which letter a reply names. Deterministic; it never guesses and never raises."""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from kvtp.benchmark._normal import normal

PARSER = 1  # raised whenever a reply could be read otherwise than before

_MARKUP = re.compile(r"[*_`\"“”]+")
_ALONE = re.compile(r"[(\[{]?\s*([A-Za-z])\s*[)\]}]?\s*[.:,;!]?")
# "Answer: B", "the best answer is (B)", "Option B", "I choose B"
_STATED = re.compile(
    r"\b(?:answer|option|choice|choose|select|pick)\b(?:\s+(?:is|would\s+be|should\s+be))?\s*:?\s*(?:(?:option|choice)\s+)?"
    r"(?P<open>\()?(?P<letter>[A-Za-z])\b(?P<close>\))?",
    re.IGNORECASE,
)
# "B. red circle", "(B) red", "B: red" where a line begins
_LEADING = re.compile(r"^\s*(?:\((?P<inner>[A-Za-z])\)|(?P<letter>[A-Za-z])[.):](?=\s|$))", re.MULTILINE)
_INLINE = re.compile(r"(?:(?<=[\s;,])\(|(?<=[\s;,]))(?P<letter>[A-Z])[.):](?=\s|$)")
_BRACKETED = re.compile(r"\((?P<letter>[A-Z])\)")
# the "or C" of "B or C"; an A or I that goes on with a word is none
_ANOTHER = re.compile(
    r"\s*(?:(?:,|/|&|\bor\b|\band\b)\s*)+(?:option\s+)?"
    r"\(?([B-HJ-Z]\b|[AI]\b(?=\s*(?:$|[.,;:)/&]|or\b|and\b)))(?!')"
)
# what may follow a letter that could be a word ("a", "A", "I"): the end, punctuation or a reason
_REST = re.compile(r"\s*(?:$|[.,:;!)\]\n]|(?:because|since|as)\b)")


def letters(options: Sequence[str]) -> tuple[str, ...]:
    """A, B, … for the options; ValueError for more than 26."""
    if len(options) > len(ascii_uppercase):
        raise ValueError(f"a question may have at most {len(ascii_uppercase)} options, got {len(options)}")
    return tuple(ascii_uppercase[: len(options)])


def letter(reply: str, options: Sequence[str]) -> str | None:
    """The one option letter that `reply` names; None = it names none, several, or one that is not among them.

    Read in this order, the first that says anything decides: the letter alone (or alone on the first line); an option's
    text, verbatim, with or without its letter; letters stated ("the answer is B", "B. …" where a line begins); a
    letter in brackets anywhere. An article is no letter: "A man walks", "the answer is a dog".
    """
    known = letters(options)
    text = _MARKUP.sub("", reply).strip()
    for part in (text, text.partition("\n")[0]):
        if alone := _ALONE.fullmatch(part.strip()):
            return _only({alone[1].upper()}, known)
    if (verbatim := _verbatim(text, options, known)) is not None:
        return verbatim
    named = _stated(text) | _leading(text, known)
    return _only(named or {found["letter"] for found in _BRACKETED.finditer(text)}, known)


def _only(named: set[str], known: Sequence[str]) -> str | None:
    return named.pop() if len(named) == 1 and named <= set(known) else None


def _verbatim(text: str, options: Sequence[str], known: Sequence[str]) -> str | None:
    """ "red circle", "B. red circle" or "B red circle" where B is "red circle"."""
    said = normal(text)
    whole = [option for option, its in zip(known, options, strict=True) if said and normal(its) == said]
    if len(whole) == 1:
        return whole[0]
    for option, its in zip(known, options, strict=True):
        head = re.match(rf"\(?{option}\b[.):]*\s+", text)
        if head and normal(its) and normal(text[head.end() :]) == normal(its):
            return option
    return None


def _stated(text: str) -> set[str]:
    named = set()
    for found in _STATED.finditer(text):
        word = (found["letter"] in "AI" or found["letter"].islower()) and not (found["open"] and found["close"])
        if word and not _REST.match(text, found.end()) and not _ANOTHER.match(text, found.end()):
            continue
        named.add(found["letter"].upper())
        named |= _others(text, found.end())
    return named


def _leading(text: str, known: Sequence[str]) -> set[str]:
    named = set()
    for found in _LEADING.finditer(text):
        named.add((found["inner"] or found["letter"]).upper())
        named |= _others(text, found.end())
    if named:  # "A. red B. blue": a list of the options is no answer
        named |= {found["letter"] for found in _INLINE.finditer(text)} & set(known)
    return named


def _others(text: str, start: int) -> set[str]:
    """The letters that go on an enumeration: the C of "B or C"."""
    named = set()
    while found := _ANOTHER.match(text, start):
        named.add(found[1])
        start = found.end()
    return named
