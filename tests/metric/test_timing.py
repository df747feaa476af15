"""Times: the clock's two ways, what is made of them, and rounds of real runs with random weights."""

import csv
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter

import pytest
import torch
from omegaconf import OmegaConf
from shell import Shell
from toys import CONF, component, toy_frames, toy_question, toy_tokens, unchecked

import kvtp.metric.timing
from kvtp.config import Row, method_choices
from kvtp.errors import Refused
from kvtp.metric.dry import Chance
from kvtp.metric.latency import Stopwatch
from kvtp.metric.memory import too_little
from kvtp.metric.meter import Line, meter
from kvtp.metric.speed import Round, Timing, limit, speed, timing
from kvtp.metric.timing import Noise, Trial, time_rows
from kvtp.pipeline import Pipeline
from kvtp.pruner.look_m import LookMCache
from kvtp.report.costs import TIMED, shown, stacks, table
from kvtp.types import Answer

# -- the clock -----------------------------------------------------------------------------------------------------


class Event:
    """A GPU's event, whose device is a counter: what is queued takes the time that it says."""

    now, waited = 0.0, 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at, self.known_after = Event.now, Event.waited

    def synchronize(self) -> None:
        if Event.waited <= self.known_after:  # else it has happened
            Event.synchronise()

    def elapsed_time(self, other: "Event") -> float:
        assert Event.waited > other.known_after, "it has not happened yet"
        return other.at - self.at

    @classmethod
    def synchronise(cls, gpu: int | None = None) -> None:
        cls.waited += 1


