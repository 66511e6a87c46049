"""The verb ``probe``: whether what was forgotten comes back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_eval.cli.options import (
    CheckpointingOption,
    CodeOption,
    DataOption,
    DtypeOption,
    EngineOption,
    JsonOption,
    LimitOption,
    MetricsOption,
    MicroBatchOption,
    ModelOption,
    OverwriteOption,
    PickleOption,
    QuietOption,
    ResultsOption,
    SeedOption,
    TaskOption,
    TokenizerOption,
    TrainingDtypeOption,
    TruncateOption,
    given,
    note,
    split,
    warn,
)
from muse_eval.printable import console, print_json

if TYPE_CHECKING:
    from muse_eval.probing.verb import Probed

CONTROL = "; else the task's own. `none`: no model."


def probe(
    model: ModelOption,
    task: TaskOption = None,
    retrain: Annotated[
        str | None, typer.Option(help=f"Control that never saw the forget set{CONTROL}")
    ] = None,
    target: Annotated[str | None, typer.Option(help=f"Control that was never unlearned{CONTROL}")] = None,
    probes: Annotated[
        str | None,
        typer.Option(help="Comma-separated, of `muse-eval list probes`; else all that can run here."),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="quick, or paper: the published protocols (docs/probes.md).")
    ] = "quick",
    texts: Annotated[
        Path | None, typer.Option(help="What finetune reads, parted by blank lines; else the retain text.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the model is called; else as its folder.")] = None,
    metrics: MetricsOption = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    results: ResultsOption = Path("results"),
    engine: EngineOption = "auto",
    dtype: DtypeOption = "auto",
    training_dtype: TrainingDtypeOption = "auto",
    micro_batch_size: MicroBatchOption = None,
    gradient_checkpointing: CheckpointingOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="`PROBE.PARAMETER=VALUE` (`relearn.lr=1e-5`), or as for run; repeatable.",
        ),
    ] = None,
    truncate: TruncateOption = False,
    overwrite: OverwriteOption = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put an unlearned model and its controls to probes, and tell what comes back.

    Example: `muse-eval probe --model unlearned --task muse_mini --probes relearn,quantize`
    """
    options = given(locals(), "probes", "as_json", "quiet")
    from muse_eval import api
    from muse_eval.progress import display
    from muse_eval.types import ignore

    with display(quiet) as progress:
        probed = api.probe(
            **options,
            probes=split(probes, "--probes"),
            stage=progress.stage,
            progress=progress,
            log=progress.losses,
            warn=warn,
            note=ignore if quiet else note,
            tell=progress.tell,
        )
    _print(probed, as_json)


def _print(probed: "Probed", as_json: bool) -> None:
    from muse_eval.results import draw
    from muse_eval.results.probe_table import probe_grid, probe_json
    from muse_eval.results.probe_verdict import RULE

    if as_json:
        print_json({"task": probed.task, "rule": RULE, "courses": probe_json(probed.courses)})
        return
    print(f"{probed.title}: is it gone, or hidden? (95 % intervals)")
    console(width=150).print(draw(probe_grid(probed.courses)))
    print(f"evidence: {probed.folders[0].parent}/NAME+PROBE:STRENGTH/result.json and records.jsonl")
