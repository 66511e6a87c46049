"""What waits for its use: not loaded by a run, and the real thing once it is used."""

from __future__ import annotations

import builtins
import gc
import json
import subprocess
import sys
import types
from collections import OrderedDict
from importlib import metadata
from pathlib import Path

import pytest

from muse_eval import late
from muse_eval.late.distributions import Distributions
from muse_eval.late.stand_in import StandIn
from tests.e2e import write_data, write_task

HEAVY = [
    "datasets",
    "nltk",
    "pandas",
    "peft",
    "scipy",
    "sklearn",
    "torch._dynamo",
    "torch.distributed.tensor",
]
USES = f"""
import sys
from muse_eval import late
late.start()
import torch
from transformers import AutoModelForCausalLM
from transformers.data import metrics
from transformers.distributed.utils import is_dtensor
from transformers.generation import candidate_generator
from transformers.generation.continuous_batching import cache
from transformers.integrations import deepgemm, eager_paged
from transformers.loss import loss_for_object_detection
from transformers.masking_utils import TransformGetItemToIndex
from rouge_score.rouge_scorer import RougeScorer

@torch.compiler.disable
def alone(x):
    return x + 1

assert alone(torch.ones(1)) == 2
assert not is_dtensor(torch.ones(1))
assert not isinstance(torch.nn.Identity(), torch._dynamo.eval_frame.OptimizedModule)
kept = torch._dynamo.config.error_on_nested_fx_trace
settings = torch._dynamo.config
import transformers.models
from transformers.utils.import_utils import create_import_structure_from_path as read_folder
assert read_folder.cache_info().hits > 100
assert not set({HEAVY}) & sys.modules.keys()

import transformers.trainer
assert not {"pandas", "scipy", "sklearn"} & sys.modules.keys()
assert candidate_generator.roc_curve([0, 1], [0.1, 0.9])[1].tolist() == [0, 1, 1]
assert metrics.f1_score([0, 1], [0, 1]) == 1
assert metrics.pearsonr([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])[0] > 0.999
assert loss_for_object_detection.linear_sum_assignment([[1, 0], [0, 1]])[1].tolist() == [1, 0]
settings.suppress_errors = True
assert sys.modules["torch._dynamo.config"].suppress_errors is True
settings.suppress_errors = False
assert torch._dynamo.config is sys.modules["torch._dynamo.config"]
assert kept and bool(kept) is torch._dynamo.config.error_on_nested_fx_trace
assert isinstance(torch.compile(torch.nn.Identity()), torch._dynamo.eval_frame.OptimizedModule)
assert RougeScorer(["rouge1"], use_stemmer=True).score("he walked", "he walks")["rouge1"].fmeasure == 1
with TransformGetItemToIndex():
    pass
compiled = torch.compile(lambda x: alone(x), backend="eager", fullgraph=True)
try:
    compiled(torch.ones(1))
except torch._dynamo.exc.Unsupported as error:
    assert "disabled" in str(error)
assert alone(torch.ones(1)) == 2
assert deepgemm.is_sm100._dynamo_marked_constant
from torch.distributed.tensor import DTensor
assert not is_dtensor(torch.ones(1))
print("whole")
"""

VERBS = f"""
import gc, json, sys
from muse_eval import late
late.start()
from typer.testing import CliRunner
from muse_eval.cli.app import app
for command in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import torch
gc.collect()
gc.unfreeze()
alive = sum(issubclass(type(one), torch.nn.Parameter) for one in gc.get_objects())
print("loaded:", *set({HEAVY}) & sys.modules.keys(), "alive:", alive)
"""
"""What the collector does not look at is seen again at the end: no model may be among it."""


