"""The document: docs/benchmarks.md, from the results alone. Pure: results in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from benchmarks import budgets, client, collector, zipkin
from benchmarks.budgets import CLIENT, NAMES, Budget
from benchmarks.process import PARTS

_HEAD = """# Benchmarks

Written by `make bench`; do not edit. Figures of one run on one machine: compare columns, not runs.
"""

_CLIENT_HOW = """## Client

How it is measured:

- Each cell runs in a process of its own; all cells once make a round, and rounds follow each other, so what disturbs
  the machine for a while falls on all. A figure is the median over {rounds} rounds, each the median of {slices} slices
  of {slice_ms:.0f} ms.
- CPU time, not wall: of the application's own thread or, in the row "all CPU", of the whole process.
- Between any two slices the **floor** is measured: the least that a tracer in plain Python can do (one slotted object,
  one context variable set and reset, two clock readings, one random id as hex, two tags, one append). **× floor** is
  the ratio slice by slice, which a slow or busy core hardly changes; absolute figures it changes a lot. In this run the
  floor was {floor:.2f} µs at the median (10th to 90th percentile {low:.2f} to {high:.2f}).
- Budgets in µs were set where the floor is 1.0 µs, so they are judged as that many floors.
- Requests and calls are the difference to the very same request or call untraced, in the same process. Only the network
  is left out: ASGI and WSGI applications are called directly, clients have a transport that answers at once. The
  request carries a `traceparent`, calls are made inside a trace.
- A trace is one root and 99 children, all counted. Queues are large enough that nothing is dropped. py_zipkin has no
  queue: it encodes where the trace ends, so both of its span rows hold the encoding. ddtrace encodes there, too.
"""

_COLLECTOR_HOW = """## Collector