@pytest.fixture
def gpu(monkeypatch) -> Iterator[type[Event]]:
    monkeypatch.setattr(Event, "now", 0.0)
    monkeypatch.setattr(Event, "waited", 0)
    for name in ("is_available", "is_initialized"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", Event.synchronise)
    with unchecked():  # of its type
        yield Event


def test_on_a_gpu_nothing_waits_before_take(gpu) -> None:
    clock = Stopwatch()
    for part, ms in (("vision", 3.0), ("prune", 0.5), ("vision", 1.25), ("prune", 7.0)):
        with clock(part):
            gpu.now += ms
        gpu.now += 10  # of nobody's part
    assert gpu.waited == 0
    assert clock.take() == {"vision": 4.25, "prune": 7.5}
    assert gpu.waited == 1
    assert clock.take() == {}
    assert gpu.waited == 1, "there was nothing to wait for"


def test_on_a_gpu_a_part_may_fail(gpu) -> None:
    clock = Stopwatch()

    def fail() -> None:
        with clock("prefill"):
            gpu.now += 5
            raise Refused("no")

    with pytest.raises(Refused):
        fail()
    with clock("prune"):
        gpu.now += 1
    assert clock.take() == {"prefill": 5.0, "prune": 1.0}


def test_on_a_cpu_it_is_wall_time(monkeypatch) -> None:
    now = iter([0.0, 1.0, 5.0, 5.25, 7.0, 7.5])
    monkeypatch.setattr("kvtp.metric.latency.perf_counter", lambda: next(now))
    clock = Stopwatch()
    for part in ("vision", "prune", "vision"):
        with clock(part):
            pass
    assert clock.take() == {"vision": 1500.0, "prune": 250.0}


# -- what is made of times -----------------------------------------------------------------------------------------


def a_round(vision: float, first: float, whole: float, peak: float | None = None, **parts: float) -> Round:
    usual = {"scout": 0.5, "relevance": 1.5, "prune": 4.0, "embed": 1.0, "prefill": 40.0, "decode": 20.0}
    return Round({"vision": vision, **usual, **parts}, first, whole, peak)


def an_answer() -> Answer:
    rows = {"visual": (100, 100, 20, 20), "newline": (1, 1, 1, 1), "text": (9, 9, 9, 9)}
    return Answer("", rows, (), full_rows=110, cache_rows=(), cache_visual=(), steps=(8,), kept=torch.arange(20))


def test_medians_are_of_each_part() -> None:
    rounds = [
        a_round(30, first=75, whole=95, prune=4, scout=0, relevance=9, peak=2**21),
        a_round(10, first=85, whole=90, prune=90, scout=4, relevance=0, peak=2**20),
        a_round(20, first=80, whole=99, prune=5, scout=1, relevance=5, peak=None),
    ]
    found = timing(rounds, an_answer(), 2**18)
    assert (found.vision, found.prune, found.first, found.whole) == (20, 5, 80, 95)
    assert found.relevance == 6, "the median of sums, not the sum of medians"
    assert (found.peak, found.cached) == (2**21, 2**18)
    assert (found.rows, found.full_rows, found.steps) == ((110 * 2 + 30 * 2) / 4, 110, 8)


FULL = Timing(vision=100, relevance=0, prune=0, embed=2, prefill=500, decode=198, first=610, whole=810, peak=2**30,
              rows=1000, full_rows=1000, steps=8, cached=96 * 2**20)  # fmt: skip
MINE = replace(FULL, vision=104, relevance=5, prune=20, prefill=90, first=225, whole=419, peak=2**29, rows=200,
               cached=24 * 2**20)  # fmt: skip


def test_the_limit_by_hand() -> None:
    """810 ms, of which 310 stay and 500 become a fifth."""
    assert limit(FULL, 200) == 310 + 100
    assert limit(FULL, 1000) == FULL.whole
    assert limit(FULL, 0) == 310


def test_speed_by_hand() -> None:
    told = speed(MINE, FULL)
    assert told["limit/end_to_end_ms"] == 410
    assert told["limit/speedup"] == 810 / 410
    assert told["overhead/above_limit_ms"] == 9
    assert told["overhead/pruning_ms"] == 25
    assert told["overhead/pruning_of_prefill"] == 0.05
    assert told["overhead/cues_ms"] == 4
    assert told["speedup/end_to_end"] == 810 / 419
    assert told["speedup/prefill"] == 500 / 90
    assert told["speedup/first_token"] == 610 / 225
    assert told["decode/tokens_per_s"] == pytest.approx(8 / 0.194)
    assert told["memory/peak_mib"] == 512
    assert told["memory/kv_cache_mib"] == 24
    own = speed(FULL, FULL)
    assert [own[key] for key in own if key.startswith("speedup/") or key == "limit/speedup"] == [1] * 4
    assert own["overhead/above_limit_ms"] == 0


def test_what_is_not_known_is_not_told() -> None:
    told = speed(replace(MINE, steps=0, peak=None), None)
    assert not any(key.startswith(("speedup/", "limit/", "decode/", "memory/peak")) for key in told)
    assert told["overhead/pruning_ms"] == 25


# -- rounds --------------------------------------------------------------------------------------------------------

TRIAL = Trial("cpu", size=(48, 64), text=20, reply=3, warm_ups=1, rounds=3)


def described(host) -> dict:
    """Its section of a configuration."""
    target = f"{type(host).__module__}.{type(host).__qualname__}"
    return {"_target_": target, **{field.name: getattr(host, field.name) for field in fields(host)}}


def run(host, method: str, ratio: float = 0.25, predictor: Path | None = None) -> Row:
    choices = method_choices(method)
    parent = {group: OmegaConf.load(CONF / group / f"{option}.yaml") for group, option in choices.items()}
    if predictor is not None:
        parent["relevance"].checkpoint = str(predictor)
    plain = OmegaConf.to_container(OmegaConf.create({"retention_ratio": ratio, "seed": 0, **parent}), resolve=True)
    return Row(method, "id", Path("nowhere"), choices, (), {**plain, "backbone": described(host)})


@pytest.fixture
def asked(monkeypatch) -> list[tuple[int, str]]:
    """Frames and pruner of every question, in order."""
    seen, answer = [], Pipeline.answer

    def answering(pipeline, question, frames, tokens):
        seen.append((len(frames), type(pipeline.pruner).__name__))
        return answer(pipeline, question, frames, tokens)

    monkeypatch.setattr(Pipeline, "answer", answering)
    return seen


def test_rows_take_turns_beside_the_unpruned_model(tiny, asked) -> None:
    """Which is added; rounds in which FLOPs of the selection are counted are none."""
    lines = time_rows([run(tiny(), "tome"), run(tiny(), "random", 0.1)], [4, 2], replace(TRIAL, warm_ups=2), 1e9)
    assert [(line.frames, line.name, line.retention_ratio) for line in lines] == [
        *((4, "none", None), (4, "tome", 0.25), (4, "random", 0.1)),
        *((2, "none", None), (2, "tome", 0.25), (2, "random", 0.1)),
    ]
    turns = ["NoPruning", "ToMe", "Random"]
    later = [turns, turns[1:] + turns[:1], turns[2:] + turns[:2]]  # none always follows the same one
    whole = [pruner for order in (turns, turns, *later) for pruner in order]
    assert asked == [(count, pruner) for count in (4, 2) for pruner in whole]


def test_a_first_round_does_not_count(tiny, monkeypatch) -> None:
    """Without a warm-up, too: rounds that count are those whose selection was timed."""
    rounds = []
    monkeypatch.setattr(
        "kvtp.metric.timing.timing", lambda found, *given: rounds.append(found) or timing(found, *given)
    )
    lines = time_rows([run(tiny(), "tome")], [2], replace(TRIAL, warm_ups=0), 1e9)
    assert all(len(found) == 3 for found in rounds)
    assert all("prune" in one.parts for found in rounds for one in found)
    assert all(line.costs for line in lines)


def test_figures_hang_together(tiny) -> None:
    """Rows are those that shapes alone tell; times are positive, and parts are within the whole."""
    rows = [run(tiny(), "none"), run(tiny(), "prumerge"), run(tiny(), "frame_drop")]
    lines = time_rows(rows, [4], TRIAL, 1e9)
    sized = meter(rows, [4], TRIAL.size, TRIAL.text, TRIAL.reply)
    assert [line.name for line in lines] == ["none", "prumerge", "frame_drop"]
    for line, dry in zip(lines, sized, strict=True):
        told = line.costs
        assert told["rows/kept"] / told["rows/full"] == pytest.approx(dry.costs["convention/vista_ratio"])
        assert min(value for key, value in told.items() if key.startswith("latency/")) > 0
        assert told["latency/first_token_ms"] < told["latency/end_to_end_ms"]
        assert told["latency/vision_ms"] + told["latency/prefill_ms"] < told["latency/end_to_end_ms"]
        assert "memory/peak_mib" not in told, "a CPU's is shared by all"
    none, pruned, _ = (line.costs for line in lines)
    assert none["speedup/end_to_end"] == none["limit/speedup"] == 1
    share = pruned["rows/kept"] / pruned["rows/full"]
    saved = (1 - share) * none["latency/prefill_ms"]
    assert pruned["limit/end_to_end_ms"] == pytest.approx(none["latency/end_to_end_ms"] - saved)


def test_a_round_in_which_a_cache_policy_is_counted_does_not_count(tiny, asked) -> None:
    """It chooses no tokens, so that this is the only counting there is."""
    time_rows([run(tiny(), "look_m")], [2], replace(TRIAL, warm_ups=0), 1e9)
    assert Counter(asked) == {(2, "NoPruning"): 3, (2, "LookM"): 3 + 1}


@pytest.mark.parametrize("reply", [3, 256])
def test_speed_of_the_reply_and_bytes_of_its_cache_stand_together(tiny, monkeypatch, reply) -> None:
    """Look-M's is a share of the unpruned, DyCoke's that of the rows it leaves before the LLM: what it hides from
    written tokens stays stored. The clock of the reply starts when the last cache has been compressed."""
    compressed, began, known, round_of = [], [], LookMCache.after_prefill, kvtp.metric.timing._round

    def compress(policy, layer, queries, keys, *given):
        found = known(policy, layer, queries, keys, *given)
        if not keys.is_meta:  # where it is only counted
            compressed.append(perf_counter())
        return found

    def following(pipeline, host):
        found = round_of(pipeline, host)
        began.append(host.first_token)
        return found

    monkeypatch.setattr(LookMCache, "after_prefill", compress)
    monkeypatch.setattr(kvtp.metric.timing, "_round", following)
    rows = [run(tiny(), "none"), run(tiny(), "look_m"), run(tiny(), "dycoke", 0.6)]
    none, look_m, dycoke = (line.costs for line in time_rows(rows, [4], replace(TRIAL, reply=reply, rounds=1), 1e9))
    assert len(compressed) == 4 * (1 + 1), "layers; a warm-up and a round"
    assert any(max(compressed[:4]) < first < min(compressed[4:]) for first in began)
    assert any(max(compressed) < first for first in began)
    full = none["memory/kv_cache_mib"]
    shape, size = tiny().shape, torch.float32.itemsize
    assert full * 2**20 == shape.layers * none["rows/full"] * 2 * shape.kv_heads * shape.head_dim * size
    assert look_m["memory/kv_cache_mib"] / full == pytest.approx(0.25, abs=0.01)
    assert dycoke["memory/kv_cache_mib"] / full == pytest.approx(dycoke["rows/kept"] / dycoke["rows/full"])
    assert min(each["decode/tokens_per_s"] for each in (none, look_m, dycoke)) > 0


def fails(monkeypatch, where: str, when) -> Counter:
    """`where` of a tiny host raises what a full GPU raises, when `when(its last argument)` is so."""
    from kvtp.backbone.llava_onevision import LlavaOnevision as Family

    calls, work = Counter(), getattr(Family, where)

    def full(host, *given):
        if when(given[-1]):
            calls[where] += 1
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.20 "
                "GiB is free. Including non-PyTorch memory, this process has 77 GiB. See PYTORCH_ALLOC_CONF"
            )
        return work(host, *given)

    monkeypatch.setattr(Family, where, full)
    return calls


