"""What a run cost, as names and numbers: the same in summary.json, in the report and in W&B."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean, median

from kvtp.types import Prediction

MIB = 2**20


def costs(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Over the questions that were answered; nothing where none was.

    `flops/…_tflops`, `flops/thop_tmacs`: mean per question (1 MAC = 2 FLOPs). Ratios: of the sums, to the same
    questions with all tokens, tower and projector included, decoding not. `thop_ratio` counts what THOP sees,
    `analytic_ratio` all matrix products, `analytic_causal_ratio` half of the prefill's attention; `…_with_method` adds
    cues, predictor, scout and selection to the numerator, `…_with_predictor` predictor and scout.
    `convention/…`: as the papers named count, `vista_ratio` being rows of the LLM (`kvtp.metric.conventions`).
    `latency/…_ms`: median over the questions that have the part (decoding and encoding a video counts with the first
    question about it); `latency/question_ms` their sum: one question about a new video. `memory/…_mib`: mean;
    `memory/peak_answer_mib`: the largest, on GPUs, from the question to its answer, the tower's pass left out.
    `cache/…`: what the method's cache policy told, mean over the questions of which it tells it.
    """
    answered = [row for row in predictions if row.flops is not None]
    if not answered:
        return {}
    return {**_flops(answered), **_latency(answered), **_memory(answered), **_told(answered)}


def _flops(answered: Sequence[Prediction]) -> dict[str, float]:
    of = {key: mean(row.flops[key] for row in answered if row.flops) for key in answered[0].flops or {}}
    method = of["cues"] + of["predictor"] + of["selection"]
    whole = of.get("full_vision", of["vision"])  # answers of before towers could be pruned do not tell
    seen, full = of["vision"] + of["prefill"], whole + of["full_prefill"]
    causal, full_causal = of["vision"] + of["prefill_causal"], whole + of["full_prefill_causal"]
    return {
        "flops/vision_tflops": of["vision"] / 1e12,
        "flops/method_tflops": method / 1e12,
        "flops/cues_tflops": of["cues"] / 1e12,
        "flops/predictor_tflops": of["predictor"] / 1e12,
        "flops/selection_tflops": of["selection"] / 1e12,
        "flops/prefill_tflops": of["prefill"] / 1e12,
        "flops/decode_tflops": of["decode"] / 1e12,
        "flops/analytic_ratio": seen / full,
        "flops/analytic_ratio_with_method": (seen + method) / full,
        "flops/analytic_causal_ratio": causal / full_causal,
        "flops/thop_tmacs": of["thop"] / 2e12,
        "flops/thop_ratio": of["thop"] / of["full_thop"],
        "flops/thop_ratio_with_predictor": (of["thop"] + of["predictor"]) / of["full_thop"],
        "convention/kvtp_ratio": of["kvtp"] / of["full_kvtp"],
        "convention/fastv_ratio": of["fastv"] / of["full_fastv"],
        "convention/fastv_tflops": of["fastv"] / 1e12,
        "convention/vista_ratio": of["rows"] / of["full_rows"],
    }


def _latency(answered: Sequence[Prediction]) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    for row in answered:
        for part, ms in row.timings_ms.items():
            times[part].append(ms)
    parts = {f"latency/{part}_ms": median(found) for part, found in times.items()}
    in_turn = sum(ms for part, ms in parts.items() if part != "latency/scout_beside_ms")
    return parts | ({"latency/question_ms": in_turn} if "prune" in times else {})


def _memory(answered: Sequence[Prediction]) -> dict[str, float]:
    told = [row.memory for row in answered if row.memory is not None]
    kept, full = (mean(one[key] for one in told) for key in ("kv_cache", "full_kv_cache"))
    peaks = [one["peak_answer"] / MIB for one in told if "peak_answer" in one]
    return {
        "memory/kv_cache_mib": kept / MIB,
        "memory/kv_cache_ratio": kept / full,
        **({"memory/peak_answer_mib": max(peaks)} if peaks else {}),
    }


def _told(answered: Sequence[Prediction]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in answered:
        for key, value in (row.told or {}).items():
            found[key].append(value)
    return {f"cache/{key}": mean(values) for key, values in found.items()}
