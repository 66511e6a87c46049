"""Fetches a server's answers: whole, in time, of bounded size, and from none but the server asked."""

import os
import ssl
from collections.abc import Iterable
from functools import cache
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import httpx2
import openai

MOST_BYTES = 2**26
"""Of an answer; the log-probabilities of a token take some 100."""
MOST_ERROR_BYTES = 2**16
"""Of an error's text; the rest is left unread."""
MOST_REDIRECTS = 3
ENCODINGS = ("gzip", "deflate")
"""In which a few bytes hold at most some thousand times as many."""
DIRECT = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::]")  # nosec B104  # never bound to
"""Never reached through a proxy of the environment's: what is said to this machine stays on it."""
_OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")


class ConductError(openai.OpenAIError):
    """The server does what no server may; the message goes on from "the server at …"."""


class Connection(openai.DefaultHttpxClient):
    """An HTTP client that returns whole answers.

    The read timeout of a request is its deadline: all of the answer must be there by then. Redirects are
    followed within the same scheme, host and port alone, because prompts go with them.
    """

    def __init__(self, **options: Any) -> None:
        """Take what httpx2's client takes.

        Raises:
            ValueError, ImportError, httpx2.InvalidURL: the environment names a proxy that will not do.
            OSError: the environment names certificates that cannot be read.
        """
        direct: dict[str, httpx2.BaseTransport | None] = {f"all://{host}": None for host in DIRECT}
        trusted = _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        super().__init__(mounts=direct, verify=trusted, **options)

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and return its whole answer.

        Raises:
            ConductError: it sends on to another server, or more than an answer can be.
            httpx2.RequestError: it is not there in time, or broken off.
        """
        found: SimpleQueue[httpx2.Response | Exception] = SimpleQueue()
        late = Event()

        def fetch() -> None:
            try:
                found.put(self._fetched(request, late, options))
            except Exception as error:  # noqa: BLE001 - raised again by who asked
                found.put(error)

        # A client's timeout is between two pieces of an answer: one byte a second would never end.
        Thread(target=fetch, daemon=True).start()
        try:
            answer = found.get(timeout=request.extensions["timeout"]["read"])
        except Empty:
            late.set()
            raise httpx2.ReadTimeout("the answer is not whole in time", request=request) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _fetched(self, request: httpx2.Request, late: Event, options: dict[str, Any]) -> httpx2.Response:
        for _ in range(MOST_REDIRECTS + 1):
            response = super().send(request, **{**options, "stream": True, "follow_redirects": False})
            try:
                if not response.has_redirect_location:
                    return _whole(response, late)
            finally:
                response.close()
            request = _followed(request, response)
        raise ConductError("sends on from one address to the next without end")


def _whole(response: httpx2.Response, late: Event) -> httpx2.Response:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in (*ENCODINGS, "identity", ""):
        raise ConductError(f"compresses its answers in a way that nobody asked for ({encoding})")
    whole = b"".join(_pieces(response, late))
    headers = [one for one in response.headers.multi_items() if one[0].lower() not in _OF_THE_WIRE]
    return httpx2.Response(response.status_code, headers=headers, content=whole, request=response.request)


def _pieces(response: httpx2.Response, late: Event) -> Iterable[bytes]:
    size = 0
    for piece in response.iter_bytes():
        if late.is_set():
            return
        size += len(piece)
        if size > MOST_BYTES and response.is_success:
            raise ConductError(f"sends more than {MOST_BYTES:,} bytes in answer to one question")
        yield piece
        if size > MOST_ERROR_BYTES and not response.is_success:
            return


def _followed(request: httpx2.Request, response: httpx2.Response) -> httpx2.Request:
    """Return what a redirect asks for.

    Raises:
        ConductError: it is another server's, another question, or no address.
    """
    following, status = response.next_request, response.status_code
    if following is None:
        raise ConductError(f"sends on to what is no address ({status})")
    if _origin(following.url) != _origin(request.url):
        scheme, host, port = _origin(following.url)
        raise ConductError(
            f"sends on ({status}) to another, {scheme}://{host}:{port}; prompts are not given to it: "
            "if it is yours, give it as --base-url"
        )
    if following.method != request.method:
        raise ConductError(
            f"sends on without the question ({status}); give the address that answers as --base-url"
        )
    return following


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


@cache
def _trusted(*_where: str | None) -> ssl.SSLContext:
    """Return which certificates are trusted, by where the environment has them: reading them takes long."""
    return httpx2.create_ssl_context()
