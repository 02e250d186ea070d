"""The collector's settings: one dataclass, filled from flags, ``CLEW_*`` variables and a TOML file, in this order.

The fields are the options: ``clew up --max-disk 10GB``, ``CLEW_MAX_DISK=10GB`` and ``max_disk = "10GB"`` in the file
(named by ``--config`` or ``CLEW_CONFIG``; ``clew.toml`` in the current directory is read by itself) all mean the same.
The command line makes its options from :data:`OPTIONS`, so a setting is described here and nowhere else.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class SettingsError(Exception):
    """A setting that cannot be used; the text says which, from where, and what would do."""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


_HTTP: Final = Address("127.0.0.1", 9411)
_UDP: Final = Address("127.0.0.1", 9410)


@dataclass(frozen=True)
class Settings:
    """What ``clew up`` was told. Times in seconds, sizes in bytes; :data:`OPTIONS` describes each field."""

    http: Address = _HTTP
    udp: Address | None = _UDP
    data_dir: Path = Path()
    store: str = ""
    tail: tuple[str, ...] = ()
    retain: int = 7 * 86_400
    max_disk: int = 0
    max_spool: int = 1 << 30
    max_body: int = 16 << 20
    autocomplete_keys: tuple[str, ...] = ()
    strict_trace_id: bool = True
    allowed_origins: tuple[str, ...] = ("*",)
    token: str = ""
    insecure: bool = False


class Option(NamedTuple):
    """How one setting is written: ``parse`` makes its value of text, ``default`` is that text."""

    parse: Callable[[str], Any]
    default: str
    metavar: str
    help: str


def load(flags: Mapping[str, Any], environ: Mapping[str, str], directory: Path) -> Settings:
    """Return the settings: flags that are not None or empty, then variables, then the TOML file, then defaults.

    ``directory`` is where ``clew.toml`` is looked for. Raises :class:`SettingsError`.
    """
    from_file = _read_file(flags.get("config") or environ.get("CLEW_CONFIG", ""), directory)
    values = {}
    for name, option in OPTIONS.items():
        raw, origin = _find(name, flags, environ, from_file)
        values[name] = _parse(name, option, raw, origin)
    settings = Settings(**values)
    _check_exposure(settings)
    return settings


def flag_of(name: str) -> str:
    """Return the flag of a setting: ``max_disk`` is ``--max-disk``."""
    return "--" + name.replace("_", "-")


def _find(name: str, flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any]) -> tuple[Any, str]:
    variable = f"CLEW_{name.upper()}"
    if flags.get(name) not in (None, (), ""):
        return flags[name], flag_of(name)
    if variable in environ:
        return environ[variable], variable
    if name in file:
        return file[name], "the configuration file"
    return OPTIONS[name].default, "the default"


def _parse(name: str, option: Option, raw: Any, origin: str) -> Any:
    if isinstance(raw, (list, tuple)):
        raw = ",".join(map(str, raw))
    try:
        return option.parse(str(raw).strip())
    except ValueError as error:
        raise SettingsError(f"{name} = {str(raw)!r} (from {origin}): {error}") from error


def _read_file(named: str, directory: Path) -> dict[str, Any]:
    path = Path(named).expanduser() if named else directory / "clew.toml"
    if not named and not path.exists():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"The configuration file {path} cannot be read: {error}") from error
    values = {key.replace("-", "_"): value for key, value in values.items()}
    for key in values.keys() - OPTIONS.keys():
        near = difflib.get_close_matches(key, OPTIONS, 1)
        hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(OPTIONS)}."
        raise SettingsError(f"{path}: there is no setting {key!r}.{hint}")
    return values


def _check_exposure(settings: Settings) -> None:
    """Spans hold what users typed: whoever can reach the port must be meant to."""
    if settings.token or settings.insecure:
        return
    for name, address in (("http", settings.http), ("udp", settings.udp)):
        if address is not None and not address.is_loopback:
            raise SettingsError(
                f"{flag_of(name)} {address} can be reached from other machines. "
                "Add --token SECRET, or --insecure if the network itself is trusted."
            )


# --- text to values; ValueError says what is expected ---


def parse_address(text: str) -> Address:
    """``host:port``, ``[::1]:port``, ``:port`` (loopback)."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]]*)):(\d{1,5})", text)
    if not match or int(match[3]) > 65_535:
        raise ValueError("expected host:port, such as 127.0.0.1:9411")
    return Address(match[1] or match[2] or "127.0.0.1", int(match[3]))


def parse_duration(text: str) -> int:
    """``90s``, ``30m``, ``12h``, ``7d``, ``2w`` to seconds."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhdw])", text.lower())
    if not match or int(match[1]) == 0:
        raise ValueError("expected a time such as 90s, 30m, 12h, 7d or 2w")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[match[2]]


def parse_size(text: str) -> int:
    """``500MB``, ``1.5GB`` (thousands), ``512MiB`` (1,024s), plain bytes; ``0`` is no bound."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?", text.lower())
    if not match:
        raise ValueError("expected a size such as 500MB, 10GB or 2GiB")
    power = " kmgt".index(match[2] or " ")
    return int(float(match[1]) * (1_024 if match[3] else 1_000) ** power)


def _parse_optional_address(text: str) -> Address | None:
    return None if text.lower() in ("", "none", "off") else parse_address(text)


def _parse_positive_size(text: str) -> int:
    size = parse_size(text)
    if not size:
        raise ValueError("expected a size above 0")
    return size


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_bool(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("expected true or false")


def _parse_path(text: str) -> Path:
    return Path(text).expanduser() if text else default_data_dir()


def default_data_dir() -> Path:
    """Return ``clew`` beneath the user's data directory (``XDG_DATA_HOME``, else ``~/.local/share``)."""
    home = os.environ.get("XDG_DATA_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share") / "clew"


OPTIONS: Final = {
    "http": Option(parse_address, "127.0.0.1:9411", "HOST:PORT", "Where to listen for HTTP: spans, the API, the page."),
    "udp": Option(
        _parse_optional_address, "127.0.0.1:9410", "HOST:PORT", "Where to listen for UDP; 'none' turns it off."
    ),
    "data_dir": Option(_parse_path, "", "DIR", "Where spans lie. Default: ~/.local/share/clew."),
    "store": Option(
        str, "", "URL", "A ClickHouse server instead of the embedded engine: clickhouse://user:pass@host/db."
    ),
    "tail": Option(_parse_list, "", "GLOB", "Follow files of JSON lines, such as '/var/log/clew/*.jsonl'. Repeatable."),
    "retain": Option(parse_duration, "7d", "TIME", "How long spans and logs are kept after they arrived."),
    "max_disk": Option(parse_size, "0", "SIZE", "Drop the oldest rows beyond this size on disk; 0: no bound."),
    "max_spool": Option(_parse_positive_size, "1GiB", "SIZE", "What may wait on disk while the store is down."),
    "max_body": Option(_parse_positive_size, "16MiB", "SIZE", "The largest HTTP body taken, packed and unpacked."),
    "autocomplete_keys": Option(_parse_list, "", "TAG,...", "Tags whose values the API suggests, such as http.method."),
    "strict_trace_id": Option(_parse_bool, "true", "BOOL", "Whether 128-bit trace ids are compared whole."),
    "allowed_origins": Option(
        _parse_list, "*", "URL,...", "Origins of web pages that may use the API (CORS); '*' is any, as in Zipkin."
    ),
    "token": Option(str, "", "SECRET", "What clients must send as 'Authorization: Bearer SECRET'."),
    "insecure": Option(_parse_bool, "false", "", "Allow other addresses than loopback without a token."),
}
