"""Which letter a reply names. Deterministic; it never guesses and never raises."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from kvtp.benchmark._normal import same

PARSER = 3  # raised whenever a reply could be read otherwise than before

_MARKUP = re.compile(r"[*_`\"“”]+")
_ALONE = re.compile(r"[(\[{]?\s*([A-Za-z])\s*[)\]}]?\s*[.:,;!]?")
# "Answer: B", "the best answer is (B)", "Option B", "I choose B"
_STATED = re.compile(
    r"\b(?:answer|option|choice|choose|select|pick)\b(?:\s+(?:is|would\s+be|should\s+be))?\s*:?\s*(?:(?:option|choice)\s+)?"
    r"(?P<open>\()?(?P<letter>[A-Za-z])\b(?P<close>\))?",
    re.IGNORECASE,
)
# "B. red circle", "(B) red", "B: red" where a line begins
_LEADING = re.compile(r"^\s*(?P<open>\()?(?P<letter>[A-Za-z])(?(open)\)|[.):](?=\s|$))", re.MULTILINE)
_INLINE = re.compile(r"(?:(?<=[\s;,])\(|(?<=[\s;,]))(?P<letter>[A-Z])[.):](?=\s|$)")
_BRACKETED = re.compile(r"\((?P<letter>[A-Z])\)")
# the "or C" of "B or C"; an A or I that goes on with a word is none
_ANOTHER = re.compile(
    r"\s*(?:(?:,|/|&|\bor\b|\band\b)\s*)+(?:option\s+)?"
    r"\(?([B-HJ-Z]\b|[AI]\b(?=\s*(?:$|[.,;:)/&]|or\b|and\b)))(?!')"
)
# what may follow a letter that could be a word ("a", "A", "I"): the end, punctuation or a reason
_REST = re.compile(r"\s*(?:$|[.,:;!)\]\n]|(?:because|since|as)\b)")
# "not (A)", "cannot be B", "rather than (A)": between denial and letter no other thing is spoken of
_DENIED_BEFORE = re.compile(
    r"\b(?:not|cannot|\w+n't|neither|nor|never|none of|rather than|instead of|other than|except|(?:wrong|incorrect):?)"
    r"(?: +(?:be|is|was|it|that|the|an?|right|correct|best|one|think|believe|go|for|with))* *\(?$",
    re.IGNORECASE,
)
_VERB = (
    r"(?:which|that|an?|the|is|was|seems|looks|appears|can|could|must|would|should|does|did|has|be|been"
    r"|also|both|just|clearly|definitely|obviously|certainly|probably|likely) +"
)
# "(A) is wrong", "B, which cannot be", "is not"; but "B not A" names B
_DENIED_AFTER = re.compile(
    rf"(?:, *(?=which))?(?:(?:{_VERB})*"
    r"(?:cannot|\w+n't|neither|wrong|incorrect|false|impossible|ruled out|excluded|eliminated)"
    rf"|(?:{_VERB})+not)\b",
    re.IGNORECASE,
)
# of a letter stated as the answer, only this denies it: "which is not red" speaks of what the option shows
_CALLED_WRONG = re.compile(
    rf"(?:, *(?=which))?(?:(?:{_VERB})*(?:wrong|incorrect|false|impossible|ruled out|excluded|eliminated)"
    rf"|(?:{_VERB})*(?:cannot|\w+n't|not) +(?:be +)?"
    r"(?:it|right|correct|(?:an?|the) +(?:(?:right|correct|best) +)?(?:answer|option|choice)))\b",
    re.IGNORECASE,
)
_NAMED_OPTION = re.compile(r"\b(?:option|choice)\s*:?\s*$", re.IGNORECASE)  # "Option A …": no article


def letters(options: Sequence[str]) -> tuple[str, ...]:
    """A, B, … for the options; ValueError for more than 26."""
    if len(options) > len(ascii_uppercase):
        raise ValueError(f"a question may have at most {len(ascii_uppercase)} options, got {len(options)}")
    return tuple(ascii_uppercase[: len(options)])


def letter(reply: str, options: Sequence[str]) -> str | None:
    """The one option letter that `reply` names; None = it names none, several, or one that is not among them.

    Read in this order, the first that says anything decides: the letter alone (or alone on the first line); an option's
    text, verbatim, with or without its letter; letters stated ("the answer is B", "B. …" where a line begins); a
    letter in brackets anywhere. An article is no letter: "A man walks", "the answer is a dog". A letter that is denied
    ("(A) is wrong", "not option B") counts as naming something else: what is left over is not the answer for that.
    """
    known = letters(options)
    text = _MARKUP.sub("", reply).replace("’", "'").strip()
    for part in (text, text.partition("\n")[0]):
        if alone := _ALONE.fullmatch(part.strip()):
            return _only({alone[1].upper()}, known)
    if (verbatim := _verbatim(text, options, known)) is not None:
        return verbatim
    meant = dict(zip(known, options, strict=True))
    named = _stated(text, meant) | _leading(text, meant)
    return _only(named or {_affirmed(found, meant) for found in _BRACKETED.finditer(text)}, known)


def _only(named: set[str], known: Sequence[str]) -> str | None:
    return named.pop() if len(named) == 1 and named <= set(known) else None


def _verbatim(text: str, options: Sequence[str], known: Sequence[str]) -> str | None:
    """ "red circle", "B. red circle" or "B red circle" where B is "red circle"."""
    whole = [option for option, its in zip(known, options, strict=True) if same(text, its)]
    if len(whole) == 1:
        return whole[0]
    for option, its in zip(known, options, strict=True):
        head = re.match(rf"\(?{option}\b(?:[.):]+\s*|\s+)", text)
        if head and same(text[head.end() :], its):
            return option
    return None


def _affirmed(found: re.Match[str], meant: Mapping[str, str], denial: re.Pattern[str] = _DENIED_AFTER) -> str:
    """The letter found, or "" where it is denied. The words of its option deny nothing: "(B) cannot be seen"."""
    name = found["letter"].upper()
    its = meant.get(name, "").strip()
    rest = found.string[found.end() :].lstrip(" )]:–-")
    if its and (whole := re.match(re.escape(its), rest, re.IGNORECASE)):
        rest = rest[whole.end() :].lstrip()
    elif its and rest.casefold().split()[:1] == its.casefold().split()[:1]:
        rest = ""
    denied = _DENIED_BEFORE.search(found.string, 0, found.start()) or denial.match(rest)
    return "" if denied else name


def _stated(text: str, meant: Mapping[str, str]) -> set[str]:
    named = set()
    for found in _STATED.finditer(text):
        if _article(found, meant):
            continue
        named.add(_affirmed(found, meant, _CALLED_WRONG))
        named |= _others(text, found.end())
    return named


def _article(found: re.Match[str], meant: Mapping[str, str]) -> bool:
    """Whether the letter may as well be a word: "the answer is a dog". Upper case is one before its option's own text,
    before a dash or bracket, and after "option"."""
    letter, text, end = found["letter"], found.string, found.end()
    if (letter not in "AI" and letter.isupper()) or (found["open"] and found["close"]):
        return False
    if _REST.match(text, end) or _ANOTHER.match(text, end):
        return False
    own = meant.get(letter, "").strip()
    said = text[end:].lstrip(" :")
    return letter.islower() or not (
        (own and said.casefold().startswith(own.casefold()))
        or re.match(r"\s*[-–—(]", text[end:])
        or _NAMED_OPTION.search(text, 0, found.start("letter"))
    )


def _leading(text: str, meant: Mapping[str, str]) -> set[str]:
    named = set()
    for found in _LEADING.finditer(text):
        named.add(_affirmed(found, meant))
        named |= _others(text, found.end())
    if named:  # "A. red B. blue": a list of the options is no answer
        named |= {found["letter"] for found in _INLINE.finditer(text)} & set(meant)
    return named


def _others(text: str, start: int) -> set[str]:
    """The letters that go on an enumeration: the C of "B or C"."""
    named = set()
    while found := _ANOTHER.match(text, start):
        named.add(found[1])
        start = found.end()
    return named
