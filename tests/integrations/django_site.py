"""The kit's application in Django: a site in one module, sync and async views, with and without classes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import include, path, re_path
from django.views import View

from integrations.apps import _broken_pieces, _pieces, _sync_broken_pieces, _sync_pieces
from integrations.kit_common import stays_itself
from integrations.kit_server import log, seen

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = {
    "page.html": "{% include 'part.html' %} {{ form.name }}",
    "part.html": "part",
}


def configure(database: Path | str = ":memory:") -> None:
    """Set Django up, once in a process."""
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="kit",
        DEBUG=False,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", f"{__name__}.plain_middleware"],
        INSTALLED_APPS=[],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database)}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        LOGGING_CONFIG=None,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", TEMPLATES)]},
            }
        ],
    )
    django.setup()


def wsgi_app() -> Any:
    configure()
    return get_wsgi_application()


def asgi_app() -> Any:
    configure()
    return get_asgi_application()


def plain_middleware(get_response: Any) -> Any:
    """A middleware that knows no async: under ASGI Django runs it, and what is inside, in a thread."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


def item(request: Any, id: int) -> HttpResponse:
    log.info("item")
    return HttpResponse(seen())


class Unavailable(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse("later", status=503)


def error(request: Any) -> HttpResponse:
    raise RuntimeError("boom")


async def async_error(request: Any) -> HttpResponse:
    raise RuntimeError("boom")


def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(_pieces() if hasattr(request, "scope") else _sync_pieces())


def late_error(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(_broken_pieces() if hasattr(request, "scope") else _sync_broken_pieces())


def copied(request: Any) -> HttpResponse:
    carrier = request.scope if hasattr(request, "scope") else request.environ
    return HttpResponse(stays_itself(carrier.values()))


def page(request: Any) -> HttpResponse:
    from django import forms

    class Form(forms.Form):
        name = forms.CharField()

    return render(request, "page.html", {"form": Form()})


def database(request: Any) -> HttpResponse:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS shop_item (id INTEGER, name TEXT)")
        cursor.executemany("INSERT INTO shop_item VALUES (%s, %s)", [(1, "secret"), (2, "secret")])
        cursor.execute("SELECT name FROM shop_item WHERE name = 'secret'")
    return HttpResponse("ok")


urlpatterns = [
    path("items/<int:id>", item),
    path("unavailable", Unavailable.as_view()),
    path("error", error),
    path("async-error", async_error),
    path("stream", stream),
    path("late-error", late_error),
    path("copied", copied),
    path("page", page),
    path("database", database),
    re_path(r"^old/(?P<year>[0-9]{4})/(?:page-(\d+)/)?$", lambda request, **_: HttpResponse("ok")),
    path("shop/", include([re_path(r"^orders/(?P<pk>[^/.]+)/$", lambda request, pk: HttpResponse(pk))])),
]

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    configure()
    execute_from_command_line(sys.argv)
