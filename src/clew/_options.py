"""Options of ``configure``: given by the caller, else by a variable ``CLEW_<OPTION>``, else their default.

Called once, at configuration. Whatever is wrong raises ValueError, which names the option, the value and what would be
right.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from clew._propagation import FORMATS
from clew.senders import DEFAULT_REPORTER, Sender, parse_reporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def read_option(name: str, given: Any, default: Any) -> Any:
    """Return what the caller gave, else what ``CLEW_<NAME>`` says, else the default."""
    if given is not None:
        return given
    return os.environ.get(f"CLEW_{name.upper()}", "").strip() or default


def read_text(name: str, given: object, default: str) -> str:
    """Read an option that is text."""
    value = read_option(name, given, default)
    if not isinstance(value, str):
        raise ValueError(f"{name}={value!r} is not text")
    return value.strip()


def read_token(given: str | None) -> str | None:
    """Read the collector's token, which must fit into a header."""
    token = read_text("token", given, "")
    if not (token.isascii() and token.isprintable()):
        raise ValueError("token: only printable ASCII characters can go into an Authorization header")
    return token or None


def read_number(name: str, given: float | None, default: float, least: float) -> float:
    """Read a number of at least ``least``."""
    value = read_option(name, given, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not least <= number < 1e9:
        raise ValueError(f"{name}={value!r} is not a number of at least {least:g}")
    return number


_WORDS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def read_boolean(name: str, given: bool | None, default: bool) -> bool:
    """Read yes or no, as people write it in variables."""
    value = read_option(name, given, default)
    known = _WORDS.get(str(value).lower())
    if known is None:
        raise ValueError(f"{name}={value!r} is neither yes nor no (1/0, true/false, on/off)")
    return known


def read_formats(name: str, given: str | Sequence[str] | None, default: str) -> tuple[str, ...]:
    """Read names of header formats, a sequence or text with commas."""
    value = read_option(name, given, default)
    names = value.split(",") if isinstance(value, str) else value
    formats = tuple(str(part).strip().lower() for part in names)
    unknown = [part for part in formats if part not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"{name}={value!r}: known formats are {', '.join(FORMATS)}")
    return formats


def read_tags(given: Mapping[str, str] | str | None) -> dict[str, str]:
    """Read tags for every trace: a mapping, or text of the form ``key=value,key=value``."""
    value = read_option("tags", given, {})
    if not isinstance(value, str):
        return dict(value)
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not equals or not key.strip() for key, equals, _ in pairs):
        raise ValueError(f'tags={value!r} is not of the form "key=value,key=value"')
    return {key.strip(): text.strip() for key, _, text in pairs}


def read_sender(given: str | Sender | None, token: str | None) -> Sender | None:
    """Read the reporter: a URL, or a sender of the application's own. None for ``none``."""
    value = read_option("reporter", given, DEFAULT_REPORTER)
    if isinstance(value, str):
        return parse_reporter(value, token)
    if not (callable(getattr(value, "send", None)) and isinstance(getattr(value, "max_message_bytes", None), int)):
        raise ValueError(f"reporter={value!r} is neither a URL nor a sender: send(), close(), max_message_bytes")
    return value  # type: ignore[no-any-return]


def program_name() -> str:
    """Name the program as its user knows it: the module of ``python -m``, else the script's file name."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name.removesuffix(".__main__"))
    name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    return name.removesuffix(".py") if name not in ("", "-c", "-m") else "python"
