"""From Hydra's configuration to the runs it asks for: names, ids, folders, and several runs in one process."""

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from kvtp.command import CONF, ROOT, CommandError, check, check_missing, composing
from kvtp.errors import check_ratio
from kvtp.miniature.base import MINIATURE
from kvtp.ranks import adopt

STAGES = ("benchmark", "frames", "backbone", "scout", "relevance", "budget", "pruner")
OF_METHOD = ("relevance", "budget", "pruner", "scout")  # the groups that a method chooses
OWN_RATIO = ("retention_ratio", "cost")  # keys of pruners that decide how much they keep
OWN_WORD = {"kvtp.pruner.llm_vtp.LLMVTP": "alpha"}  # where it has another name, which elsewhere means something else
INSTEAD = ("merge_ratio", "important_ratio", "recent_ratio", "tokens")  # such that take the place of a ratio
UNPRUNED = "none"  # the pruner, and the method, that keep every token
SEVERAL = ("methods", "retention_ratios", "rows")
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
# of a judge: who may be asked how fast and for how much, not what it says
ASKING = ("key", "concurrency", "timeout", "attempts", "budget", "price", "cache", "dry_run")
# these say where and how fast, not what is predicted
NEUTRAL = (
    ("backbone", "device"),
    ("backbone", "device_map"),
    ("relevance", "device"),
    ("scout", "device"),
    ("frames", "reader"),
    ("frames", "timeout"),
    ("frames", "workers"),
    ("benchmark", "workers"),
)
# of a training: by whom, where and how watched, not what is trained. How many batches make a step is told otherwise
WATCHING = {"accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "val_check_interval"}
MACHINE = {"accumulate_grad_batches", "workers", "reader", "timeout", "device", "root", "states"} | WATCHING


@dataclass(frozen=True)
class Row:
    """One run: one method on one backbone over one benchmark at one retention ratio.

    `choices`: the option chosen of each group; `config`: plain and resolved. `entry`: what an experiment's row says,
    with one benchmark, the one that is asked; `same`: other entries that came to the same run; `given`: what the
    command line says for all rows.
    """

    name: str
    run_id: str
    folder: Path
    choices: Mapping[str, Any]
    overrides: tuple[str, ...]
    config: Mapping[str, Any]
    entry: Mapping[str, Any] = field(default_factory=dict)
    same: tuple[Mapping[str, Any], ...] = ()
    given: tuple[str, ...] = ()

    @property
    def retention_ratio(self) -> float | None:
        """What the pruner, or else the budget, is set to (0 where they have none); None where nothing is pruned."""
        return None if self.choices["pruner"] == UNPRUNED else _retention(self.config)

    @property
    def unpruned(self) -> "Row":
        """The same backbone with every token kept, for what is not written: id and folder are not its own."""
        choices = {**self.choices, **method_choices(UNPRUNED)}
        return replace(self, name=UNPRUNED, choices=choices, config={**self.config, **_unpruned()})


def compose_rows(cfg: DictConfig, own: Collection[str] = (), always: Sequence[str] = ()) -> list[Row]:
    """The runs that a command line asks for, each with the folder that a command of its own would have.

    `own`: what the script has beside the keys of conf/eval.yaml; `always`: overrides of every row.

    `methods` × `retention_ratios`, or `rows`, whose keys are overrides; one run where none of them is given. A row with
    a list of benchmarks is one run on each. What the command line sets holds for every row. Runs that come to the same
    folder are one.
    """
    hydra = HydraConfig.get()
    given = [line.input_line for line in _parse(hydra.overrides.task) if line.key_or_group.partition(".")[0] not in own]
    given = list(_by_key([*always, *given]).values())
    entries = _entries(cfg, given)
    if entries is None:
        return [_row(cfg, hydra.runtime.choices, Path(hydra.runtime.output_dir), given)]
    for override in _parse(hydra.overrides.hydra):
        if override.key_or_group in FOLDERS:
            raise CommandError(
                f"{override.input_line} cannot hold for several runs in one process, each has a folder of its own; "
                "give paths.outputs=… instead"
            )
    others: Mapping[str, Any] = _plain(cfg.stand_in, resolve=False) or {"instead": {}, "beside": {}}
    rows: dict[Path, Row] = {}
    asked = {line.key_or_group: line.value() for line in _parse(given) if line.key_or_group == "benchmark"}
    for entry in entries:
        told = entry | {key: value for key, value in asked.items() if key in entry}
        row = replace(_compose(_merge(given, _stood_in(entry, **others))), entry=told, given=tuple(given))
        known = rows.setdefault(row.folder, row)
        if told not in (known.entry, *known.same):  # two cells of a table may be one run
            rows[row.folder] = replace(known, same=(*known.same, told))
    return list(rows.values())


def labels(rows: Sequence[Row], but: Sequence[str] = ()) -> list[str]:
    """Their names; where several have one name at one retention ratio, with the overrides in which those differ, but
    for those that begin with one of `but`."""
    alike: dict[Any, list[set[str]]] = defaultdict(list)
    for row in rows:
        alike[row.name, row.retention_ratio].append(set(row.overrides))
    in_name = ("method", "retention_ratio", *OF_METHOD)
    found = []
    for row in rows:
        shared = set.intersection(*alike[row.name, row.retention_ratio])
        told = [
            override
            for override in row.overrides
            if override not in shared and override.partition("=")[0] not in in_name
        ]
        own = [override for override in told if not override.startswith(tuple(but))]
        found.append(f"{row.name} ({', '.join(own)})" if own else row.name)
    return found


def _entries(cfg: DictConfig, given: Sequence[str]) -> list[dict[str, Any]] | None:
    # as written: where something lies is no part of a run's name
    methods, ratios, rows = (_plain(cfg[key], resolve=False) for key in SEVERAL)
    for key, value in zip(SEVERAL, (methods, ratios, rows), strict=True):
        if value is not None and (not isinstance(value, list) or not value):
            raise CommandError(f"{key} must be a list with at least one entry, got {value!r}")
    if rows is not None:
        if methods is not None or ratios is not None:
            raise CommandError(
                "rows (of an experiment) and methods/retention_ratios cannot be combined; give one of them"
            )
        for row in rows:
            if not isinstance(row, dict):
                raise CommandError(f"rows must be a list of mappings such as {{method: tome}}, got the entry {row!r}")
        return [entry for row in rows for entry in _spread(row)]
    axes = {"method": methods, "retention_ratio": ratios}
    axes = {key: values for key, values in axes.items() if values is not None}
    target = cfg.pruner._target_  # whose keys a command line can give: a method's own are not known to it
    for override in _parse(given):
        key = override.key_or_group
        if key in axes:
            raise CommandError(f"{key} and {key}s are both given; give one of them")
        if ratios is not None and key in ("budget.retention_ratio", *(f"pruner.{own}" for own in _own_ratio(target))):
            raise CommandError(f"{override.input_line} would hold for all retention_ratios; give one of them")
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())] if axes else None


