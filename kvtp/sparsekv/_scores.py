"""What a language model says of how relevant clips are, read strictly."""

import re
from collections.abc import Mapping

SPAN = re.compile(r"""["']?[\[(]\s*(\d+)\s*[-,–]\s*(\d+)\s*[\])]["']?\s*:\s*(-?\d+(?:\.\d+)?)""")
BETWEEN = re.compile(r"```\w*|\\n|[{}\s,]")
HIGHEST = 5


def parse_scores(reply: str) -> dict[tuple[int, int], float]:
    """`{[0,6]: 3, [7,20]: 5}` as {(0, 6): 3.0, (7, 20): 5.0}: first and last frame of each span, counted from 0, both
    included, and its score (KVTP, appendix A.3).

    Fenced code, quotes, written-out line ends, `-` for the comma and missing braces are accepted, as models write them.
    ValueError for what says anything else, for a span that ends before it begins or shares frames with another, a score
    outside [0, 5], and for no span at all.
    """
    found: dict[tuple[int, int], float] = {}
    for match in SPAN.finditer(reply):
        span = int(match[1]), int(match[2])
        if span[0] > span[1]:
            raise ValueError(f"a span must not end before it begins, got {list(span)} in {reply!r}")
        if any(span[0] <= last and first <= span[1] for first, last in found):
            raise ValueError(f"spans must not share frames, got {list(span)} after others in {reply!r}")
        if not 0 <= float(match[3]) <= HIGHEST:
            raise ValueError(f"a score must be in [0, {HIGHEST}], got {match[3]} in {reply!r}")
        found[span] = float(match[3])
    if rest := BETWEEN.sub("", SPAN.sub("", reply)):
        raise ValueError(f"scores must be like {{[0, 7]: 0, [8, 15]: 4}}, got {rest!r} in {reply!r}")
    if not found:
        raise ValueError(f"scores must be like {{[0, 7]: 0, [8, 15]: 4}}, got {reply!r}")
    return found


def frame_scores(spans: Mapping[tuple[int, int], float], frames: int) -> list[float]:
    """One score per frame: frames that no span covers have 0, spans that go on after the last frame end there."""
    scores = [0.0] * frames
    for (first, last), score in spans.items():
        for frame in range(first, min(last + 1, frames)):
            scores[frame] = score
    return scores
