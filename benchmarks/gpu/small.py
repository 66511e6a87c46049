"""Stage ``small``: the built-in world unlearnt and scored on the device, beside the committed CPU values.

Its two models are trained on the CPU, as always; those of an earlier ``make demo`` are taken.
"""

from pathlib import Path
from typing import Any

from benchmarks.gpu.job import Job, Row, Rows

COLUMNS = {
    "what": "",
    "now": "here",
    "then": "committed (CPU)",
    "tolerance": "±",
    "verdict": "",
}
METHOD = "simnpo_gdr"
ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "results" / "project" / "baseline.json"


def models(out: Path) -> Path | None:
    """Return the folder that holds target and retrain model, whole, in the checkout or in the check's own."""
    from muse_eval.mini.recipe import recipe_fingerprint

    for home in (ROOT / "results", out / "mini"):
        folder = home / "models" / "muse_mini" / recipe_fingerprint(0)[:12]
        if all((folder / name / "recipe.json").exists() for name in ("target", "retrain")):
            return folder
    return None


def make_models(out: Path) -> None:
    """Train target and retrain model where the stage will look for them; what is there is not made again."""
    from muse_eval.mini import train

    if models(out) is None:
        train.make_models(out / "mini" / "models" / "muse_mini")


def run(job: Job, rows: Rows) -> dict[str, Any]:
    """Run the pipeline with one method and compare every column with its committed value and tolerance."""
    if job.small:
        rows.skip("muse_mini", "takes minutes on a CPU; make demo runs the same and muse-eval check compares")
        return {}
    from muse_eval.pipelines import PipelineConfig, pipeline
    from muse_eval.results import load
    from muse_eval.results.gate import compare, load_baseline, only

    out = Path(job.out)
    make_models(out)
    folder = models(out)
    assert folder is not None
    config = PipelineConfig(
        task="muse_mini",
        methods=(METHOD,),
        target=str(folder / "target"),
        retrain=str(folder / "retrain"),
        results=out / "mini",
        engine="hf",
        overwrite=True,
    )
    stored = [load(one) for one in pipeline(config)]
    results = [one for one in stored if one is not None]
    report = compare(results, only(load_baseline(BASELINE), [one.key for one in results]))
    for found in report.rows:
        row: Row = {"what": f"{found.run} {found.column}", "now": found.now, "then": found.baseline}
        rows.add({**row, "tolerance": found.tolerance, "verdict": found.why or found.verdict})
    return {"within": sum(found.verdict in ("ok", "better") for found in report.rows), "of": len(report.rows)}
