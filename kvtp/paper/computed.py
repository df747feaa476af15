"""What a table's rows cost, from shapes alone: no weights, no hub, no checkpoint, no run."""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kvtp.command import ROOT, CommandError
from kvtp.config import Row
from kvtp.metric.account import ACCOUNTING
from kvtp.metric.meter import choosing, meter
from kvtp.metric.published import PROMPTS, TEXT, Formula
from kvtp.progress import Steps
from kvtp.store import write_whole

log = logging.getLogger(__name__)

VERSION = 2  # raised whenever this module would tell a row's costs otherwise than before
SIZE = (360, 640)  # height and width of the pictures
REPLY = 8  # tokens
STAGES = ("backbone", "scout", "relevance", "budget", "pruner")
# Backbones whose configuration tells no sizes: where no such folder is, the code takes those of the release
# (`VicunaHost.measured`). Others: shapes/<option>, or shapes/<option>_7b
HOSTS = {
    "videochat2": "shapes/videochat2_7b",
    "videochat2_7b": "shapes/videochat2_7b",
    "st_llm": "shapes/st_llm/QA_weight",
    "st_llm_7b": "shapes/st_llm/QA_weight",
    "st_llm_7b_conversation": "shapes/st_llm/conversation_weight",
}
VICUNA = "shapes/llm/vicuna_7b"
NETWORKS = {
    "kvtp.relevance.kvtp.Kvtp": "shapes/siglip_so400m",
    "kvtp.relevance.siglip.Siglip": "shapes/siglip_so400m",
    "kvtp.scout.qformer.QFormer": "shapes/blip2_itm_vit_g",
}


@dataclass(frozen=True)
class Computed:
    """`costs` of one question about one film, as `kvtp.metric.meter.Line` has them; None where the row is `refused`:
    the method is not defined so, or no shapes are known."""

    costs: Mapping[str, float] | None
    refused: str = ""


def computed(rows: Sequence[Row], cache: Path) -> list[Computed]:
    """Of each row, in their order. Rows alike but for the benchmark cost the same, and are metered once; what was
    metered stays in the folder `cache`, a file each.

    Pictures are 360 × 640, as many as the row's backbone.frames; replies have 8 tokens, prompts 100, or as many as
    LLM-VTP's must have had (`kvtp.metric.published.PROMPTS`). Whatever a row names, and whether that lies here or not,
    its networks are of released sizes: its backbone; SigLIP-so400m, with KVTP's fusion head where that is asked for;
    BLIP-2 with ViT-g. The tokenizers of the last two are the tiny models': with padding=max_length SigLIP reads 64
    tokens whatever the words; the scout's question has a few pieces more than it would have. Films are one and the same
    noise: of what a method that merges tokens leaves of it, the third digit hangs on that draw.
    """
    found: dict[str, Computed] = {}
    lacking: dict[str, Row] = {}
    keys = []
    for row in rows:
        try:
            asked = _settings(row)
        except CommandError as error:
            key = f"{row.name}: {error}"
            found[key] = Computed(None, str(error))
        else:
            key = _hash(asked)
            path = cache / f"{key}.json"
            if path.is_file():
                found[key] = Computed(**json.loads(path.read_text()))
            else:
                lacking.setdefault(key, replace(row, config={**row.config, **_at_root(asked["stages"])}))
        keys.append(key)
    if lacking:
        cache.mkdir(parents=True, exist_ok=True)
        log.info("%d of %d rows are not in %s: their costs are told from shapes now", len(lacking), len(rows), cache)
    steps = Steps(len(lacking), "row", 30, shown=bool(lacking))
    for together in _by_backbone(lacking):
        for key, one in _metered(together).items():
            found[key] = one
            write_whole(cache / f"{key}.json", json.dumps(asdict(one)) + "\n")
            steps.step(together[key].name)
    steps.close()
    return [found[key] for key in keys]


def as_published(table: str, row: Computed, unpruned: Computed) -> float | None:
    """The FLOPs cell of a table in `published/`, counted as its paper does, but of what the method here really leaves:
    TFLOPs for LLM-VTP, else percent. `unpruned`: the table's own row, newlines and all; it matters where others have
    other newlines (Vista-LLM's table 8). None where one of them was refused."""
    if row.costs is None or unpruned.costs is None:
        return None
    if table.startswith("llm_vtp"):
        return row.costs["convention/fastv_tflops"]
    if table.startswith("kvtp"):
        return 100 * row.costs["convention/kvtp_ratio"]
    key = "flops/prefill_tflops" if table == "vista_table3" else "rows/mean_over_layers"
    return 100 * row.costs[key] / unpruned.costs[key]


