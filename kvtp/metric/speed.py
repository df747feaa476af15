"""What times come to: medians of rounds, speed-ups, and the latency that tokens left out could save at most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

from kvtp.types import Answer

MIB = 2**20


@dataclass(frozen=True)
class Round:
    """One question. Times [ms]: `parts` as the pipeline's clock names them; `first`: from the decoded video until the
    first token is known; `whole`: until the last one is. `peak` [bytes] of the GPU, weights included; None on a CPU.
    """

    parts: Mapping[str, float]
    first: float
    whole: float
    peak: float | None


@dataclass(frozen=True)
class Timing:
    """One method. Times [ms], medians over rounds, each part for itself: they need not add up to `whole`.

    `vision`: resizing on the host, tower, projector, and the method's cues of them · `relevance`: with the scout ·
    `prune`: budget, selection and cut · `embed`: words and the sequence's layout (of ST-LLM also the connector, which
    waits for the question) · `prefill`: the LLM's layers, and what a cache policy does after each · `decode`: reading
    the first token off them, then `steps` tokens through the LLM, and what a cache policy does before each. `rows` of
    the LLM, mean over layers; `full_rows`: with all tokens. `peak` [bytes]: the largest. `cached` [bytes]: keys and
    values when decoding starts; rows that a policy hides from written tokens but keeps are among them.
    """

    vision: float
    relevance: float
    prune: float
    embed: float
    prefill: float
    decode: float
    first: float
    whole: float
    peak: float | None
    rows: float
    full_rows: int
    steps: int
    cached: int


def timing(rounds: Sequence[Round], answer: Answer, cached: int) -> Timing:
    """`answer`, `cached`: of one of them, all are of one size."""

    def part(*names: str) -> float:
        return median(sum(one.parts[name] for name in names) for one in rounds)

    peaks = [one.peak for one in rounds if one.peak is not None]
    return Timing(
        vision=part("vision"),
        relevance=part("scout", "relevance"),
        prune=part("prune"),
        embed=part("embed"),
        prefill=part("prefill"),
        decode=part("decode"),
        first=median(one.first for one in rounds),
        whole=median(one.whole for one in rounds),
        peak=max(peaks, default=None),
        rows=mean(map(sum, zip(*answer.tokens_per_layer.values(), strict=True))),
        full_rows=answer.full_rows,
        steps=sum(answer.steps),
        cached=cached,
    )


def limit(full: Timing, rows: float) -> float:
    """Latency [ms] of the unpruned model if its prefill took time in proportion to the rows of the LLM and all else
    stayed: choosing tokens costs nothing, attention's square and shorter caches save nothing."""
    return full.whole - full.prefill + full.prefill * rows / full.full_rows


def speed(mine: Timing, full: Timing | None) -> dict[str, float]:
    """A method's times as names and numbers. `full`: those of the unpruned model in the same run; where memory did not
    suffice for it, there is nothing to compare with.

    `overhead/pruning_ms`: relevance, scout and `prune`; `overhead/pruning_of_prefill` as a fraction of the unpruned
    prefill; `overhead/cues_ms`: how much longer vision takes; `overhead/above_limit_ms`: end to end, above `limit`.
    `speedup/…`: how many times as fast as the unpruned model. `decode/tokens_per_s`: of those after the first, from
    when that one is known: nothing that happens before the reply slows it. `memory/kv_cache_mib`: `cached`.
    """
    told = {
        "rows/kept": mine.rows,
        "rows/full": mine.full_rows,
        "latency/vision_ms": mine.vision,
        "latency/relevance_ms": mine.relevance,
        "latency/prune_ms": mine.prune,
        "latency/embed_ms": mine.embed,
        "latency/prefill_ms": mine.prefill,
        "latency/decode_ms": mine.decode,
        "latency/first_token_ms": mine.first,
        "latency/end_to_end_ms": mine.whole,
        "overhead/pruning_ms": mine.relevance + mine.prune,
        "memory/kv_cache_mib": mine.cached / MIB,
    }
    if mine.steps:
        told["decode/tokens_per_s"] = 1e3 * mine.steps / (mine.whole - mine.first)
    if mine.peak is not None:
        told["memory/peak_mib"] = mine.peak / MIB
    if full is not None:
        least = limit(full, mine.rows)
        told |= {
            "overhead/pruning_of_prefill": told["overhead/pruning_ms"] / full.prefill,
            "overhead/cues_ms": mine.vision - full.vision,
            "overhead/above_limit_ms": mine.whole - least,
            "limit/end_to_end_ms": least,
            "limit/speedup": full.whole / least,
            "speedup/end_to_end": full.whole / mine.whole,
            "speedup/first_token": full.first / mine.first,
            "speedup/prefill": full.prefill / mine.prefill,
        }
    return told
