"""The requests library: every ``Session``, and so ``requests.get`` and its kin.

Hooked: ``Session.send``, which sees every adapter, also one of the application's own; ``resolve_redirects``, because
``send`` follows redirects from within itself: each hop is a span with headers of its own, beside the others; and
``iter_content`` and ``close`` of ``Response``, which all ways of reading a streamed body but ``raw`` end in.

Span: ``CLIENT``, ``GET``, tags by ``_http``. It ends when the body has been read, with ``stream=True`` as well: then it
is active until the headers are here, and a response that is dropped without a ``close()`` ends it with
``clew.unclosed``.

Tested with requests 2.34.
"""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Any, Final

import requests

from clew._context import current
from clew._patch import patch, unpatch
from clew.integrations import _http
from clew.integrations._bodies import Bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew._span import Span

# The spans of calls that are under way, by thread and request; beside the request, which programs copy and pickle.
_calls: Final[dict[tuple[int, int], Span]] = {}
_bodies: Final = Bodies()


def install() -> None:
    """Trace every session of this process, also those that exist already."""
    patch(requests.Session, "send", _around_send)
    patch(requests.Session, "resolve_redirects", _around_resolve_redirects)
    patch(requests.Response, "iter_content", _around_iter_content)
    patch(requests.Response, "close", _around_close)


def uninstall() -> None:
    """Undo ``install``."""
    unpatch(requests.Session, "send")
    unpatch(requests.Session, "resolve_redirects")
    unpatch(requests.Response, "iter_content")
    unpatch(requests.Response, "close")


def _around_send(original: Any) -> Any:
    def send(self: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        span = _http.start_client(request.method or "GET", request.url or "")
        previous = span.previous
        call = get_ident(), id(request)
        outer = _calls.get(call)  # an adapter may send the same request again, from within
        _calls[call] = span
        try:
            if request.headers is not None:
                request.headers.update(_http.inject(span))
            response: requests.Response = original(self, request, **kwargs)
            _end(span, response)
        except BaseException as error:
            span.set_error(error)
            span.finish()
            raise
        finally:
            if outer is None:
                _calls.pop(call, None)
            else:
                _calls[call] = outer
            current.set(previous)
        return response

    return send


def _around_resolve_redirects(original: Any) -> Any:
    def resolve_redirects(
        self: requests.Session,
        response: requests.Response,
        request: requests.PreparedRequest,
        *args: Any,
        **kwargs: Any,
    ) -> Iterator[Any]:
        span = _calls.get((get_ident(), id(request)))
        if span is not None and span.duration_ns < 0 and response.is_redirect:
            _http.set_client_status(span, response.status_code)
            span.finish()  # the hop ends here; the next one is not a part of it
        redirects: Iterator[Any] = original(self, response, request, *args, **kwargs)
        return redirects

    return resolve_redirects


def _end(span: Span, response: requests.Response) -> None:
    """End the span of a call, or have the body end it where that is still to be read."""
    if span.duration_ns >= 0:
        return  # it was a hop; the last one's response has a span of its own
    _http.set_client_status(span, getattr(response, "status_code", 0))
    if getattr(response, "_content", b"") is False and not getattr(response, "_content_consumed", True):
        _bodies.follow(response, span)
    else:
        span.finish()


def _around_iter_content(original: Any) -> Any:
    def iter_content(self: requests.Response, *args: Any, **kwargs: Any) -> Iterator[Any]:
        chunks: Iterator[Any] = original(self, *args, **kwargs)
        return _follow_chunks(self, chunks) if _bodies.is_open(self) else chunks

    return iter_content


def _follow_chunks(response: requests.Response, chunks: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from chunks
    except GeneratorExit:
        raise  # whoever reads stopped; the response may be read on, or be closed
    except BaseException as error:
        _bodies.end(response, error)
        raise
    _bodies.end(response)


def _around_close(original: Any) -> Any:
    def close(self: requests.Response) -> None:
        try:
            original(self)
        finally:
            _bodies.end(self)

    return close
