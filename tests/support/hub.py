"""A stand-in of the Hugging Face hub's HTTP API on loopback, for tests that load repositories by id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pandas
import yaml

RESOLVE = re.compile(r"/(?P<kind>datasets/)?(?P<id>[^/]+(?:/[^/]+)??)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<action>revision|tree|paths-info)/(?P<rev>[^/]+)(?:/(?P<path>.+))?)?"
)
COMMIT = re.compile(r"[0-9a-f]{40}")
LFS = {".safetensors", ".bin", ".model", ".parquet", ".pt", ".pth"}
CREATED = "2024-07-01T00:00:00.000Z"
CHUNK = 1 << 20


class HubError(Exception):
    """An answer other than the thing asked for, as the hub words it."""

    def __init__(self, status: int, code: str, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}
        if commit is not None:
            self.headers["X-Repo-Commit"] = commit


@dataclass(frozen=True)
class HubFile:
    """One file of a repository; `sha256` is set only for files stored as LFS."""

    source: Path
    path: str
    size: int
    oid: str
    sha256: str | None
    pointer: int

    @classmethod
    def read(cls, folder: Path, source: Path) -> HubFile:
        """Hash a local file as git and LFS would."""
        path, size, sha256 = source.relative_to(folder).as_posix(), source.stat().st_size, None
        if source.suffix in LFS:
            with source.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            blob = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        else:
            blob = source.read_bytes()
        oid = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
        return cls(source, path, size, oid, sha256, len(blob))

    def entry(self) -> dict[str, Any]:
        """Describe the file as a tree listing does."""
        entry: dict[str, Any] = {"type": "file", "oid": self.oid, "size": self.size, "path": self.path}
        if self.sha256 is not None:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": self.pointer}
        return entry

    def sibling(self) -> dict[str, Any]:
        """Describe the file as a repository's information does."""
        sibling: dict[str, Any] = {"rfilename": self.path, "size": self.size, "blobId": self.oid}
        if self.sha256 is not None:
            sibling["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": self.pointer}
        return sibling