def _spread(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of a table over several benchmarks is one entry for each."""
    several = row.get("benchmark")
    return [{**row, "benchmark": one} for one in several] if isinstance(several, list) else [dict(row)]


def _stood_in(entry: Mapping[str, Any], instead: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with other values, as of debug=tiny. `instead`: by key a value for whatever the entry says, null = as
    if it said nothing; or a mapping of its values, `otherwise` for those that are not in it, which else stay.
    `beside`: by key of the entry what it says besides."""
    found: dict[str, Any] = {}
    for key, value in entry.items():
        new = instead.get(key, value)
        if isinstance(new, dict):
            new = new.get(value, new.get("otherwise", value))
        if key not in instead or new is not None:
            found |= {key: new, **beside.get(key, {})}
    return found


def _own_ratio(target: str | None) -> tuple[str, ...]:
    """Keys of a pruner's class that decide how much it keeps."""
    return (*OWN_RATIO, *([OWN_WORD[target]] if target in OWN_WORD else []))


def _merge(given: Sequence[str], entry: Mapping[str, Any]) -> list[str]:
    """A row's overrides, and the command line's, which win."""
    mine = _by_key(given)
    own = [_override(key, value) for key, value in entry.items() if key not in mine]
    of_all = (*SEVERAL, "stand_in")
    return [*own, *(line for key, line in mine.items() if key not in of_all), *(f"{key}=null" for key in of_all)]


def _compose(overrides: list[str]) -> Row:
    try:
        with composing():
            cfg = compose("eval", overrides, return_hydra_config=True)
    except HydraException:
        check(overrides)  # says the same with the nearest names
        raise
    return _row(cfg, cfg.hydra.runtime.choices, Path(os.path.abspath(cfg.hydra.run.dir)), overrides)


def _row(cfg: DictConfig, choices: DictConfig, folder: Path, overrides: Sequence[str]) -> Row:
    name, identity = cfg.name, cfg.run_id  # while the choices can still be seen
    with open_dict(cfg):
        cfg.pop("hydra", None)
        cfg.name, cfg.run_id = name, identity
    check_missing(OmegaConf.to_container(cfg))  # type: ignore[arg-type]
    try:
        check_ratio(cfg.retention_ratio)
    except ValueError as error:
        raise CommandError(str(error)) from error
    config, options = _plain(cfg), _plain(choices)
    if options["pruner"] == UNPRUNED:
        config |= _unpruned()
        options |= method_choices(UNPRUNED)
    return Row(name, identity, folder, options, tuple(overrides), config)


def _override(key: str, value: Any) -> str:
    """`key=value` in Hydra's grammar."""
    if isinstance(value, str):
        value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if re.search(r"[^\w./+-]", value) else value
        return f"{key}={value}"
    return f"{key}={json.dumps(value, separators=(',', ':'))}"


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Of each key or group what is said of it last."""
    return {override.key_or_group: override.input_line for override in _parse(overrides)}


def _parse(overrides: Sequence[str]) -> list[Any]:
    return OverridesParser.create().parse_overrides(list(overrides))


def _plain(value: Any, resolve: bool = True) -> Any:
    return OmegaConf.to_container(value, resolve=resolve) if isinstance(value, DictConfig | ListConfig) else value


# -- resolvers -----------------------------------------------------------------------------------------------------


def register() -> None:
    """Make known to OmegaConf: `${name:} ${run_id:} ${report_folder:} ${train_name:} ${rank_name:} ${project_root:}`
    and `${by_rank:first,others}`."""
    for resolver in (name, run_id, report_folder, train_name, rank_name, project_root, by_rank):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def name(*, _root_: DictConfig) -> str:
    """The method, or without one the pruner; with `+group=option` for each group chosen otherwise than it does (without
    a method: than conf/eval.yaml does). `compare` for several runs; without a pruner all is one and the same `none`."""
    if _several(_root_):
        return "compare"
    chosen = _choices(_root_)
    if chosen["pruner"] == UNPRUNED:
        return UNPRUNED
    if chosen["method"] is None:
        base, own = chosen["pruner"], usual_choices() | {"pruner": chosen["pruner"]}
    else:
        base, own = chosen["method"], method_choices(chosen["method"])
    replaced = [f"{group}={chosen[group]}" for group in OF_METHOD if chosen[group] != own.get(group, chosen[group])]
    return _safe("+".join([base, *replaced]))


def run_id(*, _root_: DictConfig) -> str:
    """method_backbone_benchmark_retention_hash; the hash is over all that changes predictions, and no path."""
    sections = predictive(_root_)
    # of scripts/meter.py and explain.py, whose folders are named likewise
    sections |= {own: _plain(_root_[own]) for own in ("meter", "explain") if own in _root_}
    if "meter" in _root_:
        sections |= {"device": _root_.device}
    chosen = _choices(_root_)
    if several := _several(_root_):
        if several["rows"] is not None and chosen.get("experiment"):
            return _safe("_".join(filter(None, [chosen["experiment"], chosen.get("debug")])))
        return _hash([several, sections])
    retention = _retention(sections)
    retention = f"{retention:g}" if isinstance(retention, int | float) else str(retention)
    return _safe("_".join([_root_.name, chosen["backbone"], chosen["benchmark"], retention, _hash(sections)]))


def report_folder(*, _root_: DictConfig) -> str:
    """Of scripts/report.py below the outputs: a comparison's own, or where tasks about a run leave their log."""
    return f"{_root_.name}/{_root_.run_id}" if _root_.task == "compare" else "report"


def train_name(*, _root_: DictConfig) -> str:
    """module_data_hash; the hash is over all that changes what is trained, on one process."""
    plain: Any = OmegaConf.to_container(_root_)
    plain.pop("hydra", None)
    chosen = _choices(_root_)
    plain["paths"] = {key: f"<{key}>" for key in plain["paths"]}
    settings = training_settings(plain) | {"accumulate": plain["trainer"]["accumulate_grad_batches"]}
    if root := _own_root(plain["data"].get("benchmark", {})):
        settings |= {"root": root}
    return _safe("_".join([chosen["module"], chosen["data"], _hash(settings)]))


def rank_name(*, _root_: DictConfig) -> str:
    """relevance_benchmark_hash; the hash is over all that changes a ranking, and no path."""
    chosen = _choices(_root_)
    return _safe("_".join([chosen["relevance"], chosen["benchmark"], _hash(ranked(_root_))]))


def ranked(root: DictConfig) -> dict[str, Any]:
    """The configuration that scripts/rank.py's figures depend on, paths by name."""
    plain: Any = OmegaConf.to_container(root)
    told = ("benchmark", "frames", "relevance", "share", "rate_temperature")
    kept = {key: _without(plain[key], MACHINE) for key in told}
    where = _own_root(plain["benchmark"])
    return kept | {"root": where} if where else kept


def training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a training's result depends on, apart from where things lie and the number of batches that
    make a step."""
    settings = {section: _without(config[section], MACHINE) for section in ("module", "data", "trainer", "seed")}
    callbacks = config["callbacks"] or {}
    chosen = {
        "early_stopping": callbacks.get("early_stopping"),
        "best": (callbacks.get("checkpoints") or {}).get("best"),
    }
    if any(chosen.values()):  # then it matters when validation looks
        settings |= {**chosen, "val_check_interval": config["trainer"]["val_check_interval"]}
    return settings


def _own_root(benchmark: Mapping[str, Any]) -> str | None:
    """Where questions of one's own lie; those of the small world are the same everywhere."""
    return None if benchmark.get("_target_", "").endswith(".Shapes") else benchmark.get("root")


def _without(value: Any, keys: set[str]) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}


