"""Knows what lies on the shelves: aiohttp with SQLite in threads. `python stock.py` starts it.

Spans and log lines are appended to a file, which the collector follows (`clew up --tail`).
"""

import asyncio
import logging
import os
import random
import sqlite3

from aiohttp import web

import clew
import clew.logging
from clew.integrations import aiohttp as clew_aiohttp

DATABASE = os.environ.get("STOCK_DATABASE", "/tmp/clew-shop-stock.db")
ITEMS = [("tea", 450, 900), ("cup", 1200, 300), ("pot", 3900, 120), ("honey", 800, 40), ("samovar", 24900, 0)]

with sqlite3.connect(DATABASE) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS items (sku TEXT PRIMARY KEY, cents INT, shelf INT)")
    connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", ITEMS)

clew.configure(service="stock", logs=True)
clew.logging.install()
clew.instrument("sqlite3", "threads")

log = logging.getLogger("stock")
routes = web.RouteTableDef()


def sql(statement: str, *values: object) -> list[tuple]:
    with sqlite3.connect(DATABASE, timeout=10) as connection:
        return connection.execute(statement, values).fetchall()


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    return web.Response(text="ok")


@routes.get("/items/{sku}")
async def item(request: web.Request) -> web.Response:
    sku = request.match_info["sku"]
    found = await asyncio.to_thread(sql, "SELECT cents, shelf FROM items WHERE sku = ?", sku)
    if not found:
        log.warning("no item %s", sku)
        return web.json_response({"error": f"no item {sku}"}, status=404)
    cents, shelf = found[0]
    log.info("%s: %d on the shelf", sku, shelf)
    return web.json_response({"sku": sku, "cents": cents, "shelf": shelf})


@routes.post("/reservations")
async def reserve(request: web.Request) -> web.Response:
    order = await request.json()
    if random.Random(f"walk to the back for {order['customer']}").random() < 0.3:
        with clew.start_span("walk to the back of the store"):
            await asyncio.sleep(0.12)
    for sku in order["skus"]:
        statement = "UPDATE items SET shelf = shelf - 1 WHERE sku = ? AND shelf > 0 RETURNING shelf"
        left = await asyncio.to_thread(sql, statement, sku)
        if not left:
            log.warning("%s is sold out", sku)
            return web.Response(text=f"{sku} is sold out", status=409)
    log.info("%d items put aside for %s", len(order["skus"]), order["customer"])
    return web.Response(text="reserved", status=201)


@routes.delete("/reservations/{customer}")
async def release(request: web.Request) -> web.Response:
    log.info("items of %s go back on the shelf", request.match_info["customer"])
    return web.Response(status=204)


app = web.Application(middlewares=[clew_aiohttp.middleware])
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8002")), print=None, access_log=None)
