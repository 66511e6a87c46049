"""Builds sdist → wheel, looks inside both, and uses the wheel from another folder in a clean environment.

The environment borrows the packages of the running one, so nothing is downloaded; muse-eval itself it has
only from the wheel.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (".git", ".venv", "*.egg-info", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")
"""Folders that no build should see."""
KEPT = "project"
"""What of results/ is the project's own."""

MODEL = """
import sys, torch, muse_eval
from transformers import LlamaConfig, LlamaForCausalLM
from muse_eval.mini import corpus
from muse_eval.mini.tokenizer import train_tokenizer

assert muse_eval.__file__.startswith(sys.prefix), muse_eval.__file__
torch.manual_seed(0)
tokenizer = train_tokenizer([row["text"] for row in corpus.splits()["base/chapters"]], 1024, 1024)
config = LlamaConfig(
    vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=64, max_position_embeddings=1024,
    bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    pad_token_id=tokenizer.pad_token_id,
)
LlamaForCausalLM(config).save_pretrained("tiny")
tokenizer.save_pretrained("tiny")
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the repository's import path and return what it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [str(part) for part in command]
    done = subprocess.run(  # nosec B603  # our own commands, no shell
        line, cwd=cwd, env=clean, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"wheel-check: {' '.join(map(str, command))[:200]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def require(held: set[str], wanted: list[str], where: str) -> None:
    """Stop where a file is missing."""
    missing = [name for name in wanted if name not in held]
    if missing:
        sys.exit(f"wheel-check: {where} lacks {', '.join(missing)}")


def sources(folder: str, pattern: str) -> list[str]:
    """List the files of a folder of the repository."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"{folder}/{pattern}"))


def left_out(folder: str, names: list[str]) -> set[str]:
    """Name what a clean copy of the repository leaves out of a folder."""
    made = {name for name in names if Path(folder) == ROOT / "results" and name != KEPT}
    return made | {name for name in names if any(fnmatch(name, pattern) for pattern in LEFT_OUT)}


def build(scratch: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it, in a clean copy: an old egg-info adds what its list names."""
    source, out = scratch / "source", scratch / "dist"
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=scratch)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def look_inside(sdist: Path, wheel: Path) -> None:
    """Check that both archives hold all that belongs in them, and the wheel nothing else."""
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    files = ["README.md", "LICENSE", "Makefile", "constraints.txt", "pyproject.toml", ".ci/run"]
    files += sources("metrics", "*.py") + sources("tasks", "*.yaml") + sources("docs", "**/*.md")
    files += sources("tests", "**/*.py") + sources("tests", "**/*.json") + sources("benchmarks", "**/*.py")
    files += sources("results/project", "*")
    require(held, files, sdist.name)
    with zipfile.ZipFile(wheel) as package:
        held = set(package.namelist())
    mapped = [f"muse_eval/{name}" for name in sources("metrics", "*.py") + sources("tasks", "*.yaml")]
    mapped += sources("muse_eval/unlearning/launch", "*.yaml") + sources("muse_eval/reports", "page.*")
    own = [name for name in sources("muse_eval", "**/*.py") if "metrics/" not in name]
    require(held, [*own, *mapped, "muse_eval/py.typed"], wheel.name)
    top = {name.partition("/")[0] for name in held}
    odd = [name for name in top if name != "muse_eval" and not name.endswith(".dist-info")]
    if odd:
        sys.exit(f"wheel-check: {wheel.name} would install {', '.join(odd)} beside muse_eval")
    print(f"{sdist.name} and {wheel.name}: {len(held)} files, none missing, none astray")


def use(wheel: Path, scratch: Path) -> None:
    """Install the wheel in a clean environment and score a random model from another folder."""
    home = scratch / "venv"
    run(sys.executable, "-m", "venv", home, cwd=scratch)
    python, muse_eval = home / "bin" / "python", home / "bin" / "muse-eval"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=scratch)
    # Borrowed last on the path and as plain folder, so the running environment's own muse-eval stays unseen.
    own = next(home.glob("lib/python*/site-packages"))
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()
    run(python, "-c", MODEL, cwd=elsewhere)
    tasks = run(muse_eval, "list", "tasks", cwd=elsewhere)
    names = {line.split()[0] for line in tasks.splitlines()}
    require(names, [Path(name).stem for name in sources("tasks", "*.yaml")], "`muse-eval list tasks`")
    run(muse_eval, "data", "verify", "--task", "muse_mini", cwd=elsewhere)
    run(muse_eval, "run", "--model", "tiny", "--task", "muse_mini", "--limit", "2", "--quiet", cwd=elsewhere)
    if not (elsewhere / "results/runs/muse_mini/tiny/result.json").is_file():
        sys.exit("wheel-check: `muse-eval run` left no result.json")
    run(muse_eval, "report", "--out", "page.html", cwd=elsewhere)
    print(
        "the installed wheel lists the tasks, verifies the data, scores a model and makes its page elsewhere"
    )


def main() -> None:
    """Check the packages."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sdist, wheel = build(scratch)
        look_inside(sdist, wheel)
        use(wheel, scratch)


if __name__ == "__main__":
    main()
