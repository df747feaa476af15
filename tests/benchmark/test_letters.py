"""The parser against what a reader of the reply would say; the list is the definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtp.benchmark._letters import letter

OPTIONS = ("blue square", "red circle", "green triangle", "Vitamin C")


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("b", "B"),
        (" B \n", "B"),
        ("**B**", "B"),
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("The best answer is B", "B"),
        ("The correct option is (B).", "B"),
        ("Option B", "B"),
        ("I choose B.", "B"),
        ("The best answer is B because A is wrong", "B"),
        ("The best answer is B because (A) is wrong", "B"),
        ("The answer is B, not A.", "B"),
        ("The answer is B, I think.", "B"),
        ("The answer is A.", "A"),
        ("The answer is A because the square is blue", "A"),
        ("red circle", "B"),
        ("A red circle.", "B"),
        ("B. red circle", "B"),
        ("(B) red circle", "B"),
        ("B: red circle", "B"),
        ("B red circle", "B"),
        ("A blue square", "A"),
        ("D. Vitamin C.", "D"),
        ("B\nThe circle is red.", "B"),
        ("I think it is (B) here", "B"),
        ("**Answer:** B. red circle", "B"),
        ("The answer is B not A", "B"),
        ("The answer is B. Wrong is C", "B"),
        ("The answer is B, the wrong ones are A and C.", "B"),
        ("(B) The man does not walk", "B"),
        ("The shape that is not shown is (C).", "C"),
        ("It is not blue, it is (B)", "B"),
    ],
)
def test_names_one_letter(reply: str, named: str) -> None:
    assert letter(reply, OPTIONS) == named


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   ",
        "A man walks through the park",
        "a man",
        "I do not know",
        "The answer is a dog",
        "The answer is A man walking",
        "The answer is not given",
        "E",
        "The answer is F",
        "The answer is B or C",
        "The answer is A or B",
        "A, B and C",
        "A or B",
        "The answer is A, B, and D",
        "Answer: B. Answer: C",
        "B. The answer is C",
        "A. blue square\nB. red circle",
        "A. blue square B. red circle C. green triangle",
        "(A) or (B)",
        "blue square red circle",
        "Cannot read the video",
        "Error: B",
        "(A) is wrong, so I go for the other",
        "(B) red circle is wrong",
        "(A), which is incorrect",
        "(B): wrong",
        "B. is not right",
        "It is neither; not (A)",
        "Neither (A) nor the other",
        "The answer cannot be (B)",
        "The answer can’t be (B)",
        "(B) isn't it",
        "Option B is incorrect.",
        "The answer is not option B",
        "I would not choose B",
        "I don't think the answer is B",
        "The wrong answer is (B)",
        "I prefer another rather than (C)",
        "(A) is wrong. (B) is wrong. (C) is wrong",
    ],
)
def test_refuses(reply: str) -> None:
    assert letter(reply, OPTIONS) is None


def test_equal_options_name_no_letter() -> None:
    assert letter("red", ("red", "Red.")) is None
    assert letter("B. red", ("red", "Red.")) == "B"


def test_words_of_an_option_deny_nothing() -> None:
    unseen = ("Wrong way, of course", "Cannot be seen from here")
    assert letter("(B) Cannot be seen", unseen) == "B"
    assert letter("The answer is (A) wrong way, of course, I think", unseen) == "A"
    assert letter("(B) Cannot be seen from here is wrong", unseen) is None


options = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12), min_size=2, max_size=26)


@given(st.text(max_size=80), options)
def test_never_raises_and_stays_among_the_options(reply: str, options: list[str]) -> None:
    named = letter(reply, options)
    assert named is None or "A" <= named <= chr(ord("A") + len(options) - 1)
    assert letter(reply, options) == named


@given(options, st.data())
def test_every_way_of_naming_a_letter(options: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    name = chr(ord("A") + index)
    way = data.draw(
        st.sampled_from(["{}", "{}.", "({})", "{})", " {}\n", "**{}**", "The best answer is {}.", "Answer: {}"])
    )
    assert letter(way.format(name), options) == name
    assert letter(way.format(chr(ord(name) + len(options))), options) is None or ord(name) + len(options) > ord("Z")


@given(st.lists(st.sampled_from("ABCD"), min_size=2, max_size=4, unique=True))
def test_two_letters_are_no_answer(names: list[str]) -> None:
    for joint in (" or ", ", ", " and ", "/"):
        assert letter(f"The answer is {joint.join(names)}", OPTIONS) is None


@pytest.mark.parametrize(
    "form",
    [
        "{L}",
        "{L}.{text}",
        "{L} {text}",
        "Option {L} is correct.",
        "Option {L} best matches the video",
        "The answer is {L} ({text}).",
        "The answer is {L} - {text}",
        "The answer is {L} {text}",
        "The answer is **{L}** ({text})",
        "The best answer is {L}: {text}",
        "The answer is {L}, which is not grey.",
        "The answer is {L}, which cannot be seen in other clips",
        "The answer is {L}, which does not appear elsewhere",
    ],
)
def test_every_letter_is_read_alike(form: str) -> None:
    """A reader of the reply would name {L}, whichever it is: no answer may gain from its place."""
    options = ["red circle", "blue square", "green ring", "white cross"]
    for name, text in zip("ABCD", options, strict=True):
        assert letter(form.format(L=name, text=text), options) == name


@pytest.mark.parametrize(
    "form",
    ["Option {L} is wrong", "Option {L} cannot be right", "Option {L} is not the answer", "Choice {L} is not correct"],
)
def test_every_letter_is_denied_alike(form: str) -> None:
    for name in "ABCD":
        assert letter(form.format(L=name), ["red circle", "blue square", "green ring", "white cross"]) is None