def test_a_cpu_says_in_words_that_memory_does_not_suffice() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert too_little(caught.value)
    assert too_little(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2) @ torch.zeros(3)
    assert not too_little(caught.value)


def test_memory_that_does_not_suffice_refuses_one_line(tiny, monkeypatch, asked) -> None:
    calls = fails(monkeypatch, "encode", lambda cues: "probe_attention" in cues)
    rows = [run(tiny(), method) for method in ("none", "prumerge", "tome")]
    none, prumerge, tome = time_rows(rows, [4], TRIAL, 1e9)
    assert calls["encode"] == 1, "it is not tried again"
    assert prumerge.costs is None
    assert prumerge.refused == (
        "it needs more memory than cpu has (CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity "
        "of 79.10 GiB of which 1.20 GiB is free); give fewer meter.frames, or a smaller backbone.frame_chunk"
    )
    assert none.costs
    assert tome.costs["speedup/end_to_end"] > 0
    assert Counter(asked) == {(4, "NoPruning"): 4, (4, "ToMe"): 4}


def test_without_the_unpruned_model_there_is_no_speed_up(tiny, monkeypatch) -> None:
    fails(monkeypatch, "generate", lambda state: len(state.visual_at) > 200)
    none, tome = time_rows([run(tiny(), "none"), run(tiny(), "tome")], [4], TRIAL, 1e9)
    assert "more memory" in none.refused
    assert tome.costs["latency/end_to_end_ms"] > 0
    assert "speedup/end_to_end" not in tome.costs
    (panel,) = stacks([none, tome]).axes
    assert len(panel.lines[0].get_xdata()) == 0, "no limit"


