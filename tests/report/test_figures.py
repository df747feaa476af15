"""Pictures hold what they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtp.report.figures import beside, front, heat, pareto, svg, sweep

KEYS = ("name", "retention_ratio", "flops", "accuracy", "low", "high", "kind/a")
LINES = [
    {**dict(zip(KEYS, values, strict=True)), "label": values[0], "series": values[0]}
    for values in (
        ("none", None, 1.0, 90.0, 85.0, 94.0, 80.0),
        ("tome", 0.2, 0.4, 70.0, 60.0, 78.0, None),
        ("tome", 0.1, 0.3, 50.0, 41.0, 58.0, 50.0),
        ("pool", 0.1, 0.3, None, None, None, 1.0),
    )
]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_front_is_what_no_other_beats(points) -> None:
    """By its definition: no other point costs at most as much, reaches at least as much, and differs."""
    expected = {
        (cost, reached)
        for cost, reached in points
        if not any(x <= cost and y >= reached and (x, y) != (cost, reached) for x, y in points)
    }
    found = front(points)
    assert set(found) == expected
    assert found == sorted(found)


def test_pareto_draws_a_curve_per_method_with_intervals() -> None:
    (panel,) = pareto(LINES).axes
    drawn = {container.get_label(): container for container in panel.containers}
    assert set(drawn) == {"none", "tome"}
    curve, _, (bars,) = drawn["tome"].lines
    assert curve.get_xydata().tolist() == [[0.3, 50.0], [0.4, 70.0]]
    assert [[end[1] for end in bar] for bar in bars.get_segments()] == [
        pytest.approx([41, 58]),
        pytest.approx([60, 78]),
    ]


def test_sweep_draws_over_the_setting_and_a_level_without_it() -> None:
    lines = [{**line, "budget.temperature": value} for line, value in zip(LINES, (None, 2.0, 0.0, 1.0), strict=True)]
    (panel,) = sweep(lines, "budget.temperature").axes
    (drawn,) = panel.containers
    assert drawn.get_label() == "tome"
    assert drawn.lines[0].get_xydata().tolist() == [[0.0, 50.0], [2.0, 70.0]]
    assert [text.get_text() for text in panel.texts] == ["none"]
    assert panel.get_xlabel() == "budget.temperature"


def test_doubts_and_caveats_stand_below_both() -> None:
    """Of a level across, which has no place along the axis, the name alone; each caveat once."""
    point = {"panel": "all", "accuracy": 50.0}
    printed = [
        {**point, "series": name, "tau": place, "doubted": doubted}
        for name, place, doubted in (("none", None, True), ("vista", 0.8, True), ("vista", 0.9, False))
    ]
    measured = [
        {**point, "series": "vista", "tau": place, "low": 40.0, "high": 60.0, "on": None, "caveats": ("by hand",)}
        for place in (0.8, 0.9)
    ]
    said = beside(printed, measured, "tau").get_supxlabel().replace("\n", " ")
    assert said.startswith("Printed, but in doubt")
    assert said.endswith(": none; vista at 0.8. Measured: by hand.")
    assert not beside(printed[2:], [], "tau").get_supxlabel()


def test_heat_says_every_number() -> None:
    panel = heat(LINES, {"kind/a": "a"}).axes[0]
    assert [text.get_text() for text in panel.texts] == ["80", "–", "50", "1"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["none ", "tome 0.2", "tome 0.1", "pool 0.1"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("length", [1, 40, 150])
def test_heat_has_room_for_its_labels(length: int) -> None:
    """However long: left of the squares, which stay as wide as they are."""
    drawn = heat([{**line, "label": "m" * length} for line in LINES], {"kind/a": "a", "kind/b": "b"})
    drawn.draw_without_rendering()
    panel = drawn.axes[0]
    assert min(label.get_window_extent().x0 for label in panel.get_yticklabels()) >= 0
    assert panel.get_window_extent().width / drawn.dpi == pytest.approx(2 * 0.9, abs=1)


def test_svg_stands_alone() -> None:
    drawn = svg(pareto(LINES))
    assert drawn.startswith("<svg")
    assert drawn.rstrip().endswith("</svg>")
