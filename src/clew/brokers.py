"""How Kafka's brokers are named: one text for the client's reporter and for the collector's source. Pure.

Besides ``wire`` the only module that both sides import, so that ``kafka://`` means the same to both::

    kafka://user:password@broker1:9092,broker2/topic?tls=yes&sasl=SCRAM-SHA-512&ca=/etc/ssl/own.pem

The scheme and, for the collector, the topic may be left out. What follows from it are settings of librdkafka.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Collection

NEEDED: Final = "Kafka needs the package confluent-kafka: pip install 'clew[kafka]'"
LOGS_SUFFIX: Final = "-logs"  # log records have a topic of their own: that of the spans with this behind it
CONNECTION_OPTIONS: Final = ("tls", "ca", "cert", "key", "key_password", "sasl", "username", "password")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TOPIC_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_MAX_TOPIC_CHARS: Final = 249  # Kafka's own limit
_WORDS: Final = {
    "yes": True,
    "true": True,
    "1": True,
    "on": True,
    "no": False,
    "false": False,
    "0": False,
    "off": False,
}
_DEFAULT_PORT: Final = 9092


class Brokers(NamedTuple):
    """``settings`` are librdkafka's, for the connection; ``options`` what else stood behind the question mark."""

    settings: dict[str, str]
    topic: str
    options: dict[str, str]

    @property
    def names(self) -> str:
        """The brokers, without a password, for messages."""
        return self.settings["bootstrap.servers"]

    def __repr__(self) -> str:
        return f"Brokers({self.names!r}, {self.topic!r})"  # the rest holds passwords


def parse_brokers(text: str, own: Collection[str] = ()) -> Brokers:
    """Read a text of the form above; ``own`` are the options that the caller knows beside those of the connection.

    Raises ValueError, which says what is wrong and never shows a password.
    """
    rest, _, query = text.strip().removeprefix("kafka://").partition("?")
    where, _, topic = rest.partition("/")
    user, at, servers = where.rpartition("@")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - {*own, *CONNECTION_OPTIONS})
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; known: {', '.join((*own, *CONNECTION_OPTIONS))}")
    if at:
        username, _, password = user.partition(":")
        options = {"username": unquote(username), "password": unquote(password), **options}
    given = {name: options.pop(name) for name in CONNECTION_OPTIONS if options.get(name)}
    settings = {"bootstrap.servers": ",".join(_server(server) for server in servers.split(","))}
    return Brokers({**settings, **_security(given)}, unquote(topic.rstrip("/")), options)


def check_topic(topic: str) -> str:
    """Return the topic; ValueError if no broker would have one of that name."""
    if not topic or len(topic) > _MAX_TOPIC_CHARS or not _TOPIC_CHARS.issuperset(topic) or topic in (".", ".."):
        raise ValueError(f"{topic!r} is no name of a topic: letters, digits, '.', '_' and '-', at most 249")
    return topic


def _server(text: str) -> str:
    host, colon, port = text.strip().rpartition(":")
    if not colon or text.strip().endswith("]"):  # [::1] without a port
        host, port = text.strip(), str(_DEFAULT_PORT)
    if not host or set(host) & set(" /?#@") or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError("expected brokers as host:port,host:port")
    return f"{host}:{port}"


def _security(given: dict[str, str]) -> dict[str, str]:
    if given.get("tls", "no").lower() not in _WORDS:
        raise ValueError("tls is yes or no")
    tls = _WORDS[given.get("tls", "no").lower()]
    files = {name: given[name] for name in ("ca", "cert", "key") if name in given}
    if files and not tls and "tls" in given:
        raise ValueError(f"{sorted(files)[0]} says TLS, and tls=no says none")
    for name, path in files.items():
        if not os.access(path, os.R_OK):
            raise ValueError(f"{name}={path!r} cannot be read")
    tls = tls or bool(files)
    sasl = _sasl(given)
    security = ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")
    names = {"ca": "ssl.ca.location", "cert": "ssl.certificate.location", "key": "ssl.key.location"}
    settings = {names[name]: path for name, path in files.items()}
    if "key_password" in given:
        settings["ssl.key.password"] = given["key_password"]
    return {"security.protocol": security, **settings, **sasl}


def _sasl(given: dict[str, str]) -> dict[str, str]:
    if not {"sasl", "username", "password"} & given.keys():
        return {}
    mechanism = given.get("sasl", "PLAIN").upper()
    if mechanism not in _MECHANISMS:
        raise ValueError(f"sasl is one of {', '.join(_MECHANISMS)}")
    if not ("username" in given and "password" in given):
        raise ValueError(f"sasl={mechanism} needs username and password")
    return {"sasl.mechanism": mechanism, "sasl.username": given["username"], "sasl.password": given["password"]}
