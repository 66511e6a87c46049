"""The verb ``pipeline``: from a target to the table of its unlearned models."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_eval.cli.options import (
    BatchOption,
    CheckpointingOption,
    CodeOption,
    DataOption,
    DtypeOption,
    EngineOption,
    EpochsOption,
    JsonOption,
    LambdaOption,
    LimitOption,
    LoraOption,
    LrOption,
    MaxLenOption,
    MetricsOption,
    MicroBatchOption,
    OptimOption,
    OverwriteOption,
    OwnRetrainOption,
    OwnTargetOption,
    PickleOption,
    PresetOption,
    QuietOption,
    RankFlaggedOption,
    ResultsOption,
    SeedOption,
    TaskNameOption,
    TokenizerOption,
    TrainingDtypeOption,
    TruncateOption,
    UtilityOption,
    given,
    note,
    split,
    warn,
)
from muse_eval.cli.report import tell
from muse_eval.cli.table import PAGE, print_table
from muse_eval.errors import UserError
from muse_eval.printable import console, print_json

if TYPE_CHECKING:
    from muse_eval.pipelines import PipelineConfig
    from muse_eval.reports import Report


MethodsOption = Annotated[
    str | None, typer.Option(help="Comma-separated; else ga, npo, simnpo, each also _gdr.")
]
SeedsOption = Annotated[
    str | None,
    typer.Option(
        help="Seeds, comma-separated, a table for each and one over all: of the built-in world, else of "
        "the unlearning (`METHOD-seedN`)."
    ),
]
SelectOption = Annotated[
    str,
    typer.Option(
        help="The epoch that counts: `last`; `paper` and `released`, MUSE's two stopping rules; or "
        "`best`, by --composite. All but `last` score every epoch."
    ),
]
CompositeOption = Annotated[
    str | None, typer.Option(help="What ranks epochs: `balance` (default) or `harmonic`.")
]
TrajectoryOption = Annotated[
    bool, typer.Option("--trajectory", help="Score every epoch, whatever --select: a CSV and a figure.")
]
KeepEpochsOption = Annotated[
    bool,
    typer.Option(
        "--keep-checkpoints", help="Keep every epoch's weights, not only of those that some rule selects."
    ),
]
AnySetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="`engine.NAME=VALUE`, `COLUMN.PARAMETER=VALUE`, `METRIC.PARAMETER=VALUE` "
        "(all of its columns) or `METHOD.PARAMETER=VALUE`; repeatable.",
    ),
]
PageOption = Annotated[
    bool,
    typer.Option("--report", help="Also make the page of each table, and its figures (`muse-eval report`)."),
]


def pipeline(
    task: TaskNameOption = "muse_mini",
    methods: MethodsOption = None,
    target: OwnTargetOption = None,
    retrain: OwnRetrainOption = None,
    seeds: SeedsOption = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    results: ResultsOption = Path("results"),
    engine: EngineOption = "auto",
    dtype: DtypeOption = "auto",
    training_dtype: TrainingDtypeOption = "auto",
    preset: PresetOption = None,
    lr: LrOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    lambda_: LambdaOption = None,
    micro_batch_size: MicroBatchOption = None,
    gradient_checkpointing: CheckpointingOption = None,
    lora: LoraOption = None,
    max_len: MaxLenOption = None,
    optim: OptimOption = None,
    select: SelectOption = "last",
    composite: CompositeOption = None,
    rank_flagged: RankFlaggedOption = False,
    trajectory: TrajectoryOption = False,
    keep_checkpoints: KeepEpochsOption = False,
    settings: AnySetOption = None,
    metrics: MetricsOption = None,
    page: PageOption = False,
    seed: SeedOption = 0,
    utility: UtilityOption = None,
    limit: LimitOption = None,
    truncate: TruncateOption = False,
    overwrite: OverwriteOption = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Target → unlearn with each method → score all → table; what is there is not done again.

    A task with several forget sets (muse_mini_scal, muse_mini_sust …) unlearns each of them with each method.

    Example: `muse-eval pipeline --task muse_mini --methods simnpo_gdr,npo_gdr --select paper`
    """
    options = given(locals(), "task", "methods", "seeds", "page", "as_json", "quiet")
    from muse_eval.config import build
    from muse_eval.pipelines import METHODS, PipelineConfig
    from muse_eval.pipelines import check as check_pipeline

    options["methods"] = tuple(dict.fromkeys(split(methods, "--methods"))) or METHODS
    asked = [options | one for one in _seeds(task, seeds)]
    configs = [build(PipelineConfig, "pipeline", **one) for one in asked]
    # All of them before the first begins: each is looked at again when its turn comes.
    for config in configs:
        check_pipeline(config)
    folders: list[list[Path]] = []
    for one, config in zip(asked, configs, strict=True):
        folders.append(_run(one, quiet))
        if not as_json:
            _print(config, folders[-1])
    homes = {made[0].parent.name: one["task"] for one, made in zip(asked, folders, strict=True)}
    pages = {name: _page(name, named, results, data_dir) for name, named in homes.items() if page}
    if as_json:
        _print_json(folders, pages if page else None)
        return
    if len(configs) > 1:
        _print_over_seeds(configs, folders)
    home = folders[0][0].parent
    print(f"evidence: {home}/NAME/result.json and records.jsonl; models: {results}/models")
    print(f"what a model says, the worst first: muse-eval show {folders[0][-1]}")
    for one_page in pages.values():
        tell(one_page)


