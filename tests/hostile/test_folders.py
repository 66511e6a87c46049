"""Every file of a training's folder damaged in every way: the same bits in the end, or one line.

What is damaged is a run that was stopped in its third epoch of three, and a finished model.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch

from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.errors import UserError
from muse_eval.unlearning.training import output
from muse_eval.unlearning.training.train import unlearn
from tests.e2e import muse
from tests.e2e.test_old_files import FORGET as UNLEARN
from tests.e2e.test_old_files import TUNE, archive, here  # noqa: F401 - the last two are fixtures
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for, make_target, same, weights

pytestmark = pytest.mark.slow


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Turn the last bit but three of the byte in the middle: of JSON's letters and digits into others."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0b100
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


def shapeless(path: Path) -> None:
    path.write_bytes(b"[]")


DAMAGES = (delete, cut, flip, empty, replace)
Damage = Callable[[Path], None]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folders")


@pytest.fixture(scope="module")
def target(home: Path) -> Path:
    return make_target(home / "target")


def stop(_: str, done: int, __: int) -> None:
    if done == 5:
        raise KeyboardInterrupt


class Job:
    """One recipe carried out: to its end as ``whole``, stopped as ``begun.partial``."""

    def __init__(self, target: Path, home: Path, keep: bool, **changes: Any) -> None:
        self.config, self.keep = config_for(target, "npo_klr", epochs=3, **changes), keep
        self.whole, self.begun = home / "whole", home / "begun.partial"
        self.notes: list[str] = []
        self.make(self.whole)
        with pytest.raises(KeyboardInterrupt):
            self.make(home / "begun", progress=stop)

    def make(self, out: Path, **more: Any) -> None:
        self.notes.clear()
        unlearn(self.config, FORGET, RETAIN, out, keep_checkpoints=self.keep, note=self.notes.append, **more)

    def resume(self, out: Path) -> str | None:
        """Make what is begun, and compare; return the line that refuses it, if one does."""
        refused = None
        try:
            self.make(out)
        except UserError as error:
            refused = str(error)
        if refused:
            assert "\n" not in refused
            assert not out.exists()
            return refused
        assert same(weights(out), weights(self.whole))
        assert fingerprint(out) == fingerprint(self.whole)
        assert [line["step"] for line in output.read_log(out / output.LOG)] == list(range(1, 7))
        return None


def fingerprint(out: Path) -> Any:
    return json.loads((out / "unlearn.json").read_text(encoding="utf-8"))["fingerprint"]


@pytest.fixture(scope="module")
def plain(target: Path, home: Path) -> Job:
    return Job(target, home / "plain", keep=False)


@pytest.fixture(scope="module")
def adapters(target: Path, home: Path) -> Job:
    return Job(target, home / "adapters", keep=True, lora="r=2,dropout=0.2")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def damaged(job: Job, out: Path, name: str, damage: Damage) -> None:
    shutil.copytree(job.begun, output.partial(out), dirs_exist_ok=True)
    damage(output.partial(out) / name)


@pytest.mark.campaign
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stopped_run(plain: Job, tmp_path: Path, damage: Damage) -> None:
    """Each of some seventeen files in turn: nothing is gone on from in silence but what is harmless."""
    names, begun_anew = files(plain.begun), 0
    assert len(names) >= 13
    for number, name in enumerate(names):
        out = tmp_path / str(number)
        damaged(plain, out, name, damage)
        refused = plain.resume(out)
        told = " ".join(plain.notes)
        if name == "recipe.json":
            assert (refused is not None) is (damage is replace), (name, refused)
        elif refused is not None:
            assert damage is replace, (name, refused)
            assert "move away what is in its place" in refused
        elif name.endswith("/complete") and damage is delete:
            assert told == ""  # as a kill leaves it
        elif name.endswith("/complete") and damage is empty:
            assert told.startswith("goes on from epoch 2")  # as version 0.1 left it, and whole
        else:
            assert "is damaged (" in told, (name, told)
            assert "begins anew" in told, (name, told)
            begun_anew += 1
    assert begun_anew >= len(names) - 4


def test_a_stopped_run_that_keeps_the_model_of_each_epoch(adapters: Job, tmp_path: Path) -> None:
    """A bit turned in each file of its checkpoints: what is older is lost, the newest begun anew."""
    names = [name for name in files(adapters.begun) if name.startswith("checkpoints/")]
    assert len(names) >= 20
    for number, name in enumerate(names):
        out = tmp_path / str(number)
        damaged(adapters, out, name, flip)
        assert adapters.resume(out) is None
        step = name.split("/")[1]
        assert adapters.notes[0].startswith(f"{step} is damaged ("), (name, adapters.notes)
        kept = {path.name: path for path in output.checkpoints(out)}
        for left in output.checkpoints(adapters.whole):
            assert left.name in kept or left.name == step == "checkpoint-2", (name, left)
            if left.name in kept:
                assert same(weights(kept[left.name]), weights(left)), (name, left)


@pytest.mark.campaign
@pytest.mark.parametrize("damage", [delete, cut, empty, replace])
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"],
)
def test_a_checkpoint_of_version_0_1(plain: Job, tmp_path: Path, name: str, damage: Damage) -> None:
    """Its mark is empty; what can be told of its files is told, and begun anew."""
    damaged(plain, tmp_path / "out", "checkpoints/checkpoint-4/complete", empty)
    damage(output.partial(tmp_path / "out") / "checkpoints" / "checkpoint-4" / name)
    assert plain.resume(tmp_path / "out") is None
    assert "begins anew" in plain.notes[0]


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_bit_turned_in_what_version_0_1_saved(plain: Job, tmp_path: Path, name: str) -> None:
    """torch's archives have checksums of their own."""
    damaged(plain, tmp_path / "out", "checkpoints/checkpoint-4/complete", empty)
    flip(output.partial(tmp_path / "out") / "checkpoints" / "checkpoint-4" / name)
    assert plain.resume(tmp_path / "out") is None
    # In the little scheduler.pt the bit is one that fills a gap.
    assert name == "scheduler.pt" or f"({name} is damaged): begins anew" in plain.notes[0]