def in_a_process(code: str, *arguments: object) -> str:
    """Run code in a fresh Python and return the last line that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_run_loads_nothing_that_it_does_not_use(tmp_path: Path, tiny_model: Path) -> None:
    code = (
        "import sys\n"
        "from muse_eval.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print('loaded:', *set({HEAVY}) & sys.modules.keys())\n"
    )
    data, task = write_data(tmp_path / "data"), write_task(tmp_path / "village.yaml")
    run = [
        "run",
        "--model",
        tiny_model,
        "--retrain",
        tiny_model,
        "--results",
        tmp_path / "results",
        "--quiet",
    ]
    assert in_a_process(code, *run, "--task", task, "--data-dir", data) == "loaded:"


@pytest.mark.slow
def test_a_training_and_a_run_load_nothing_that_they_do_not_use_and_keep_no_model(
    tmp_path: Path, tiny_model: Path
) -> None:
    given = ["--task", write_task(tmp_path / "village.yaml"), "--data-dir", write_data(tmp_path / "data")]
    commands = [
        ["unlearn", "--target", tiny_model, "--method", "npo_gdr", "--out", tmp_path / "out", *given],
        ["run", "--model", tmp_path / "out", "--engine", "hf", "--results", tmp_path / "results", *given],
    ]
    told = json.dumps([[str(word) for word in command] for command in commands])
    assert in_a_process(VERBS, told) == "loaded: alive: 0"


@pytest.mark.slow
def test_what_waited_is_the_real_thing_once_it_is_used() -> None:
    assert in_a_process(USES) == "whole"


def test_a_stand_in_is_all_that_its_thing_is() -> None:
    stand_in = StandIn("collections").OrderedDict
    assert stand_in(a=1) == OrderedDict(a=1)
    assert stand_in.fromkeys("a") == OrderedDict(a=None)
    assert isinstance(OrderedDict(), stand_in)
    assert issubclass(OrderedDict, stand_in)
    assert not isinstance({}, (int, stand_in))
    assert (stand_in | None) == (OrderedDict | None)
    assert (None | stand_in) == (None | OrderedDict)

    class Own(stand_in):  # type: ignore[misc,valid-type]
        pass

    assert Own.__mro__[1] is OrderedDict
    assert not StandIn("typing").TYPE_CHECKING
    assert StandIn("collections").__name__ == "collections"
    assert repr(stand_in) == "<collections.OrderedDict, not loaded yet>"


def test_nothing_is_an_instance_of_what_is_not_loaded() -> None:
    stand_in = StandIn("no_such_module_anywhere").Thing
    assert not isinstance(1, stand_in)
    assert not issubclass(int, stand_in)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        stand_in()


def test_imports_go_their_usual_way_beside_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    late.stop()
    usual = builtins.__import__
    late.start()
    try:
        assert builtins.__import__ is not usual
        monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
        import vllm  # noqa: F401

        assert builtins.__import__ is usual
    finally:
        late.start()


def test_garbage_is_looked_for_again_whatever_comes_of_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, what in (("ends_well", ""), ("ends_badly", "raise LookupError")):
        code = f"import gc\nwhile_loaded = gc.isenabled()\nassert not while_loaded\n{what}"
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(LookupError):
            import ends_badly  # type: ignore[import-not-found]  # noqa: F401
        assert gc.isenabled()
        gc.disable()
        import ends_well  # type: ignore[import-not-found]

        assert not gc.isenabled()
        assert ends_well.while_loaded is False
    finally:
        gc.enable()


ENDS = """
import atexit, os, sys, threading, time
from muse_eval import late

class Torn:
    def __del__(self):
        print("taken apart", flush=True)

kept = Torn()
def work():
    time.sleep(0.1)
    print("a thread's work")
with late.ended_at_once():
    atexit.register(print, "good-bye")
    threading.Thread(target=work).start()
    sys.exit({code})
"""


@pytest.mark.slow
@pytest.mark.parametrize(("code", "known"), [("3", 3), ("0", 0), ("None", 0)])
def test_a_process_ends_at_once_when_all_is_done(code: str, known: int) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS.format(code=code)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (known, "a thread's work\ngood-bye\n", "")


@pytest.mark.slow
def test_a_process_that_ends_otherwise_ends_as_ever() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS.format(code="'why'")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "why\n")
    assert done.stdout.splitlines() == ["a thread's work", "good-bye", "taken apart"]


def test_a_package_is_looked_up_as_all_of_them_say() -> None:
    looked_up, all_of_them = Distributions(), metadata.packages_distributions()
    for package in ("numpy", "torch", "yaml", "rouge_score"):
        assert set(looked_up[package]) == set(all_of_them[package])
    assert looked_up.get("no_such_module_anywhere", []) == []
    assert dict(looked_up).keys() == all_of_them.keys()
    assert len(looked_up) == len(all_of_them)
