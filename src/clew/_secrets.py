"""Text of exceptions without what must not be shown: the one place that decides what is a secret in it. Pure.

Between an exception and a tag or log record that travels. Client libraries write the whole URL into their messages, and
exceptions carry each other's text. What is taken out:

* of a URL, or a path in the form of one: the query and the fragment (``http://h/x?token=s`` -> ``http://h/x``);
* credentials in front of a host (``http://ada:pass@h`` -> ``http://h``, ``ada:pass@h`` -> ``h``);
* what follows the name of a header that authorizes (``Authorization: ...``, ``'Cookie': '...'``), ``Bearer`` and
  ``Basic``, and a header's value that a library found to be invalid;
* values that a database quotes: ``Key (mail)=(...)``, ``Failing row contains (...)``, ``Duplicate entry '...'``, an
  unfit input, an unclosed literal, the line of a statement (``LINE 1: ...``, ``near '...' at line 1``); and the
  statement with its parameters, which SQLAlchemy adds, as redis-py the command. Their spans show them without values.

Not touched is what the program says itself: span names, its own tags and annotations, messages of log records. A
mistake shows less, never more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re

_HIDDEN: Final = "?"
_ENDS: Final = ' \t\r\n"<>`'  # what no URL contains; an apostrophe may be part of one
_QUOTES: Final = "'\""
_AFTER_QUOTE: Final = frozenset(" \t\r\n,;:.)]}>!")
_MARKS: Final = (
    "?",
    "#",
    "@",
    "earer",
    "asic",
    "uthorization",
    "ookie",
    "header",
    "UTHORIZATION",
    ")=(",
    "entry",
    "input",
    'token: "',
    "LINE ",
    "row contains",
    "near ",
    "value: '",
    "SQL statement",
    "of pipeline",
    "args beginning",
)
_STATEMENT: Final = "[SQL: "  # SQLAlchemy's, of as many lines as the statement has; then its parameters, then:
_AFTER_STATEMENT: Final = "\n(Background on this error"
_HEADERS: Final = r"(?:proxy-)?authorization|(?:set-)?cookie|x-api-key|api-key|x-auth-token"

_QUOTED: Final = r"b?\\?(['\"])(?:(?!\3)[^\n]){0,4096}\3?"

# Lengths are bounded, so that no text makes a search long.
_PATTERNS: Final = (
    # scheme://user:pass@host, with a password that should have been quoted, too; a port is no password
    (r"(//)[^\s/?#'\"<>]{0,512}@", r"\1"),
    (r"(//)[^\s/?#'\"<>@:]{1,256}:(?!\d{1,5}[/?#\s'\"])[^\s'\"<>]{0,512}@", r"\1"),
    (r"(^|[\s'\"(=,])[^\s/:@'\"(=,<>]{1,256}:[^\s/@'\"<>]{1,256}@(?=[\w.\[-])", r"\1"),
    (rf"(?i)\b({_HEADERS})(\\?['\"]?\s{{0,8}}[:=,]\s{{0,8}})(?:{_QUOTED}|[^\n'\"]{{1,4096}})", rf"\1\2{_HIDDEN}"),
    (r"(?i)\b(bearer)\s{1,8}[^\s'\",;)]{1,4096}", rf"\1 {_HIDDEN}"),
    (r"\b([Bb]asic)\s{1,8}(?=[a-z]{0,256}[A-Z0-9+/=])[A-Za-z0-9+/]{6,4096}={0,2}", rf"\1 {_HIDDEN}"),
    (r"(?i)(header (?:value|part)[^'\"\n]{0,200}?)b?(['\"])(?:(?!\2)[^\n]){0,4096}\2?", rf"\1{_HIDDEN}"),
    (r"(Key \([^)\n]{0,256}\)=\()[^\n]{0,4096}?(\)(?= )|\)?$)", rf"\1{_HIDDEN})"),
    (r"(Duplicate entry )'[^\n]{0,4096}?'( for key|$)", rf"\1{_HIDDEN}\2"),
    (r"(invalid input (?:syntax|value) for [^:\n]{1,100}: |unrecognized token: )\"[^\n]{0,4096}\"?", rf"\1{_HIDDEN}"),
    (r"^(LINE \d{1,6}: )[^\n]{0,4096}", rf"\1{_HIDDEN}"),
    (r"(Failing row contains \()[^\n]{0,4096}", rf"\1{_HIDDEN})"),
    (r"(at or near )\"'[^\n]{0,4096}", rf"\1{_HIDDEN}"),
    (r"(near )'[^\n]{0,4096}'( at line \d)", rf"\1{_HIDDEN}\2"),
    (r"(?i)(\b(?:incorrect|invalid)[^'\n]{0,100} value: )'[^\n]{0,4096}?'( for |$)", rf"\1{_HIDDEN}\2"),
    (r"(Command # \d{1,9} \()[^\n]{0,4096}(\) of pipeline)", rf"\1{_HIDDEN}\2"),
    (r"(with args beginning with: )[^\n]{1,4096}", rf"\1{_HIDDEN}"),
    (r"(SQL statement )\"[^\n]{0,4096}", rf"\1{_HIDDEN}"),
)  # fmt: skip
_compiled: list[tuple[re.Pattern[str], str]] = []


def clean(text: str, limit: int) -> str:
    """Return an exception's text without secrets; of text longer than ``limit`` characters only whole words of that.

    ``limit`` bounds the work, some hundred microseconds at 16,000. Lines in which nothing can be are passed over.
    """
    if len(text) > limit:
        text = text[:limit].rpartition(" ")[0] or text[: limit // 2]
    if _STATEMENT in text:
        text = _without_statements(text)
    if not any(mark in text for mark in _MARKS):
        return text
    return "\n".join(_clean_line(line) for line in text.split("\n"))


def clean_end(text: str, limit: int) -> str:
    """Return the same of a text whose end says most, as a traceback's does: of its last ``limit`` characters."""
    if len(text) > limit:
        text = text[-limit:]
        text = text.partition("\n")[2] or text.partition(" ")[2]
        head, mark, rest = text.partition(_AFTER_STATEMENT)
        if mark and _STATEMENT not in head:  # the statement's beginning has been cut off
            text = mark.lstrip() + rest
    return clean(text, limit)


