"""How a program is named and which processes are helpers: `clew._program`."""

from __future__ import annotations

import pytest

from clew._program import is_helper, service_name, why_untraced


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python shop/orders.py --port 80", "orders"),
        ("/usr/bin/python3.12 -u -W error orders.py", "orders"),
        ("python -m orders", "orders"),
        ("python -X dev -m shop.orders.main", "orders"),
        ("python orders/main.py", "orders"),
        ("python manage.py runserver", "manage"),
        ("python /srv/orders/manage.py runserver", "orders"),
        ("./orders.py", "orders"),
        ("uvicorn shop.gateway:app --workers 4 --reload", "gateway"),
        ("uvicorn --host 0.0.0.0 main:app", "main"),
        ("/venv/bin/python /venv/bin/uvicorn gateway:app", "gateway"),
        ("python -m uvicorn --port 8000 gateway:app", "gateway"),
        ("gunicorn -w 2 -b 127.0.0.1:8000 orders.app:create()", "orders"),
        ("gunicorn --bind unix:/run/x.sock orders.wsgi", "gunicorn"),
        ("hypercorn orders:app", "orders"),
        ("celery -A mailer worker -l info", "mailer"),
        ("celery --app=shop.mailer worker", "mailer"),
        ("flask --app orders run", "orders"),
        ("python -m flask --app orders.py run", "orders"),
        ("pytest -x", "pytest"),
        ("env PORT=80 nohup uvicorn gateway:app", "gateway"),
        ("poetry run python orders.py", "orders"),
        ("uv run --frozen uvicorn gateway:app", "gateway"),
        ("uv sync", None),
        ("sh -c 'python a.py & python b.py'", None),
        ("honcho start", None),
        ("python -c pass", None),
        ("python", None),
        ("", None),
    ],
)
def test_a_service_is_named_after_what_its_command_runs(command: str, expected: str | None) -> None:
    """Scripts, modules, what servers load; None for what starts other programs."""
    assert expected == service_name(command.split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m pip install x", True),
        ("/venv/bin/python /venv/bin/pip install x", True),
        ("python -I -m ensurepip", True),
        ("python -m compileall src", True),
        ("python -W ignore -m pip install x", True),
        ("python /venv/bin/pip3.11 install x", True),
        ("python pip.py", False),
        ("python build.py", False),
        ("python -m build", False),
        ("python -m pipelines", False),
        ("python orders.py -m pip", False),
        ("python", False),
    ],
)
def test_python_tools_are_helpers(command: str, expected: bool) -> None:
    """Tools of Python's own are told from services by the word that Python runs, not by later arguments."""
    assert expected == is_helper(command.split())


def test_processes_of_multiprocessing_are_helpers_only_where_they_run_nobodys_code() -> None:
    """The resource tracker is one, a spawned worker is not."""
    tracker = ["python", "-c", "from multiprocessing.resource_tracker import main;main(5)"]
    worker = [
        "python",
        "-c",
        "from multiprocessing.spawn import spawn_main; spawn_main(pipe=7)",
        "--multiprocessing-fork",
    ]
    assert [True, False] == [is_helper(tracker), is_helper(worker)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -I app.py", "`python -I` ignores PYTHONPATH, by which clew gets in"),
        ("python3.12 -sE -m app", "`python -E` ignores PYTHONPATH, by which clew gets in"),
        ("env A=1 python -X dev -W error -Sc pass", "`python -S` does not run sitecustomize, by which clew gets in"),
        ("uv run python -I app.py", "`python -I` ignores PYTHONPATH, by which clew gets in"),
        ("python -m pip install x", "it is a tool of Python's, not a service"),
        ("pip install x", "pip is a tool, not a service"),
        ("python app.py -I", None),
        ("python -c pass -E", None),
        ("python -Wignore -u app.py", None),
        ("python -XI app.py", None),
        ("python - -I", None),
        ("python", None),
        ("uvicorn app:app -I", None),
        ("sh -c x", None),
        ("", None),
    ],
)
def test_what_keeps_clew_out_is_told(command: str, expected: str | None) -> None:
    """Flags of Python's, wherever they stand before the program; never the program's own."""
    assert expected == why_untraced(command.split())
