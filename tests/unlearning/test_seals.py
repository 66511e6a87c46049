"""A checkpoint's seal: what it tells of every file, what stays true when only the model is left."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_eval.errors import UserError
from muse_eval.unlearning.cards import write_json
from muse_eval.unlearning.training import output, resuming, seals

RECIPE = {"method": {"loss": "npo"}, "training": {"lr": 0.1}}
FILES = {
    "config.json": "{}",
    "adapter_model.safetensors": "a" * 300,
    "optimizer.pt": "o" * 700,
    "scheduler.pt": "s" * 50,
    "rng_state.pth": "r" * 90,
    "trainer_state.json": json.dumps({"global_step": 2, "epoch": 1.0}),
    "tokenizer.json": "{}",
    "merged/model.safetensors": "m" * 400,
}
BESIDE = ("recipe.json", "reference.json", "log.jsonl")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A sealed checkpoint of two steps; two more were logged since."""
    home = tmp_path / "out.partial"
    checkpoint = write(home, 2)
    write_json(home / "recipe.json", RECIPE)
    (home / "reference.json").write_text('{"forget": [-1.5]}')
    for step in (1, 2):
        output.append_line(home / "log.jsonl", {"step": step})
    seals.complete(checkpoint, drop_older=False)
    for step in (3, 4):
        output.append_line(home / "log.jsonl", {"step": step})
    return checkpoint


def write(home: Path, step: int) -> Path:
    checkpoint = output.checkpoint(home, step)
    for name, text in FILES.items():
        path = checkpoint / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace('"global_step": 2', f'"global_step": {step}'))
    return checkpoint


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_what_was_logged_since_is_no_damage(checkpoint: Path) -> None:
    assert seals.fault(checkpoint) is None


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip, replace, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", [*FILES, *BESIDE])
def test_every_file_is_compared(checkpoint: Path, name: str, damage: Callable[[Path], None]) -> None:
    path = (checkpoint.parents[1] if name in BESIDE else checkpoint) / name
    if damage is cut and name == "log.jsonl":
        path.write_text('{"step": 1}\n')
    else:
        damage(path)
    told = seals.fault(checkpoint)
    if name == "trainer_state.json" and damage is Path.unlink:
        # As in a checkpoint of which the model alone was left; ``begin`` sees that it is the newest.
        assert told is None
    else:
        assert told is not None
        assert told.startswith(path.name)


def test_a_file_too_many_is_told(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_text("another")
    assert seals.fault(checkpoint) == "model.safetensors was added"
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / ".nfs0001").write_text("a file system's own")
    assert seals.fault(checkpoint) is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"sha256": 3}'])
def test_a_seal_that_is_not_whole_seals_nothing(checkpoint: Path, content: str) -> None:
    (checkpoint / "complete").write_text(content)
    assert seals.fault(checkpoint) == "complete is damaged"
    assert seals.sealed_recipe(checkpoint) is None


def test_one_digit_of_a_digest_breaks_the_seal(checkpoint: Path) -> None:
    text = (checkpoint / "complete").read_text()
    place = text.index('"sha256": "') + len('"sha256": "')
    digit = "0" if text[place] != "0" else "1"
    (checkpoint / "complete").write_text(text[:place] + digit + text[place + 1 :])
    assert seals.fault(checkpoint) == "complete is damaged"


def test_of_a_model_that_was_left_alone_the_model_is_compared(checkpoint: Path) -> None:
    """Its merged weights now lie in the place of the adapters."""
    output.shed(checkpoint)
    assert sorted(path.name for path in checkpoint.iterdir()) == [
        "complete",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert seals.fault(checkpoint) is None
    flip(checkpoint / "model.safetensors")
    assert seals.fault(checkpoint) == "model.safetensors is not as it was written"


def test_the_newest_sound_one_is_gone_on_from(checkpoint: Path) -> None:
    home, told = checkpoint.parents[1], list[str]()
    newer = write(home, 4)
    seals.seal(newer)
    assert resuming.begin(home, RECIPE, overwrite=False, note=told.append) == newer
    assert told == []
    flip(newer / "optimizer.pt")
    assert resuming.begin(home, RECIPE, overwrite=False, note=told.append) == checkpoint
    assert told == [
        "checkpoint-4 is damaged (optimizer.pt is not as it was written): what followed is trained again"
    ]
    assert not newer.exists()
    assert [line["step"] for line in output.read_log(home / "log.jsonl")] == [1, 2]


def test_a_lost_recipe_is_known_by_the_seal(checkpoint: Path) -> None:
    home = checkpoint.parents[1]
    (home / "recipe.json").unlink()
    other = {**RECIPE, "training": {"lr": 0.2}}
    with pytest.raises(UserError, match="was begun with another recipe"):
        resuming.begin(home, other, overwrite=False)
    assert resuming.begin(home, RECIPE, overwrite=False) == checkpoint
    assert json.loads((home / "recipe.json").read_text()) == RECIPE


def test_what_is_not_known_to_be_of_a_recipe_is_not_taken_for_it(checkpoint: Path) -> None:
    """The mark of version 0.1, and its recipe lost."""
    home = checkpoint.parents[1]
    (checkpoint / "complete").write_text("")
    (home / "recipe.json").write_text("{")
    with pytest.raises(UserError, match="was begun with another recipe"):
        resuming.begin(home, RECIPE, overwrite=False)
    assert resuming.begin(home, RECIPE, overwrite=True) is None
