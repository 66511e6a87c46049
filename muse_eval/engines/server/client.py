"""Speaks with an OpenAI-compatible server; whatever can fail there is one line that says what to do."""

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import openai

from muse_eval.engines.server.answers import (
    Answer,
    Card,
    Completion,
    Models,
    Tokenized,
    UnfitError,
    read_answer,
)
from muse_eval.engines.server.connection import ENCODINGS, ConductError, Connection
from muse_eval.engines.settings import ServerSettings
from muse_eval.errors import UserError
from muse_eval.printable import one_line

CONNECT_SECONDS = 10.0
"""A server that is there takes a connection at once, however long its answers take."""
LIST_SECONDS = 30.0
REFUSALS = (400, 413, 422)
EXAMPLE = "e.g. http://localhost:8000/v1"
MOST_OF_URL = 2_000
MOST_SCRUBBED = 10_000
"""Characters of foreign words that are looked at."""
KEPT = "what it answered is kept"
A = TypeVar("A", bound=Answer)


class RefusalError(Exception):
    """The server will not answer this one request; the message is its own."""


class ForeignError(UserError):
    """The server answers, but with what is no answer; its numbers and texts are not taken."""


class Client:
    """One server's models, completions and token ids."""

    def __init__(self, base_url: str, key_env: str | None, settings: ServerSettings) -> None:
        """Take where the server is and which environment variable holds its key; ask nothing yet.

        Raises:
            UserError: the address or the key will not do.
        """
        self.url = api_url(base_url)
        self._key_env, self._key = key_env, read_key(key_env)
        self._settings = settings
        self._found = False
        sent = self._key or "none"
        timeout = openai.Timeout(settings.timeout, connect=min(settings.timeout, CONNECT_SECONDS))
        try:
            connection = Connection(timeout=timeout)
        except (ValueError, ImportError, httpx2.InvalidURL):
            # Not its text: a proxy's address may hold a password.
            raise UserError(
                "the environment names a proxy that cannot be used; mend or unset HTTP_PROXY, HTTPS_PROXY "
                "and ALL_PROXY, or name the server's host in NO_PROXY"
            ) from None
        except OSError as error:
            why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise UserError(
                f"SSL_CERT_FILE or SSL_CERT_DIR names what cannot be read ({why}); mend or unset it"
            ) from None
        self._http = openai.OpenAI(
            api_key=sent,
            base_url=self.url,
            timeout=timeout,
            max_retries=settings.retries,
            default_headers={"Authorization": f"Bearer {sent}", "Accept-Encoding": ", ".join(ENCODINGS)},
            http_client=connection,
        )
        # What the client finds in the environment is meant for OpenAI, not for this server.
        self._http.organization = self._http.project = self._http.admin_api_key = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[Card]:
        """Return what the server tells of each model it serves.

        Raises:
            UserError: there is no such server, or it will not say.
        """
        wait = min(self._settings.timeout, LIST_SECONDS)
        try:
            try:
                # A wrong address does not mend by trying again; a busy server does.
                cards = self._get_models({"max_retries": 0, "timeout": wait})
            except (openai.RateLimitError, openai.InternalServerError):
                cards = self._get_models({"timeout": wait})
        except openai.APITimeoutError:
            raise UserError(
                f"the server at {self.url} does not say within {wait:g} s what it serves: is it up?"
            ) from None
        except (openai.OpenAIError, ValueError) as error:
            raise self._explained(error) from None
        self._found = True
        return cards

    def _get_models(self, options: Any) -> list[Card]:
        answer = self._http.get("/models", cast_to=httpx2.Response, options=options)
        return _read(Models, answer).data

    def complete(
        self, model: str, prompt: list[int] | str, *, vocabulary: int | None = None, **fields: Any
    ) -> Completion:
        """Return the answer to a prompt, of ids within the vocabulary where that is given.

        Raises:
            RefusalError: the server will not answer this request.
            ForeignError: what came is no answer to it.
            UserError: none can be had.
        """
        body = {"model": model, "prompt": prompt, "temperature": 0, **fields}
        try:
            answer = self._http.post("/completions", cast_to=httpx2.Response, body=body)
            return _read(Completion, answer).check(prompt, fields["max_tokens"], vocabulary)
        except (openai.OpenAIError, ValueError) as error:
            raise self._explained(error) from None

    def tokenize(self, model: str, text: str, special: bool) -> list[int] | None:
        """Return the server's own token ids for a text, or None where it does not tell (only vLLM does).

        Raises:
            UserError: the server cannot be reached, or they are no ids.
        """
        body = {"model": model, "prompt": text, "add_special_tokens": special}
        try:
            answer = self._http.post(f"{_root(self.url)}/tokenize", cast_to=httpx2.Response, body=body)
            return _read(Tokenized, answer).tokens or None
        except openai.APIStatusError:
            return None
        except (openai.OpenAIError, ValueError) as error:
            if isinstance(error, UnfitError) and not error.place:
                # Another kind of server's, which may mean something else by this address.
                return None
            raise self._explained(error) from None

    def scrubbed(self, text: str) -> str:
        """Return foreign words in one line, without the key."""
        if self._key:
            text = re.sub(re.escape(self._key), "***", text, flags=re.IGNORECASE)
        return one_line(text[:MOST_SCRUBBED])[:300]

    # ── what can go wrong ───────────────────────────────────────────────────────────────────────
    def _foreign(self, why: str) -> ForeignError:
        remedy = (
            "mend or update the server, then the same command"
            if self._found
            else f"check --base-url, {EXAMPLE}"
        )
        what = f"not as an OpenAI-compatible server does ({self.scrubbed(why)})"
        return ForeignError(f"{self.url} answers, but {what}; {remedy}")

    def _explained(self, error: Exception) -> Exception:
        """Return an error of the client's as one that says what to do."""
        if isinstance(error, openai.APITimeoutError):
            return UserError(
                f"the server at {self.url} gave no answer in {self._settings.timeout:g} s, "
                f"in {self._settings.retries + 1} tries; {KEPT}: give "
                "--set engine.timeout=SECONDS or a smaller engine.concurrency, then the same command"
            )
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            why = self.scrubbed(str(cause).strip() or type(cause).__name__)
            if self._found:
                return UserError(
                    f"the server at {self.url} went away ({why}); {KEPT}: "
                    "start it again, then the same command"
                )
            return UserError(f"cannot reach {self.url} ({why}): is the server up, and --base-url right?")
        if isinstance(error, openai.APIStatusError):
            return self._of_status(error.status_code, f"{error.status_code}{self._said(error.body)}")
        if isinstance(error, ConductError):
            return UserError(f"the server at {self.url} {self.scrubbed(str(error))}")
        return self._foreign(str(error))

    def _said(self, body: object) -> str:
        said = (body.get("message") or body.get("detail")) if isinstance(body, Mapping) else None
        with suppress(RecursionError):
            return f": {self.scrubbed(str(said))}" if said else ""
        return ""

    def _of_status(self, status: int, said: str) -> Exception:
        at = f"the server at {self.url}"
        if status in REFUSALS and self._found:
            return RefusalError(said)
        if status in (401, 403) and self._key_env:
            return UserError(f"{at} refuses the key in {self._key_env} ({said}); check it")
        if status in (401, 403):
            return UserError(f"{at} wants a key ({said}); give --api-key-env with the variable that holds it")
        if status == 429:
            return UserError(
                f"{at} is too busy ({said}); {KEPT}: give a smaller --set engine.concurrency or more "
                "engine.retries, then the same command"
            )
        if status >= 500:
            return UserError(f"{at} fails ({said}); {KEPT}: see its log, then give the same command")
        if self._found:
            return UserError(f"{at} no longer answers ({said}); {KEPT}: mend it, then the same command")
        return UserError(f"no OpenAI-compatible server at {self.url} ({said}); check --base-url, {EXAMPLE}")


