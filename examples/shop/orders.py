"""Takes orders: Flask on gunicorn with two worker processes, SQL in SQLite, calls with requests, one after another.

Here Flask is hooked the way Flask extensions are; `instrument` names the libraries that the calls go through. Spans go
to the collector by HTTP (CLEW_REPORTER).
"""

import logging
import os
import sqlite3

import requests
from flask import Flask, Response, request

import clew
import clew.logging
from clew.integrations import flask as clew_flask

STOCK = os.environ.get("STOCK_URL", "http://127.0.0.1:8002")
PAYMENTS = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8003")
DATABASE = os.environ.get("ORDERS_DATABASE", "/tmp/clew-shop-orders.db")

with sqlite3.connect(DATABASE, timeout=10) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS orders (customer TEXT, skus TEXT, cents INT, state TEXT)")

clew.configure(service="orders", logs=True)
clew.logging.install()
clew.instrument("requests", "sqlite3")

log = logging.getLogger("orders")
app = Flask(__name__)
clew_flask.init_app(app)
http = requests.Session()


def sql(statement: str, *values: object) -> list[tuple]:
    with sqlite3.connect(DATABASE, timeout=10) as connection:
        return connection.execute(statement, values).fetchall()


@app.get("/health")
def health() -> str:
    return "ok"


@app.post("/orders")
def take_order() -> tuple[dict, int] | tuple[str, int]:
    order = request.get_json()
    customer, skus, cents = order["customer"], ",".join(order["skus"]), order["cents"]
    sql("INSERT INTO orders VALUES (?, ?, ?, 'new')", customer, skus, cents)

    reserved = http.post(f"{STOCK}/reservations", json=order, timeout=10)
    if reserved.status_code != 201:
        return fail(customer, reserved)
    paid = http.post(f"{PAYMENTS}/charges", json=order, timeout=10)
    if paid.status_code != 201:
        http.delete(f"{STOCK}/reservations/{customer}", timeout=10)
        return fail(customer, paid)

    sql("UPDATE orders SET state = 'paid' WHERE customer = ?", customer)
    log.info("order of %s is paid: %.2f", customer, cents / 100)
    return {"customer": customer, "cents": cents, "state": "paid"}, 201


def fail(customer: str, answer: requests.Response) -> tuple[str, int]:
    sql("UPDATE orders SET state = 'failed' WHERE customer = ?", customer)
    log.warning("order of %s failed: %s", customer, answer.text)
    return answer.text, answer.status_code if answer.status_code < 500 else 502


@app.get("/orders/<customer>")
def list_orders(customer: str) -> Response:
    def lines():
        for skus, cents, state in sql("SELECT skus, cents, state FROM orders WHERE customer = ?", customer):
            yield f"{skus};{cents / 100:.2f};{state}\n"
        log.info("orders of %s listed", customer)

    return Response(lines(), mimetype="text/csv")
