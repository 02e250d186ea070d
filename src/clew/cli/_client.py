"""Between a command and the collector: HTTP by the standard library, every failure one sentence that says what to do.

Not for programs: an application uses the HTTP API with the client of its choice.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import click

from clew.cli._text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_COLLECTOR: Final = "http://127.0.0.1:9411"
TIMEOUT_S: Final = 30.0  # the slowest search over a full disk stays below
MAX_REASON_CHARS: Final = 200
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class CommandError(click.ClickException):
    """What went wrong and what to do, in one sentence; the command ends with exit code 1."""


class NotFoundError(CommandError):
    """The collector does not know what was asked for."""


class UnreachableError(CommandError):
    """Nothing answers there, or the connection broke."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: its name and its data, decoded from JSON."""

    name: str
    data: Any


class Collector:
    """A collector's HTTP API.

    `url`: with or without a path, ``http`` (which may be left out) or ``https``. `token`: sent as bearer token. A
    proxy from the environment is used, but not for loopback addresses, where it could only be a mistake.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self._opener = _opener(_host_of(self.url))
        self._headers = {"Accept": "application/json"}
        if token and not (token.isascii() and token.isprintable()):
            raise click.BadParameter("a token is made of printable ASCII characters", param_hint="--token")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **query: str | float | None) -> Any:
        """Return the decoded JSON answer to ``GET path?query``; what is None in `query` is left out."""
        try:
            with self._open(path, query, TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except (OSError, http.client.HTTPException) as broken:
            raise UnreachableError(f"The connection to {self.url} broke ({broken}). Try again.") from None
        except ValueError:
            raise CommandError(f"{self.url} answered something that is not JSON. Is it a clew collector?") from None

    def events(self, path: str, *, silence_s: float, **query: str | None) -> Iterator[Event]:
        """Yield server-sent events until the collector ends the stream or says nothing for `silence_s` seconds.

        `UnreachableError` if nothing answers; a connection that breaks later simply ends the stream.
        """
        with self._open(path, query, silence_s) as answer:
            yield Event("open", None)
            try:
                yield from _parse_events(answer)
            except (OSError, http.client.HTTPException):
                return

    def _open(self, path: str, query: dict[str, Any], timeout_s: float) -> Any:
        given = {key: value for key, value in query.items() if value is not None}
        address = self.url + quote(path) + (f"?{urlencode(given)}" if given else "")
        try:
            return self._opener.open(Request(address, headers=self._headers), timeout=timeout_s)  # noqa: S310 # scheme checked
        except HTTPError as refused:
            with refused:
                raise self._explain(refused, str(given.get("q", ""))) from None
        except (URLError, OSError, http.client.HTTPException) as failure:
            cause = getattr(failure, "reason", failure)
            reason = getattr(cause, "strerror", None) or cause
            raise UnreachableError(
                f"No collector answers at {self.url} ({reason}). "
                "Start one with `clew up`, or name another with --collector."
            ) from None

    def _explain(self, refused: HTTPError, search: str) -> CommandError:
        if refused.code in (401, 403):
            return CommandError(f"{self.url} wants the right token. Give it with --token or CLEW_TOKEN.")
        answer = refused.read(100 * MAX_REASON_CHARS).decode("utf-8", "replace").strip()
        reason = answer[:MAX_REASON_CHARS]
        try:
            told = json.loads(answer)
            reason = str(told["error"])  # clew's own form; Zipkin's is plain text
            if search and "begin" in told:
                return CommandError(_pointed(search, told))
        except (ValueError, KeyError, TypeError):
            pass
        reason = visible(reason)  # on one line
        if refused.code == 404:
            return NotFoundError(f"{self.url} does not have that ({reason or 'not found'}).")
        return CommandError(f"{self.url} answered {refused.code}: {reason or refused.reason}.")


def _pointed(search: str, told: dict[str, Any]) -> str:
    """Show the search with a caret beneath what is wrong, and what to write instead."""
    from rich.cells import cell_len

    begin, end = int(told["begin"]), int(told["end"])
    shown = [visible(part) for part in (search[:begin], search[begin:end], search[end:])]
    lines = [
        f"{visible(str(told['error']))}:",
        f"  {''.join(shown)}",
        f"  {' ' * cell_len(shown[0])}{'^' * max(1, cell_len(shown[1]))}",
    ]
    suggestion = visible(str(told.get("suggestion") or ""))
    return "\n".join([*lines, *([f"Perhaps {suggestion}?"] if suggestion else [])])


def _host_of(url: str) -> str:
    """Return the host of an address; BadParameter if it is none, or a port is no number."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.hostname
    except ValueError:
        pass
    raise click.BadParameter(f"{url!r} is no address like {DEFAULT_COLLECTOR}", param_hint="--collector")


def _opener(host: str) -> OpenerDirector:
    return build_opener(ProxyHandler({})) if host in LOOPBACK else build_opener()


def _parse_events(lines: Iterator[bytes]) -> Iterator[Event]:
    """Read ``event:`` and ``data:`` lines (HTML standard, section 9.2); comments keep the connection alive."""
    name = "message"
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield Event(name, _decode("\n".join(data)))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
