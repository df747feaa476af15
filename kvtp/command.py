"""The command line, before anything loads: misspelt groups, options and keys are refused with the nearest names."""

import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import CompactHydraException, HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from kvtp.errors import nearest

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
OWN_CONFIG = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")


class CommandError(CompactHydraException):
    """One line for the person at the command line: exit status 1, no traceback."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A CommandError ends the process with its message; in a sweep Hydra first runs the other jobs."""
    try:
        yield
    except CommandError as error:
        if sweeping():
            print(error, file=sys.stderr)
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(str(error))


def sweeping() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


@contextmanager
def composing(config: str = "eval") -> Iterator[None]:
    """Hydra's compose API, also within a run of Hydra's own."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), job_name=config, version_base="1.3"):
            yield


def check_command_line(config: str = "eval") -> None:
    """Refuse what cannot be meant; `+experiment=x` is taken as `experiment=x`, and flags may stand among overrides.

    `config`: the name of the script's configuration in conf/.
    Where somebody brings a configuration folder of their own, Hydra's own checks have to do.
    """
    if {"--help", "-h", "--hydra-help"} & set(sys.argv):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends without a traceback
    arguments = sys.argv[1:]
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    overrides = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    if any(flag in OWN_CONFIG for flag in flags) or any("hydra.searchpath" in override for override in overrides):
        return
    sweeps = [argument for argument in arguments if argument in ("-m", "--multirun")]
    rest = [argument for argument in arguments if argument not in overrides and argument not in sweeps]
    overrides = [_plain_group(override, config) for override in overrides]
    sys.argv[1:] = [*sweeps, *overrides, *rest]  # argparse takes the overrides in one piece only
    sweep = bool(sweeps) or "hydra.mode=MULTIRUN" in overrides
    try:
        check(overrides, config, sweep=sweep, runs=len(flags) == len(sweeps))  # a run is not only asked to show things
    except CommandError as error:
        sys.exit(str(error))


def check(overrides: Sequence[str], config: str = "eval", *, sweep: bool = False, runs: bool = True) -> None:
    """CommandError for the first group, option, key that there is not, or (if it `runs`) for a value still missing."""
    try:
        parsed = [override for override in OverridesParser.create().parse_overrides(list(overrides)) if _ours(override)]
    except HydraException as error:
        raise CommandError(str(error)) from error
    choices = {}
    for override in parsed:
        key, line = override.key_or_group, override.input_line
        if override.is_sweep_override() and not sweep:
            several = f", or {key}s=[…] (one process)" if key in ("method", "retention_ratio") else ""
            raise CommandError(f"{line} is a sweep: add -m (one run after the other){several}")
        if key.partition(".")[0] not in top_level(config):
            raise CommandError(f"{line}: there is no group or key {key!r}{nearest(key, top_level(config))}")
        if key in groups():
            choices[key] = _options(override)
        elif key == "methods" and isinstance(override.value(), list):
            for method in override.value():
                _check_option("methods", "method", method)
    keys = [override for override in parsed if override.key_or_group not in groups()]
    for cfg in _composed(config, choices, {override.key_or_group.partition(".")[0] for override in keys}):
        for override in keys:
            _check_key(override, cfg)
        # rows set more, and a task is about a run that tells its own settings
        given = {override.key_or_group for override in keys}
        if runs and cfg.get("rows") is None and not given & {"rows", "task", "run"}:
            check_missing(cfg, given)


def check_missing(cfg: Mapping[str, Any], given: Collection[str] = ()) -> None:
    """CommandError for a value that has to be set and is not."""
    for key in _missing(cfg):
        if key not in given:
            raise CommandError(f"{key} must be set, it has no default: give {key}=…")


def _missing(cfg: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in cfg.items():
        if isinstance(value, Mapping):
            yield from _missing(value, f"{prefix}{key}.")
        elif value == "???":
            yield prefix + str(key)


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """The options of every group: the files in its folder."""
    return {
        folder.name: tuple(sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")))
        for folder in sorted(CONF.iterdir())
        if folder.is_dir() and folder.name != "hydra"
    }


@cache
def top_level(config: str = "eval") -> frozenset[str]:
    """The keys of conf/<config>.yaml, the groups of its defaults list, and the same of a configuration named there."""
    file: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{config}.yaml"))
    chosen = {key for entry in file["defaults"] if isinstance(entry, dict) for key in entry}
    bases = [top_level(entry) for entry in file["defaults"] if isinstance(entry, str) and entry != "_self_"]
    return frozenset((file.keys() | (chosen & groups().keys())).union(*bases) - {"defaults", "hydra"})


def _plain_group(argument: str, config: str) -> str:
    bare = argument.lstrip("+")
    return bare if bare.partition("=")[0] in groups().keys() & top_level(config) else argument


def _ours(override: Override) -> bool:
    return not override.key_or_group.startswith("hydra") and override.package is None and not override.is_delete()


def _options(override: Override) -> list[str]:
    """The options that an override of a group names, all checked."""
    group, value = override.key_or_group, override.value()
    if isinstance(value, list):
        several = f"methods={override.get_value_string()} (one process) or " if group == "method" else ""
        choices = ",".join(str(option) for option in value)
        raise CommandError(f"{override.input_line}: {group} takes one option; use {several}-m {group}={choices}")
    if isinstance(value, Glob):
        return value.filter(list(groups()[group]))
    options = [value]
    if override.is_sweep_override():
        options = list(override.sweep_string_iterator())
    for option in options:
        _check_option(group, group, option)
    return options


def _check_option(key: str, group: str, option: Any) -> None:
    if option not in groups()[group]:
        raise CommandError(f"{key}: there is no {group} {option!r}{nearest(str(option), groups()[group])}")


def _composed(config: str, choices: dict[str, list[str]], roots: set[str]) -> Iterator[dict[str, Any]]:
    """The configuration of every combination of options that the keys under `roots` may depend on."""
    of_method = ("scout", "relevance", "budget", "pruner")
    vary = roots | {"experiment", "debug"} | ({"method"} if roots.intersection(of_method) else set())
    axes = {group: options if group in vary else options[:1] for group, options in choices.items()}
    with composing(config):
        for options in product(*axes.values()):
            chosen = (f"{group}={option}" for group, option in zip(axes, options, strict=True))
            try:
                yield OmegaConf.to_container(compose(config, list(chosen)))  # type: ignore[misc]
            except HydraException as error:
                raise CommandError(f"{error} {error.__cause__ or ''}".strip()) from error


def _check_key(override: Override, cfg: dict[str, Any]) -> None:
    path = override.key_or_group.split(".")
    if "[" in override.key_or_group:
        return
    if override.is_add() or override.is_force_add():
        path = path[:2]  # deeper down are free mappings
    node: Any = cfg
    for depth, part in enumerate(path):
        where = " ".join([".".join(path[:depth]), *_target(node)]) or "the configuration"
        if not isinstance(node, dict):
            raise CommandError(f"{override.input_line}: {where} is a value and has no keys")
        if part not in node:
            keys = node.keys() - {"_target_"}
            raise CommandError(
                f"{override.input_line}: {where} has no key {part!r}{nearest(part, keys) if keys else ', it has none'}"
            )
        node = node[part]


def _target(node: Any) -> list[str]:
    """The class in brackets, where the section describes an object: which option was meant is not always in view."""
    return [f"({node['_target_'].rpartition('.')[2]})"] if isinstance(node, dict) and "_target_" in node else []
