"""The requests library: every ``Session``, and so ``requests.get`` and its kin.

Hooked: ``Session.send``, which sees every adapter, also one of the application's own; and ``resolve_redirects``,
because ``send`` follows redirects from within itself: each hop is a span with headers of its own, beside the others.

Span: ``CLIENT``, ``GET``, tags by ``_http``. It ends when the body has been read or, with ``stream=True``, when the
headers are here.

Tested with requests 2.34.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from clew._patch import patch, unpatch
from clew._span import Span
from clew.integrations import _http

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPAN_ATTRIBUTE = "_clew_span"  # of a PreparedRequest, whose copy() does not copy it


def install() -> None:
    """Trace every session of this process, also those that exist already."""
    patch(requests.Session, "send", _around_send)
    patch(requests.Session, "resolve_redirects", _around_resolve_redirects)


def uninstall() -> None:
    """Undo ``install``."""
    unpatch(requests.Session, "send")
    unpatch(requests.Session, "resolve_redirects")


def _around_send(original: Any) -> Any:
    def send(self: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        span = _http.start_client(request.method or "GET", request.url or "")
        setattr(request, _SPAN_ATTRIBUTE, span)
        if request.headers is not None:
            request.headers.update(_http.inject(span))
        with span:
            response: requests.Response = original(self, request, **kwargs)
            _note_status(span, response)
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
        span = getattr(request, _SPAN_ATTRIBUTE, None)
        if isinstance(span, Span) and response.is_redirect:
            _note_status(span, response)
            span.finish()  # the hop ends here; the next one is not a part of it
        redirects: Iterator[Any] = original(self, response, request, *args, **kwargs)
        return redirects

    return resolve_redirects


def _note_status(span: Span, response: requests.Response) -> None:
    if span.duration_ns < 0:
        _http.set_client_status(span, response.status_code)
