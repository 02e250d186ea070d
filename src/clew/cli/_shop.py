"""The demo shop as `clew demo` runs it: how it is started, which requests are sent, what each must leave behind.

The services themselves are `examples/shop` in the repository and `clew/_shop` in an installed wheel (pyproject's
`sources` puts them there: one source, readable where newcomers look for examples, and still there without a
checkout).
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE: Final = Path(__file__).parents[1]
SERVICES: Final = ("gateway", "orders", "stock", "payments", "mailer")
MODULES: Final = ("aiohttp", "fastapi", "flask", "gunicorn", "httpx", "requests")
REQUEST_TIMEOUT_S: Final = 30.0
TOPIC: Final = "clew-demo"  # of Kafka, and the group that reads it
SEED: Final = 7  # of the traffic that goes on


def folder() -> Path:
    """Return where the shop's services lie: beside the package in a wheel, in ``examples`` in a checkout."""
    shipped = PACKAGE / "_shop"
    return shipped if shipped.is_dir() else PACKAGE.parents[1] / "examples" / "shop"


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the shop: its command, its port and which reporter it uses."""

    name: str
    command: tuple[str, ...]
    port: int
    reporter: str

    @property
    def url(self) -> str:
        """Return the address it answers at."""
        return f"http://127.0.0.1:{self.port}"


def services(ports: list[int], udp: str, http: str, data: Path, kafka: str | None = None) -> list[Service]:
    """Return the five, those that are called before those that call. `udp`, `http`: the collector's, as host:port.

    With `kafka`, brokers as ``clew up`` takes them, the mailer sends by way of these.
    """
    python = sys.executable
    mailer, payments, stock, orders, gateway = map(str, ports)
    uvicorn = (python, "-m", "uvicorn", "--host", "127.0.0.1", "--no-access-log", "--port")
    gunicorn = (python, "-m", "gunicorn", "--workers", "2", "--bind")
    by_file = f"file://{(data / 'stock.jsonl').as_posix()}"
    servers, question_mark, options = (kafka or "").removeprefix("kafka://").partition("?")
    by_kafka = f"kafka://{servers}/{TOPIC}{question_mark}{options}"
    return [
        Service("mailer", (python, "mailer.py"), int(mailer), by_kafka if kafka else f"udp://{udp}"),
        Service("payments", (*uvicorn, payments, "payments:app"), int(payments), f"http://{http}"),
        Service("stock", (python, "stock.py"), int(stock), by_file),
        Service("orders", (*gunicorn, f"127.0.0.1:{orders}", "orders:app"), int(orders), f"http://{http}"),
        Service("gateway", (*uvicorn, gateway, "gateway:app"), int(gateway), f"udp://{udp}"),
    ]


def environment(service: Service, shop: list[Service], data: Path, token: str | None) -> dict[str, str]:
    """Return the variables of one service: where the others are, where its spans go, where its database is."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CLEW_")}
    return {
        **inherited,
        **{f"{other.name.upper()}_URL": other.url for other in shop},
        **{f"{name.upper()}_DATABASE": str(data / f"{name}.db") for name in ("orders", "stock")},
        **({"CLEW_TOKEN": token} if token else {}),
        "CLEW_REPORTER": service.reporter,
        "PORT": str(service.port),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1",
    }


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to the shop, and by the status of its answer the services that it must have passed."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    passes: Mapping[int, tuple[str, ...]]

    def __str__(self) -> str:
        who = f" ({self.body['customer']})" if self.body else ""
        return f"{self.method} {self.path}{who}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a visit: the status, and the trace id that the response quoted."""

    visit: Visit
    status: int
    trace_id: str

    @property
    def services(self) -> tuple[str, ...]:
        """Return the services that must be in the trace; an unforeseen status is checked as if all had to be."""
        return self.visit.passes.get(self.status, SERVICES)


def look(sku: str) -> Visit:
    """Look at an item: gateway and stock."""
    return Visit("GET", f"/items/{sku}", None, dict.fromkeys((200, 404), ("gateway", "stock")))


def buy(customer: str, *skus: str) -> Visit:
    """Buy: through all five, unless something is sold out (409), the card is declined (402) or the bank fails (502)."""
    four = ("gateway", "orders", "stock", "payments")
    passes = {200: SERVICES, 409: ("gateway", "orders", "stock"), 402: four, 502: four}
    return Visit("POST", "/checkout", {"customer": customer, "skus": list(skus)}, passes)


def history(customer: str) -> Visit:
    """List a customer's orders, which gateway and orders stream."""
    return Visit("GET", f"/orders/{customer}", None, {200: ("gateway", "orders")})


# The first is the picture that `clew demo` shows. Each inner list is sent at once, one list after the other.
VISITS: Final = (
    (buy("guido", "tea", "pot", "cup"),),
    (look("tea"), look("unicorn"), buy("alan", "tea", "honey")),
    (buy("barbara", "cup"), buy("ada", "pot", "tea"), buy("edsger", "samovar"), history("guido")),
    (buy("dennis", "honey", "tea", "cup"), buy("john", "cup", "tea"), look("pot"), history("alan")),
)


def pay_visit(visit: Visit, gateway: Service) -> Answer:
    """Send one request and read the whole answer; OSError if the gateway does not answer properly."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=REQUEST_TIMEOUT_S)
    try:
        body = json.dumps(visit.body) if visit.body else None
        connection.request(visit.method, visit.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return Answer(visit, answer.status, answer.headers.get("X-Trace-ID", ""))
    except http.client.HTTPException as broken:
        raise ConnectionError(f"{visit}: {broken!r}") from broken
    finally:
        connection.close()
