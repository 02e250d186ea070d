"""The shop's front door: FastAPI on uvicorn, calling the others with httpx.

Three lines turn tracing on; nothing below them knows about it. Spans and log lines leave by UDP, the default.
"""

import asyncio
import logging
import os

import httpx
from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import clew
import clew.logging

clew.configure(service="gateway", logs=True)
clew.logging.install()
logging.getLogger("httpx").setLevel(logging.WARNING)  # its spans say the same
clew.instrument()

STOCK = os.environ.get("STOCK_URL", "http://127.0.0.1:8002")
ORDERS = os.environ.get("ORDERS_URL", "http://127.0.0.1:8001")

log = logging.getLogger("gateway")
app = FastAPI()
http = httpx.AsyncClient(timeout=10)


class Basket(BaseModel):
    customer: str
    skus: list[str]


@app.get("/health")
async def health() -> str:
    return "ok"


@app.get("/items/{sku}")
async def item(sku: str) -> dict:
    answer = await http.get(f"{STOCK}/items/{sku}")
    if answer.status_code == 404:
        log.warning("nobody sells %s", sku)
        raise HTTPException(404, "no such item")
    log.info("%s was looked at", sku)
    return answer.json()


@app.post("/checkout")
async def checkout(basket: Basket, background: BackgroundTasks) -> dict:
    log.info("%s buys %s", basket.customer, ", ".join(basket.skus))
    items = await asyncio.gather(*(http.get(f"{STOCK}/items/{sku}") for sku in basket.skus))  # all at once
    total = sum(item.json()["cents"] for item in items)

    order = {"customer": basket.customer, "skus": basket.skus, "cents": total}
    answer = await http.post(f"{ORDERS}/orders", json=order)
    if answer.status_code != 201:
        log.error("no sale to %s: %s", basket.customer, answer.text)
        raise HTTPException(answer.status_code, answer.text)
    background.add_task(remember, basket)
    return answer.json()


@app.get("/orders/{customer}")
async def orders(customer: str) -> StreamingResponse:
    """Hand on line by line what the orders service streams; the span lasts until the last line."""

    async def lines():
        async with http.stream("GET", f"{ORDERS}/orders/{customer}") as answer:
            async for line in answer.aiter_lines():
                yield f"{line}\n"
        log.info("%s has seen the orders", customer)

    return StreamingResponse(lines(), media_type="text/csv")


async def remember(basket: Basket) -> None:
    """After the response is out: still the same trace."""
    with clew.start_span("update recommendations", tags={"skus": len(basket.skus)}):
        await asyncio.sleep(0.02)
        log.info("%s may like more of that", basket.customer)