class Repo:
    """A local folder served as a hub repository at one fixed commit."""

    def __init__(self, repo_id: str, folder: Path, revisions: Iterable[str], gated: bool) -> None:
        self.id, self.gated = repo_id, gated
        sources = sorted(source for source in folder.rglob("*") if source.is_file())
        self.files = {file.path: file for file in (HubFile.read(folder, source) for source in sources)}
        contents = "\n".join(f"{file.path} {file.oid}" for file in self.files.values())
        self.commit = hashlib.sha1(contents.encode()).hexdigest()
        # A pinned commit stays itself: clients name the cached snapshot after the commit they are told.
        self.revisions = {name: name if COMMIT.fullmatch(name) else self.commit for name in revisions}
        self.revisions |= {"main": self.commit, self.commit: self.commit}

    def at(self, revision: str) -> str:
        """Resolve a revision to its commit."""
        if revision not in self.revisions:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.revisions[revision]

    def card(self) -> dict[str, Any]:
        """Read the YAML block that opens README.md."""
        readme = self.files.get("README.md")
        parts = readme.source.read_text().split("---\n", 2) if readme else []
        return dict(yaml.safe_load(parts[1])) if len(parts) == 3 and not parts[0] else {}

    def info(self, commit: str) -> dict[str, Any]:
        """Describe the repository, as model_info and dataset_info read it."""
        card = self.card()
        named = card.get("datasets", [])
        return {
            "id": self.id,
            "author": self.id.partition("/")[0],
            "sha": commit,
            "private": False,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "createdAt": CREATED,
            "lastModified": CREATED,
            "tags": [f"dataset:{name}" for name in ([named] if isinstance(named, str) else named)],
            "cardData": card,
            "siblings": [file.sibling() for file in self.files.values()],
        }

    def entries(self) -> dict[str, dict[str, Any]]:
        """Every file and folder by its path, as the tree and paths-info routes describe them."""
        folders = {str(parent) for path in self.files for parent in Path(path).parents} - {"."}
        listed = {path: {"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders}
        return dict(sorted((listed | {path: file.entry() for path, file in self.files.items()}).items()))

    def tree(self, under: str, recursive: bool) -> list[dict[str, Any]]:
        """List what lies in a folder of the repository."""
        prefix = f"{under}/" if under else ""
        inside = {path: entry for path, entry in self.entries().items() if path.startswith(prefix)}
        if under and not inside:
            raise HubError(404, "EntryNotFound", f"{under} does not exist", self.commit)
        return [entry for path, entry in inside.items() if recursive or "/" not in path.removeprefix(prefix)]


class HubHandler(BaseHTTPRequestHandler):
    """Answers the routes that huggingface_hub, transformers and datasets use."""

    # HTTP/1.0 closes each connection, so that no thread outlives its answer.
    protocol_version = "HTTP/1.0"
    timeout = 10
    hub: HubServer

    def do_GET(self) -> None:
        """Answer one request, of any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        try:
            if match := RESOLVE.fullmatch(url.path):
                self.send_content(*self.resolve(match))
            elif match := API.fullmatch(url.path):
                self.send_json(200, self.api(match, parse_qs(url.query), parse_qs(body.decode())))
            else:
                self.send_json(404, {"error": f"no such route: {url.path}"})
        except HubError as refusal:
            self.send_json(refusal.status, {"error": refusal.message}, refusal.headers)

    do_HEAD = do_POST = do_GET  # noqa: N815

    def resolve(self, match: re.Match[str]) -> tuple[HubFile, str]:
        """Find the file that a resolve URL names, and the commit it is of."""
        repo = self.hub.find("datasets" if match["kind"] else "models", match["id"])
        if repo.gated:
            message = (
                f"Access to model {repo.id} is restricted. You must have access to it and be authenticated."
            )
            raise HubError(401, "GatedRepo", message)
        commit, path = repo.at(unquote(match["rev"])), unquote(match["path"])
        if path not in repo.files:
            raise HubError(404, "EntryNotFound", "Entry not found", commit)
        return repo.files[path], commit

    def api(self, match: re.Match[str], query: dict[str, list[str]], form: dict[str, list[str]]) -> Any:
        """Answer what an API URL asks of a repository."""
        repo = self.hub.find(match["kind"], match["id"])
        commit = repo.at(unquote(match["rev"] or "main"))
        if match["action"] == "tree":
            recursive = query.get("recursive", [""])[0].lower() in {"1", "true"}
            return repo.tree(unquote(match["path"] or ""), recursive)
        if match["action"] == "paths-info":
            entries = repo.entries()
            return [entries[path] for path in form.get("paths", []) if path in entries]
        return repo.info(commit)

    def send_content(self, file: HubFile, commit: str) -> None:
        """Send a file, or the range of it asked for."""
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(span[1]) if span else 0
        last = min(int(span[2]), file.size - 1) if span and span[2] else file.size - 1
        if span and first > last:
            self.send_json(416, {"error": "range"}, {"Content-Range": f"bytes */{file.size}"})
            return
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{last}/{file.size}")
        if file.sha256 is not None:
            self.send_header("X-Linked-Etag", f'"{file.sha256}"')
            self.send_header("X-Linked-Size", str(file.size))
        self.send_header("ETag", f'"{file.sha256 or file.oid}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command == "HEAD":
            return
        with file.source.open("rb") as stream:
            stream.seek(first)
            left = last - first + 1
            while left and (chunk := stream.read(min(CHUNK, left))):
                self.wfile.write(chunk)
                left -= len(chunk)

    def send_json(self, status: int, answer: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a JSON answer."""
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep pytest's output clean."""


class HubServer:
    """The stand-in: models and datasets by id, each a local folder, served while the context is open."""

    def __init__(
        self,
        models: Mapping[str, Path] | None = None,
        *,
        datasets: Mapping[str, Path] | None = None,
        private: Iterable[str] = (),
        gated: Iterable[str] = (),
        revisions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.requests: list[str] = []
        self.private, extra, locked = frozenset(private), revisions or {}, frozenset(gated)
        self.repos = {
            (kind, name): Repo(name, folder, extra.get(name, ()), name in locked)
            for kind, served in (("models", models or {}), ("datasets", datasets or {}))
            for name, folder in served.items()
        }
        handler = type("Handler", (HubHandler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        # Threads that are no daemons are waited for by server_close.
        self.server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def find(self, kind: str, name: str) -> Repo:
        """Find a repository, or refuse as the hub refuses a visitor who has not logged in."""
        if name in self.private:
            raise HubError(401, "RepoNotFound", "Invalid username or password.")
        if (kind, name) not in self.repos:
            raise HubError(404, "RepoNotFound", "Repository not found")
        return self.repos[kind, name]

    def commit(self, name: str, kind: str = "models") -> str:
        """Name the commit that `main` of a repository is at."""
        return self.repos[kind, name].commit

    def env(self, cache: Path, *, offline: bool = False) -> dict[str, str]:
        """Name the variables that point a subprocess at this hub and at a cache of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_DATASETS_CACHE": str(cache / "datasets"),
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            # datasets counts downloads at a host of its own, which each load would wait seconds for.
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


def write_dataset(folder: Path, splits: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Write a dataset repository laid out as MUSE's, from rows by "config/split"."""
    configs: dict[str, list[dict[str, str]]] = {}
    infos: dict[str, dict[str, Any]] = {}
    for name, rows in splits.items():
        config, split = name.split("/")
        source = folder / config / f"{split}-00000-of-00001.parquet"
        source.parent.mkdir(parents=True, exist_ok=True)
        pandas.DataFrame(list(rows)).to_parquet(source, index=False)
        configs.setdefault(config, []).append({"split": split, "path": f"{config}/{split}-*"})
        features = [{"name": column, "dtype": "string"} for column in rows[0]]
        info = infos.setdefault(config, {"config_name": config, "features": features, "splits": []})
        info["splits"].append({"name": split, "num_bytes": source.stat().st_size, "num_examples": len(rows)})
    card = {
        "license": "cc-by-4.0",
        "dataset_info": list(infos.values()),
        "configs": [{"config_name": config, "data_files": files} for config, files in configs.items()],
    }
    (folder / "README.md").write_text(
        f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n\n# A made-up dataset\n"
    )
