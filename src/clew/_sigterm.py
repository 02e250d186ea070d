"""The end by SIGTERM of a program that has no handler for it: what is queued is delivered, then it dies of the signal.

``flask run``, plain scripts and pool workers die by the default action, in which no Python runs. So a handler is put in
the place of the default, and of nothing else, once there is something to lose: when the first span is finished. It
delivers, puts the default back and sends the signal again: the exit status is the same. The program sees none of this:
``signal.getsignal`` and ``signal.signal`` say SIG_DFL, and when it asks for the default, later, it gets the handler.

Two things need care, because only the main thread runs Python handlers, and only it may install them:

- Where the first span is finished in another thread, the main one is poked to install the handler, by SIGURG, which
  means nothing by default. It notices nothing; ``signal.pause``, which any signal ends, installs the handler first. A
  main thread that is inside C code then keeps the default action.
- A main thread that is inside C code for a long time (a query, a GUI's loop) would not die any more. So a thread of our
  own reads the interpreter's wakeup file descriptor, to which the C part of the handler writes at once, and does it all
  where the main thread does not come to it.

A forked child begins with the default action. Under gevent, whose locks must not be waited for in a handler, nothing
of this is done.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_TERM: Final = int(signal.SIGTERM)
_POKE: Final = int(signal.SIGURG)
_MAIN_COMES_S: Final = 0.1  # the main thread begins with its handler within this, or is in C code
_GRACE_S: Final = 1.0  # beyond the bound that delivery itself keeps to: then something holds it up, a log handler say
_WAKEUP_BYTES: Final = 4096

_signal: Final = signal.signal
_getsignal: Final = signal.getsignal
_set_wakeup_fd: Final = signal.set_wakeup_fd
_pause: Final = signal.pause

_leave: Callable[[], None] = lambda: None  # noqa: E731 - replaced by hook()
_timeout_s: Callable[[], float] = lambda: 0.0  # noqa: E731
_hooked = False
_wanted = False  # something may be queued: there is a reason to catch the signal
_pipe: tuple[int, int] | None = None  # read and write end; the latter is the interpreter's wakeup descriptor
_pipe_inode = -1  # to know whether the numbers still mean this pipe: some programs close all that is open
_handling = False
_pending: Any = None  # kept while the interpreter may call it
_masks: dict[int, Any] = {}  # by thread that forks


def hook(leave: Callable[[], None], timeout_s: Callable[[], float]) -> None:
    """Get ready: ``leave`` delivers what is queued within ``timeout_s()``. Changes nothing yet. In the main thread."""
    global _hooked, _leave, _timeout_s
    _leave, _timeout_s = leave, timeout_s
    if _hooked or not _in_main_thread():
        return
    try:
        if _getsignal(_POKE) is signal.SIG_DFL:
            _signal(_POKE, _on_poke)
    except (ValueError, OSError):  # a subinterpreter, which has no signals
        return
    _hooked = True
    for function, original in (
        (signal_as_before, _signal),
        (getsignal_as_before, _getsignal),
        (set_wakeup_fd_as_before, _set_wakeup_fd),
        (pause_as_before, _pause),
    ):
        functools.update_wrapper(function, original)
        function.__module__ = "signal"  # where pickle finds it; some of the originals say _signal
        setattr(signal, original.__name__, function)


def arm() -> None:
    """Catch SIGTERM from here on, if nobody else does. In any thread, called when the first span is queued."""
    global _wanted
    if not _hooked or _wanted or _timeout_s() <= 0 or _by_gevent():
        return
    _wanted = True
    if _in_main_thread():
        _install()
    else:
        _poke()


def _install() -> None:
    """Put the handler in the place of the default action. In the main thread."""
    if not _wanted or _getsignal(_TERM) is not signal.SIG_DFL or _caught_by_c_code():
        return
    if _watch():
        _signal(_TERM, _on_sigterm)


def disarm() -> None:
    """Put the default action back: nothing is left to lose. In the main thread, at the end; safe in others."""
    global _wanted
    _wanted = False
    if _in_main_thread() and _getsignal(_TERM) is _on_sigterm:
        _signal(_TERM, signal.SIG_DFL)


def _on_poke(number: int, frame: object) -> None:
    _install()


def _on_sigterm(number: int, frame: object) -> None:
    global _handling
    if not _handling:  # the second time it is meant
        _handling = True
        try:
            _leave()
        except BaseException:  # noqa: BLE001, S110 - another signal's handler may raise here; this end is certain
            pass
    _signal(_TERM, signal.SIG_DFL)
    os.kill(os.getpid(), _TERM)


# For a main thread that does not come to its handler.


def _watch() -> bool:
    """Start the thread; tell whether the handler will be run, by the main thread or by this one."""
    global _pipe, _pipe_inode
    if _pipe is not None:
        return True
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = _set_wakeup_fd(write_end, warn_on_full_buffer=False)
    if before != -1:  # an event loop has it, and runs handlers in time
        _set_wakeup_fd(before)
        os.close(read_end)
        os.close(write_end)
        return True
    try:
        start_new_thread(_read_wakeups, (read_end,))  # not a threading.Thread: those belong to the program
    except RuntimeError:
        _set_wakeup_fd(-1)
        os.close(read_end)
        os.close(write_end)
        return _main_has_ended()  # since 3.12 no thread starts then; it waits for the other threads, in Python
    _pipe = read_end, write_end
    _pipe_inode = os.fstat(write_end).st_ino
    return True


def _read_wakeups(read_end: int) -> None:
    pause = allocate_lock()
    pause.acquire()
    while numbers := os.read(read_end, _WAKEUP_BYTES):  # one byte for each signal that has a Python handler
        pause.acquire(timeout=_MAIN_COMES_S)
        if _TERM in numbers and _getsignal(_TERM) is _on_sigterm:
            if _handling:
                pause.acquire(timeout=_timeout_s() + _GRACE_S)
            else:
                _leave_in_time()
            _die()
    _give_up()  # the end of the pipe: the program has closed all its descriptors, ours too


def _give_up() -> None:
    """Have the main thread do without the pipe: its number may mean a file of the program now.

    By a pending call, since for a poke, as for any signal, the interpreter would write to that file.
    """
    global _wanted, _pending
    _wanted = False
    try:
        import ctypes

        _pending = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_do_without_pipe)
        ctypes.pythonapi.Py_AddPendingCall(_pending, None)
    except Exception:  # noqa: BLE001, S110 - no ctypes here
        pass


def _do_without_pipe(nothing: object = None) -> int:
    global _pipe
    if _pipe is not None:
        _stop_writing_to(_pipe[1])
        _pipe = None
    disarm()
    return 0


def _stop_writing_to(write_end: int) -> None:
    found = _set_wakeup_fd(-1)
    if found not in (write_end, -1):  # an event loop's
        _set_wakeup_fd(found)


def _leave_in_time() -> None:
    done = allocate_lock()
    done.acquire()

    def leave() -> None:
        try:
            _leave()
        finally:
            done.release()

    start_new_thread(leave, ())
    done.acquire(timeout=_timeout_s() + _GRACE_S)


def _die() -> None:
    """Die of SIGTERM in another thread than the main one, which alone may ask Python for the default action."""
    try:
        import ctypes

        ctypes.CDLL(None).signal(_TERM, None)
    except Exception:  # noqa: BLE001 - no ctypes here: then the harder way
        os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), _TERM)


# What the program sees.


def signal_as_before(signalnum: Any, handler: Any) -> Any:
    """``signal.signal``, to which the handler of this module is the default action."""
    replaced = _signal(signalnum, handler)
    if signalnum == _TERM:
        _install()
    return signal.SIG_DFL if replaced is _on_sigterm or replaced is _on_poke else replaced


def getsignal_as_before(signalnum: Any) -> Any:
    """``signal.getsignal``, to which the handler of this module is the default action."""
    found = _getsignal(signalnum)
    return signal.SIG_DFL if found is _on_sigterm or found is _on_poke else found


def set_wakeup_fd_as_before(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    """``signal.set_wakeup_fd``, which knows nothing of the descriptor of this module."""
    own = _pipe[1] if _pipe and _is_ours(_pipe[1]) else -1
    if fd == -1 and own != -1:
        replaced = _set_wakeup_fd(own, warn_on_full_buffer=False)
    else:
        replaced = _set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    return -1 if replaced == own else replaced


def pause_as_before() -> None:
    """``signal.pause``, which a poke would end."""
    arm()
    _pause()


# Forks. A signal that comes to the child before it has its own handlers would be told to the parent's pipe.


def _before_fork() -> None:
    if _pipe is not None:
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {_TERM})


def _after_fork_in_parent() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    global _pipe, _wanted, _handling
    _wanted = _handling = False
    pipe, _pipe = _pipe, None
    if _getsignal(_TERM) is _on_sigterm:
        _signal(_TERM, signal.SIG_DFL)
    if pipe is not None:
        _stop_writing_to(pipe[1])
        for end in pipe:
            if _is_ours(end):
                os.close(end)
    _after_fork_in_parent()
    _masks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _poke() -> None:
    try:
        if _getsignal(_POKE) is _on_poke:
            signal.pthread_kill(_main_thread(), _POKE)
    except OSError:  # no such thread any more
        pass


def _is_ours(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_ino == _pipe_inode
    except OSError:
        return False


def _main_thread() -> int:
    import threading

    return threading.main_thread().ident or 0


def _main_has_ended() -> bool:
    import threading

    return not threading.main_thread().is_alive()


def _in_main_thread() -> bool:
    return get_ident() == _main_thread()


def _by_gevent() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _caught_by_c_code() -> bool:
    """Ask the system: the interpreter does not know of handlers that C code installed later (uWSGI, faulthandler)."""
    try:
        with open("/proc/self/status", "rb") as status:
            masks = {line[:7]: int(line[7:], 16) for line in status if line[:7] in (b"SigIgn:", b"SigCgt:")}
    except (OSError, ValueError):  # not Linux
        return False
    return any(mask >> (_TERM - 1) & 1 for mask in masks.values())
