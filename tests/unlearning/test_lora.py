"""Low-rank adapters: what may be typed, what they compute, and what is left of them in the end."""

import copy
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from muse_eval.errors import UserError
from muse_eval.unlearning import cards, rows
from muse_eval.unlearning.recipe import LoraSpec, configure, parse_lora
from muse_eval.unlearning.training import adapters, output
from muse_eval.unlearning.training.train import unlearn
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for, forget_logp, make_target, same, weights

BATCH = rows.pad([[0, 5, 6, 7, 8], [0, 9, 10]])


def adapted(target: Path, spec: str = "r=2", seed: int = 0) -> Any:
    """A target with adapters on it, whose second factor is made to do something."""
    return adapters.put_on(LlamaForCausalLM.from_pretrained(target), parse_lora(spec), seed)


def logits(model: Any, batch: rows.Batch) -> torch.Tensor:
    found: torch.Tensor = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return found


def stir(model: Any) -> None:
    """Give every adapter's B other values than the zeros it starts from."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()


def test_what_may_be_typed() -> None:
    assert parse_lora("r=16") == LoraSpec(r=16, alpha=32, dropout=0.0, targets="all-linear")
    whole = parse_lora("targets=q_proj+v_proj, dropout=0.1,alpha=5,r=4")
    assert whole == LoraSpec(r=4, alpha=5, dropout=0.1, targets="q_proj+v_proj")
    assert LoraSpec.model_validate({"r": 8}).alpha == 16
    for given in ("r=2", {"r": 2}, LoraSpec(r=2, alpha=4)):
        assert configure(method="ga", model="m", lora=given).lora == LoraSpec(r=2, alpha=4)
    assert configure(method="ga", model="m").lora is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha=32", "--lora alpha=32: give the rank, for example r=16"),
        ("16", "no key '16'; keys: alpha, dropout, r, targets"),
        ("r=16,alhpa=32", "no key 'alhpa'; did you mean 'alpha'?"),
        ("r=16,r=8", "r is given twice"),
        ("r=", "give r a value: r=…"),
        ("r", "give r a value: r=…"),
        ("r=0", "--lora r=0: r: input should be greater than 0"),
        ("r=two", "r: input should be a valid integer"),
        ("r=2,alpha=-1", "alpha: input should be greater than 0"),
        ("r=2,dropout=1", "dropout: input should be less than 1"),
        ("r=2,dropout=nan", "dropout: input should be"),
        ("r=2,targets=q_proj+", "targets: string should match"),
        ("", "no key ''"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        configure(method="ga", model="m", lora=text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_adapters_start_as_no_change_from_their_seed_alone(target: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same_seed, other = (adapted(target, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    plain = LlamaForCausalLM.from_pretrained(target)
    assert torch.equal(logits(one.eval(), BATCH), logits(plain.eval(), BATCH))
    left, right, third = (dict(model.named_parameters()) for model in (one, same_seed, other))
    drawn = [name for name in left if "lora_A" in name]
    assert len(drawn) == 14  # two layers of q, k, v, o, gate, up, down
    for name in drawn:
        assert torch.equal(left[name], right[name])
        assert not torch.equal(left[name], third[name])
    trained = {name for name, parameter in left.items() if parameter.requires_grad}
    assert trained == {name for name in left if "lora_" in name}


def test_with_adapters_off_the_model_is_the_target(target: Path) -> None:
    """To the bit, without dropout, and nothing is changed by the look."""
    model = adapted(target, "r=2,dropout=0.5").train()
    stir(model)
    plain = LlamaForCausalLM.from_pretrained(target).eval()
    with torch.no_grad(), adapters.frozen_view(model) as frozen:
        assert torch.equal(logits(frozen, BATCH), logits(plain, BATCH))
    assert model.training
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())
    assert not torch.allclose(logits(model, BATCH), logits(plain, BATCH), atol=0.1)
    assert adapters.frozen_copy(model) is None
    copied = adapters.frozen_copy(plain)
    assert copied is not None
    with adapters.frozen_view(plain, copied) as frozen:
        assert frozen is copied is not plain


def test_merged_is_w_plus_alpha_over_r_times_b_a(target: Path) -> None:
    """And what peft itself makes of it; the model with its adapters stays as it was."""
    model = adapted(target, "r=2,alpha=6")
    stir(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = adapters.merged_state(model)
    assert same(before, model.state_dict())
    name = "model.layers.1.mlp.up_proj"
    layer: Any = model.get_base_model().get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert torch.allclose(merged[f"{name}.weight"], layer.base_layer.weight + 6 / 2 * (b @ a))
    assert same(merged, model.merge_and_unload().state_dict())


def test_only_what_adapters_reach_changes_and_by_their_rank(target: Path, tmp_path: Path) -> None:
    config = config_for(target, "simnpo_gdr", lora="r=2,targets=v_proj+down_proj", lr=0.1, epochs=6)
    out = unlearn(config, FORGET, RETAIN, tmp_path / "out")
    assert forget_logp(out) < forget_logp(target) - 0.5
    ours, theirs = weights(out), weights(target)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        change = tensor - theirs[name]
        if "v_proj" in name or "down_proj" in name:
            assert torch.linalg.matrix_rank(change, atol=1e-5) == 2, name
        else:
            assert not change.any(), name
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "log.jsonl",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "unlearn.json",
    ]
    card = cards.read_json(out / "unlearn.json")
    assert card["lora"] == {"r": 2, "alpha": 4, "dropout": 0.0, "targets": "v_proj+down_proj"}
    assert "peft" in card["versions"]


def test_kl_and_reference_are_the_targets_without_a_second_model(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(2/β) log 2 = 20 · 0.693147 = 13.86294, and the target's KL to itself is 0; later it is not."""
    deepcopy, made = copy.deepcopy, []

    def copying(thing: Any, *rest: Any) -> Any:
        if isinstance(thing, torch.nn.Module) and len(list(thing.parameters())) > 10:
            made.append(type(thing))
        return deepcopy(thing, *rest)

    monkeypatch.setattr(copy, "deepcopy", copying)
    out = unlearn(config_for(target, "npo_klr", lora="r=2"), FORGET, RETAIN, tmp_path / "out")
    log = output.read_log(out / "log.jsonl")
    assert log[0]["forget_loss"] == pytest.approx(13.86294, abs=1e-4)
    assert log[0]["retain_loss"] == pytest.approx(0, abs=1e-6)
    assert log[-1]["retain_loss"] > 1e-4
    assert made == []


