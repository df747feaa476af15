"""KVTP's ninth example, and what models write instead."""

import pytest

from kvtp.sparsekv._scores import frame_scores, parse_scores


@pytest.mark.parametrize(
    ("reply", "spans"),
    [
        ("{[0,6]:3,[7,20]:5}", {(0, 6): 3, (7, 20): 5}),
        ("```python {[0, 7]: 0, [8, 15]: 4} ```", {(0, 7): 0, (8, 15): 4}),
        ("```\n{[0, 7]: 0,\n [8, 15]: 4}\n```", {(0, 7): 0, (8, 15): 4}),
        ('{"[0-7]": 2}', {(0, 7): 2}),
        ("[24,29]: 4", {(24, 29): 4}),
        (r"{[0,7]: 1,\n [8,15]: 4}", {(0, 7): 1, (8, 15): 4}),
        ("{(0, 7): 2.5}", {(0, 7): 2.5}),
    ],
)
def test_examples(reply: str, spans: dict[tuple[int, int], float]) -> None:
    assert parse_scores(reply) == spans


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("The video shows a cat.", "must be like"),
        ("", "must be like"),
        ("{[0,7]: 3} because it is a cat", "got 'becauseitisacat'"),
        ("{[7,0]: 3}", "must not end before it begins"),
        ("{[0,7]: 3, [0,7]: 4}", "must not share frames"),
        ("{[0,7]: 3, [7,9]: 4}", "must not share frames"),
        ("{[0,7]: -1}", "must be in"),
        ("{[0,7]: 99}", "must be in"),
        ("{[0,7]: high}", "must be like"),
    ],
)
def test_anything_else_is_an_error(reply: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_scores(reply)


def test_frames_of_spans() -> None:
    assert frame_scores({(0, 1): 3, (3, 9): 5}, 6) == [3, 3, 0, 5, 5, 5]