def project_root() -> str:
    return str(ROOT)


def by_rank(first: str, others: str) -> str:
    """`first` in the first process of several, or if there is one, else `others` with `%d` replaced by the rank."""
    rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))  # Lightning's own launcher sets the latter
    return others.replace("%d", str(rank)) if rank else first


def predictive(root: DictConfig) -> dict[str, Any]:
    """The configuration that predictions depend on, resolved, with every path replaced by its name."""
    plain: Any = OmegaConf.to_container(root)
    plain.pop("hydra", None)
    plain["paths"] = {key: f"<{key}>" for key in plain["paths"]}
    cfg = OmegaConf.create(plain)
    sections = {stage: _plain(cfg[stage]) for stage in STAGES}
    for stage, key in NEUTRAL:
        sections[stage].pop(key, None)
    sections["benchmark"] = _asked(sections["benchmark"])
    if _choices(root)["pruner"] == UNPRUNED:
        sections |= _unpruned()
    return sections | {"seed": cfg.seed}


def _asked(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Without where a published set lies, which its questions' fingerprint stands for, and how its judge is asked."""
    kept = dict(benchmark)
    if "miniatures" in kept:
        del kept["miniatures"]
        if kept["root"] != MINIATURE:
            del kept["root"]
    if isinstance(judge := kept.get("judge"), dict):
        kept["judge"] = _without(judge, set(ASKING))
    if isinstance(source := kept.get("source"), dict):
        kept["source"] = _asked(source)
    return kept


def _unpruned() -> dict[str, Any]:
    """The sections of method=none, which stand in wherever nothing is pruned: they would predict the same."""
    return {
        group: _plain(OmegaConf.load(CONF / group / f"{option}.yaml"))
        for group, option in method_choices(UNPRUNED).items()
    }


def _retention(sections: Mapping[str, Any]) -> Any:
    """The pruner's own, by whatever name, or else the budget's; 0 where neither has one, or the pruner is set by other
    numbers. At a budget of 1 nothing is pruned, whatever the pruner is set to."""
    pruner, granted = sections["pruner"], sections["budget"].get("retention_ratio", 0)
    if granted == 1:
        return granted
    if any(pruner.get(key) is not None for key in INSTEAD):
        return 0
    own = (pruner.get(key) for key in _own_ratio(pruner.get("_target_")))
    return next((ratio for ratio in own if ratio is not None), granted)


def method_choices(method: str) -> dict[str, str]:
    """The option of each group that conf/method/<method>.yaml chooses."""
    defaults = OmegaConf.load(CONF / "method" / f"{method}.yaml").defaults
    return {key.removeprefix("override /"): option for entry in defaults for key, option in entry.items()}


def usual_choices() -> dict[str, str]:
    """The option of each group that conf/eval.yaml chooses."""
    defaults = _plain(OmegaConf.load(CONF / "eval.yaml").defaults, resolve=False)
    return {key: option for entry in defaults if entry != "_self_" for key, option in entry.items()}


def _choices(root: DictConfig) -> Mapping[str, Any]:
    # Hydra takes its own node away before the task sees the configuration
    return root.hydra.runtime.choices if "hydra" in root else HydraConfig.get().runtime.choices


def _several(root: DictConfig) -> dict[str, Any]:
    values = {key: _plain(root[key]) for key in SEVERAL}
    return values if any(value is not None for value in values.values()) else {}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+=-]", "-", text)


register()  # at import: a launcher's processes import this module with the task
adopt()  # likewise: before a log is opened
