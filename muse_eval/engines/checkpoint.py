"""Finds a checkpoint's files, on the hub or in a folder, and refuses what cannot or must not be loaded."""

import io
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from muse_eval.config import HubRef, canonical_json
from muse_eval.engines.composition import COMPOSED, PARTS, Composition, read_composition
from muse_eval.engines.described import CONFIG, GENERATION, check_generation, read_config, shards
from muse_eval.engines.digests import RememberedDigests
from muse_eval.errors import UserError, first_line
from muse_eval.provenance import file_digests, files_digest, joined_digest
from muse_eval.reading import require_files, typed_path
from muse_eval.types import Progress

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
_PICKLES = ["*.bin", "*.bin.index.json"]
MEGABYTE = 1_000_000
_SMALL = ["*.json", "*.model", "*.txt", "*.jinja", "README.md"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's files on this machine."""

    name: str
    """The hub id without its revision, or the folder's name."""
    folder: Path
    revision: str | None
    """The resolved commit, for a hub model."""
    composition: Composition | None = None
    """How its parts make one model, where it holds two."""
    memory: Path | None = None
    """The cache folder in which digests of large files are remembered; None: all are hashed."""

    @property
    def parts(self) -> list["Checkpoint"]:
        """The checkpoints that it is made of, in the order of the composition; itself where it is one."""
        if self.composition is None:
            return [self]
        return [
            replace(self, name=f"{self.name}/{name}", folder=self.folder / name, composition=None)
            for name in PARTS
        ]

    @property
    def weights(self) -> list[Path]:
        """The files that hold the parameters."""
        return sorted(self.folder.glob("*.safetensors")) or sorted(self.folder.glob("*.bin"))

    @property
    def digest(self) -> str:
        """SHA-256 over configuration, EOS and weights: another model at the same path is another model.

        Of a composed checkpoint: over that of each part and what decides how they are combined.
        """
        if self.composition is not None:
            how = canonical_json(self.composition.identity)
            return joined_digest([how, *(part.digest for part in self.parts)])
        generation = self.folder / GENERATION
        optional = [generation] if generation.is_file() else []
        # Code that the repository carries runs only with --trust-remote-code, but then it shapes answers.
        files = [self.folder / CONFIG, *optional, *self.folder.glob("*.py"), *self.weights]
        return files_digest(files, RememberedDigests(self.memory) if self.memory else file_digests)

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside the weights; MUSE's own checkpoints carry none."""
        return any((self.folder / name).is_file() for name in TOKENIZER_FILES)


def is_folder(model: str) -> bool:
    """Tell a path from a hub id: it exists, or is written like a path."""
    if not model:
        return False
    return typed_path(model, "model").exists() or model.startswith((".", "/", "~")) or model.count("/") > 1


def model_folder(model: str) -> Path:
    """Return the folder that a model's path names.

    Raises:
        UserError: there is none, or it is a file.
    """
    folder = typed_path(model, "model folder")
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"the model {model} is a file; give the checkpoint's folder, or a hub id")
    raise UserError(f"model folder {model} does not exist; give a folder or a hub id")


def hub_ref(model: str) -> HubRef:
    """Split ``name@revision``.

    Raises:
        UserError: it is neither a folder nor a hub id.
    """
    match = _HUB_ID.fullmatch(model)
    if match is None:
        raise UserError(f"{model!r} is neither a folder nor a hub id (owner/name or owner/name@revision)")
    return HubRef(repo=match["repo"], revision=match["revision"])


def find_checkpoint(
    model: str,
    *,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    composed: bool = False,
    progress: Progress | None = None,
) -> Checkpoint:
    """Locate a model's files, downloading them if it is a hub id, and check that they can be loaded.

    ``composed`` says whether a model that is made of two will do, which can be scored but not trained.

    Raises:
        UserError: there is no such model, it has no configuration or weights, a weights file is
            damaged, only pickled weights exist, the repository wants to run its own code, or a composed
            model will not do, lacks a part or does not say how to combine them.
    """
    if is_folder(model):
        folder = model_folder(model)
        found = _opened(Checkpoint(folder.resolve().name, folder, None), model)
    else:
        ref = hub_ref(model)
        small = [*_SMALL, "*.py"] if trust_remote_code else _SMALL
        # The patterns reach into folders, so the parts of a composed model come along.
        found = _opened(download(ref, [*small, *_WEIGHTS], progress), model)
        if allow_pickle and not all(part.weights for part in found.parts):
            found = _opened(download(ref, [*small, *_PICKLES], progress), model)
    if found.composition is not None and not composed:
        raise UserError(
            f"{model} combines two models ({COMPOSED}), so it can only be scored; "
            f"give one of them, the folder {PARTS[0]} in it"
        )
    for part in found.parts:
        where = model if part is found else f"{model}/{part.folder.name}"
        require_files(part.folder)
        _check_config(part, where, trust_remote_code)
        _check_weights(part, where, allow_pickle)
    return found


