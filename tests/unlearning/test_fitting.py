"""What fits a device: chosen, refused, told, kept to; models are without weights, devices made up."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from muse_eval.errors import UserError
from muse_eval.unlearning import cards
from muse_eval.unlearning.recipe import UnlearnConfig, configure, write_recipe
from muse_eval.unlearning.training import disk, fitting, output
from muse_eval.unlearning.training.arguments import optimizer_name
from muse_eval.unlearning.training.fitting import Room
from muse_eval.unlearning.training.memory import Sizes, least, reckon
from muse_eval.unlearning.training.plan import settle
from muse_eval.unlearning.training.sizing import sizes_of, skeleton
from muse_eval.unlearning.training.start import open_target
from muse_eval.unlearning.training.train import unlearn
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for

GB = 10**9
H100 = Room(84 * GB, on_gpu=True)
LONG = 2_048
WEIGHTS = 6_738_415_616
"""Of Llama-2-7B."""


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    """Llama-2-7B without a weight."""
    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=32_000,
                hidden_size=4_096,
                intermediate_size=11_008,
                num_hidden_layers=32,
                num_attention_heads=32,
            )
        )


def plan(llama: PreTrainedModel, method: str = "simnpo_gdr", **given: Any) -> tuple[UnlearnConfig, Sizes]:
    config = configure(method=method, model="made up", **{"dtype": "mixed", **given})
    return config, sizes_of(llama, config)


def chosen(llama: PreTrainedModel, room: Room, **given: Any) -> tuple[str, bool | None, int | None]:
    config, sizes = plan(llama, **given)
    found = fitting.choose(config, sizes, room, LONG)
    return found.optim, found.gradient_checkpointing, found.micro_batch_size


def parts(llama: PreTrainedModel, room: Room = H100, **given: Any) -> dict[str, float]:
    config, sizes = plan(llama, **{"gradient_checkpointing": True, "micro_batch_size": 1, **given})
    return reckon(sizes, fitting.means_of(config, room, LONG))


# ── the reckoning ────────────────────────────────────────────────────────────────────────────────
def test_what_stays_is_counted_by_hand(llama: PreTrainedModel) -> None:
    found = parts(llama)
    assert found["weights"] == found["gradients"] == 4 * WEIGHTS
    assert found["optimizer"] == 8 * WEIGHTS
    assert found["frozen copy"] == found["buckets"] == found["casts"] == 0
    assert parts(llama, method="npo_klr")["frozen copy"] == 4 * WEIGHTS
    # bitsandbytes keeps the states of the 32,000 × 4,096 embeddings in 32 bits.
    table = 32_000 * 4_096
    assert parts(llama, optim="adamw_8bit")["optimizer"] == 2 * (WEIGHTS - table) + 8 * table
    half = parts(llama, dtype="bfloat16", method="npo_klr")
    assert half["weights"] == half["frozen copy"] == half["gradients"] == 2 * WEIGHTS
    assert half["optimizer"] == 4 * WEIGHTS
    assert parts(llama, gradient_checkpointing=False)["casts"] == 2 * WEIGHTS


def test_adapters_and_chosen_weights_alone_have_gradients(llama: PreTrainedModel) -> None:
    adapters = 16 * 32 * (4 * (4_096 + 4_096) + 3 * (4_096 + 11_008))
    found = parts(llama, lora="r=16", method="npo_klr")
    assert (found["gradients"], found["optimizer"]) == (4 * adapters, 8 * adapters)
    assert found["frozen copy"] == 0
    found = parts(llama, lora="r=4,targets=q_proj+v_proj")
    assert found["gradients"] == 4 * 4 * 32 * 2 * (4_096 + 4_096)
    found = parts(llama, method="rmu")
    assert found["gradients"] == 4 * 3 * 4_096 * 11_008
    assert found["frozen copy"] == 4 * WEIGHTS


def test_processes_share_a_model_out_or_hold_it_each(llama: PreTrainedModel) -> None:
    sharded = parts(llama, Room(84 * GB, True, 4, sharded=True), method="npo_klr")
    assert sharded["weights"] == sharded["frozen copy"] == WEIGHTS
    assert sharded["optimizer"] == 2 * WEIGHTS
    each = parts(llama, Room(84 * GB, True, 4))
    assert each["weights"] == each["buckets"] == 4 * WEIGHTS


def test_activations_grow_with_rows_and_not_with_the_whole_vocabulary(llama: PreTrainedModel) -> None:
    one, two = (parts(llama, micro_batch_size=size)["activations"] for size in (1, 2))
    kept = 2 * LONG * 4_096 * 32 * 4  # a forget and a retain row, a float32 number a layer, token and width
    assert kept < two - one < 2 * kept
    config, sizes = plan(llama)
    wide = replace(sizes, vocabulary=256_000)
    means = fitting.means_of(config, H100, LONG)
    more = reckon(wide, means)["activations"] - reckon(sizes, means)["activations"]
    # The rows of a micro-batch have more than the 2²⁶ logits that exist at a time, at either size.
    assert more == 0


def test_logits_are_reckoned_as_many_as_exist_at_a_time(llama: PreTrainedModel) -> None:
    """Each batch's, which are kept, and as many times one batch's as a loss makes of them."""
    wide = 256_000

    def logits(longest: int, room: Room = H100, **given: Any) -> float:
        config, sizes = plan(llama, micro_batch_size=1, **given)
        sizes = replace(sizes, vocabulary=wide * (sizes.vocabulary > 0))
        means = fitting.means_of(config, room, longest)
        without = replace(sizes, vocabulary=0)
        return reckon(sizes, means)["activations"] - reckon(without, means)["activations"]

    assert logits(LONG) == 6 * 4 * 2**26
    assert logits(LONG, Room(84 * GB, on_gpu=False)) == 6 * 4 * 2**24
    assert logits(100) == 6 * 4 * 100 * wide
    assert logits(LONG, method="simnpo") == 5 * 4 * 2**26
    assert logits(LONG, method="idkdpo_gdr") == 7 * 4 * 2**26
    assert logits(LONG, method="npo_klr", lora="r=16") == 10 * 4 * 2**26
    assert logits(LONG, method="ceu") == 9 * 4 * 2**26
    assert logits(LONG, method="rmu") == 0


def test_a_tied_head_counts_once_and_layers_of_gpt_2_are_linear() -> None:
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=2, vocab_size=500, n_positions=128))
    config = configure(method="simnpo", model="made up", lora="r=2")
    found = sizes_of(model, config)
    assert found.weights == sum(weight.numel() for weight in model.parameters())
    assert found.trained == 2 * 2 * (64 * 4 + 64 * 2 + 64 * 5 + 64 * 5)
    assert (found.inner, found.layers, found.hidden) == (256, 2, 64)


def test_a_row_is_no_longer_than_its_text_or_the_longest_that_is_read() -> None:
    config = configure(method="simnpo", model="made up", rows="document", max_len=16)
    assert fitting.longest_row(config, ["é", "abc"]) == 5
    assert fitting.longest_row(config, ["a" * 90]) == 16
    windows = config.model_copy(update={"rows": "chunk"})
    assert fitting.longest_row(windows, ["ab", "abc"]) == 7


# ── what is chosen ───────────────────────────────────────────────────────────────────────────────
def test_the_first_that_fits_is_chosen_in_the_documented_order(llama: PreTrainedModel) -> None:
    assert chosen(llama, Room(400 * GB, True)) == ("adamw", False, 4)
    assert chosen(llama, Room(190 * GB, True)) == ("adamw", False, 1)
    assert chosen(llama, Room(140 * GB, True)) == ("adamw", True, 4)
    config, _ = plan(llama)
    order = [
        (one.optim, one.gradient_checkpointing, one.micro_batch_size) for one in fitting.options(config, H100)
    ]
    assert order[:6] == [("adamw", False, size) for size in (4, 2, 1)] + [
        ("adamw", True, size) for size in (4, 2, 1)
    ]
    assert {one[0] for one in order[6:]} <= {"adamw_8bit"}


def test_what_is_given_is_not_chosen(llama: PreTrainedModel) -> None:
    given = {"optim": "adamw", "gradient_checkpointing": False, "micro_batch_size": 2}
    assert chosen(llama, H100, **given) == ("adamw", False, 2)
    assert chosen(llama, Room(600 * GB, True), micro_batch_size=8) == ("adamw", False, 8)
    # Which inputs are dropped depends on the micro-batch.
    assert chosen(llama, H100, lora="r=16,dropout=0.1")[2] is None
    assert chosen(llama, Room(84 * GB, True, 4, sharded=True))[0] == "adamw"


def test_precision_is_never_given_up_unasked(llama: PreTrainedModel) -> None:
    config, sizes = plan(llama)
    for free in (1, 20, 60, 84, 140):
        assert fitting.choose(config, sizes, Room(free * GB, True), LONG).dtype == "mixed"


def test_a_cpu_trains_as_it_always_did(llama: PreTrainedModel) -> None:
    assert chosen(llama, Room(GB, on_gpu=False), dtype="float32") == ("adamw", False, None)
    assert optimizer_name("adamw", on_gpu=False) == "adamw_torch"
    assert optimizer_name("adamw", on_gpu=True) == "adamw_torch_fused"
    assert {optimizer_name("adamw_8bit", on_gpu) for on_gpu in (True, False)} == {"adamw_bnb_8bit"}


# ── what is refused ──────────────────────────────────────────────────────────────────────────────
def refusal(llama: PreTrainedModel, room: Room, **given: Any) -> str:
    config, sizes = plan(llama, **given)
    config = fitting.choose(config, sizes, room, LONG)
    with pytest.raises(UserError) as error:
        fitting.check(config, sizes, room, LONG)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_7b_on_one_card_is_refused_with_all_that_fits(llama: PreTrainedModel) -> None:
    told = refusal(llama, H100, optim="adamw")
    assert told.startswith(
        "this training takes at least 108 GB of GPU memory, and 84 GB are free; these fit: "
    )
    for fit in (
        "--optim adamw_8bit",
        "--lora r=16",
        "--training-dtype bfloat16 (rounds small updates away)",
        "2 such GPUs (muse-eval list launch fsdp)",
    ):
        assert fit in told
    # The frozen target stands beside it: states in 8 bits are no longer enough.
    told = refusal(llama, H100, optim="adamw", method="npo_klr")
    assert "at least 135 GB" in told
    assert "adamw_8bit" not in told
    assert "--lora r=16" in told
    assert "on each GPU" in refusal(llama, Room(20 * GB, True, 4, sharded=True))
    assert "--lora" not in refusal(llama, Room(40 * GB, True), method="rmu")


def test_what_is_named_is_not_refused_when_it_is_done(llama: PreTrainedModel) -> None:
    for change in ({"optim": "adamw_8bit"}, {"lora": "r=16"}, {"dtype": "bfloat16"}):
        config, sizes = plan(llama, **change)
        config = fitting.choose(config, sizes, H100, LONG)
        assert fitting.check(config, sizes, H100, LONG) is None
    config, sizes = plan(llama)
    two = Room(84 * GB, True, 2, sharded=True)
    assert fitting.check(fitting.choose(config, sizes, two, LONG), sizes, two, LONG) is None


def test_nothing_is_refused_at_the_very_least_that_it_takes(llama: PreTrainedModel) -> None:
    """Between the least and the reckoning it is tried, with a warning on a GPU that says what would fit."""
    config, sizes = plan(llama, gradient_checkpointing=False, micro_batch_size=4, optim="adamw_8bit")
    needed = int(least(sizes, fitting.means_of(config, H100, LONG)))
    warning = fitting.check(config, sizes, Room(needed + 1, True), LONG)
    assert warning is not None
    assert "should it run out" in warning
    with pytest.raises(UserError, match="takes at least"):
        fitting.check(config, sizes, Room(needed - 1, True), LONG)
    room = Room(100 * GB, True)
    told = fitting.check(config, sizes, room, LONG)
    assert told is not None
    assert told.endswith("--gradient-checkpointing and --micro-batch-size 1 will do")
    assert fitting.check(config, sizes, Room(300 * GB, True), LONG) is None


def test_on_a_cpu_frozen_weights_may_stay_in_their_file(llama: PreTrainedModel) -> None:
    config, sizes = plan(llama, lora="r=16", dtype="float32")
    assert fitting.check(config, sizes, Room(GB, on_gpu=False), LONG) is None
    told = refusal(llama, Room(64 * GB, on_gpu=False), dtype="float32")
    assert (
        "108 GB of memory, and 64 GB are free; with --gradient-checkpointing and --micro-batch-size 1" in told
    )
    assert "adamw_8bit" not in told
    assert refusal(llama, Room(GB, False), dtype="float32").endswith(
        "take a smaller model or a larger machine"
    )


def test_a_target_too_large_for_this_machine_is_refused_before_it_is_read(
    target: Path, tmp_path: Path
) -> None:
    """Its configuration says a million times what its weights hold, which loading would refuse."""
    huge = enlarged(target, tmp_path / "huge")
    for out in (tmp_path / "out", tmp_path / "village"):
        with pytest.raises(UserError, match=r"^this training takes at least [\d,]+ GB of memory, and "):
            unlearn(config_for(huge, "npo_klr"), FORGET, RETAIN, out)
    assert not output.partial(tmp_path / "out").exists()


def enlarged(target: Path, folder: Path) -> Path:
    shutil.copytree(target, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 1 << 18, "intermediate_size": 1 << 20, "num_hidden_layers": 64, "head_dim": 128}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────
def test_checkpoints_on_the_disk_are_counted_by_hand(llama: PreTrainedModel) -> None:
    config, sizes = plan(llama, optim="adamw")
    model, states = 4 * WEIGHTS, 8 * WEIGHTS
    # One epoch: its weights alone, since no step follows, and the finished model beside them.
    assert disk.most(config, sizes, 1, keep=False) == 2 * model
    assert disk.most(config, sizes, 2, keep=False) == 2 * model + states
    assert disk.most(config, sizes, 10, keep=False) == 2 * (model + states)
    # While the ninth is written: seven models, the eighth and the ninth whole.
    assert disk.most(config, sizes, 10, keep=True) == 9 * model + 2 * states
    config, sizes = plan(llama, lora="r=16", optim="adamw")
    adapters = 4 * sizes.trained
    assert disk.most(config, sizes, 10, keep=False) == model + adapters
    assert disk.most(config, sizes, 10, keep=True) == 11 * model + adapters


def test_a_disk_that_is_too_small_is_refused_and_what_lies_there_is_counted_in(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    disk.check(free // 2, tmp_path / "out.partial")
    with pytest.raises(
        UserError, match=r"^the checkpoints take up to [\d,.]+ GB of disk, and at .* are free; "
    ):
        disk.check(free + 10 * GB, tmp_path / "new" / "out.partial")
    begun = tmp_path / "out.partial"
    begun.mkdir()
    with (begun / "model.safetensors").open("wb") as file:
        file.truncate(free + 20 * GB)  # a hole: nothing is written
    disk.check(free + 10 * GB, begun)
    assert disk.told(5 * 10**8) == ""
    assert disk.told(81 * GB) == "checkpoints take up to 81 GB of disk"


def test_too_little_disk_for_a_target_is_refused_before_it_is_read(target: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    huge = enlarged(target, tmp_path / "huge")
    with pytest.raises(UserError, match="of disk, and at"):
        unlearn(config_for(huge, lora="r=1,targets=q_proj"), FORGET, RETAIN, tmp_path / "out")
    assert not output.partial(tmp_path / "out").exists()


# ── a run that goes on ───────────────────────────────────────────────────────────────────────────
def begun(home: Path, optim: str, saved: dict[str, Any] | None) -> Path:
    folder = output.partial(home / "out")
    folder.mkdir(parents=True)
    names = {"adamw": "AdamW", "adamw_8bit": "AdamW, states in 8 bits (bitsandbytes)"}
    cards.write_json(folder / cards.RECIPE, {"optimizer": {"name": names[optim]}})
    if saved is not None:
        cards.write_json(folder / output.MEMORY, saved)
    return home / "out"


def test_a_run_that_goes_on_keeps_what_was_chosen_for_it(llama: PreTrainedModel, tmp_path: Path) -> None:
    saved = {"gradient_checkpointing": True, "micro_batch_size": 2}
    out = begun(tmp_path, "adamw_8bit", saved)
    config, sizes = plan(llama)
    roomy = Room(300 * GB, True)
    kept = fitting.choose(fitting.fill_in(config, fitting.former(out, 32)), sizes, roomy, LONG)
    assert (kept.optim, kept.gradient_checkpointing, kept.micro_batch_size) == ("adamw_8bit", True, 2)
    # What is given goes before what was chosen: another recipe, which is refused elsewhere.
    config, _ = plan(llama, optim="adamw", micro_batch_size=1)
    kept = fitting.fill_in(config, fitting.former(out, 32))
    assert (kept.optim, kept.gradient_checkpointing, kept.micro_batch_size) == ("adamw", True, 1)


def test_nothing_is_reckoned_of_shapes_that_are_not_told(target: Path) -> None:
    config = config_for(target)
    start = open_target(config, None, None, (), None)
    model: Any = LlamaForCausalLM.from_pretrained(target)
    known, given = model.config, replace(start, checkpoint=None, model=model)
    assert skeleton(given, config) is not None
    model.config = PreTrainedConfig()
    assert skeleton(given, config) is None
    model.config = known
    known.quantization_config = {"quant_method": "bitsandbytes"}
    assert skeleton(given, config) is None


def test_a_plan_is_kept_to_whatever_memory_there_is_later(target: Path, tmp_path: Path) -> None:
    config = config_for(target, dtype="mixed")
    start = open_target(config, None, None, (), None)
    model = skeleton(start, config)
    assert model is not None
    sizes, out = sizes_of(model, config), tmp_path / "out"
    longest = fitting.longest_row(config, FORGET)
    lean = config.model_copy(update={"gradient_checkpointing": False, "micro_batch_size": 1})
    needed = sum(reckon(sizes, fitting.means_of(lean, H100, longest)).values())

    def planned(room: Room, anew: bool = False) -> UnlearnConfig:
        found = settle(config, start, room, out, FORGET, keep=False, anew=anew)
        found.check(None)
        return found.config

    tight = Room(int(needed / fitting.SHARE) + 1, on_gpu=True)
    first = settle(config, start, tight, out, FORGET, keep=False, anew=False)
    assert first.config == lean.model_copy(update={"optim": "adamw"})
    first.folder.mkdir()
    cards.write_json(first.folder / cards.RECIPE, write_recipe(first.config, FORGET, [], {}, "mixed"))
    first.keep()
    assert planned(H100) == first.config
    assert planned(H100, anew=True).micro_batch_size == 4
    assert planned(Room(84 * GB, on_gpu=False)).micro_batch_size == 1


@pytest.mark.parametrize(
    "saved",
    [
        None,
        {},
        {"gradient_checkpointing": "yes", "micro_batch_size": 2},
        {"gradient_checkpointing": True, "micro_batch_size": 0},
        {"gradient_checkpointing": True, "micro_batch_size": 3},  # it went with other processes
    ],
)
def test_what_was_not_kept_is_chosen_again(tmp_path: Path, saved: dict[str, Any] | None) -> None:
    assert fitting.former(begun(tmp_path, "adamw", saved), 32) == {"optim": "adamw"}
    assert fitting.former(tmp_path / "nothing", 32) == {}


@pytest.mark.slow
def test_a_finished_model_is_taken_though_auto_would_come_out_otherwise(target: Path, tmp_path: Path) -> None:
    """As one made with states in 8 bits, of which its card tells."""
    out = unlearn(config_for(target, epochs=1), FORGET, [], tmp_path / "out")
    card = cards.read_json(out / "unlearn.json")
    assert card["config"]["optim"] == "adamw"
    assert card["config"]["gradient_checkpointing"] is False
    before = (out / "model.safetensors").stat().st_mtime_ns
    card["optimizer"]["name"] = "AdamW, states in 8 bits (bitsandbytes)"
    cards.write_json(out / "unlearn.json", card)
    unlearn(config_for(target, epochs=1), FORGET, [], out)
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another recipe"):
        unlearn(config_for(target, epochs=1, optim="adamw"), FORGET, [], out)


# ── what is told ─────────────────────────────────────────────────────────────────────────────────
def test_the_choice_is_told_in_the_line_before_the_start(llama: PreTrainedModel) -> None:
    config, sizes = plan(llama)
    found = fitting.choose(config, sizes, Room(140 * GB, True), LONG)
    assert fitting.said(found, sizes, Room(140 * GB, True), LONG) == (
        "mixed, adamw, gradient checkpointing, micro-batch 4; reckoned at 123 GB of 140 GB free"
    )
    assert fitting.said(found, sizes, Room(140 * GB, False), LONG) == ""
