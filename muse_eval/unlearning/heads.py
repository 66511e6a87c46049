"""A model's logits a chunk of positions at a time, within its own forward, and again in the backward pass.

Whole logits are (batch, length, vocabulary): gigabytes, a few times over while a loss is taken of them. Here
the decoder runs once; on its states the model's own forward runs head, soft caps and scales for a chunk; its
logits are thrown away, and made again when their gradient is taken. So the peak is the same for every
vocabulary, for one more product with the head. Where all positions fit one chunk, or a model cannot be read
so, its logits are made whole, once.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from types import MethodType
from typing import Any, cast

import torch
from accelerate.utils import extract_model_from_parallel, is_torch_version
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from muse_eval.engines.hf.replay import replaying

BOUNDS = {"cpu": 2**24, "cuda": 2**26}
"""Logits that exist at a time: 67 and 268 MB in float32, a few times over while a loss is taken of them."""
TRIED = 8
"""Tokens on which it is tried whether a model's head can be read apart from its decoder."""
READ = "muse_eval_read"
"""Argument of a readable model's forward: what is done with what it says; and the mark of such a model."""


@dataclass(frozen=True)
class Said:
    """What a model says after each position of a batch, its rows one after another."""

    positions: int
    pieces: Callable[[int], list[Callable[[], Tensor]]]
    """From the positions of a piece to what gives the logits of each piece, (positions, vocabulary)."""
    room: int | None = None
    """Positions whose logits may exist at a time; None: all exist."""


def whole(logits: Tensor) -> Said:
    """Wrap logits that exist, (batch, length, vocabulary)."""
    flat = logits.flatten(0, 1)
    return Said(len(flat), lambda size: [partial(_given, piece) for piece in flat.split(size)])


def _given(logits: Tensor) -> Tensor:
    return logits


def read(model: nn.Module, batch: Mapping[str, Tensor], use: Callable[[Said], Any]) -> Any:
    """Run a model on a padded batch and return what is made of what it says.

    Args:
        model: as it is trained or lent, wrapped for several processes or not.
        batch: as ``rows.pad`` makes it.
        use: called within the forward, where autocast and shards are in force; makes a tensor, or what takes
            no gradient.
    """
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if READ not in _bare(model).__dict__:
        return use(whole(model(**inputs, use_cache=False).logits))
    made = []

    def keep(said: Said) -> Any:
        made.append(use(said))
        return made[0]

    # The wrappers' hooks need what the model gives out, but may round it: FSDP in mixed precision does.
    model(**inputs, use_cache=False, **{READ: keep})
    return made[0]


