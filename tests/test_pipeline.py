"""The line as a whole: what is called when, what is refused, what is shared."""

from dataclasses import replace

import pytest
import torch
from toys import ToyBenchmark, ToyFilm, component, unchecked

from kvtp.budget.base import AbstractBudget
from kvtp.pipeline import Pipeline, Refused
from kvtp.pruner.base import AbstractCachePolicy, AbstractPruner
from kvtp.relevance.base import AbstractRelevance
from kvtp.scout.base import AbstractScout
from kvtp.scout.none import NoScout
from kvtp.types import Budget, Question, Selection

QUESTION = Question(id="q", video="v", text="What colour is the circle?")


class Flat(AbstractRelevance):
    def __call__(self, frames, tokens, question):
        return torch.zeros(tokens.frames)


class Fixed(AbstractBudget):
    def __init__(self, per_frame, retention_ratio):
        self.per_frame, self.retention_ratio = per_frame, retention_ratio

    def __call__(self, relevance, tokens):
        return Budget(torch.tensor(self.per_frame), self.retention_ratio)


class Recorder(AbstractPruner):
    """Keeps the first tokens of every frame and writes down each call."""

    def __init__(self, layers=(0,), **attributes):
        self.layers, self.calls = layers, []
        for name, value in attributes.items():
            setattr(self, name, value)

    def __call__(self, tokens, budget):
        self.calls.append(tokens)
        place = torch.arange(len(tokens)) - (tokens.per_frame.cumsum(0) - tokens.per_frame)[tokens.frame]
        return Selection((place < budget.per_frame[tokens.frame]).nonzero()[:, 0])


@pytest.fixture(scope="module")
def line(tiny):
    backbone = tiny(max_new_tokens=4, newline="none")

    def make(pruner, budget, **stages):
        parts = {"scout": NoScout(), "relevance": Flat(), "backbone": backbone, **stages}
        return Pipeline(
            benchmark=ToyBenchmark(QUESTION), frames=ToyFilm(4, 32, 32), budget=budget, pruner=pruner, **parts
        )

    return make


FULL = Fixed([64] * 4, 1.0)
FIFTH = Fixed([13] * 4, 0.2)


def test_at_retention_one_the_pruner_is_never_called(line):
    pruner = Recorder()
    answer = line(pruner, FULL)(QUESTION)
    assert pruner.calls == []
    assert answer == line(Recorder(layers=()), FIFTH)(QUESTION), "the unpruned model, bit for bit"
    assert answer.tokens_per_layer["visual"] == (256,) * 4


@pytest.mark.parametrize(("layers", "site", "expected"), [
    ((0,), "layer", (52, 52, 52, 52)), ((2,), "layer", (256, 256, 52, 52)), ((1,), "attention", (256, 256, 52, 52)),
    ("all", "layer", (52, 52, 52, 52)), ("all", "attention", (256, 52, 52, 52)),
])  # fmt: skip
def test_layers_and_site(line, layers, site, expected):
    pruner = Recorder(layers, site=site, positions="keep")
    answer = line(pruner, FIFTH)(QUESTION)
    assert answer.tokens_per_layer["visual"] == expected
    where = range(4) if layers == "all" else layers
    assert [call.layer for call in pruner.calls] == list(where)
    assert [call.history for call in pruner.calls] == [(256, *[52] * n) for n in range(len(where))]
    assert {call.depth for call in pruner.calls} == {4}


def test_a_call_before_the_first_attention(line):
    """FrameFusion's: then after the attention of each layer."""
    pruner = Recorder("all", site="attention", at_input=True, positions="keep")
    answer = line(pruner, FIFTH)(QUESTION)
    assert answer.tokens_per_layer["visual"] == (52,) * 4
    assert [call.layer for call in pruner.calls] == [0, 0, 1, 2, 3]
    assert answer.mlp_rows == (sum(rows[0] for rows in answer.tokens_per_layer.values()),) * 4


def test_a_cut_after_the_last_layer_leaves_shorter_caches(line):
    answer = line(Recorder((4,), compress_cache=True, positions="keep"), FIFTH)(QUESTION)
    assert answer.tokens_per_layer["visual"] == (256,) * 4
    assert set(answer.cache_rows) == {answer.full_rows - 256 + 52}


def test_positions_reach_the_sequence(line):
    pruner = Recorder((0, 1), positions="keep")
    line(pruner, FIFTH)(QUESTION)
    kept = pruner.calls[1].position
    assert torch.equal(kept, pruner.calls[0].position[pruner.calls[1].original])
    pruner = Recorder((0, 1), positions="renumber")
    line(pruner, FIFTH)(QUESTION)
    first = int(pruner.calls[0].position[0])
    assert torch.equal(pruner.calls[1].position, torch.arange(first, first + 52))


