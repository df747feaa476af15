"""What the picture and the tables of attention show, read back, against known arrays."""

from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from toys import toy_question

from kvtp.explain import Cached, Explained, Kept, Look, Reply
from kvtp.report.attention import ACROSS, DROPPED, EDGE, SIDE, STRIP, TINT, attention_figure, even
from kvtp.report.contact_sheet import CONTEXT, KEY, OTHER
from kvtp.report.explained import by_layer, file_name, lines, page, shares, shown
from kvtp.types import Frames


def explained(scores, attention, *, pictures=None, labels=None, kept=None, cluster="a", **changed):
    """White pictures; every cell holds a token; `kept`: a mask."""
    count = len(scores)
    pixels = torch.full((pictures or count, 10, 10, 3), 255, dtype=torch.uint8)
    times = torch.arange(len(pixels)).double()
    mask = None if kept is None else torch.tensor(kept, dtype=torch.bool)
    told = None
    if mask is not None:
        told = Kept(Reply("B", "wrong"), int(mask.sum()) + 1, mask.sum((1, 2)), mask)  # one more was made
    known = {
        "question": toy_question(id="q/1", options=("cup", "book"), answer="A", cluster=cluster),
        "frames": Frames(pixels, times, torch.arange(len(pixels)), float(len(pixels)), "toy"),
        "tokens": torch.full((count,), scores[0].numel()),
        "timestamps": torch.arange(count).double(),
        "labels": None if labels is None else torch.tensor(labels),
        "depth": 4,
        "looks": (Look(2, scores, torch.tensor(attention)),),
        "reply": Reply("A", "correct"),
        "method": None if kept is None else "toy at 0.5",
        "kept": told,
    }
    return Explained(**(known | changed))


TWO = torch.tensor([[[0.0, 0.2], [0.1, 0.0]], [[0.0, 0.0], [0.4, 0.4]]])
MASK = [[[1, 0], [0, 1]], [[1, 1], [1, 0]]]


def titles(figure):
    """Without their line breaks."""
    return [panel.get_title(loc="left").replace("\n", " ") for panel in figure.axes]


