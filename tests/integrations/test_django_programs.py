"""A Django site as its users start it, under `clew run` and with no line of clew in it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from integrations.kit_common import TRACE_ID, wait_until
from integrations.kit_server import JOINED
from integrations.programs import BIN, Program

if TYPE_CHECKING:
    from pathlib import Path

URLS = """
import logging
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path
from rest_framework import routers, serializers, viewsets

class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["username"]

class Users(viewsets.ModelViewSet):
    queryset = User.objects.all()
    serializer_class = UserSerializer

def count(request, limit):
    logging.getLogger("shop").warning("counting")
    return HttpResponse(str(User.objects.filter(username__in=["a", "b"])[:limit].count()))

router = routers.DefaultRouter()
router.register("users", Users)
urlpatterns = [path("count/<int:limit>/", count), path("admin/", admin.site.urls), *router.urls]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `startproject` makes, with a view, the admin and a REST interface, and its tables."""
    folder = tmp_path_factory.mktemp("site")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CLEW_", "DJANGO_"))}
    for command in (["django-admin", "startproject", "shop", "."], ["python", "manage.py", "migrate", "-v", "0"]):
        subprocess.run([str(BIN / command[0]), *command[1:]], cwd=folder, env=environment, check=True, timeout=120)
        settings = folder / "shop" / "settings.py"
        if "rest_framework" not in settings.read_text():
            settings.write_text(settings.read_text() + '\nINSTALLED_APPS += ["rest_framework"]\n')
    (folder / "shop" / "urls.py").write_text(URLS)
    return folder


COMMANDS = {
    "runserver": ("python", "manage.py", "runserver", "127.0.0.1:{port}"),
    "runserver without reloader": ("python", "manage.py", "runserver", "--noreload", "127.0.0.1:{port}"),
    "gunicorn": ("gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "--access-logfile", "-", "shop.wsgi"),
    "uvicorn": ("uvicorn", "--port", "{port}", "shop.asgi:application"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_request_is_one_trace(site: Path, command: tuple[str, ...]) -> None:
    """One server span with its route, the ORM's statement below it, and ids on the site's line and the access line."""
    for left in ("spans.jsonl", "log"):
        (site / left).unlink(missing_ok=True)
    with Program(site, *command, ready="/nowhere/") as program:
        answer = program.get("/count/5/", *JOINED)
        assert (200, "0", [TRACE_ID]) == (answer.status, answer.body, answer.header("X-Trace-ID"))
        wait_until(lambda: "GET /count/5/" in program.log())
        wait_until(lambda: bool(program.spans(TRACE_ID)))  # the reloader ends before its child, whom nobody waits for
    names = [span["name"] for span in program.spans(TRACE_ID)]
    assert ["CONNECT", "SELECT auth_user", "GET /count/<int:limit>/"] == names
    lines = [line for line in program.log().splitlines() if "counting" in line or "GET /count/5/" in line]
    assert [True, True] == [TRACE_ID in line for line in lines], program.log()


def test_rest_interface_and_admin_are_named_by_their_patterns(site: Path) -> None:
    """Of the REST framework's router, whose routes are regular expressions; a login page is one template."""
    (site / "spans.jsonl").unlink(missing_ok=True)
    with Program(site, *COMMANDS["runserver without reloader"], ready="/nowhere/") as program:
        assert 404 == program.get("/users/7/", *JOINED).status
        assert 200 == program.get("/admin/login/", *JOINED).status
    servers = [span for span in program.spans(TRACE_ID) if span.get("kind") == "SERVER"]
    assert ["GET /users/<pk>/", "GET /admin/login/"] == [span["name"] for span in servers]
    rendered = [span["name"] for span in program.spans(TRACE_ID) if "template.name" in span["tags"]]
    assert "render admin/login.html" in rendered


def test_start_and_management_commands_make_no_traces(site: Path) -> None:
    """What is asked of the database outside any request is no trace: a start asks for migrations, a command for all."""
    (site / "spans.jsonl").unlink(missing_ok=True)
    with Program(site, *COMMANDS["runserver without reloader"], ready="/nowhere/") as program:
        wait_until(lambda: bool(program.all_spans()))
    readiness = {span["tags"].get("http.path") for span in program.all_spans()}
    assert {"/nowhere/"} == readiness
