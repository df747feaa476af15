"""What summary.json tells of caches, against sums by hand."""

from dataclasses import replace

import pytest

from kvtp.metric.costs import costs
from kvtp.summary import caches, visual_tokens
from kvtp.types import Prediction

MIB = 2**20
FLOPS = [  # that a prediction tells
    *(
        "vision",
        "cues",
        "predictor",
        "selection",
        "prefill",
        "prefill_causal",
        "decode",
        "thop",
        "fastv",
        "kvtp",
        "rows",
    ),
    *("full_vision", "full_prefill", "full_prefill_causal", "full_thop", "full_fastv", "full_kvtp", "full_rows"),
]


def answered(cache_rows: tuple[int, ...], told: dict[str, float]) -> Prediction:
    """Each cached row takes a quarter of a MiB."""
    return Prediction(
        question_id="q",
        method="m",
        outcome="correct",
        score=1.0,
        text="A",
        choice="A",
        answer="A",
        groups={},
        cluster="",
        tokens_per_layer={"visual": (4, 2)},
        cache_visual=(3, 1),
        timings_ms={},
        flops=dict.fromkeys(FLOPS, 1.0),
        memory={"kv_cache": sum(cache_rows) * MIB / 4, "full_kv_cache": 20 * MIB},
        cache_rows=cache_rows,
        told=told,
    )


SEVERAL = [answered((10, 4), {"cache_share": 0.5}), answered((20, 8), {"cache_share": 1.0, "steps_seeing_all": 0.25})]


def test_what_goes_on_beside_the_rest_takes_no_time() -> None:
    """A scout that takes 50 ms in a queue of its own, 3 of them waited for."""
    times = {"vision": 20.0, "scout_video": 1.0, "scout_beside": 50.0, "scout": 3.0, "prune": 2.0}
    told = costs([replace(SEVERAL[0], timings_ms=times)])
    assert told["latency/scout_beside_ms"] == 50
    assert told["latency/question_ms"] == 20 + 1 + 3 + 2


def test_each_layers_cache() -> None:
    assert caches(SEVERAL) == {"rows_per_layer": [15, 6], "mib_per_layer": [3.75, 1.5]}
    assert caches([]) is None


def test_tokens_while_a_reply_is_written_are_those_in_the_caches() -> None:
    told = visual_tokens(SEVERAL)
    assert told == {"mean_over_layers": 3, "at_decode": 2, "per_layer": [4, 2]}


def test_what_policies_tell_is_averaged_over_those_that_tell_it() -> None:
    told = costs(SEVERAL)
    assert told["cache/cache_share"] == pytest.approx(0.75)
    assert told["cache/steps_seeing_all"] == 0.25
    assert told["memory/kv_cache_mib"] == pytest.approx(5.25)
    assert told["memory/kv_cache_ratio"] == pytest.approx(5.25 / 20)
