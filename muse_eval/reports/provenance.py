"""Where a page's numbers came from, and the commands that make them again."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_eval.reports.chosen import Chosen
from muse_eval.results import StoredResult, part
from muse_eval.unlearning.cards import CARD, read_json
from muse_eval.unlearning.command import command


@dataclass(frozen=True)
class Origin:
    """What stands behind one run."""

    name: str
    facts: list[tuple[str, str]]
    """What is known, in words and as text."""
    commands: list[tuple[str, str]]
    """What a command makes again, and the command."""


def origins(chosen: Chosen) -> list[Origin]:
    """Return the origin of each run, in the table's order."""
    return [Origin(name, _facts(one), _commands(chosen, one)) for name, one in chosen.runs.items()]


def page_command(
    task: str,
    results: Path,
    models: Sequence[str],
    data_dir: str | Path | None,
    baseline: str | Path | None = None,
) -> str:
    """Return the command that makes the page again."""
    words = ["muse-eval", "report", "--task", task, "--results", str(results)]
    words += ["--models", ",".join(models)] if models else []
    places = (("--data-dir", data_dir), ("--baseline", baseline))
    return shlex.join(
        [*words, *(word for name, one in places if one is not None for word in (name, str(one)))]
    )


def _facts(result: StoredResult) -> list[tuple[str, str]]:
    config, origin = result.config, result.provenance
    model, engine = part(config, "model"), part(origin, "engine")
    retrain, data = part(origin, "retrain"), part(config, "data")
    made = part(config, "made")
    found: list[tuple[str, Any]] = [
        ("model", result.model.get("id")),
        ("revision", result.model.get("revision")),
        ("folder", engine.get("path")),
        ("weights, SHA-256", result.model.get("digest")),
        ("tokenizer, SHA-256", model.get("tokenizer")),
        ("retrain model", retrain.get("model")),
        ("its weights", retrain.get("weights")),
        ("engine", _line(engine, ("engine", "dtype", "device", "quantization"))),
        ("data", _line(data, ("source", "repo", "revision", "seed"))),
        *((f"{name}, SHA-256", digest) for name, digest in part(data, "sha256").items()),
        *((f"parameters of {name}", _pairs(values)) for name, values in part(config, "columns").items()),
        ("limit", config.get("limit")),
        ("seed of the intervals", config.get("seed")),
        ("recipe, fingerprint", made.get("recipe")),
        ("settings, fingerprint", config.get("fingerprint")),
        ("records.jsonl, SHA-256", result.records_sha256),
        ("versions", _pairs(part(origin, "versions"))),
        ("commit", origin.get("commit")),
        ("scoring code, digest", origin.get("code")),
        ("engine's time", f"{result.seconds:.1f} s"),
    ]
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def _line(mapping: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(str(mapping[key]) for key in keys if mapping.get(key) is not None)


def _pairs(values: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items()) if isinstance(values, dict) else ""


# ── commands ─────────────────────────────────────────────────────────────────────────────────────
def _commands(chosen: Chosen, result: StoredResult) -> list[tuple[str, str]]:
    found = [("the scores", _run(chosen, result))]
    unlearned = _unlearn(chosen, result)
    return [("the model", unlearned), *found] if unlearned else found


def _run(chosen: Chosen, result: StoredResult) -> str:
    """Return the command that scores the same model in the same way, as far as the result tells it."""
    config, engine = result.config, part(result.provenance, "engine")
    model = part(config, "model")
    place = engine.get("path") or result.model.get("id")
    words = ["muse-eval", "run", "--model", str(place), "--task", result.task, "--name", result.name]
    retrain = part(result.provenance, "retrain")
    if config.get("retrain") is not None:
        words += ["--retrain", str(retrain.get("path") or retrain.get("model"))]
    if model.get("engine") in ("hf", "vllm"):
        words += ["--engine", str(model["engine"]), "--dtype", str(model.get("dtype", "auto"))]
    specs = part(part(config, "task"), "columns")
    for name, values in part(config, "columns").items():
        given = part(part(specs, name), "params")
        for key, value in _changed(values, given, part(specs, name)).items():
            words += ["--set", f"{name}.{key}={_typed(value)}"]
    for option, value in (("--limit", config.get("limit")), ("--seed", config.get("seed") or None)):
        words += [option, str(value)] if value is not None else []
    return shlex.join([*words, "--results", str(chosen.results)])


def _changed(values: Any, given: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a column that neither its task nor its metric has set so."""
    from dataclasses import fields

    from muse_eval.results import params_kind

    kind = params_kind(str(spec.get("metric", "")))
    usual = {**({one.name: one.default for one in fields(kind)} if kind else {}), **given}
    known = values if isinstance(values, dict) else {}
    return {key: value for key, value in known.items() if key not in usual or usual[key] != value}


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unlearn(chosen: Chosen, result: StoredResult) -> str:
    """Return the command that makes an unlearned model again, where its recipe lies beside its weights."""
    place = part(result.provenance, "engine").get("path")
    card = read_json(Path(str(place)) / CARD) if place else None
    config = part(card or {}, "config")
    if card is None or "method" not in config:
        return ""
    # On the hub the revision counts; a folder is named whole, unlike in a card that goes elsewhere.
    start = config.get("model") if part(card, "target").get("revision") is None else None
    return command(card, result, str(place), target=start, results=chosen.results)
