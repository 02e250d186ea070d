"""What holds for every test: the signals that children inherit, and how generated input is tried."""

from __future__ import annotations

import signal

from hypothesis import settings


def pytest_configure() -> None:
    """Take Ctrl-C as usual, also below ``nohup make test &``, where a shell has SIGINT ignored.

    What is ignored stays so in every child, and tests that end a program by SIGINT would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes is the machine's business; no test asserts a time.
settings.register_profile("clew", deadline=None)
settings.load_profile("clew")
