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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from clew.brokers import check_topic, parse_brokers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clew.brokers import Brokers


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


class Token(NamedTuple):
    """A secret that clients send, and what it is good for. Its text form hides it: it may end up in a log."""

    secret: str
    read: bool = True
    write: bool = True

    def __repr__(self) -> str:
        return "Token(***)"


KAFKA_OPTIONS: Final = ("session_timeout",)  # beside those of the connection
SMALLEST_MEMORY: Final = 500_000_000  # bytes
SMALLEST_DISK: Final = 20_000_000  # bytes; below, little is left beside the engine's own files and a part of each table
_HTTP: Final = Address("127.0.0.1", 9411)
_UDP: Final = Address("127.0.0.1", 9410)
OTLP_ADDRESS: Final = Address("127.0.0.1", 4318)  # where OpenTelemetry's clients send to by themselves


@dataclass(frozen=True)
class Settings:
    """What ``clew up`` was told. Times in seconds, sizes in bytes; :data:`OPTIONS` describes each field."""

    http: Address = _HTTP
    udp: Address | None = _UDP
    otlp: Address | None = OTLP_ADDRESS
    data_dir: Path = Path()
    store: str = field(default="", repr=False)  # may hold a password
    tail: tuple[str, ...] = ()
    kafka: Brokers | None = field(default=None, repr=False)  # may hold a password
    kafka_topic: str = "zipkin"
    kafka_logs_topic: str = ""
    kafka_group: str = "clew"
    retain: int = 7 * 86_400
    retain_rates: int = 90 * 86_400
    max_disk: int = 0
    max_spool: int = 1 << 30
    durable: bool = False
    max_memory: int = 1_500_000_000
    max_body: int = 16 << 20
    autocomplete_keys: tuple[str, ...] = ()
    strict_trace_id: bool = True
    search: bool = True
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    token: tuple[Token, ...] = ()
    token_file: tuple[Token, ...] = ()
    insecure: bool = False

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens, wherever they were given; none: nobody is asked for one."""
        return self.token + self.token_file


class Option(NamedTuple):
    """How one setting is written: ``parse`` makes its value of text, ``default`` is that text.

    ``repeatable``: the flag may come several times. ``secret``: no message shows the text.
    """

    parse: Callable[[str], Any]
    default: str
    metavar: str
    help: str
    repeatable: bool = False
    secret: bool = False


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
        shown = "***" if option.secret else repr(str(raw))
        raise SettingsError(f"{name} = {shown} (from {origin}): {error}") from (None if option.secret else error)


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
    if settings.insecure:
        return
    if not settings.http.is_loopback and not settings.tokens:
        raise SettingsError(
            f"--http {settings.http} can be reached from other machines. "
            "Add --token-file FILE (or --token SECRET), or --insecure if the network itself is trusted."
        )
    if settings.otlp is not None and not settings.otlp.is_loopback and not settings.tokens:
        raise SettingsError(
            f"--otlp {settings.otlp} can be reached from other machines. "
            "Add --token-file FILE (or --token SECRET), or --insecure if the network itself is trusted."
        )
    if settings.udp is not None and not settings.udp.is_loopback:
        raise SettingsError(
            f"--udp {settings.udp} can be reached from other machines, and datagrams carry no token. "
            "Keep it on loopback, turn it off with --udp none, or add --insecure if the network itself is trusted."
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


def _parse_bound(text: str) -> int:
    size = parse_size(text)
    if 0 < size < SMALLEST_DISK:
        raise ValueError("expected 0 (no bound) or at least 20MB, for the engine's own files take half of that")
    return size


def _parse_memory(text: str) -> int:
    size = parse_size(text)
    if size < SMALLEST_MEMORY:
        raise ValueError("expected at least 500MB, for Python and the engine take 300MB before the first span")
    return size


def _parse_positive_size(text: str) -> int:
    size = parse_size(text)
    if not size:
        raise ValueError("expected a size above 0")
    return size


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_tokens(text: str) -> tuple[Token, ...]:
    """Tokens separated by commas or spaces: ``SECRET``, ``read:SECRET``, ``write:SECRET``."""
    return tuple(_parse_token(part) for part in re.split(r"[,\s]+", text) if part)


def _parse_token(text: str) -> Token:
    purpose, separator, secret = text.partition(":")
    if separator and purpose in ("read", "write"):
        return _checked(Token(secret, read=purpose == "read", write=purpose == "write"))
    return _checked(Token(text))


def _checked(token: Token) -> Token:
    if not token.secret or not (token.secret.isascii() and token.secret.isprintable()):
        raise ValueError("expected tokens of printable ASCII characters, such as write:SECRET or read:SECRET")
    return token


def _parse_token_file(text: str) -> tuple[Token, ...]:
    """A line is a token, or a comment that begins with ``#``."""
    if not text:
        return ()
    try:
        lines = Path(text).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from error
    tokens = _parse_tokens(" ".join(line for line in lines if not line.lstrip().startswith("#")))
    if not tokens:
        raise ValueError("holds no token; put one on a line of its own")
    return tokens