def test_another_recipe_does_not_take_over_what_has_lost_its_own(plain: Job, tmp_path: Path) -> None:
    for number, damage in enumerate((delete, cut, empty)):
        out = tmp_path / str(number)
        damaged(plain, out, "recipe.json", damage)
        other = plain.config.model_copy(update={"lr": 1e-7})
        with pytest.raises(UserError, match="was begun with another recipe"):
            unlearn(other, FORGET, RETAIN, out)
        assert (output.partial(out) / "checkpoints" / "checkpoint-4" / "optimizer.pt").exists()


@pytest.mark.parametrize("damage", [delete, cut, empty, replace])
def test_a_finished_model(plain: Job, tmp_path: Path, damage: Damage) -> None:
    """It is never called made where it cannot be loaded; nothing of it is removed unasked."""
    names, refusals = files(plain.whole), 0
    for number, name in enumerate(names):
        out = tmp_path / str(number)
        shutil.copytree(plain.whole, out)
        damage(out / name)
        left = files(out)
        told = None
        try:
            plain.make(out)
        except UserError as error:
            told = str(error)
        if told is None:
            find_checkpoint(str(out))
            assert name not in ("config.json", "model.safetensors", "unlearn.json"), name
        else:
            assert "\n" not in told
            refusals += 1
        assert files(out) == left
    assert refusals >= 3


def test_weights_that_are_gone_are_made_again_by_overwrite(plain: Job, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(plain.whole, out)
    delete(out / "model.safetensors")
    with pytest.raises(UserError, match=r"out has no weights .* made it whole; --overwrite"):
        plain.make(out)
    plain.make(out, overwrite=True)
    assert same(weights(out), weights(plain.whole))


@pytest.mark.parametrize("content", ["[]", "3", '"text"', "{}", '{"schema_version": 1, "config": []}', "["])
def test_a_card_of_another_shape(plain: Job, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(plain.whole, out)
    (out / "unlearn.json").write_text(content)
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"unlearn\.json .*; move .* away, or choose another"):
            plain.make(out, overwrite=overwrite)


def test_a_shard_that_the_index_names_is_missed(plain: Job, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(plain.whole, out)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"lacks the weights file model-00002-of-00002\.safetensors"):
        plain.make(out)


@pytest.mark.parametrize(
    ("command", "below"), [(UNLEARN, "forgot"), (TUNE, "results/tune")], ids=["unlearn", "tune"]
)
def test_what_version_0_1_made_and_someone_spoiled(
    here: Path,  # noqa: F811
    tmp_path: Path,
    command: tuple[str, ...],
    below: str,
) -> None:
    """JSON of another shape, or a folder, where a file belongs: the command goes on, or one line says why."""
    for number, name in enumerate(files(here / below)):
        for damage in (shapeless, replace):
            copy = tmp_path / f"{number}{damage.__name__}"
            shutil.copytree(here, copy)
            damage(copy / below / name)
            with chdir(copy):
                done = muse(*command)
            assert done.exit_code in (0, 2), (name, done.output, done.exception)
            if done.exit_code == 2:
                assert done.stderr.splitlines()[-1].startswith("muse-eval: error: "), (name, done.stderr)
            shutil.rmtree(copy)


def test_overwrite_keeps_a_link(plain: Job, tmp_path: Path) -> None:
    """What is made lies where the link points to, which may be nowhere yet."""
    link, there = tmp_path / "link", tmp_path / "elsewhere" / "there"
    there.parent.mkdir()
    link.symlink_to(there)
    for overwrite in (False, True):
        plain.make(link, overwrite=overwrite)
        assert link.readlink() == there
        assert same(weights(there), weights(plain.whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "link"]
    round_trip = tmp_path / "round"
    round_trip.symlink_to(round_trip)
    with pytest.raises(UserError, match="a link that leads back to itself"):
        plain.make(round_trip)
