"""Where the model looks: attention rows pooled by loops; which layers and questions are taken; the command."""

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from backbone import hosts, vicunas
from clips import make_clip
from shell import Shell, ask
from toys import ToyBenchmark, ToyFilm, component, toy_question, unchecked

from kvtp.cell import Cell
from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.errors import LoadError
from kvtp.explain import Cached, Explainer, ranking_layers
from kvtp.types import Answer

KINDS = {"tiny": "a grid", "qwen2_5_vl": "pairs of pictures", "st_llm": "no grid", "videochat2": "no frames"}
POOLS = [("max", "mean", "rope"), ("min", "max", "plain"), ("mean", "mean", "rope")]
OVER = {"max": max, "min": min, "mean": fmean}
USUAL = {"layers": None, "questions": 3, "ids": None, "head_pool": "max", "query_pool": "mean", "attention": "rope"}


def explainer(**changed):
    return Explainer(**(USUAL | changed))


@pytest.fixture(scope="module")
def cell(tiny, tmp_path_factory):
    """`cell(family, method, …)`: what a command comes to, as far as it is looked at; sixteen pictures of noise."""

    @cache
    def backbone(family):
        if family == "tiny":
            return tiny(max_new_tokens=2)
        folder = tmp_path_factory.mktemp(family)
        if family == "qwen2_5_vl":
            return hosts.host("qwen2_5_vl_7b", checkpoint=str(hosts.qwen2_5_vl(folder)), max_new_tokens=2)
        return hosts.host(f"{family}_7b", **getattr(vicunas, family)(folder), max_new_tokens=2)

    def make(family="tiny", method="random", **stages):
        line = vicunas.pipeline(backbone(family), method, 0.25)
        own = {} if method == "text_only" else {"retention_ratio": 0.25}
        config = {"budget": own, "pruner": {}}
        return Cell(Row(method, "", Path(), {"pruner": method}, (), config), replace(line, **stages))

    return make


@pytest.mark.parametrize(
    ("family", "pools"),
    [*((family, POOLS[0]) for family in KINDS), *(("tiny", pools) for pools in POOLS[1:])],
)
def test_pooled_attention_of_every_layer(cell, family, pools):
    """Against the cue of a prefill up to the layer, pooled by loops: over heads, then over the question."""
    head_pool, query_pool, attention = pools
    name = {"rope": "question_attention", "plain": "question_attention_plain"}[attention]
    made = cell(family, frames=ToyFilm(4))
    line, layers = made.pipeline, [1, made.pipeline.backbone.shape.layers]
    (one,) = explainer(layers=layers, head_pool=head_pool, query_pool=query_pool, attention=attention)(made)
    question = line.benchmark[0]
    frames, tokens = line.watch(question.video, frozenset())
    prompt = line.benchmark.prompt(question, frames)
    asked = replace(line.backbone.ask(tokens, prompt), asked=frozenset({name}))
    assert one.tokens.tolist() == tokens.per_frame.tolist()
    assert [look.layer for look in one.looks] == layers
    for look in one.looks:
        assert look.scores.shape == (tokens.frames, *tokens.grid)
        state = line.backbone.prefill(line.backbone.embed(asked, prompt), look.layer)
        rows = getattr(state.visual.cues, name).double()
        heads, words, _ = rows.shape
        mass = [0.0] * tokens.frames
        for token in range(len(tokens)):
            values = rows[:, :, token].tolist()
            best = [OVER[head_pool]([values[head][word] for head in range(heads)]) for word in range(words)]
            at = (int(tokens.frame[token]), int(tokens.row[token]), int(tokens.column[token]))
            assert float(look.scores[at]) == pytest.approx(OVER[query_pool](best), rel=1e-4)
            mass[at[0]] += sum(map(sum, values)) / heads / words
        assert look.attention.tolist() == pytest.approx(mass, rel=1e-4)
        assert 0 < sum(mass) < 1, "the rest is on text"


