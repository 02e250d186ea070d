"""Takes the money: Starlette on uvicorn, with everything explicit: the middleware, the client, a span of its own.

Cards are declined and banks break down by chance, always for the same customers.
"""

import asyncio
import logging
import os
import random

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import clew
import clew.logging
from clew.integrations.asgi import TraceMiddleware
from clew.integrations.httpx import AsyncTraceClient

MAILER = os.environ.get("MAILER_URL", "http://127.0.0.1:8004")

clew.configure(service="payments", logs=True)
clew.logging.install()
logging.getLogger("httpx").setLevel(logging.WARNING)  # its spans say the same
log = logging.getLogger("payments")
http = AsyncTraceClient(timeout=10)


class CardDeclinedError(Exception):
    pass


async def health(request: Request) -> Response:
    return PlainTextResponse("ok")


async def charge(request: Request) -> Response:
    order = await request.json()
    try:
        await ask_bank(order["customer"], order["cents"])
    except CardDeclinedError as declined:
        log.warning("card of %s declined: %s", order["customer"], declined)
        return PlainTextResponse(f"card declined: {declined}", 402)
    await http.post(f"{MAILER}/mails", json={"to": order["customer"], "subject": "Your receipt"})
    log.info("%s paid %.2f", order["customer"], order["cents"] / 100)
    return PlainTextResponse("paid", 201)


@clew.traced("ask the bank")
async def ask_bank(customer: str, cents: int) -> None:
    luck = random.Random(f"the bank about {customer}").random()
    with clew.start_span("check risk", tags={"amount": f"{cents / 100:.2f}"}) as span:
        await asyncio.sleep(0.01 + 0.05 * luck)
        span.tag("risk", f"{luck:.2f}")
    if luck < 0.2:
        raise CardDeclinedError("not enough money")
    if luck > 0.85:
        raise ConnectionError("the bank hung up")  # nobody catches this: a 500
    await asyncio.sleep(0.03)


routes = [Route("/health", health), Route("/charges", charge, methods=["POST"])]
app = Starlette(routes=routes, middleware=[Middleware(TraceMiddleware)])
