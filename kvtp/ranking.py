"""How well a relevance finds the frames that matter, over a benchmark with labels: no language model takes part."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from kvtp.benchmark.base import AbstractBenchmark
from kvtp.command import CommandError
from kvtp.errors import LoadError
from kvtp.frames.base import AbstractFrames, readable
from kvtp.metric.ranking import fitted_temperature, key_recall, ndcg, rate_divergence
from kvtp.metric.statistics import mean_interval
from kvtp.relevance._labels import labels_at
from kvtp.relevance.base import AbstractRelevance
from kvtp.types import Frames, Question, VisualTokens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranked:
    """Of one question, one score and one label per picture, and figures as told in `kvtp.metric.ranking`."""

    question: Question
    scores: Float[Tensor, " T"]
    labels: Float[Tensor, " T"]
    recall: float
    ndcg: float
    divergence: float


@torch.inference_mode()
def rank(
    benchmark: AbstractBenchmark,
    frames: AbstractFrames,
    relevance: AbstractRelevance,
    share: float,
    temperature: float,
) -> list[Ranked]:
    """Every question whose pictures have unlike labels; videos that cannot be read are told and left out. CommandError
    where there is none, or where the relevance asks for a backbone."""
    if relevance.cues:
        raise CommandError(
            f"{type(relevance).__name__} as configured needs a backbone's cues ({', '.join(sorted(relevance.cues))}), "
            "and there is none here; set relevance.tower=own"
        )
    questions = [question for question in (benchmark[index] for index in range(len(benchmark))) if question.relevance]
    if not questions:
        raise CommandError("there are no questions with relevance labels; choose another benchmark")
    videos = [list(some) for _, some in groupby(questions, lambda question: question.ref)]
    found, alike, unread = [], 0, 0
    seen = readable(frames, [some[0].ref for some in videos])
    for some, shown in tqdm(zip(videos, seen, strict=True), "ranking", len(videos), unit="video", disable=None):
        if isinstance(shown, LoadError):
            log.warning("%s: %s", some[0].ref.path, shown)
            unread += len(some)
            continue
        relevance.look(shown)
        for question in some:
            labels = labels_at(shown.timestamps, shown.duration, question)
            if labels.max() == labels.min():
                alike += 1
                continue
            scores = relevance(shown, _unseen(shown), question).cpu()
            found.append(
                Ranked(
                    question,
                    scores,
                    labels,
                    key_recall(scores, labels, share),
                    ndcg(scores, labels),
                    rate_divergence(scores, labels, temperature),
                )
            )
    if unread:
        log.warning("%d questions are left out: their videos cannot be read", unread)
    if alike:
        log.warning("%d questions are left out: the sampled pictures have equal labels", alike)
    if not found:
        raise CommandError("no question has pictures with unlike labels; sample more frames")
    return found


def summary(found: Sequence[Ranked], temperature: float) -> dict[str, Any]:
    """Means over questions; recall and nDCG in percent, recall with its 95 % interval, and per kind of question; the
    temperature at which rates are nearest to the oracle's at `temperature`, and their divergence there."""
    kinds: Mapping[str, list[Ranked]] = defaultdict(list)
    for one in found:
        kinds[one.question.groups.get("kind", "")].append(one)
    fitted, least = fitted_temperature([(one.scores, one.labels) for one in found], temperature)
    return {
        "questions": len(found),
        "recall": _percent([one.recall for one in found]),
        "recall_interval": mean_interval([(one.question.cluster, one.recall) for one in found]),
        "ndcg": _percent([one.ndcg for one in found]),
        "divergence": sum(one.divergence for one in found) / len(found),
        "fitted_temperature": fitted,
        "fitted_divergence": least,
        "recall_by_kind": {kind: _percent([one.recall for one in some]) for kind, some in sorted(kinds.items())},
    }


def _percent(values: Sequence[float]) -> float:
    return 100 * sum(values) / len(values)


def _unseen(frames: Frames) -> VisualTokens:
    """One token per picture, about which nothing is known."""
    each = torch.arange(len(frames))
    zero = torch.zeros_like(each)
    return VisualTokens(
        features=torch.zeros(len(frames), 0),
        frame=each,
        row=zero,
        column=zero,
        frames=len(frames),
        grid=(1, 1),
        timestamps=frames.timestamps,
        position=each,
        original=each,
    )
