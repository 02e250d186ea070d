"""What a program is called, read from its command line: the default service name. Pure, except `own_name`.

``clew run`` names the service before the program starts, ``sitecustomize`` inside it; both ask here.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Servers and workers that are told what to load: the service is the thing loaded. The first word that looks like
# `package.module:app` (or like a module, after the options of celery and friends) names it.
_LOADERS: Final = frozenset(
    {"uvicorn", "gunicorn", "hypercorn", "daphne", "granian", "waitress-serve", "uwsgi", "fastapi"}
)
_APP_OPTIONS: Final = {"celery": ("-A", "--app"), "flask": ("--app", "-A"), "uwsgi": ("--module", "-w", "--wsgi-file")}
# Words in front of the program that say nothing about it.
_WRAPPERS: Final = {
    "env": 0,
    "nohup": 0,
    "exec": 0,
    "time": 0,
    "nice": 0,
    "uv": 1,
    "poetry": 1,
    "pipenv": 1,
    "pdm": 1,
    "hatch": 1,
}
# Programs that start other programs: each of those names itself.
_STARTERS: Final = frozenset(
    {"sh", "bash", "dash", "zsh", "fish", "make", "honcho", "supervisord", "circusd", "tox", "nox", "xargs"}
)
_HELPERS: Final = frozenset({"pip", "ensurepip", "venv", "virtualenv", "compileall", "py_compile", "site", "sysconfig"})
_HELPER_SCRIPT: Final = re.compile(r"(?:pip[\d.]*|virtualenv)(?:\.exe)?")  # as installed: no program is called so
_PYTHON: Final = re.compile(r"(?:python|pypy)[\d.]*(?:\.exe)?|py(?:\.exe)?")
_TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_].*")
_OPTIONS_WITH_VALUE: Final = frozenset({"-W", "-X", "--check-hash-based-pycs"})


def service_name(command: Sequence[str]) -> str | None:
    """Name the service that `command` (program and arguments) starts; None where it starts several or says nothing.

    ``python shop/orders.py`` and ``python -m orders`` are ``orders``, ``uvicorn shop.gateway:app`` is ``gateway``,
    ``gunicorn orders.app:create()`` is ``orders``, ``celery -A mailer worker`` is ``mailer``.
    """
    words = _unwrapped(list(command))
    if not words:
        return None
    program = _stem(words[0])
    if _PYTHON.fullmatch(program):
        return _name_of_python(words[1:])
    if program in _STARTERS:
        return None
    return _name_of_loaded(program, words[1:]) or program


def is_helper(command: Sequence[str]) -> bool:
    """Tell whether `command` runs a tool of Python's own (pip, multiprocessing's tracker), not to be traced.

    A script of the program's own is none, whatever its name: ``python site.py`` is traced, ``python -m site`` is not.
    """
    words = iter(command[1:])
    for word in words:
        if word == "-m":
            return next(words, "").split(".")[0] in _HELPERS
        if word == "-c":
            following = next(words, "")
            return "resource_tracker" in following or "semaphore_tracker" in following
        if word in _OPTIONS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return _HELPER_SCRIPT.fullmatch(word.replace("\\", "/").rsplit("/", 1)[-1]) is not None
    return False


def why_untraced(command: Sequence[str]) -> str | None:
    """Say why ``clew run`` cannot get into `command`, or leaves it alone; None where nothing is known against it.

    ``python -I`` and ``-E`` do not read PYTHONPATH, by which clew gets in; ``-S`` does not run sitecustomize.
    """
    words = _unwrapped(list(command))
    if not words or not _PYTHON.fullmatch(_stem(words[0])):
        return f"{_stem(words[0])} is a tool, not a service" if words and is_helper(["python", *words]) else None
    flag = _isolating_flag(words[1:])
    if flag:
        what = "does not run sitecustomize" if flag == "S" else "ignores PYTHONPATH"
        return f"`python -{flag}` {what}, by which clew gets in"
    return "it is a tool of Python's, not a service" if is_helper(words) else None


def _isolating_flag(arguments: list[str]) -> str | None:
    words = iter(arguments)
    for word in words:
        if not word.startswith("-") or word.startswith("--") or word == "-":
            if word == "--check-hash-based-pycs":
                next(words, None)
                continue
            return None
        for index, letter in enumerate(word[1:], 2):
            if letter in "IES":
                return letter
            if letter in "cm":
                return None
            if letter in "WX":
                if index == len(word):
                    next(words, None)
                break
    return None


def own_name() -> str | None:
    """Name this process by `service_name` of the command line it was started with."""
    return service_name(sys.orig_argv)


def _unwrapped(words: list[str]) -> list[str]:
    while words:
        skip = _WRAPPERS.get(_stem(words[0]))
        if skip is None:
            return words
        words = words[1:]
        if skip and words[:1] != ["run"]:
            return []  # `uv sync`, `poetry shell`: no service
        words = words[skip:]
        while words and (words[0].startswith("-") or re.fullmatch(r"\w+=.*", words[0])):
            words = words[1:]
    return words


def _name_of_python(arguments: list[str]) -> str | None:
    words = iter(arguments)
    for word in words:
        if word == "-m":
            module = next(words, "")
            return _name_of_loaded(module, list(words)) or _module_name(module)
        if word == "-c":
            return None
        if word in _OPTIONS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            rest = list(words)
            return _name_of_loaded(_stem(word), rest) or _script_name(word)
    return None


def _name_of_loaded(program: str, arguments: list[str]) -> str | None:
    """Name what a server was told to load; None where `program` is no server or the words do not say."""
    for option in _APP_OPTIONS.get(program, ()):
        for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if word == option and following:
                return _module_name(following)
            if word.startswith(f"{option}="):
                return _module_name(word.partition("=")[2])
    if program not in _LOADERS:
        return None
    targets = (word for word in arguments if _TARGET.fullmatch(word))
    return next((_module_name(word) for word in targets), None)


def _module_name(target: str) -> str | None:
    """Name a module by its last part that says something: ``shop.gateway:app`` is gateway, ``orders.main`` orders."""
    parts = [part for part in target.partition(":")[0].removesuffix(".py").replace("/", ".").split(".") if part]
    telling = [
        part for part in parts if part not in ("app", "main", "asgi", "wsgi", "__main__", "server", "api", "src")
    ]
    return telling[-1] if telling else parts[-1] if parts else None


def _script_name(path: str) -> str | None:
    """Name a script by its file, or by its folder where the file is called ``main.py``, ``app.py``, ``manage.py``."""
    parts = path.replace("\\", "/").split("/")
    stem = _stem(parts[-1])
    if stem in ("main", "app", "manage", "__main__", "wsgi", "asgi", "server") and len(parts) > 1:
        return parts[-2].strip(".") or stem
    return stem or None


def _stem(path: str) -> str:
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return name.removesuffix(".exe").removesuffix(".py")
