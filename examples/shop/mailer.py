"""Sends mail: no framework, a WSGI function that hands the work to a pool of threads. `python mailer.py` starts it.

The answer is out before the mail is; the threads' spans and log lines still belong to the request's trace.
"""

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import clew
import clew.logging
from clew.integrations.wsgi import TraceMiddleware

clew.configure(service="mailer", logs=True)
clew.logging.install()
clew.instrument("threads")

log = logging.getLogger("mailer")
pool = ThreadPoolExecutor(max_workers=4)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/health":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]
    mail = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    pool.submit(send, mail)
    log.info("mail to %s is waiting", mail["to"])
    start_response("202 Accepted", [("Content-Type", "text/plain")])
    return [b"accepted"]


@clew.traced("send mail")
def send(mail: dict) -> None:
    with clew.start_span("render"):
        time.sleep(0.005)
    with clew.start_span("smtp", kind="CLIENT", tags={"to": mail["to"]}):
        time.sleep(0.04)
    log.info("%r sent to %s", mail["subject"], mail["to"])


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8004"))
    with make_server("127.0.0.1", port, TraceMiddleware(app), Server, Handler) as server:
        server.serve_forever()