def test_weights_that_do_not_fit_refuse_all_lines(tiny, monkeypatch) -> None:
    fails(monkeypatch, "placed", lambda model: True)
    lines = time_rows([run(tiny(), "none"), run(tiny(), "tome")], [4, 2], TRIAL, 1e9)
    assert len(lines) == 4
    assert all(line.refused.startswith("the weights need more memory than cpu has") for line in lines)


def test_refusals_of_methods_and_hosts_are_told(tiny, monkeypatch) -> None:
    """A cue that the host cannot give; more pictures than it takes. Shapes alone tell the same."""
    from kvtp.backbone.llava_onevision import LlavaOnevision as Family

    places = Family.places

    def few(host, frames, size):
        if frames > 2:
            raise Refused(f"two pictures are enough, got {frames}")
        return places(host, frames, size)

    monkeypatch.setattr(Family, "places", few)
    rows = [run(tiny(head=None), method) for method in ("none", "prumerge")]
    for lines in (time_rows(rows, [2, 4], TRIAL, 1e9), meter(rows, [2, 4], TRIAL.size, TRIAL.text, TRIAL.reply)):
        refused = {(line.name, line.frames): line.refused for line in lines}
        assert refused["none", 2] == ""
        assert refused["none", 4] == "two pictures are enough, got 4"
        assert all("needs the cues probe_attention" in refused["prumerge", count] for count in (2, 4))


def test_predictors_are_not_run(tiny, random_checkpoints, tmp_path) -> None:
    """Here there are none of its weights; scores are drawn, the same ones in every round."""
    for path in (random_checkpoints / "tiny_kvtp").glob("*.json"):
        shutil.copy(path, tmp_path)
    *_, line = time_rows([run(tiny(), "tome_kvtp", predictor=tmp_path)], [4], TRIAL, 1e9)
    assert line.costs["overhead/pruning_ms"] > 0
    chance = Chance(component("relevance", "uniform"))
    given = toy_frames([0, 1, 2], 3), toy_tokens([4, 4, 4], (2, 2)), toy_question()
    assert torch.equal(chance(*given), chance(*given))
    assert len(chance(*given).unique()) == 3