def api_url(base_url: str) -> str:
    """Return where the API lies: with its version, ``/v1`` where none is given, and no slash at the end.

    Raises:
        UserError: it is no address, or holds more than one.
    """
    try:
        parts = urlsplit(base_url.strip())
        httpx2.URL(base_url.strip())
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        right &= base_url.isprintable() and " " not in base_url.strip() and len(base_url) <= MOST_OF_URL
        # What a name is sent as: an empty part, or one of more than 63 letters, cannot be.
        (parts.hostname or "").encode("idna")
    except (ValueError, httpx2.InvalidURL):
        right = False
    if "@" in base_url:
        raise UserError("--base-url must hold no user or password; give --api-key-env for a key")
    if re.search("[?#].", base_url):
        raise UserError(f"--base-url must end before any ? or #, {EXAMPLE}")
    if not right:
        raise UserError(f"--base-url {base_url[:200]!r} is no http(s) address; {EXAMPLE}")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}" + ("" if re.search(r"/v\d+$", path) else "/v1")


def read_key(variable: str | None) -> str | None:
    """Return the key that an environment variable holds; None where no variable is named.

    Raises:
        UserError: there is none, or it is no key.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"--api-key-env {variable}: no such environment variable, or it is empty; export it")
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"--api-key-env {variable}: it holds no key (one line of ASCII); export it again")
    return key


def _root(url: str) -> str:
    return re.sub(r"/v\d+$", "", url)


def _read(kind: type[A], response: httpx2.Response) -> A:
    return read_answer(kind, response.content, response.headers.get("content-type", ""))
