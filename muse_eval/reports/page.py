"""Puts a page together: one HTML file that loads nothing, and in which nobody's text can run.

Every text enters as text: jinja2 escapes what stands in the HTML, and models' answers lie in packed blocks,
which the page's script only ever sets as text. The policy in the page's head allows our one script and one
style sheet, by their digests, and nothing else: no request, no style attribute, no script within a text.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from muse_eval import provenance
from muse_eval.errors import counted
from muse_eval.printable import printable
from muse_eval.reports.chosen import Chosen
from muse_eval.reports.distances import Distances
from muse_eval.reports.examples import Column
from muse_eval.reports.pictures import Picture
from muse_eval.reports.probes import Probes
from muse_eval.reports.provenance import origins
from muse_eval.reports.table import table
from muse_eval.reports.verdicts import verdicts
from muse_eval.results import REFERENCES
from muse_eval.results.drawing import colours, inline
from muse_eval.results.tables import to_csv

MOST_SHOWN = 4
"""Models side by side."""


@dataclass(frozen=True)
class Content:
    """What a page shows."""

    chosen: Chosen
    columns: Sequence[Column]
    pictures: Sequence[Picture]
    command: str
    """What makes the page again."""
    distances: Distances
    probes: Probes
    curves: Sequence[Picture]
    """The probes' pictures."""


def render(content: Content) -> str:
    """Return the page; the same runs give the same bytes."""
    import jinja2

    chosen = content.chosen
    style, script = _asset("page.css"), _asset("page.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = _shown
    return environment.from_string(_asset("page.html.jinja")).render(
        policy=f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'",
        style=_verbatim(style),
        script=_verbatim(script),
        version=provenance.versions()["muse-eval"],
        title=chosen.title,
        counted=counted,
        task=chosen.task,
        command=content.command,
        verdicts=verdicts(chosen, content.distances, content.probes),
        colours=colours(list(chosen.runs)),
        table=table(chosen, content.distances),
        pictures=[(one, _verbatim(inline(one.svg))) for one in content.pictures],
        probes=content.probes,
        probe_lines=content.probes.lines(content.columns),
        curves=[(one, _verbatim(inline(one.svg))) for one in content.curves],
        origins=origins(chosen),
        columns=content.columns,
        missing=_missing(content.columns),
        blocks={f"evidence-{at}": _verbatim(pack(one.block)) for at, one in enumerate(content.columns)},
        outline=_verbatim(pack(_outline(content))),
        csv=_link("text/csv", to_csv(chosen.rows)),
        json=_link("application/json", _json(chosen)),
    )


def _shown(value: Any) -> Any:
    """Return a text with what cannot be seen spelled out, and its percent signs kept with their numbers."""
    return printable(value).replace(" %", "\u00a0%") if type(value) is str else value


def _asset(name: str) -> str:
    return (files("muse_eval.reports") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _verbatim(text: str) -> Any:
    """Mark what is ours, or base64, or drawn by the converter, as HTML already."""
    from markupsafe import Markup

    return Markup(text)  # nosec B704  # no text of others: it is escaped or packed before it comes here


def pack(value: Any) -> str:
    """Return plain values as JSON, gzipped, in base64; of a lone surrogate JSON's escape stays."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0)).decode()


def _link(kind: str, text: str) -> str:
    encoded = base64.b64encode(text.encode("utf-8", "backslashreplace")).decode()
    return f"data:{kind};charset=utf-8;base64,{encoded}"


def _outline(content: Content) -> dict[str, Any]:
    """Return what the page's script has to know before it opens a block."""
    chosen = content.chosen
    known = colours(list(chosen.runs))
    return {
        "columns": [
            {
                "name": one.name,
                "title": chosen.headings[one.name].title,
                "goal": chosen.headings[one.name].goal,
                "block": f"evidence-{at}",
            }
            for at, one in enumerate(content.columns)
        ],
        "runs": list(chosen.runs),
        "references": [name for name in REFERENCES if name in chosen.runs],
        "colours": {
            **known,
            **{one.name: known[of] for one in chosen.probed if (of := one.probing["of"]) in known},
        },
        "most": MOST_SHOWN,
    }


def _json(chosen: Chosen) -> str:
    """Return all that ``result.json`` says of each run."""
    told = {name: one.model_dump(mode="json") for name, one in chosen.runs.items()}
    return json.dumps({"task": chosen.task, "runs": told}, indent=1, ensure_ascii=False) + "\n"


def _missing(columns: Sequence[Column]) -> list[tuple[str, Mapping[str, str]]]:
    return [(one.name, one.missing) for one in columns if one.missing]