def test_a_ranking_over_the_video_refuses_rates_per_frame(line):
    with pytest.raises(Refused, match="ranks the whole video: it needs budget=uniform"):
        line(Recorder(scope="video"), Fixed([40, 4, 4, 4], 0.2))(QUESTION)
    assert line(Recorder(scope="video"), FIFTH)(QUESTION).tokens_per_layer["visual"] == (52,) * 4


def test_an_undefined_ratio_is_refused_and_a_bug_is_not(line):
    class Undefined(Recorder):
        def __call__(self, tokens, budget):
            raise ValueError("retention_ratio must be in [0.3, 1], got 0.2")

    class Broken(Recorder):
        def __call__(self, tokens, budget):
            raise IndexError("off by one")

    with pytest.raises(Refused, match=r"\[0.3, 1\]"):
        line(Undefined(), FIFTH)(QUESTION)
    with pytest.raises(IndexError):
        line(Broken(), FIFTH)(QUESTION)


def test_a_cue_that_nobody_gives_is_refused_before_weights_load(tiny, line):
    class NeedsClass(Recorder):
        cues = frozenset({"cls_attention"})

    untouched = tiny()
    with pytest.raises(
        ValueError, match="NeedsClass needs the cues cls_attention, but LlavaOnevision as configured gives"
    ):
        line(NeedsClass(), FIFTH, backbone=untouched)
    assert "model" not in untouched.__dict__


@pytest.mark.parametrize(
    ("cue", "remedy"), [("scout", "or scout=qformer"), ("frame_feature", "or name a pooling head in backbone.head$")]
)
def test_who_would_give_a_cue_is_named(tiny, line, cue, remedy):
    class Needs(Recorder):
        cues = frozenset({cue})

    with pytest.raises(ValueError, match=f"choose another method or backbone, {remedy}"):
        line(Needs(), FIFTH, backbone=tiny(head=None))


def test_what_the_backbone_does_not_run_is_refused_before_weights_load(tiny, line):
    untouched = tiny()
    with pytest.raises(
        ValueError, match=r"Recorder merges patches inside the vision tower, but LlavaOnevision .* their grid"
    ):
        line(Recorder(tower=object()), FIFTH, backbone=untouched)
    with pytest.raises(ValueError, match=r"Recorder acts after 4 layers, .* has 4; set pruner\.layer <= 3"):
        line(Recorder((1, 4)), FIFTH, backbone=untouched)
    with pytest.raises(ValueError, match=r"after 5 layers, .* set pruner\.layer <= 4"):
        line(Recorder((5,), compress_cache=True), FIFTH, backbone=untouched)
    for other in ({"compress_cache": True}, {"cues": frozenset({"last_attention"})}):
        with pytest.raises(ValueError, match="has a cache policy and reads attention inside the LLM, or compresses"):
            line(Recorder(cache=AbstractCachePolicy(), **other), FIFTH, backbone=untouched)
    policy = AbstractCachePolicy()
    policy.watches = frozenset({3})
    with pytest.raises(ValueError, match=r"hides rows from layer 4 on .* 0 to 3; set pruner.decode_layer"):
        line(Recorder(cache=policy), FIFTH, backbone=untouched)
    assert "model" not in untouched.__dict__


def test_likelihoods_of_an_open_question_are_refused(tiny, line):
    with pytest.raises(Refused, match="needs a question with options"):
        line(Recorder(), FIFTH, backbone=tiny(answer="likelihood"))(QUESTION)


def test_rows_of_the_mlp(line):
    """A cut between attention and MLP: the MLP of that layer has fewer rows than its attention."""
    answer = line(Recorder((1,), site="attention"), FIFTH)(QUESTION)
    attention = [sum(kinds) for kinds in zip(*answer.tokens_per_layer.values(), strict=True)]
    dropped = 256 - 52
    assert attention == [attention[0]] * 2 + [attention[0] - dropped] * 2
    assert answer.mlp_rows == (attention[0], *[attention[0] - dropped] * 3)


def test_a_scout_may_give_the_cue(line):
    class NeedsScout(Recorder):
        cues = frozenset({"scout"})

    class Brightest(AbstractScout):
        cues = frozenset({"received_attention"})
        supplies = frozenset({"scout"})

        def __call__(self, frames, question, tokens):
            return replace(tokens, cues=replace(tokens.cues, scout=tokens.cues.received_attention * 2))

    pruner = NeedsScout((0, 2))
    line(pruner, FIFTH, scout=Brightest())(QUESTION)
    before, after = (call.cues.scout for call in pruner.calls)
    assert torch.equal(after, before[pruner.calls[1].original]), "cues follow their tokens"


