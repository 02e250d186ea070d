"""What follows from stored spans, made beside all else: rates of operations and links of services, by time.

Above ``query``, whose statements it uses; what it makes is read by ``query.derived``. How it is exactly once, whatever
is killed and whatever comes late:

* Spans count into the minute of their own time (``rates``), traces into the minute in which they begin (``links``). A
  minute is always derived as a whole, from the spans that are there; nothing is ever added to what was derived before.
* All rows of one derivation carry its ``attempt`` and are one insert of one block, so they are there together or not
  at all; with them comes a row of totals, and the newest such row says which attempt counts. A derivation that died,
  or was done twice, changes nothing.
* The table ``arrivals`` counts the spans that arrived of each minute, in the same insert as the spans. A minute of
  which more have arrived than its derivation covers is derived again. That is how late spans come in.
* A derivation that sees fewer spans than the one before does not take its place: spans have gone meanwhile.

Ten minutes and hours are added up from minutes once they are over, and again when one of those changes.
"""

from __future__ import annotations

from clew.collector.derive.deriver import Deriver

__all__ = ["Deriver"]