def _opened(found: Checkpoint, model: str) -> Checkpoint:
    """Return a checkpoint with its composition, if it has one.

    Raises:
        UserError: the composition is broken, or weights lie beside it, so that it is not clear what counts.
    """
    opened = replace(found, composition=read_composition(found.folder, model))
    if opened.composition is not None and opened.weights:
        raise UserError(f"{model} holds both {COMPOSED} and weights of its own; remove one of them")
    return opened


def download(ref: HubRef, patterns: list[str], progress: Progress | None = None) -> Checkpoint:
    """Fetch a repository's files into the hub's cache, or take them from it.

    ``progress`` is told of megabytes.

    Raises:
        UserError: the hub cannot be reached, or the repository is missing, private or gated.
    """
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        RevisionResolutionError,
        XetDownloadError,
    )
    from huggingface_hub.utils.logging import set_verbosity
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    set_verbosity(logging.ERROR)
    login = "log in with 'hf auth login', or give a folder"
    try:
        folder = snapshot_download(
            ref.repo,
            revision=ref.revision,
            allow_patterns=patterns,
            tqdm_class=_reporting(f"download {ref.repo}, MB", progress) if progress else None,
        )
    except GatedRepoError:
        raise UserError(f"{ref.repo} is gated: accept its terms on the hub and {login}") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"the hub has no model {ref.repo}, or it is private: check the name, {login}"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{ref.repo} has no revision {ref.revision!r} on the hub; check it") from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"the hub cannot be reached and {ref.repo} is not in its local cache; "
            "check the connection (HF_HUB_OFFLINE, HF_ENDPOINT), or give a folder"
        ) from None
    except (HTTPError, HFValidationError, RevisionResolutionError, XetDownloadError, OSError) as error:
        why = first_line(error)
        raise UserError(f"cannot get {ref.repo} from the hub ({why}); try again, or {login}") from None
    path = Path(folder)
    return Checkpoint(ref.repo, path, path.name)


def _reporting(step: str, progress: Progress) -> type[Any]:
    """Return a bar class for the hub's client that draws nothing and passes on the bytes it is told of."""

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            # The client has a bar for files and two for bytes: as received and, this one, as written.
            if str(self.desc).startswith("Reconstructing") and (self.total or 0) >= MEGABYTE:
                progress(step, int(self.n // MEGABYTE), int(self.total // MEGABYTE))

    return Reporting


def _check_config(found: Checkpoint, model: str, trust_remote_code: bool) -> None:
    path = found.folder / CONFIG
    if not path.exists():
        raise UserError(f"{model} has no config.json, so it is no transformers checkpoint; give its folder")
    config = read_config(found.folder)
    check_generation(found.folder, config)
    if "auto_map" in config and not trust_remote_code:
        raise UserError(f"{model} wants to run code of its own; read it, then give --trust-remote-code")
    if "auto_map" not in config:
        _check_architecture(path, config)


def _check_architecture(path: Path, config: dict[str, Any]) -> None:
    import transformers

    kind = str(config.get("model_type", ""))
    if kind not in transformers.CONFIG_MAPPING:
        raise UserError(
            f"{path}: transformers {transformers.__version__} knows no model_type {kind!r}; "
            "upgrade transformers, or mend the configuration"
        )
    try:
        transformers.CONFIG_MAPPING[kind].from_dict(config)
    except Exception as error:  # noqa: BLE001 - each architecture stumbles over a hostile value in its own way
        raise UserError(
            f"{path} is not a valid {kind} configuration ({' '.join(str(error).split())[:200]}); mend it"
        ) from None


def _check_weights(found: Checkpoint, model: str, allow_pickle: bool) -> None:
    from safetensors import SafetensorError, safe_open

    if not found.weights:
        raise UserError(f"{model} has no weights (*.safetensors); give the folder that holds them")
    for path in found.weights:
        if path.suffix == ".bin":
            if not allow_pickle:
                raise UserError(
                    f"{model} has only pickled weights ({path.name}), which can run code when loaded; "
                    "convert them to safetensors, or give --allow-pickle"
                )
            continue
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is truncated or corrupt ({error}); fetch or save it again") from None
    for index in found.folder.glob("*.safetensors.index.json"):
        missing = sorted(name for name in shards(index) if not (found.folder / name).is_file())
        if missing:
            raise UserError(
                f"{model} lacks the weights file {missing[0]} that its index names; fetch it again"
            )