def in_chunks(
    part: Callable[..., Tensor], size: int, ours: Said, theirs: Said | None, *tensors: Tensor
) -> list[Tensor]:
    """Apply a function to logits and tensors piece by piece, and again in the backward pass.

    What it computes in between is thrown away: else autograd would keep the float32 logits of every piece.

    Args:
        part: takes a piece of our logits, of theirs (None where there are none) and of each tensor; it runs
            in the precision of what it is given.
        size: positions of a piece where all logits exist.
        ours: what the model says.
        theirs: what another says at the same positions; no gradient is taken of it.
        tensors: (positions, …) each.
    """
    if rooms := [said.room for said in (ours, theirs) if said is not None and said.room]:
        # The pieces are about equal: a small last one would read the head's weights for little.
        size = -(-ours.positions // -(-ours.positions // min(rooms)))

    def one(our: Callable[[], Tensor], their: Callable[[], Tensor] | None, *piece: Tensor) -> Tensor:
        logits, target = our(), None
        if their is not None:
            with torch.no_grad():
                target = their()
        with torch.autocast(logits.device.type, enabled=False):
            return part(logits, target, *piece)

    others = repeat(None) if theirs is None else theirs.pieces(size)
    split = (tensor.split(size) for tensor in tensors)
    return [
        cast(Tensor, checkpoint(one, our, their, *piece, use_reentrant=False, preserve_rng_state=False))
        for our, their, *piece in zip(ours.pieces(size), others, *split, strict=False)
    ]


# ── models ───────────────────────────────────────────────────────────────────────────────────────
def _bare(model: nn.Module) -> nn.Module:
    """Return the causal language model within what wraps it for several processes, or with adapters."""
    inner = extract_model_from_parallel(model)
    return cast(nn.Module, inner.get_base_model() if hasattr(inner, "peft_config") else inner)


@contextmanager
def readable(model: nn.Module) -> Iterator[None]:
    """Let a model be read in chunks within the block; after it, its forward is as it was before.

    Call it before the model is wrapped for training.
    """
    bare = cast(PreTrainedModel, _bare(model))
    before, plain = bare.__dict__.get("forward"), bare.forward
    # Tried when it is first needed: only then is a sharded model whole in every process.
    apart: list[bool] = []

    def forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        use = kwargs.pop(READ, None)
        if use is None:
            return plain(*args, **kwargs)
        ids, head = kwargs["input_ids"], self.get_output_embeddings()
        bound = BOUNDS.get(ids.device.type, BOUNDS["cuda"])
        room = ids.numel() if head is None else max(1, bound // head.weight.shape[0])
        if not _anywhere(self, ids.numel() > room, ids.device):
            return use(whole(plain(**kwargs).logits))
        if not apart:
            # The shards of the head stay gathered after a forward: it is read again in the backward pass.
            for module in (self, head):
                if isinstance(module, FSDPModule):
                    module.set_reshard_after_forward(False, recurse=False)
            apart.append(not _anywhere(self, not _reads_apart(self, plain, kwargs), ids.device))
        return use(_said(self, plain, kwargs, room) if apart[0] else whole(plain(**kwargs).logits))

    bare.__dict__ |= {READ: True, "forward": MethodType(forward, bare)}
    try:
        yield
    finally:
        # accelerate has put autocast around it, and kept what it found.
        for name in (READ, "forward", "_original_forward"):
            bare.__dict__.pop(name, None)
        if before is not None:
            bare.__dict__["forward"] = before


def _anywhere(model: PreTrainedModel, here: bool, device: torch.device) -> bool:
    """Tell whether a thing is so here or, of a model that several processes share out, in one of them.

    They gather its shards together, so all have to take the same way.
    """
    if not isinstance(model, FSDPModule):
        return here
    told = torch.tensor(int(here), device=device)
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
    return bool(told)


def _said(model: PreTrainedModel, plain: Callable[..., Any], inputs: Mapping[str, Any], room: int) -> Said:
    """Run a model's decoder and return what its head says of the states, ``room`` positions at a time."""
    names = ("input_ids", "attention_mask", "use_cache")
    output = model.base_model(**{name: inputs[name] for name in names})
    return _from_states(model, plain, output, inputs["input_ids"], room)


def _from_states(
    model: PreTrainedModel, plain: Callable[..., Any], output: Any, ids: Tensor, room: int
) -> Said:
    states, ids = output.last_hidden_state.flatten(0, 1), ids.flatten()

    def logits(some: Tensor, read: Tensor) -> Tensor:
        replayed = replaying(model, type(output)(last_hidden_state=some[None]))
        with _without_hooks(model), replayed, _uncached(read.device):
            found: Tensor = plain(input_ids=read[None], use_cache=False).logits[0]
            return found

    def pieces(size: int) -> list[Callable[[], Tensor]]:
        halves = zip(states.split(size), ids.split(size), strict=True)
        return [partial(logits, some, read) for some, read in halves]

    return Said(len(ids), pieces, room)


def _uncached(device: torch.device) -> torch.autocast:
    """Keep autocast as it is, but for its copies of weights: a shared one would sum gradients in bfloat16."""
    kind = device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    return torch.autocast(kind, dtype, enabled, cache_enabled=False)


@contextmanager
def _without_hooks(model: PreTrainedModel) -> Iterator[None]:
    """Keep a sharded head's hooks from running within the block."""
    head, hooks = model.get_output_embeddings(), {}
    if isinstance(head, FSDPModule):
        # They would gather its shards, and sum its gradient over the processes, once a chunk.
        hooks = {kind: head.__dict__[kind] for kind in ("_forward_pre_hooks", "_forward_hooks")}
    head.__dict__.update({kind: {} for kind in hooks})
    try:
        yield
    finally:
        head.__dict__.update(hooks)


@torch.no_grad()
def _reads_apart(model: PreTrainedModel, plain: Callable[..., Any], inputs: Mapping[str, Any]) -> bool:
    """Tell whether the head gives, on some of the decoder's states, what it gives on all of them.

    Not so where the forward does more with them than place by place. It is tried on a batch's first tokens.
    """
    body, head = model.base_model, model.get_output_embeddings()
    # Before 2.13 a group of shards had to be run whole.
    if body is model or (isinstance(head, FSDPModule) and is_torch_version("<", "2.13")):
        return False
    few = {name: inputs[name][:1, :TRIED] for name in ("input_ids", "attention_mask")}
    kept: list[Any] = []
    hook = body.register_forward_hook(lambda *given: kept.append(given[-1]))
    # Dropout draws from the random states, which a run that goes on later would have elsewhere.
    device = inputs["input_ids"].device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            full = plain(**few, use_cache=False).logits[0].float()
    finally:
        hook.remove()
    if len(kept) != 1 or getattr(kept[0], "last_hidden_state", None) is None:
        return False
    said = _from_states(model, plain, kept[0], few["input_ids"], TRIED)
    found = torch.cat([piece() for piece in said.pieces(3)]).float()
    # Far above rounding, bfloat16's included; far below what another scale or order would do.
    return found.shape == full.shape and bool((found - full).abs().max() <= 0.02 * full.abs().max())
