"""Whether a stored result is whole: its records are its own, and its columns follow from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muse_eval.config import fingerprint
from muse_eval.printable import one_line
from muse_eval.results.comparable import stored_params
from muse_eval.results.lineage import part
from muse_eval.results.rescoring import Evidence, interval_problem, rescore
from muse_eval.results.runs import RECORDS, CorruptResult, StoredResult, load, load_records


def has_records(result: StoredResult) -> bool:
    """Tell whether a result's records lie beside it; one that was never on disk needs none."""
    return result.folder is None or (result.folder / RECORDS).exists()


def fault(result: StoredResult, deep: bool = False) -> str:
    """Say why a stored result is not whole; empty where it is, and of one that was never on disk.

    Its settings must match their fingerprint, the flag ``limited`` must stand where a limit does, the
    records must be those written with it, and each column's count, value and interval must follow from them.

    Args:
        result: the result, as read from its folder.
        deep: also score each response against its truth anew, and take the intervals anew.
    """
    if result.folder is None:
        return ""
    if problem := _settings(result.config) or _model(result):
        return problem
    try:
        records = list(load_records(result.folder))
    except CorruptResult as error:
        return str(error)
    by_column: dict[str, list[Mapping[str, Any]]] = {name: [] for name in result.columns}
    for record in records:
        by_column.setdefault(str(record.get("column")), []).append(record)
    if stray := sorted(by_column.keys() - result.columns.keys()):
        return f"it has records of {', '.join(stray)} and no such column"
    for name, found in by_column.items():
        if problem := _column(result, name, found, deep):
            return f"{name} contradicts the records: {problem}"
    return ""


def _settings(config: Mapping[str, Any]) -> str:
    stored = config.get("fingerprint")
    rest = {key: value for key, value in config.items() if key != "fingerprint"}
    return (
        "" if stored is None or stored == fingerprint(rest) else "its settings do not match their fingerprint"
    )


def _model(result: StoredResult) -> str:
    """Say where a result names its model's weights, tokenizer, engine or precision in two ways."""
    asked, origin = part(result.config, "model"), part(result.provenance, "engine")
    for kind in ("weights", "tokenizer", "engine", "dtype"):
        named = {str(known[kind]) for known in (asked, origin) if known.get(kind) is not None}
        if kind == "weights" and result.model.get("digest") is not None:
            named.add(str(result.model["digest"]))
        if len(named) > 1:
            return one_line(
                f"it names its {kind} in two ways: {' and '.join(one[:20] for one in sorted(named))}"
            )
    return ""


def _column(result: StoredResult, name: str, records: Sequence[Mapping[str, Any]], deep: bool) -> str:
    cell = result.columns[name]
    if result.config and ("limited" in cell.flags) != (result.config.get("limit") is not None):
        return f"limit is {result.config.get('limit')}, its flags are {', '.join(cell.flags) or 'none'}"
    places = Counter((str(one.get("split")), str(one.get("id"))) for one in records)
    if twice := next((place for place, count in places.items() if count > 1), None):
        return f"{twice[0]}[{twice[1]}] is there twice"
    if problem := interval_problem(cell):
        return problem
    spec = part(part(part(result.config, "task"), "columns"), name)
    seed = result.config.get("seed")
    evidence = Evidence(
        cell,
        records,
        stored_params(result, name),
        part(spec, "splits"),
        part(result.extras, name) or result.extras,
        seed if isinstance(seed, int) else 0,
        retrain_records(result, name) if deep else (),
    )
    return rescore(str(spec.get("metric", "")))(evidence, deep)


def retrain_records(result: StoredResult, column: str) -> Sequence[Mapping[str, Any]]:
    """Return the records of the retrain model's own run, where that of this very model lies beside."""
    asked = part(result.config, "retrain")
    if not asked or result.folder is None:
        return ()
    home: Path = result.folder.parent / "retrain"
    try:
        there = load(home)
        if there is None or there.config.get("model") != asked:
            return ()
        return [record for record in load_records(home) if record.get("column") == column]
    except CorruptResult:
        return ()