def test_what_the_method_keeps_and_what_both_reply(cell):
    (one,) = explainer(layers=[2])(cell())
    question, pruned = one.question, cell().pipeline(one.question)
    assert one.reply.text == cell(method="none").pipeline(question).text
    assert (one.method, one.kept.reply.text, one.kept.count) == ("random at 0.25", pruned.text, 16 * 16)
    assert one.kept.per_frame.tolist() == [16] * 16
    places = [[row // 64, row % 64 // 8, row % 8] for row in pruned.kept.tolist()]
    assert one.kept.mask.nonzero().tolist() == places
    (bare,) = explainer(layers=[2])(cell(method="none"))
    assert (bare.method, bare.kept, bare.refused) == (None, None, None)
    torch.testing.assert_close(bare.looks[0].scores, one.looks[0].scores)


def test_what_tokens_are_kept_for(cell):
    """Vista's figure 6: foveal are the half that received most attention in the tower, sorted by hand."""
    made = cell(pruner=component("pruner", "vista", saliency="intrinsic", rho=0.5))
    (one,) = explainer(layers=[2])(made)
    foveal, anchors = (one.kept.parts[name] for name in ("foveal", "anchors"))
    assert not (foveal & anchors).any()
    assert torch.equal(foveal | anchors, one.kept.mask)
    _, tokens = made.pipeline.watch(one.question.video, made.pipeline.cues)
    for frame, seen in enumerate(tokens.cues.received_attention.reshape(16, 64).tolist()):
        best = sorted(range(64), key=lambda place: -seen[place])[:8]
        assert foveal[frame].flatten().nonzero().squeeze(1).tolist() == sorted(best)
    (plain,) = explainer(layers=[2])(cell())
    assert plain.kept.parts == {}, "random has one kind"


def test_a_method_without_a_ratio(cell):
    (one,) = explainer(layers=[1])(cell(method="text_only"))
    assert (one.method, one.kept.count) == ("text_only", 0)


def test_a_method_that_acts_on_the_cache_alone(cell):
    """Of S rows Look-M keeps ⌊0.125·S⌋ twice in every layer; the text is less than that."""
    made = cell(method="look_m")
    (one,) = explainer(layers=[1])(made)
    answer = made.pipeline(one.question)
    rows = 2 * int(0.125 * answer.full_rows)
    assert rows > answer.full_rows - 1024, "text, newlines"
    assert one.kept.count == 1024
    assert one.kept.mask is None
    assert one.kept.cached.share == pytest.approx(rows / answer.full_rows)
    assert one.kept.cached.share == pytest.approx(answer.told["cache_share"])
    assert one.kept.cached.hidden is None
    (bare,) = explainer(layers=[1])(cell(method="random"))
    assert bare.kept.cached is None


def test_a_method_that_hides_what_is_cached(cell, tiny):
    """DyCoke from layer 3 of 0 … 3 on: of each step's visual tokens all but ⌊0.2·(K − 1)⌋ + 1 in one layer of four."""
    made = cell(method="dycoke", backbone=tiny(max_new_tokens=2))
    made = replace(made, pipeline=vicunas.pipeline(made.pipeline.backbone, "dycoke", 0.5))
    made.row.config["budget"]["retention_ratio"] = 0.5
    (one,) = explainer(layers=[1])(made)
    answer = made.pipeline(one.question)
    assert answer.steps == (1,)
    rows, visual = sum(answer.cache_rows), one.kept.count
    assert one.kept.mask.sum() == visual < 1024
    assert one.kept.cached.share == pytest.approx(rows / 4 / answer.full_rows)
    assert one.kept.cached.hidden == pytest.approx((visual - 1 - int(0.2 * (visual - 1))) / rows)


def test_several_steps_meet_what_was_written_before():
    """Two replies of 1 and 3 steps on caches of 10 and 20 rows, each step one row more, by hand."""
    answer = Answer("", {}, (), 40, (10, 20), (1, 3), torch.arange(1), unseen=12)
    met = (10 + 20) + (10 + 20) + (11 + 21) + (12 + 22)
    cached = Cached.of(answer, hides=True)
    assert (cached.share, cached.hidden) == pytest.approx((0.375, 12 / met))
    assert Cached.of(replace(answer, steps=(0,), unseen=0), hides=True) == Cached(0.375, None)


@pytest.mark.parametrize(
    ("pruner", "changed", "ranked", "pools"),
    [
        (("llm_vtp", {"layer": 3}), {}, (3,), None),
        (("llm_vtp", {"layer": 3}), {"query_pool": "max"}, (3,), "head_pool=max, query_pool=max, attention=rope"),
        (("llm_vtp", {"layer": 3, "attention": "plain"}), {}, (3,), "head_pool=max, query_pool=mean, attention=rope"),
        (("fastv", {"layer": 2}), {}, (2,), "head_pool=max, query_pool=mean, attention=rope"),
        (("framefusion", {}), {}, (), "head_pool=max, query_pool=mean, attention=rope"),
        (("random", {}), {}, (), "head_pool=max, query_pool=mean, attention=rope"),
    ],
)
def test_where_the_method_ranks(cell, pruner, changed, ranked, pools):
    name, keys = pruner
    (one,) = explainer(layers=[1], **changed)(cell(pruner=component("pruner", name, retention_ratio=0.9, **keys)))
    assert (one.refused, one.ranked, one.pools) == (None, ranked, pools)


def test_the_map_that_selects_is_shown(cell):
    """The tokens that LLM-VTP keeps are the best of each frame in the look at its layer, which is none of the four."""
    made = cell(pruner=component("pruner", "llm_vtp", retention_ratio=0.25, layer=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvtp.explain.SHOWN", 2)
        (one,) = explainer()(made)
    assert [look.layer for look in one.looks] == [1, 3, 4]
    for scores, mask in zip(one.looks[1].scores, one.kept.mask, strict=True):
        best = sorted(scores.flatten().tolist(), reverse=True)[:16]
        assert sorted(scores[mask].tolist(), reverse=True) == best
    made.row.config["budget"]["retention_ratio"] = 1
    assert ranking_layers(made) == (), "never called"


def test_a_refused_method_leaves_the_attention(cell):
    (one,) = explainer(layers=[1])(cell(relevance=component("relevance", "oracle")))
    assert one.kept is None
    assert "there must be one relevance label per clip" in one.refused
    assert one.looks[0].scores.sum() > 0


def test_labels_are_those_of_the_frames_clips(cell):
    question = toy_question(relevance=(0.0, 5.0, 0.0, 3.0))  # sixteen pictures, one a second
    (one,) = explainer(layers=[1])(cell(benchmark=ToyBenchmark(question)))
    assert one.labels.tolist() == [0.0] * 4 + [5.0] * 4 + [0.0] * 4 + [3.0] * 4


@pytest.mark.parametrize(
    ("deepest", "expected"), [(4, [1, 2, 3, 4]), (28, [1, 10, 19, 28]), (32, [1, 11, 22, 32]), (2, [1, 2]), (1, [1])]
)
def test_layers_where_none_are_named(deepest, expected):
    with unchecked():
        assert explainer().depths(SimpleNamespace(shape=SimpleNamespace(layers=deepest)), ()) == expected


@pytest.mark.parametrize("layer", [0, 5, 1.5, True, "last"])
def test_layers_that_there_are_not(cell, layer):
    with unchecked(), pytest.raises(CommandError, match=r"explain.layers must be in \[1, 4\], the layers of .*, got "):
        next(explainer(layers=[1, layer])(cell()))


class Several(ToyBenchmark):
    """Questions a0, b1, a2 … about two films."""

    def __init__(self, count):
        super().__init__(toy_question())
        self.questions = [
            toy_question(id=f"{'ab'[nth % 2]}{nth}", video=f"{'ab'[nth % 2]}.mp4", text="what?") for nth in range(count)
        ]

    def __len__(self):
        return len(self.questions)

    def __getitem__(self, index):
        return self.questions[index]


def test_which_questions(cell):
    benchmark = Several(5)
    assert [one.id for one in explainer(questions=2).chosen(benchmark)] == ["a0", "b1"]
    assert [one.id for one in explainer(ids=["a4", "a0", "a4"]).chosen(benchmark)] == ["a4", "a0"]
    with pytest.raises(CommandError, match=r"explain\.ids: there is no question 'a5'; nearest: a4"):
        explainer(ids=["a0", "a5"]).chosen(benchmark)


class HalfReadable(ToyFilm):
    """Film a is none."""

    def __call__(self, video):
        if video.path == "a.mp4":
            raise LoadError("it is no film")
        return super().__call__(video)


def test_films_that_cannot_be_read_are_left_out(cell, caplog):
    made = cell(benchmark=Several(4), frames=HalfReadable(2))
    assert [one.question.id for one in explainer(questions=4, layers=[1])(made)] == ["b1", "b3"]
    assert "a.mp4: it is no film" in caplog.text
    assert "2 questions are left out" in caplog.text
    with pytest.raises(CommandError, match=r"no question is left; a\.mp4: it is no film"):
        list(explainer(ids=["a0", "a2"])(made))


class Misplaced(Several):
    """The span of b1 is empty, so that its question is nowhere among the tokens after the video."""

    def prompt(self, question, frames):
        prompt = super().prompt(question, frames)
        return replace(prompt, question_span=(0, 0)) if question.id == "b1" else prompt


def test_questions_that_the_backbone_refuses_are_left_out(cell, tiny, caplog):
    made = cell(benchmark=Misplaced(3), frames=ToyFilm(2), backbone=tiny(question="bare", max_new_tokens=2))
    assert [one.question.id for one in explainer(layers=[1])(made)] == ["a0", "a2"]
    assert "b1: backbone.question=bare needs the question among the tokens after the video" in caplog.text
    assert "1 questions are left out" in caplog.text
    with pytest.raises(CommandError, match=r"no question is left; b1: backbone\.question=bare needs"):
        list(explainer(ids=["b1"])(made))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("layers", 3, "explain.layers must be a list with at least one entry, got 3"),
        ("ids", [], "explain.ids must be a list with at least one entry"),
        ("questions", 0, "explain.questions must be a whole number"),
        ("head_pool", "sum", "explain.head_pool must be one of max, mean, min, got 'sum'"),
        ("query_pool", "min", "explain.query_pool must be one of mean, max"),
        ("attention", "none", "explain.attention must be one of rope, plain"),
    ],
)
def test_wrong_values(key, value, told):
    with unchecked(), pytest.raises(ValueError, match=told):
        explainer(**{key: value})


def test_towers_that_merge_are_refused(cell):
    made = cell()
    made.pipeline.pruner = SimpleNamespace(tower=object())
    with pytest.raises(CommandError, match="random merges tokens inside the vision tower"):
        next(explainer()(made))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("asked")
    (root / "videos").mkdir()
    make_clip(root / "videos" / "film.mp4", seconds=1)
    (root / "videos" / "none.mp4").write_text("no film")
    return ask(root, ["none.mp4", "film.mp4"], 2)


def test_the_command(project_root, asked, tmp_path):
    """A film and something else: pictures of the film's questions, numbers, a page; what an earlier run left goes."""
    folder = tmp_path / "explain" / "here"
    folder.mkdir(parents=True)
    (folder / "007_old.png").write_text("")
    (folder / "mine.png").write_text("")
    shell = Shell(project_root, tmp_path, "explain.py")
    words = ("method=llm_vtp", "pruner.layer=2", "retention_ratio=0.1", "frames.count=4", "explain.questions=4")
    status, said = shell.run(*words, f"benchmark.root={asked}", f"hydra.run.dir={folder}", "explain.layers=[3,1]")
    assert status == 0, said
    assert "2 questions are left out" in said
    pictures = ["000_film.mp4-0.png", "001_film.mp4-1.png"]
    assert sorted(path.name for path in folder.glob("*.png")) == [*pictures, "mine.png"]
    rows = list(csv.DictReader((folder / "scores.csv").open()))
    assert [(row["question"], row["layer"], row["frame"]) for row in rows] == [
        (f"film.mp4-{place}", layer, str(frame)) for place in (0, 1) for layer in "13" for frame in range(4)
    ]
    assert {row["kept"] for row in rows} == {"7"}, "⌈0.1 · 64⌉ of each frame"
    assert [row["label"] for row in rows] == [*["0.0"] * 8, *["0.0", "0.0", "1.0", "1.0"] * 2]
    layers = list(csv.DictReader((folder / "layers.csv").open()))
    assert [(row["layer"], row["questions"], row["labelled"], row["chance"]) for row in layers] == [
        (layer, "2", "1", "50.0") for layer in "13"
    ]
    assert (folder / "explain.html").read_text().count("data:image/png;base64,") == 2
    assert "of that on relevant frames" in said


def test_refusals_are_one_line(project_root, asked, tmp_path):
    shell = Shell(project_root, tmp_path, "explain.py")
    commands = {
        "explain.layer=[1]": "explain (Explainer) has no key 'layer'; nearest: layers",
        "explain.layers=[0,5]": "explain.layers must be in [1, 4], the layers of ",
        "explain.questions=2 explain.ids=[q]": "explain.questions and explain.ids are both given; give one of them",
        "methods=[none,tome]": "scripts/explain.py shows one method, got 2 runs (none, tome); give method=…",
    }
    started = {words: shell.start(f"benchmark.root={asked}", *words.split()) for words in commands}
    for words, process in started.items():
        said = process.communicate()[0]
        assert process.returncode == 1
        assert len(said.splitlines()) == 1, said
        assert commands[words] in said
