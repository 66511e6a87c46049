"""A real vLLM server on loopback, started and stopped by whoever measures or tests it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import torch

from muse_eval.engines.vllm.start import CPU_ENVIRONMENT

START_SECONDS = 300
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    base_url: str
    pid: int

    def kill(self) -> None:
        """End it at once, with the processes it started."""
        os.killpg(self.pid, signal.SIGKILL)


@contextmanager
def serve(
    model: Path, log: Path, *, name: str, context: int, dtype: str = "float32", port: int | None = None
) -> Iterator[Server]:
    """Serve a checkpoint under a name until the block ends; its output goes into a file.

    Raises:
        RuntimeError: the server ended, or is not ready in time.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += [
        "--model",
        str(model),
        "--served-model-name",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--dtype", dtype, "--max-model-len", str(context)]
    gpu = torch.cuda.is_available()
    command += [] if gpu else ["--enforce-eager"]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, **QUIET, **({} if gpu else CPU_ENVIRONMENT)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield Server(f"http://127.0.0.1:{port}/v1", process.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(START_SECONDS * 2):
        if process.poll() is not None:
            break
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise RuntimeError(f"no vLLM server on port {port}:\n{tail}")