def _without_statements(text: str) -> str:
    """Take out what SQLAlchemy adds to the driver's message, up to its last line, or to the end without that."""
    kept = []
    while text:
        head, mark, rest = text.partition(_STATEMENT)
        kept.append(head)
        text = ""
        if mark:
            _, background, text = rest.partition(_AFTER_STATEMENT)
            kept.append(f"{mark}{_HIDDEN}]{background}")
    return "".join(kept)


def clean_url(url: str) -> str:
    """Return a URL without credentials, query and fragment, well-formed or not."""
    for mark in "?#":
        place = url.find(mark)
        if place >= 0 and "@" not in url[place:]:
            url = url[:place]
    return clean(url, len(url))


def _clean_line(line: str) -> str:
    if not any(mark in line for mark in _MARKS):
        return line
    for pattern, replacement in _compiled or _compile():
        line = pattern.sub(replacement, line)
    return _without_queries(line) if "?" in line or "#" in line else line


def _compile() -> list[tuple[re.Pattern[str], str]]:
    import re  # only now: `import clew` is on everyone's start-up

    _compiled[:] = [(re.compile(pattern), replacement) for pattern, replacement in _PATTERNS]
    return _compiled


def _without_queries(line: str) -> str:
    kept: list[str] = []
    done = 0  # up to here the line is dealt with
    place = _next_mark(line, 0)
    while place >= 0:
        begin = _word_begin(line, place, done)
        end = _query_end(line, begin, place)
        if _is_query(line[begin:place], line[place], line[place + 1 : end]):
            kept.append(line[done:place])
            done = end
        else:
            end = _word_end(line, place)
        place = _next_mark(line, end)
    return "".join(kept) + line[done:]


def _next_mark(line: str, start: int) -> int:
    places = [place for place in (line.find("?", start), line.find("#", start)) if place >= 0]
    return min(places, default=-1)


def _word_begin(line: str, place: int, least: int) -> int:
    """Go back to where the word that holds ``place`` begins."""
    while place > least and line[place - 1] not in _ENDS and line[place - 1] not in _QUOTES:
        place -= 1
    return place


def _query_end(line: str, begin: int, place: int) -> int:
    """Go on to where a query ends: at its URL's closing quote, else at the first character that no URL contains."""
    quote = line[begin - 1] if begin and line[begin - 1] in _QUOTES else ""
    if quote:
        end = line.find(quote, place)
        while 0 <= end < len(line) - 1 and line[end + 1] not in _AFTER_QUOTE:
            end = line.find(quote, end + 1)
        return len(line) if end < 0 else end
    return _word_end(line, place)


def _word_end(line: str, place: int) -> int:
    end = place + 1
    while end < len(line) and line[end] not in _ENDS:
        end += 1
    return end


def _is_query(word: str, mark: str, rest: str) -> bool:
    """Tell a query or fragment from a question, and from a comment in a line of source."""
    if mark == "#":
        return "://" in word
    return bool(rest) and ("/" in word or "=" in rest or ("/" in rest and "?" in rest))
