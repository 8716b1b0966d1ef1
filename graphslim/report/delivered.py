"""The part of a report that shows the file that was delivered, and its time where it runs."""

from __future__ import annotations

from html import escape
from typing import Optional

from graphslim.delivery import Delivery
from graphslim.delivery.told import gain, losses_table, title_of
from graphslim.measure.timings import Timings
from graphslim.report.parts import section, table, verdict_card
from graphslim.support.text import count, share


def delivered(delivery: Optional[Delivery], timed: Optional[Timings]) -> str:
    """The section; empty where a graph was written and nothing was timed.

    Args:
        delivery: the file; None for a graph.
        timed: the original and the result, timed in the runtime that the result is for.
    """
    cards, content, lead = [], "", ""
    if delivery is not None:
        before, after = delivery.before, delivery.package.size
        change = f", {share(before, after)} against the original, converted alike" if before else ""
        lead = escape(
            " ".join([f"{title_of(delivery)}: {count(after)} bytes{change}.", *delivery.notes])
        )
        if delivery.losses is None:
            cards.append(verdict_card("Not run in its runtime", delivery.why_not, "warn"))
        else:
            title = "As in TensorFlow" if delivery.losses.judged else "What quantisation costs"
            cards.append(verdict_card(title, delivery.losses.sentence()))
            content = f'<div class="card gap">{table(*losses_table(delivery.losses))}</div>'
            if delivery.losses.caution is not None:
                cards.append(verdict_card("Caution", delivery.losses.caution, "warn"))
    if timed is not None:
        text, slower = gain(timed)
        ratio = f"{timed.models[1].ratio.median:.3g} of the original's time"
        cards.append(verdict_card(ratio, text, "warn" if slower else ""))
    if not cards:
        return ""
    verdicts = f'<div class="verdict">{"".join(cards)}</div>'
    return section("What is delivered", lead, verdicts, content)