class Early(AbstractScout):
    """Writes down who comes when."""

    supplies = frozenset({"scout"})

    def __init__(self):
        self.met, self.told = [], []

    def meet(self, backbone):
        self.met.append(backbone)

    def look(self, frames):
        self.told.append(("looks", len(frames)))

    def __call__(self, frames, question, tokens):
        self.told.append(("scores", question.id))
        return replace(tokens, cues=replace(tokens.cues, scout=torch.arange(len(tokens)).float()))

    def flops(self, frames, question):
        return 7.0


def test_a_scout_begins_before_the_tower(tiny, line, monkeypatch):
    scout, backbone = Early(), tiny(max_new_tokens=4, newline="none")
    encode = backbone.encode
    monkeypatch.setattr(backbone, "encode", lambda *asked: scout.told.append(("tower", 4)) or encode(*asked))
    pipeline = line(Recorder(), FIFTH, scout=scout, backbone=backbone)
    assert scout.met == [backbone]
    assert "model" not in backbone.__dict__, "it is met before it has weights"
    seen = pipeline.watch("v", pipeline.cues)
    assert scout.told == [("looks", 4), ("tower", 4)]
    assert pipeline.clock.take().keys() == {"decode_video", "scout_video", "vision"}
    for _ in range(2):
        _, cost = pipeline.answer(QUESTION, *seen)
        assert cost.predictor == 7
    assert scout.told[2:] == [("scores", "q")] * 2


def test_what_a_scout_cannot_score_is_refused(line):
    class Blind(Early):
        def __call__(self, frames, question, tokens):
            raise ValueError("tokens must have a place")

    with pytest.raises(Refused, match="must have a place"):
        line(Recorder(), FIFTH, scout=Blind())(QUESTION)


def test_a_scouts_time_is_taken_where_it_works(line, monkeypatch):
    """On a GPU, at both ends of its look, in a queue of its own; that of all else in the queue that is in use."""
    queues = []

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self, stream="in use"):
            queues.append(stream)

        def synchronize(self):
            pass

        def elapsed_time(self, other):
            return 1.0

    class Beside(Early):
        stream = "beside"

        def look(self, frames):
            queues.append("looks")

    pipeline = line(Recorder(), FIFTH, scout=Beside())
    pipeline.backbone.load()
    for name in ("is_available", "is_initialized"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *gpu: queues.append("waits"))
    with unchecked():
        pipeline.watch("v", pipeline.cues)
        scout = ["in use", "beside", "looks", "beside", "in use"]  # the host's part, and around the look its own
        assert queues == ["in use", "in use", *scout, "in use", "in use"]
        told = {"decode_video": 1.0, "scout_video": 1.0, "scout_beside": 1.0, "vision": 1.0}
        assert pipeline.clock.take() == told
        assert "waits" not in queues, "for nothing but what is told"


@pytest.mark.parametrize("cue", ["scout", "scout_patches"])
def test_the_scout_of_vista_reaches_the_pruner(line, random_checkpoints, cue):
    """And stays with its tokens, or with all frames where it is the scout's own grid."""

    class Reads(Recorder):
        cues = frozenset({cue})

    checkpoint = str(random_checkpoints / "tiny_qformer")
    scout, pruner = component("scout", "qformer", checkpoint=checkpoint, device="cpu"), Reads((0, 2))
    pipeline = line(pruner, FIFTH, scout=scout)
    with torch.inference_mode():
        seen = pipeline.watch("v", pipeline.cues)
        _, cost = pipeline.answer(QUESTION, *seen)
    assert cost.predictor == scout.flops(seen[0], QUESTION) > 0
    before, after = pruner.calls
    assert before.cues.scout.shape == (256,)
    assert before.cues.scout.std() > 0
    assert after.cues.scout.equal(before.cues.scout[after.original])
    assert before.cues.scout_patches.shape == after.cues.scout_patches.shape == (4, 256)
    highest = before.cues.scout_patches.view(4, 8, 2, 8, 2).amax((2, 4))  # 16 × 16 patches on 8 × 8 tokens
    assert before.cues.scout.view(4, 8, 8).equal(highest)


def test_the_clock_names_every_part(line):
    pipeline = line(Recorder(), FIFTH)
    pipeline(QUESTION)
    taken = pipeline.clock.take()
    assert set(taken) == {"decode_video", "vision", "scout", "relevance", "embed", "prefill", "prune", "decode"}
    assert min(taken.values()) >= 0
    assert pipeline.clock.take() == {}