def _run(options: Mapping[str, Any], quiet: bool) -> list[Path]:
    """Carry out one pipeline and return the folders of its runs."""
    from muse_eval import api
    from muse_eval.progress import display

    with display(quiet) as progress:
        return api.pipeline(
            **options,
            stage=progress.stage,
            progress=progress,
            log=progress.losses,
            warn=warn,
            note=note,
            tell=progress.tell,
        )


def _print_json(folders: list[list[Path]], pages: Mapping[str, "Report"] | None) -> None:
    """Print where runs lie, and the pages where they were asked for."""
    made = [folder for one in folders for folder in one]
    several = len({folder.parent for folder in made}) > 1
    done = {f"{f.parent.name}/{f.name}" if several else f.name: str(f) for f in made}
    paths = {} if pages is None else {"reports": {name: str(one.path) for name, one in pages.items()}}
    print_json({"done": done, "failed": {}, **paths})


def _page(name: str, task: str, results: Path, data_dir: Path | None) -> "Report":
    """Make the page of a table and its figures, in the results folder."""
    from muse_eval import api

    return api.report(task, results=results, figures=results / "reports" / name, data_dir=data_dir, warn=warn)


def _seeds(task: str, seeds: str | None) -> list[dict[str, Any]]:
    """Return the task and the training seed of each seed, once, as options.

    A seed of the built-in world makes another task, whose unlearning has that seed too.
    """
    from muse_eval import plugins

    numbers = split(seeds, "--seeds")
    if not all(number.isdecimal() and int(number) < 2**32 for number in numbers):
        raise UserError(f"--seeds {seeds}: give whole numbers below 2**32, comma-separated")
    chosen = dict.fromkeys(int(number) for number in numbers)
    if not chosen:
        return [{"task": task}]
    data = plugins.task(task).data
    if data.source != "builtin":
        return [{"task": task, "training_seed": seed} for seed in chosen]
    return [{"task": task if seed == data.seed else f"{task}-seed{seed}"} for seed in chosen]


def _print_over_seeds(configs: list["PipelineConfig"], folders: list[list[Path]]) -> None:
    """Print the means over several pipelines, of as many worlds or training seeds."""
    from muse_eval import plugins
    from muse_eval.pipelines import run_names
    from muse_eval.results import REFERENCES, RunRow, draw, headings, load, of_one_seed, over_seeds
    from muse_eval.results.rows import rows

    found: list[RunRow] = []
    shared: list[RunRow] = []
    for config, made in zip(configs, folders, strict=True):
        own = rows(stored for folder in made if (stored := load(folder)) is not None)
        if config.training_seed is None:
            found += own
        else:
            found += of_one_seed(own, config.training_seed, run_names(config, plugins.task(config.task)))
            shared = [row for row in own if row["name"] in REFERENCES]
    columns = headings((shared or found)[0]["task"], [*shared, *found])
    console(width=PAGE).print(draw(over_seeds(columns, found, shared)))


def _print(config: "PipelineConfig", folders: list[Path]) -> None:
    """Print a pipeline's table, and where its CSV files and figures are."""
    from muse_eval import plugins
    from muse_eval.pipelines import CSV, FIGURE, other_seed
    from muse_eval.results import collect, draw, load, table

    spec = plugins.task(config.task)
    if spec.forget_sets is None:
        print_table(folders)
    else:
        loaded = [stored for folder in folders if (stored := load(folder)) is not None]
        runs = collect(spec, loaded, other_seed(config, spec))
        seeded = "" if runs.seed is None else f", training seed {runs.seed}"
        print(f"{spec.title}{seeded} (± half of the 95 % interval)")
        console(width=PAGE).print(draw(table(runs)))
        home = folders[0].parent
        print(f"{runs.file}: {home / runs.file}.csv and {home / runs.file}.png")
    for folder in folders:
        if (folder / FIGURE).is_file():
            print(f"epochs of {folder.name}: {folder / CSV} and {folder / FIGURE}")
