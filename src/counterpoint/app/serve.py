"""The explorer's server: safe by default, and without state between visitors.

It listens on 127.0.0.1. On any other address a token is needed: who has none gets 401.
Everything that the page needs is sent from here, and its policy forbids the browser to
ask anybody else.
"""

from __future__ import annotations

import errno
import hmac
import io
import json
import secrets
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from counterpoint.app import shown
from counterpoint.app.answers import Answer, Explored, Question, answer, code
from counterpoint.app.uploads import Reader, read_uploads

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 8 * 2**20
"""Most bytes of a request, uploads included."""

AT_ONCE = 4
"""Questions that are answered at once; others wait, so that memory is bounded."""

STATIC = {"/": "page.html", "/app.js": "app.js", "/app.css": "app.css"}
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'none'"
COOKIE = "counterpoint"

Query = Mapping[str, str]


class Server(ThreadingHTTPServer):
    """A server of the page.

    Args:
        runs: the runs; the first is shown, others are compared with it.
        read: reads uploads.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        ValueError: the port is in use, or the address is none of this machine.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, runs: Sequence[Explored], read: Reader, host: str = "127.0.0.1", port: int = 7860
    ) -> None:
        self.runs = tuple(runs)
        self.read = read
        self.token = None if host in LOOPBACK else secrets.token_urlsafe(24)
        self.turns = threading.BoundedSemaphore(AT_ONCE)
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            used = getattr(error, "errno", None) == errno.EADDRINUSE
            reason = "is in use" if used else f"can't be listened on ({error})"
            raise ValueError(
                f"port {port} of {host} {reason}; choose another by --port, or --port 0 for a free one"
            ) from None

    @property
    def url(self) -> str:
        """Where the page is, with the token if one is needed."""
        host, port = self.server_address[:2]
        query = "" if self.token is None else f"?token={self.token}"
        return f"http://{host!s}:{port}/{query}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a visitor who left before the answer came."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def run_of(self, number: Any) -> Explored:
        """The run of a number.

        Raises:
            ValueError: there is none.
        """
        known = {str(i): run for i, run in enumerate(self.runs)}
        if str(number) not in known:
            raise ValueError(f"no run {number}; choose from 0 to {len(known) - 1}")
        return known[str(number)]

    def answered(self, asked: Mapping[str, Any]) -> tuple[Explored, Answer, str]:
        """The run that is asked, its answer, and the code that makes it again."""
        run = self.run_of(asked.get("run", 0))
        question = Question.of(asked.get("question") or {})
        uploads = asked.get("files") or {}
        values, names = read_uploads(self.read, run.method.model.modalities, uploads)
        return run, answer(run, question, values), code(run, question, names)


class Handler(BaseHTTPRequestHandler):
    """Answers one visitor."""

    server: Server
    timeout = 60
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Log nothing: a line of a log would hold the token."""

    def version_string(self) -> str:
        """The name of the server, without versions."""
        return "counterpoint"

    def do_GET(self) -> None:
        """Send a file of the page, or what a path of /api shows."""
        if not self._allowed():
            return
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path in STATIC:
            name = STATIC[url.path]
            content = (files("counterpoint.app") / "static" / name).read_bytes()
            self._send(200, content, f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8")
        elif url.path in READING:
            self._reply(lambda: READING[url.path](self.server, query))
        else:
            self._say(404, f"nothing at {url.path}")

    def do_POST(self) -> None:
        """Answer a question, or send its answer as a file."""
        if not self._allowed():
            return
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > MOST_BYTES:
            self.close_connection = True
            self._say(413, f"a request may have {MOST_BYTES // 2**20} MiB; give a smaller file")
            return
        body = self.rfile.read(int(size))
        if self.headers.get_content_type() != "application/json":  # no other page can send it
            self._say(415, "send JSON")
        elif self.path in ASKING:
            self._reply(lambda: ASKING[self.path](self.server, _asked(body)))
        else:
            self._say(404, f"nothing at {self.path}")

    def _allowed(self) -> bool:
        """Whether the visitor may ask; if not, say so."""
        token = self.server.token
        if token is None:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            if host in LOOPBACK:
                return True
            self._refuse(403, "this page is for this machine alone")
            return False
        offered = (*parse_qs(urlsplit(self.path).query).get("token", []), self._cookie())
        if any(hmac.compare_digest(o.encode(), token.encode()) for o in offered):
            return True
        self._refuse(401, "a token is needed; open the address that the command printed")
        return False

    def _cookie(self) -> str:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        return "" if morsel is None else morsel.value

    def _reply(self, ask: Callable[[], Any]) -> None:
        """Send what ``ask`` returns, or one line that says why it can't."""
        try:
            with self.server.turns:
                result = ask()
        except (ValueError, TypeError, OSError, RecursionError) as error:
            self._say(400, str(error))
        except MemoryError:
            self._say(400, "out of memory; ask for fewer draws")
        except Exception as error:
            self._say(500, f"this is a fault of counterpoint, {type(error).__name__}: {error}")
        else:
            if isinstance(result, bytes):
                self._send(200, result, "application/octet-stream")
            else:
                self._send(200, json.dumps(result).encode(), "application/json")

    def _refuse(self, status: int, text: str) -> None:
        self.close_connection = True  # a body that may follow is not read
        self._say(status, text)

    def _say(self, status: int, text: str) -> None:
        line = " ".join(text.split())[:500]
        self._send(status, json.dumps({"error": line}).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        if self.server.token is not None and status == 200:
            cookie = f"{COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            self.send_header("Set-Cookie", cookie)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


# ------------------------------------------------------------------------------ paths


def _about(server: Server, _: Query) -> list[dict[str, Any]]:
    return [shown.about(run) for run in server.runs]


def _rows(server: Server, query: Query) -> dict[str, Any]:
    run = server.run_of(query.get("run", "0"))
    if "only" in query:
        rows = [int(row) for row in query["only"].split(",")]
        return {"count": len(rows), "rows": shown.cards(run, rows[: shown.PAGE_ROWS])}
    return shown.gallery(run, query.get("query", ""), int(query.get("start", "0")))


def _map(server: Server, query: Query) -> dict[str, Any]:
    run = server.run_of(query.get("run", "0"))
    return shown.mapped(run, query.get("latent", "z"), query.get("colour", ""))


def _answer(server: Server, asked: Mapping[str, Any]) -> dict[str, Any]:
    run, answered, lines = server.answered(asked)
    return {"panels": shown.panels(run, answered), "code": lines}


def _npz(server: Server, asked: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **server.answered(asked)[1].arrays)  # type: ignore[arg-type]  # a stub of allow_pickle
    return content.getvalue()


def _png(server: Server, asked: Mapping[str, Any]) -> bytes:
    run, answered, _ = server.answered(asked)
    return shown.picture(run, answered)


def _violins(server: Server, asked: Mapping[str, Any]) -> dict[str, str]:
    run = server.run_of(asked.get("run", 0))
    selected = {int(row) for row in asked.get("rows", [])}
    rest = [row for row in shown.places(run, "z")[0].tolist() if row not in selected]
    groups = {"selected": sorted(selected), "others": rest}
    return {"image": shown.violins(run, str(asked.get("modality", "")), groups)}


def _asked(body: bytes) -> dict[str, Any]:
    asked = json.loads(body)
    if not isinstance(asked, dict):
        raise ValueError("a question is a JSON object")
    return asked


READING: dict[str, Callable[[Server, Query], Any]] = {
    "/api/about": _about,
    "/api/rows": _rows,
    "/api/map": _map,
}
ASKING: dict[str, Callable[[Server, Mapping[str, Any]], Any]] = {
    "/api/answer": _answer,
    "/api/answer.npz": _npz,
    "/api/answer.png": _png,
    "/api/violins": _violins,
}