def completed(found: Formula, table: str, row: Computed | None, unpruned: Computed | None) -> Formula:
    """Where no formula has a number, that of the method as it is built here (`as_published`), or why there is none."""
    if found.computed is not None:
        return found
    if row is None or unpruned is None:
        return replace(found, reason=f"{found.note}; its row is none of the experiment's")
    value = as_published(table, row, unpruned)
    if value is None:
        return replace(found, reason=f"{found.note}; {row.refused or unpruned.refused}")
    note = f"{found.note}; here that is noise, in which every second cell looks as in the frame before"
    return replace(found, computed=value, status="metered", note=note)


def _by_backbone(rows: Mapping[str, Row]) -> list[dict[str, Row]]:
    """Its network is built and counted once."""
    groups: dict[str, dict[str, Row]] = defaultdict(dict)
    for key, row in rows.items():
        groups[json.dumps([row.config["backbone"], _prompt(row)], sort_keys=True)][key] = row
    return list(groups.values())


def _metered(rows: Mapping[str, Row]) -> dict[str, Computed]:
    """Of one backbone's, by key."""
    told: dict[str, Computed] = {}
    sound = []
    for key, row in rows.items():
        try:
            choosing(row)
        except CommandError as error:  # a value that a stage refuses
            told[key] = Computed(None, str(error))
        else:
            sound.append(replace(row, name=key))  # by which its line is found
    for row in sound[:1]:
        try:
            lines = meter(sound, [row.config["backbone"]["frames"]], SIZE, _prompt(row), REPLY)
        except CommandError as error:  # likewise, the backbone
            return told | {one.name: Computed(None, str(error)) for one in sound}
        told |= {line.name: Computed(line.costs, line.refused) for line in lines}
    return told


def _settings(row: Row) -> dict[str, Any]:
    """All that its costs depend on, folders as they are called in the repository. CommandError for a network of which
    no shape is known."""
    used_on, said = row.choices["backbone"], row.entry.get("backbone")
    if said not in (None, used_on):
        raise CommandError(
            f"{used_on} stands in for {said}; the report of the table as it stands tells what that costs"
        )
    stages = {stage: _on_shapes(stage, row) for stage in STAGES}
    used = sorted({value for section in stages.values() for value in section.values() if _is_shape(value)})
    configs = [ROOT / folder / "config.json" for folder in used]
    return {
        "stages": stages,
        "asked": [*SIZE, _prompt(row), REPLY],
        "shapes": [path.read_text() for path in configs if path.is_file()],
        "accounting": ACCOUNTING,
        "version": VERSION,
    }


def _prompt(row: Row) -> int:
    """Its tokens."""
    return PROMPTS.get(row.choices["backbone"], TEXT)


def _on_shapes(stage: str, row: Row) -> dict[str, Any]:
    """A section with shapes for checkpoints, and nothing in it that is a matter of the machine."""
    section = {**row.config[stage]}
    if "device" in section:
        section["device"] = "cpu"
    if stage == "backbone":
        section["device_map"] = None
    if "checkpoint" not in section:
        return section
    option = row.choices[stage]
    folder = _host(option) if stage == "backbone" else NETWORKS.get(section["_target_"])
    if folder is None:
        raise CommandError(f"of {stage}={option} no shapes are known; add its config.json to shapes/")
    section |= {"checkpoint": folder, "revision": None}
    if "llm" in section:
        section |= {"llm": VICUNA, "llm_revision": None}
    return section


def _host(option: str) -> str | None:
    there = [f"shapes/{name}" for name in (option, f"{option}_7b") if (ROOT / "shapes" / name).is_dir()]
    return HOSTS.get(option, there[0] if there else None)


def _at_root(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        stage: {key: str(ROOT / value) if _is_shape(value) else value for key, value in section.items()}
        for stage, section in stages.items()
    }


def _is_shape(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("shapes/")


def _hash(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:20]