def cells(picture, frame, rows=2, columns=2):
    """The middles of a frame's cells."""
    width = SIDE + 2 * EDGE
    inner = picture[EDGE : EDGE + SIDE, frame * width + EDGE : (frame + 1) * width - EDGE]
    assert inner.shape == (SIDE, SIDE, 3)
    return inner.reshape(rows, SIDE // rows, columns, SIDE // columns, 3)[:, SIDE // rows // 2, :, SIDE // columns // 2]


def test_heat_kept_edges_and_words():
    one = explained(TWO, [0.1, 0.3], labels=[0.0, 5.0], kept=MASK)
    figure = attention_figure(one)
    film, heat, kept = (panel.images[0].get_array() for panel in figure.axes)
    assert (cells(film, 0) == 1).all()
    assert film[0, 5].tolist() == pytest.approx(to_rgb(OTHER))
    assert film[0, SIDE + 2 * EDGE + 5].tolist() == pytest.approx(to_rgb(KEY))
    for frame in range(2):
        light = cells(kept, frame)
        expected = np.where(np.array(MASK[frame])[..., None], 1.0, DROPPED)
        np.testing.assert_allclose(light, np.broadcast_to(expected, light.shape), atol=1e-6)
    hot = np.concatenate([cells(heat, frame) for frame in range(2)])
    bare = hot[TWO.flatten(0, 1).numpy() == 0]
    assert (bare == bare[0]).all()
    assert np.ptp(bare[0]) == 0, "grey"
    assert hot[3, 0].tolist() == hot[3, 1].tolist()
    assert hot[0, 1].sum() < hot[3, 0].sum()
    assert titles(figure) == [
        "2 of 2 frames; edges: relevance label, red the highest, orange above 0 (relevant)",
        "layer 2 of 4: 40.0 % of the question's attention is on the video, 75.0 % of that on relevant frames, "
        "which have 50.0 % of the tokens",
        "toy at 0.5 keeps 6 of 8 tokens (1 made by it are not shown)",
    ]
    below = [[label.get_text() for label in panel.get_xticklabels()] for panel in figure.axes]
    assert below == [["0.0 s", "1.0 s"], ["25.0 %", "75.0 %"], ["2", "3"]]
    assert [text.get_text() for text in figure.texts] == [
        "q/1: What happens?",
        "A. cup    B. book    → A",
        "all 8 tokens: “A” (correct)    toy at 0.5, 6 tokens: “B” (wrong)",
    ]


@pytest.mark.parametrize("grid", [(2, 2), (1, 4)])
def test_kept_cells_are_tinted_by_what_they_are_kept_for(grid):
    """Over white: two fifths and a bit of their colour, the rest white; dropped cells stay dark."""
    rows, columns = grid
    mask = torch.tensor(MASK, dtype=torch.bool).reshape(2, rows, columns)
    first = torch.zeros_like(mask)
    first[0, 0, 0] = first[1, 0, 1] = True
    one = explained(TWO.reshape(2, rows, columns), [0.1, 0.3], kept=mask.tolist())
    one = replace(one, kept=replace(one.kept, parts={"foveal": first, "anchors": mask & ~first}))
    figure = attention_figure(one)
    picture = figure.axes[2].images[0].get_array()
    for frame in range(2):
        if rows > 1:
            seen, white = cells(picture, frame), 1.0
        else:
            width = SIDE + 2 * EDGE
            strip = picture[EDGE + SIDE + STRIP // 2, frame * width + EDGE : (frame + 1) * width - EDGE]
            seen, white = strip.reshape(1, columns, -1, 3)[:, :, 2], 0.85
        for row in range(rows):
            for column in range(columns):
                if not mask[frame, row, column]:
                    expected = [DROPPED] * 3
                else:
                    colour = to_rgb("red" if first[frame, row, column] else "limegreen")
                    expected = [white * (1 - TINT) + TINT * part for part in colour]
                assert seen[row, column].tolist() == pytest.approx(expected, abs=1e-6)
    assert titles(figure)[2].endswith("(1 made by it are not shown); red: 2 foveal; green: 3 anchors")


def test_heat_is_as_high_as_the_layers_highest_hundredth():
    """One cell of a thousand is far above all others: these can be told apart all the same."""
    scores = torch.zeros(10, 10, 10)
    scores[0, :5], scores[9, 9, 9] = 1.0, 1000.0
    heat = attention_figure(explained(scores, [0.1] * 10)).axes[1].images[0].get_array()
    width = heat.shape[1] // 10
    assert heat[EDGE + 2, EDGE + 2].tolist() == heat[-EDGE - 2, 10 * width - EDGE - 2].tolist()
    assert heat[EDGE + 2, EDGE + 2].tolist() != heat[-EDGE - 2, EDGE + 2].tolist()


def test_what_happens_to_the_cache():
    """Of the same rows once with dropped tokens, once without: then there is no row of them, and the header tells."""
    one = explained(TWO, [0.1, 0.3], kept=MASK)
    both = replace(one, kept=replace(one.kept, cached=Cached(0.4, 0.25)))
    assert titles(attention_figure(both))[-1] == (
        "toy at 0.5 keeps 6 of 8 tokens (1 made by it are not shown); of the cache 40.0 % stays, of that 25.0 % is "
        "hidden while the reply is written"
    )
    alone = replace(one, kept=replace(one.kept, count=8, mask=None, cached=Cached(0.4, None)))
    figure = attention_figure(alone)
    assert len(figure.axes) == 2, "the film and one layer"
    said = " ".join(text.get_text().strip() for text in figure.texts)
    assert said.endswith("toy at 0.5, 8 tokens; of the cache 40.0 % stays: “B” (wrong)")
    assert [line["kept"] for line in lines(alone)] == [None, None]


@pytest.mark.parametrize(
    ("pools", "told"),
    [
        (None, "layer 2 of 4, where toy at 0.5 ranks: 40.0 %"),
        ("p=q", "layer 2 of 4, where toy at 0.5 ranks, by other scores than this heat (explain.*: p=q): 40.0 %"),
    ],
)
def test_the_layer_that_ranks(pools, told):
    looks = tuple(Look(layer, TWO, torch.tensor([0.1, 0.3])) for layer in (2, 3))
    _, here, there = titles(
        attention_figure(explained(TWO, [0.1, 0.3], looks=looks, method="toy at 0.5", ranked=(2,), pools=pools))
    )
    assert here.startswith(told)
    assert there.startswith("layer 3 of 4: 40.0 %")


def test_long_titles_stay_on_the_page():
    """As wide as they are drawn, and below what stands above them."""
    one = explained(TWO, [0.1, 0.3], labels=[0.0, 5.0], kept=MASK, ranked=(2,), pools="head_pool=mean, attention=plain")
    figure = attention_figure(one)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    boxes = [panel.get_tightbbox(canvas.get_renderer()) for panel in figure.axes]
    boxes.insert(0, figure.texts[-1].get_window_extent(canvas.get_renderer()))
    assert any("\n" in panel.get_title(loc="left") for panel in figure.axes)
    for above, below in pairwise(boxes):
        assert above.y0 >= below.y1
    assert all(box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)


def test_at_most_sixteen_frames_evenly():
    assert even(32, 16).tolist() == list(range(1, 32, 2))
    assert even(5, 16).tolist() == [0, 1, 2, 3, 4]
    labels = [0.0] * 32
    labels[3] = 3.0
    labels[5] = 5.0
    figure = attention_figure(explained(torch.ones(32, 2, 2), [0.01] * 32, labels=labels))
    film = figure.axes[0].images[0].get_array()
    width = film.shape[1] // ACROSS
    assert [film[0, place * width + 5].tolist() for place in (0, 1, 2)] == [
        pytest.approx(to_rgb(colour)) for colour in (OTHER, CONTEXT, KEY)
    ]
    assert figure.axes[0].get_title(loc="left").startswith("16 of 32 frames")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][:3] == ["1.0 s", "3.0 s", "5.0 s"]


def test_tokens_without_a_grid_are_a_strip_below():
    scores = torch.zeros(2, 1, 8)
    scores[1, 0, 6:] = 1.0
    kept = [[[1] * 4 + [0] * 4], [[0] * 8]]
    figure = attention_figure(explained(scores, [0.1, 0.1], kept=kept))
    _, heat, left = (panel.images[0].get_array()[EDGE:-EDGE] for panel in figure.axes)
    assert heat.shape[0] == SIDE + STRIP
    width = heat.shape[1] // 2
    assert (heat[:SIDE, EDGE : width - EDGE] == 1).all()
    each = (width - 2 * EDGE) // 8
    strip = heat[SIDE + 2, width + EDGE + each // 2 :: each][:8]
    assert [colour.tolist() == strip[0].tolist() for colour in strip] == [True] * 6 + [False] * 2
    shades = left[SIDE + 2, EDGE + each // 2 :: each][:8, 0]
    assert shades.tolist() == pytest.approx([0.85] * 4 + [DROPPED] * 4)


def test_a_video_without_frames_is_one_film_above_one_strip():
    figure = attention_figure(explained(torch.rand(1, 1, 10), [0.5], pictures=20))
    film, heat = (panel.images[0].get_array() for panel in figure.axes)
    assert film.shape[1] == heat.shape[1] == ACROSS * SIDE + 2 * EDGE
    assert figure.axes[0].get_title(loc="left") == "16 of 20 pictures"


def test_words_are_no_formula():
    """Matplotlib reads $…$ as mathematics, and refuses what it cannot read."""
    question = toy_question(id="$x_$", text=r"Is it $x_$, or $\frac$?" + " again" * 60)
    attention_figure(explained(TWO, [0.1, 0.1], question=question, refused="$_$", method="$x_$")).savefig(BytesIO())


def test_tables_against_sums_by_hand():
    one = explained(TWO, [0.1, 0.3], labels=[0.0, 5.0], kept=MASK)
    told = lines(one)
    assert [(line["layer"], line["frame"], line["tokens"], line["kept"], line["label"]) for line in told] == [
        (2, 0, 4, 2, 0.0),
        (2, 1, 4, 3, 5.0),
    ]
    assert [line["attention"] for line in told] == pytest.approx([0.25, 0.75])
    assert [line["score"] for line in told] == pytest.approx([0.3 / 1.1, 0.8 / 1.1])
    (first,) = shares(one)
    assert [first[key] for key in ("video", "relevant", "relevant_scores", "chance", "relevant_kept")] == pytest.approx(
        [0.4, 0.75, 0.8 / 1.1, 0.5, 0.6]
    )
    other = shares(explained(TWO, [0.2, 0.2], labels=[3.0, 0.0], cluster="b"))
    alike = shares(explained(TWO, [0.1, 0.1], labels=[3.0, 3.0], cluster="c"))
    (mean,) = by_layer([first, *other, *alike])
    assert (mean["layer"], mean["questions"], mean["labelled"]) == (2, 3, 2)
    assert mean["video"] == pytest.approx(100 * (0.4 + 0.4 + 0.2) / 3)
    assert mean["relevant"] == pytest.approx(62.5)
    assert mean["relevant_kept"] == pytest.approx(60)
    assert (mean["low"], mean["high"]) == pytest.approx((50, 75)), "of two videos either can be drawn twice"
    assert "62.5" in shown([mean])
    assert "50.0 – 75.0" in shown([mean])


def test_without_labels_there_is_nothing_to_compare():
    (mean,) = by_layer(shares(explained(TWO, [0.1, 0.3])))
    assert [mean[key] for key in ("relevant", "low", "chance", "relevant_kept", "labelled")] == [None] * 4 + [0]
    assert shown([mean]).split()[-8:] == ["2", "1", "40.0", "–", "–", "–", "–", "–"]


def test_page_and_file_names(tmp_path):
    assert file_name(3, "a/b: é?") == "003_a-b----.png"
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    written = page("<run>", [(toy_question(text="1 < 2?"), tmp_path / "x.png")], "a & b")
    assert "<h1>&lt;run&gt;</h1>" in written
    assert "1 &lt; 2?" in written
    assert "a &amp; b" in written
    assert 'src="data:image/png;base64,iVBORw=="' in written