def test_pictures_are_of_the_size_asked_for() -> None:
    seen = Noise(3, (48, 64))("any film")
    assert (seen.pixels.shape, seen.size, len(seen)) == ((3, 48, 64, 3), (48, 64), 3)
    assert len(seen.pixels.unique()) == 256
    assert torch.equal(Noise(3, (48, 64))("another").pixels, seen.pixels)


# -- what is told --------------------------------------------------------------------------------------------------

LINES = [
    Line("none", None, 64, speed(FULL, FULL)),
    Line("tome", 0.2, 64, speed(MINE, FULL)),
    Line("pool", 0.2, 64, None, "it needs more memory than cuda has"),
]


def test_the_table_tells_times_and_refusals() -> None:
    said = shown(LINES, TIMED).splitlines()
    assert "frames run kept rows vision relevance prune embed prefill decode" in " ".join(said[0].split())
    assert " ".join(said[2].split()) == (
        "64 tome 0.2 200 104 5 20 2 90 198 225 419 410 5.56 2.71 1.93 1.98 25 5.0% 41.2 24 512"
    )
    assert said[-1] == "pool 0.2, 64 frames: it needs more memory than cuda has"
    assert [line["refused"] for line in table(LINES)] == ["", "", "it needs more memory than cuda has"]
    assert table(LINES)[1]["overhead/above_limit_ms"] == 9


def test_the_picture_stacks_parts_and_marks_the_limit() -> None:
    (panel,) = stacks(LINES).axes
    widths = [bar.get_width() for bar in panel.patches]
    assert widths == [100, 104, 2, 2, 0, 25, 500, 90, 198, 198]  # none and tome, part by part
    assert [bar.get_x() for bar in panel.patches][1::2] == [0, 104, 106, 131, 221]
    assert list(panel.lines[0].get_xdata()) == [810, 410]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["none all", "tome 0.2"]


# -- as a person types it ------------------------------------------------------------------------------------------


def test_the_command_needs_shapes_only(project_root, tmp_path) -> None:
    """A checkpoint of which there is nothing but its configuration, and no pooling head."""
    told = (project_root / "checkpoints" / "tiny" / "config.json").read_text()
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "config.json").write_text(told)
    shell = Shell(project_root, tmp_path, "meter.py")
    words = ("methods=[tome,prumerge]", "retention_ratios=[0.25,0.1]", "meter.frames=[4]", "meter.rounds=2")
    status, said = shell.run(
        "device=cpu", *words, f"backbone.checkpoint={tmp_path}/shapes", "backbone.head=nobody/has-this"
    )
    assert status == 0, said
    (folder,) = (tmp_path / "meter").iterdir()
    with (folder / "timings.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["name"], line["retention_ratio"]) for line in lines] == [
        *(("none", ""), ("tome", "0.25"), ("tome", "0.1"), ("prumerge", "0.25"), ("prumerge", "0.1"))
    ]
    assert all(float(line["speedup/end_to_end"]) > 0 and line["device"].startswith("cpu") for line in lines)
    for name in ("costs.png", "timings.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert len((folder / "costs.csv").read_text().splitlines()) == 1 + 4
    assert "first token" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("device=gpu",), "device must be one of None, cpu, cuda, got 'gpu'"),
        (("device=cpu", "meter.rounds=0"), "meter.rounds must be a whole number in [1, inf], got 0"),
        (("meter.size=[360]",), "meter.size must be a list of two whole numbers, height and width, got [360]"),
        (("device=cpu", "meter.published=true"), "meter.published=true times nothing, device=cpu says nothing"),
        (("meter.rounds=9",), "without device=… nothing is timed, meter.rounds say nothing; give device=cpu or cuda"),
    ],
)
def test_wrong_values_are_one_line(project_root, tmp_path, words, message) -> None:
    status, said = Shell(project_root, tmp_path, "meter.py").run(*words)
    assert status != 0
    assert len(said.splitlines()) == 1, said
    assert message in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(project_root, tmp_path) -> None:
    status, said = Shell(project_root, tmp_path, "meter.py").run("device=cuda")
    assert status != 0
    assert said.splitlines() == [
        "device=cuda needs a GPU that torch can use, there is none; give device=cpu, or no device"
    ]
