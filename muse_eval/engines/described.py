"""What a checkpoint's own JSON files say of it, of the shape that transformers and the engines rely on."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from muse_eval.config import explain
from muse_eval.errors import UserError
from muse_eval.reading import MissingFile, Unreadable, expect, read_json, shown

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")
INDEX = ".index.json"

MOST_NAME_BYTES = 255
"""Of a file's name, wherever one looks."""
_Count = Annotated[StrictInt, Field(gt=0)]


def _none_for_null(value: Any) -> Any:
    return [] if value is None else value


class ModelConfig(BaseModel):
    """The keys of ``config.json`` that decide what is loaded and where answers end, among others."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model_type: StrictStr = ""
    architectures: Annotated[list[StrictStr], BeforeValidator(_none_for_null)] = []
    auto_map: dict[str, Any] | None = None
    dtype: StrictStr | None = None
    torch_dtype: StrictStr | None = None
    text_config: dict[str, Any] | None = None
    quantization_config: dict[str, Any] | None = None
    eos_token_id: StrictInt | list[StrictInt] | None = None
    vocab_size: _Count | None = None
    max_position_embeddings: _Count | None = None
    tie_word_embeddings: bool | None = None


class GenerationConfig(BaseModel):
    """The keys of ``generation_config.json`` that are read: where answers end."""

    model_config = ConfigDict(extra="allow", frozen=True)

    eos_token_id: StrictInt | list[StrictInt] | None = None


def read_config(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's ``config.json``, checked.

    Raises:
        UserError: it cannot be read, a key (named) is of a wrong kind, or a number is none.
    """
    path = folder / CONFIG
    # Infinity stands in sound configurations, as that of Mamba 2; NaN in none.
    try:
        config = expect(read_json(path, finite=False), dict, str(path))
    except UserError as error:
        raise UserError(f"{error}: that is not a valid model configuration; mend it") from None
    if (key := next(_not_numbers(config), None)) is not None:
        raise UserError(f"{path}: {key} is NaN; mend it")
    checked = _checked(ModelConfig, config, path)
    if checked.text_config is not None:
        _checked(ModelConfig, checked.text_config, path, "text_config")
    return config


def check_generation(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a ``generation_config.json`` that does not say where answers end, or where none ever does.

    Raises:
        UserError: it cannot be read, or no id that ends an answer is of the vocabulary.
    """
    path = folder / GENERATION
    try:
        found = expect(read_json(path), dict, str(path))
        _require_known(_checked(GenerationConfig, found, path).eos_token_id, config, path)
    except MissingFile:
        pass
    except Unreadable as error:
        raise UserError(f"{error}, so where answers end is unknown; mend or remove it") from None
    _require_known(config.get("eos_token_id"), config, folder / CONFIG)


def check_tokenizer(folder: Path) -> None:
    """Refuse files of a tokenizer that hold no keys, or whose classes and templates are no text.

    Raises:
        UserError: there is one (named).
    """
    for name in TOKENIZER:
        path = folder / name
        try:
            found = expect(read_json(path, finite=False), dict, str(path))
        except MissingFile:
            continue
        if found.get("tokenizer_class") is not None:
            expect(found, str, str(path), "tokenizer_class")
        for key in ("added_tokens_decoder", "auto_map"):
            if found.get(key) is not None:
                expect(found, dict, str(path), key)


def shards(index: Path) -> set[str]:
    """Return the weights files that an index names; each lies in the index's own folder.

    Raises:
        UserError: the index cannot be read, or names something else.
    """
    where = str(index)
    try:
        named = expect(read_json(index), dict, where, "weight_map")
        found = {expect(named, str, f"{where}: weight_map", key) for key in named}
        if strange := sorted(name for name in found if not _is_beside(name)):
            raise UserError(f"{where}: weight_map names {strange[0]!r:.80}, which is no file beside it")
    except UserError as error:
        raise UserError(f"{error}: that is not a valid weights index; fetch it again") from None
    return found


def require_known_method(name: str, stated: Any) -> None:
    """Refuse a quantization that transformers does not know, and would load as if there were none.

    Args:
        name: of the checkpoint.
        stated: its ``quantization_config``; None: it has none.

    Raises:
        UserError: its method is unknown.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    method = stated.get("quant_method") if isinstance(stated, dict) else None
    known = isinstance(method, str) and method in AUTO_QUANTIZATION_CONFIG_MAPPING
    if method is not None and not known:
        raise UserError(
            f"{name}: transformers knows no quantization {shown(repr(method))} "
            "(config.json: quantization_config.quant_method); try --engine vllm, or mend it"
        )


def _is_beside(name: str) -> bool:
    return Path(name).name == name and name.isprintable() and len(name.encode()) <= MOST_NAME_BYTES


def _checked(kind: type[Any], values: dict[str, Any], path: Path, within: str = "") -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        place = f"{path} is not a valid model configuration{f': {within}' if within else ''}"
        raise UserError(f"{explain(error, place, kind.model_fields)}; mend it") from None


def _require_known(ends: Any, config: dict[str, Any], path: Path) -> None:
    """Refuse ids that end an answer where the model can give none of them."""
    known = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    ids = [ends] if isinstance(ends, int) else ends or []
    if ids and isinstance(known, int) and not any(0 <= one < known for one in ids):
        raise UserError(
            f"{path}: eos_token_id {json.dumps(ends):.80} lies outside the vocabulary of {known:,}, so no "
            "answer would ever end; mend it"
        )


def _not_numbers(config: dict[str, Any], way: str = "") -> Iterator[str]:
    """Yield the keys, from the outermost in, whose values are NaN."""
    for key, value in config.items():
        here = f"{way}.{key}" if way else str(key)
        if isinstance(value, dict):
            yield from _not_numbers(value, here)
        elif isinstance(value, float) and math.isnan(value):
            yield here
        elif isinstance(value, list):
            yield from _not_numbers({str(number): one for number, one in enumerate(value)}, here)