@pytest.mark.slow
def test_each_epochs_model_is_kept_as_an_ordinary_checkpoint(tmp_path: Path) -> None:
    target = make_target(tmp_path / "target", tied=True)
    config = config_for(target, "ga", lora="r=2", epochs=2)
    out = unlearn(config, FORGET, [], tmp_path / "out", keep_checkpoints=True)
    first, last = output.checkpoints(out)
    assert same(weights(last), weights(out))
    assert not same(weights(first), weights(out))
    for folder in (first, last):
        assert not [
            path.name for path in folder.iterdir() if path.name.startswith(("adapter", "optim", "rng"))
        ]
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert not hasattr(model, "peft_config")
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_adapters_are_part_of_the_recipe(target: Path, tmp_path: Path) -> None:
    unlearn(config_for(target, lora="r=2", epochs=1), FORGET, [], tmp_path / "out")
    lora = r"\{r 2, alpha 4, dropout 0\.0, targets all-linear\}"
    for other, told in ((None, f"lora {lora}, now none"), ("r=2,alpha=2", r"lora\.alpha 4, now 2")):
        with pytest.raises(UserError, match=rf"another recipe \({told}\);"):
            unlearn(config_for(target, lora=other, epochs=1), FORGET, [], tmp_path / "out")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("q_proj+v_prj", "no linear layer 'v_prj'; did you mean 'v_proj'"),
        ("embed_tokens", "no linear layer 'embed_tokens'"),
        ("lm_head", "no linear layer 'lm_head'"),
    ],
)
def test_targets_that_cannot_be_are_refused(target: Path, targets: str, message: str) -> None:
    model = LlamaForCausalLM.from_pretrained(target)
    with pytest.raises(UserError, match=message):
        adapters.put_on(model, parse_lora(f"r=2,targets={targets}"), 0)


def test_without_peft_it_is_one_line(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        UserError, match=r"--lora needs the package peft; in the checkout, pip install '\.\[lora\]'"
    ):
        unlearn(config_for(target, lora="r=2"), FORGET, [], tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kilobytes", "lora", "merging"), [(8, "r=4", False), (15, "r=1,targets=q_proj", True)]
)
def test_full_disk_is_one_line_and_leaves_nothing_at_out(
    target: Path, tmp_path: Path, kilobytes: int, lora: str, merging: bool
) -> None:
    """A limit on file sizes stands in for the disk: 8 kB stop the adapters, 15 kB the merged model."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out, config = tmp_path / "out", config_for(target, lora=lora, epochs=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, hard))
    try:
        with pytest.raises(UserError, match="cannot write to") as caught:
            unlearn(config, FORGET, [], out, keep_checkpoints=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert not out.exists()
    (begun,) = output.checkpoints(output.partial(out))
    assert not (begun / output.COMPLETE).exists()
    assert (begun / output.MERGED).exists() is merging
    unlearn(config, FORGET, [], out, keep_checkpoints=True)
    assert same(weights(out), weights(output.checkpoints(out)[0]))