`clew up` as a real process with the embedded engine, a fresh data directory, one machine for collector and load. The
load generator is a process of its own and has every body encoded before it begins; a request counts when 202, which
means *kept*, has been received. CPU is the collector's own (user and system, all threads, the engine's
included), until the last 202 and, in the next column, until all is stored and merged, which is what counts.
Spans are those of 20 services, 12 a trace, 5 tags each,
spread over 24 hours, {json_bytes:.0f} bytes of JSON each. The floor beside each row is the client part's, measured
meanwhile: a core that was slow just then is slow in both.
"""


def write(
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    clients: client.Results | None,
    profiles: Mapping[str, list[dict[str, Any]]],
    collectors: collector.Results | None,
    how: Mapping[str, float],
) -> str:
    """Return the document."""
    parts = [_HEAD, _facts(machine, versions)]
    if clients is not None:
        parts += [_client_how(clients, how), _client_table(clients), _all_samples(clients), _import_table(clients)]
        parts += [_profile(budget, clients, profiles[budget.row]) for budget in CLIENT if budget.row in profiles]
        parts += [_problems(f"{name}: {text}" for name, text in clients.problems.items())]
    if collectors is not None:
        parts += [_COLLECTOR_HOW.format(json_bytes=collectors.json_bytes), _collector_verdicts(collectors)]
        parts += [_ingest_table(collectors), _question_table(collectors), _beside_table(collectors)]
        parts += [_problems(sorted(set(collectors.problems)))]
    return "\n".join(part for part in parts if part)


def missed(results: client.Results) -> list[str]:
    """Return the rows in which clew missed its budget."""
    return [budget.row for budget in CLIENT if not _is_met(results, budget, "clew", budget.limit)]


def _is_met(results: client.Results, budget: Budget, library: str, limit: float) -> bool:
    ratio = results.value(budget.row, library, "ratio")
    return ratio is not None and ratio <= limit


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _facts(machine: Mapping[str, str], versions: Mapping[str, str]) -> str:
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [f"- {name}: {value}" for name, value in machine.items()]
    return "\n".join([*lines, f"- versions: {shown}", ""])


def _client_how(results: client.Results, how: Mapping[str, float]) -> str:
    floors = sorted(results.floors())
    low, high = floors[len(floors) // 10], floors[len(floors) * 9 // 10]
    return _CLIENT_HOW.format(
        rounds=results.rounds,
        slices=int(how["slices"]),
        slice_ms=how["slice_s"] * 1_000,
        floor=median(floors),
        low=low,
        high=high,
    )


def _client_table(results: client.Results) -> str:
    """Return the table of DESIGN: one line a row, each cell ``× floor (µs)``."""
    heads = ["what (× floor; µs of this run)", "budget", *(NAMES[library] for library in client.CELLS), "budget met"]
    rows = []
    for budget in CLIENT:
        cells = [_cell(results, budget.row, library) for library in client.CELLS]
        rows.append([budget.title, budget.text, *cells, _verdict(results, budget)])
    return _table(heads, rows)


def _cell(results: client.Results, row: str, library: str) -> str:
    ratio, cost = results.value(row, library, "ratio"), results.value(row, library, "cost")
    return "" if ratio is None or cost is None else f"{_short(ratio)} ({_short(cost)})"


def _verdict(results: client.Results, budget: Budget) -> str:
    words = ["yes" if _is_met(results, budget, "clew", budget.limit) else "**no**"]
    if budget.compiled_limit is not None and results.value(budget.row, "compiled", "ratio") is not None:
        words.append("yes" if _is_met(results, budget, "compiled", budget.compiled_limit) else "**no**")
    return "; compiled ".join(words)


def _short(number: float) -> str:
    return f"{number:.2f}" if abs(number) < 10 else f"{number:.1f}" if abs(number) < 100 else f"{number:.0f}"


def _all_samples(results: client.Results) -> str:
    heads = ["row, library", "µs", "× floor", "least and most × floor of a round", "× clew", "untraced, µs"]
    rows = []
    for (row, library), samples in results.samples.items():
        low, high = results.spread(row, library)
        ratio = results.value(row, library, "ratio") or 0.0
        ours = results.value(row, "clew", "ratio")
        bare = results.value(row, library, "bare") or 0.0
        cost = median(sample["cost"] for sample in samples)
        against = f"{ratio / ours:.1f}" if ours else ""
        shown = [_short(cost), _short(ratio), f"{_short(low)} to {_short(high)}", against, _short(bare) if bare else ""]
        rows.append([f"{row}, {NAMES[library]}", *shown])
    rows.sort()
    return "### All samples\n\n" + _table(heads, rows)


def _import_table(results: client.Results) -> str:
    rows = []
    for library, samples in results.imports.items():
        spent = median(spent for spent, _, _ in samples)
        at_floor = median(spent / floor for spent, _, floor in samples)
        packages = samples[0][1]
        met = ("yes" if at_floor <= budgets.IMPORT_MS and not packages else "**no**") if library == "clew" else ""
        rows.append([f"`{client.IMPORT_STATEMENTS[library]}`", f"{spent:.1f}", f"{at_floor:.1f}", str(packages), met])
    heads = ["import", "ms of CPU over the bare interpreter", "the same at floor 1.0", "third-party packages"]
    heads.append("budget met (≤ 15 ms, none)")
    return "### Import\n\n" + _table(heads, rows)


def _profile(budget: Budget, results: client.Results, functions: list[dict[str, Any]]) -> str:
    """Return what explains a miss."""
    ratio = results.value(budget.row, "clew", "ratio")
    over = "not measured" if ratio is None else f"{_short(ratio)} × floor, budget {budget.limit:g}"
    rows = [[f"`{f['function']}`", f"{f['calls']:g}", f"{f['share']:.0%}"] for f in functions]
    title = (
        f"### Missed: {budget.title} ({over})\n\nclew's own functions by own time (what they call of C is theirs):\n\n"
    )
    return title + _table(["function", "calls an operation", "of clew's time"], rows)


def _problems(lines: Iterable[str]) -> str:
    listed = [f"- {line}" for line in lines]
    return "### Not measured, or odd\n\n" + "\n".join(listed) + "\n" if listed else ""


def _collector_verdicts(results: collector.Results) -> str:
    best = min(
        (way for way in results.ingest if way.name.startswith("HTTP")), key=lambda way: way.all_us / way.floor_us
    )
    # at a floor of 1.0 us, as DESIGN's machine had it
    a_core = 1e6 / (best.all_us / best.floor_us)
    asked = {answers.name: answers for answers in results.questions}
    trace, recent = asked["a trace by id"], asked["recent traces of a service"]
    rare, high = asked["traces by a rare tag, 24 h"], results.memory_mb[1]
    sizes = results.table_bytes
    limits = [
        _at_least(
            "spans a core-second over HTTP, stored and merged, best way, at floor 1.0",
            budgets.SPANS_A_CORE_SECOND,
            a_core,
        ),
        _at_most("bytes a span in the tables", budgets.BYTES_A_SPAN, sizes, ""),
        _at_most("a trace by id, p99", budgets.TRACE_P99_MS, trace.p99_ms, " ms"),
        _at_most("recent traces of a service, p50", budgets.RECENT_MS, recent.p50_ms, " ms"),
        _at_most("search by a rare tag, p50", budgets.SEARCH_MS, rare.p50_ms, " ms"),
        _at_most("memory of the collector at its highest", budgets.MEMORY_MB, high, " MB"),
    ]
    note = (
        f"(The budgets for questions are for 100 million spans; here are {results.spans:,}. Wall time, shared cores.)\n"
    )
    return _table(["what", "budget", "here", "budget met"], limits) + "\n" + note


def _at_least(what: str, limit: float, value: float) -> list[str]:
    return [what, f"≥ {limit:,.0f}", f"{value:,.0f}", "yes" if value >= limit else "**no**"]


def _at_most(what: str, limit: float, value: float, unit: str) -> list[str]:
    return [what, f"≤ {limit:,.0f}{unit}", f"{value:,.2f}{unit}", "yes" if value <= limit else "**no**"]


def _ingest_table(results: collector.Results) -> str:
    heads = [
        "way in",
        "sent",
        "stored",
        "lost",
        "spans/s, wall",
        "CPU µs a span until 202",
        "stored and merged",
        "floor µs",
    ]
    heads += ["spans a core-second", "at floor 1.0", "answer p50 / p99 ms"]
    rows = []
    for way in results.ingest:
        waits = f"{way.p50_ms:.0f} / {way.p99_ms:.0f}" if way.p50_ms is not None and way.p99_ms is not None else ""
        counts = [
            f"{way.spans:,}",
            f"{way.stored:,}",
            f"{way.spans - way.stored:,}",
            f"{way.stored / way.seconds:,.0f}",
        ]
        cost = [f"{way.cpu_us:.1f}", f"{way.all_us:.1f}", f"{way.floor_us:.2f}"]
        rates = [f"{1e6 / max(way.all_us, 0.1):,.0f}", f"{1e6 * way.floor_us / max(way.all_us, 0.1):,.0f}"]
        rows.append([way.name, *counts, *cost, *rates, waits])
    heads_of_parts = ["where the CPU goes, µs a span", "Python: HTTP, check", "the thread that inserts"]
    heads_of_parts += ["the engine's others", "merges", "spans an insert"]
    split = [
        [
            way.name,
            *(f"{way.parts_us.get(part, 0.0):.1f}" for part in PARTS),
            f"{way.stored / max(way.inserts, 1):,.0f}",
        ]
        for way in results.ingest
    ]
    why = (
        "An insert costs the engine about 20 milliseconds of CPU even for a few spans (it parses, runs the views and "
        "writes a part into each of four tables), so what a span costs is decided by how many share an insert: what "
        "arrives within 0.9 s goes together.\n"
    )
    sizes = (
        f"A span takes {results.table_bytes:.1f} bytes in the tables after merges (indexes included), of "
        f"{results.json_bytes:.0f} as JSON; {results.disk_bytes:.1f} bytes in the whole data directory, with parts "
        "that merges have replaced (they go after ten seconds), the engine's own files and the journal.\n"
    )
    return "### Ingest\n\n" + _table(heads, rows) + "\n" + _table(heads_of_parts, split) + "\n" + why + "\n" + sizes


def _question_table(results: collector.Results) -> str:
    heads = [f"question over {results.spans:,} spans, HTTP", "asked", "p50 ms", "p99 ms", "CPU ms", "bytes of answer"]
    rows = [
        [a.name, str(a.asked), f"{a.p50_ms:.1f}", f"{a.p99_ms:.1f}", f"{a.cpu_ms:.1f}", f"{a.size:,}"]
        for a in results.questions
    ]
    now, high = results.memory_mb
    memory = f"Memory of the collector after all this: {now:,.0f} MB, at most {high:,.0f} MB.\n"
    return "### Questions\n\n" + _table(heads, rows) + "\n" + memory


def _beside_table(results: collector.Results) -> str:
    """Return Zipkin's server beside clew's, way by way and question by question."""
    beside = results.zipkin
    title = "### Beside Zipkin's server\n\n"
    if beside.missing:
        return f"{title}Not measured: {beside.missing}. It takes Java and Maven.\n"
    how = (
        f"Zipkin {zipkin.VERSION} (Java, heap of at most {zipkin.HEAP}) got the very same bodies, after 60,000 other "
        "spans that made its code warm. It keeps spans in memory: nothing goes to a disk, nothing outlives it. clew's "
        "figures are with the journal, the tables and their merges.\n"
    )
    heads = ["way in", "spans/s, wall: clew", "Zipkin", "CPU µs a span, floor 1.0, with what follows: clew", "Zipkin"]
    rows = []
    for ours, theirs in zip(results.ingest, beside.ingest, strict=False):
        walls = [f"{way.stored / way.seconds:,.0f}" for way in (ours, theirs)]
        rows.append([ours.name, *walls, *(f"{way.all_us / way.floor_us:.1f}" for way in (ours, theirs))])
    asked = [
        [
            ours.name,
            *(f"{a.p50_ms:.1f} / {a.p99_ms:.1f}" for a in (ours, theirs)),
            *(f"{a.cpu_ms:.1f}" for a in (ours, theirs)),
        ]
        for ours, theirs in zip(results.questions, beside.questions, strict=True)
    ]
    asking = ["question", "p50 / p99 ms: clew", "Zipkin", "CPU ms: clew", "Zipkin"]
    memory = (
        f"Memory after the questions, now and at its highest: clew {results.memory_mb[0]:,.0f} and "
        f"{results.memory_mb[1]:,.0f} MB, Zipkin {beside.memory_mb[0]:,.0f} and {beside.memory_mb[1]:,.0f} MB.\n"
    )
    return title + how + "\n" + _table(heads, rows) + "\n" + _table(asking, asked) + "\n" + memory