def _parse_origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.rstrip("/").lower() for origin in _parse_list(text))
    for origin in origins:
        if origin not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@]+", origin):
            raise ValueError(f"{origin!r} is not an origin such as https://grafana.example.org (no path), nor '*'")
    return origins


def _parse_hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.lower() for host in _parse_list(text))
    for host in hosts:
        if not re.fullmatch(r"[^\s/?#@*]+", host):
            raise ValueError(f"{host!r} is not a host name such as traces.example.org")
    return hosts


def _parse_brokers(text: str) -> Brokers | None:
    """``broker:9092,broker?tls=yes``, or nothing. The topic has an option of its own."""
    if not text:
        return None
    brokers = parse_brokers(text, KAFKA_OPTIONS)
    if brokers.topic:
        raise ValueError("expected brokers only; the topic has an option of its own, --kafka-topic")
    if not all(value.isdecimal() for value in brokers.options.values()):
        raise ValueError("session_timeout is a whole number of milliseconds")
    return brokers


def _parse_logs_topic(text: str) -> str:
    return check_topic(text) if text else ""


def _parse_group(text: str) -> str:
    if not text:
        raise ValueError("expected the name of a consumer group")
    return text


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
    "otlp": Option(
        _parse_optional_address,
        "127.0.0.1:4318",
        "HOST:PORT",
        "Where OpenTelemetry's clients may send, too (HTTP); 'none' turns it off.",
    ),
    "data_dir": Option(_parse_path, "", "DIR", "Where spans lie. Default: ~/.local/share/clew."),
    "store": Option(
        str,
        "",
        "URL",
        "A ClickHouse server instead of the embedded engine: clickhouse://user:pass@host/db.",
        secret=True,
    ),
    "tail": Option(
        _parse_list,
        "",
        "GLOB",
        "Follow files of JSON lines, such as '/var/log/clew/*.jsonl'. Repeatable.",
        repeatable=True,
    ),
    "kafka": Option(
        _parse_brokers,
        "",
        "BROKERS",
        "Read spans from Kafka: host:port,host:port. TLS and passwords as in docs/kafka.md, better in CLEW_KAFKA.",
        secret=True,
    ),
    "kafka_topic": Option(check_topic, "zipkin", "TOPIC", "The topic of spans, as for Zipkin's own Kafka collector."),
    "kafka_logs_topic": Option(_parse_logs_topic, "", "TOPIC", "That of log records. Default: the topic with '-logs'."),
    "kafka_group": Option(_parse_group, "clew", "GROUP", "The consumer group; its collectors share the partitions."),
    "retain": Option(parse_duration, "7d", "TIME", "How long spans and logs are kept after they arrived."),
    "retain_rates": Option(
        parse_duration, "90d", "TIME", "How long rates, errors and percentiles by service and operation are kept."
    ),
    "max_disk": Option(_parse_bound, "0", "SIZE", "Drop the oldest rows when all data take more; 0: no bound."),
    "max_spool": Option(_parse_positive_size, "1GiB", "SIZE", "What may wait on disk while the store is down."),
    "durable": Option(_parse_bool, "false", "", "Answer only when the disk has what was sent (fdatasync)."),
    "max_memory": Option(_parse_memory, "1.5GB", "SIZE", "What the collector may take, all its parts together."),
    "max_body": Option(_parse_positive_size, "16MiB", "SIZE", "The largest HTTP body taken, packed and unpacked."),
    "autocomplete_keys": Option(_parse_list, "", "TAG,...", "Tags whose values the API suggests, such as http.method."),
    "strict_trace_id": Option(_parse_bool, "true", "BOOL", "Whether 128-bit trace ids are compared whole."),
    "search": Option(_parse_bool, "true", "BOOL", "Whether traces can be searched for; false: only asked for by id."),
    "allowed_origins": Option(
        _parse_origins,
        "",
        "URL,...",
        "Web pages of these origins may read and write, beside the collector's own; '*': any page.",
    ),
    "allowed_hosts": Option(
        _parse_hosts,
        "",
        "NAME,...",
        "Names by which the collector may be asked. On loopback it knows only those of loopback by itself.",
    ),
    "token": Option(
        _parse_tokens,
        "",
        "SECRET",
        "What clients must send as 'Authorization: Bearer SECRET'; read:SECRET and write:SECRET allow one only. "
        "Repeatable. Better in CLEW_TOKEN or --token-file.",
        repeatable=True,
        secret=True,
    ),
    "token_file": Option(_parse_token_file, "", "FILE", "A file of tokens, one a line, as for --token."),
    "insecure": Option(_parse_bool, "false", "", "Allow other addresses than loopback without a token."),
}
