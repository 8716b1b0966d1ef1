"""A report as one HTML file that loads nothing from a server and runs no script."""

from __future__ import annotations

from html import escape
from typing import List, Optional, Sequence, Tuple

from graphslim._version import __version__
from graphslim.delivery.told import gain, losses_table, title_of
from graphslim.measure.agreement import Agreement, columns_of, rows_of, surgery_verdict, verdict
from graphslim.measure.looks import Look
from graphslim.plans import GroupPlan, Selection
from graphslim.plans.options import options_of
from graphslim.recovery import Repaired
from graphslim.report import charts
from graphslim.report.data import Pair, Report, Wall, repair_table
from graphslim.report.network import Names, costs, network, tail
from graphslim.report.parts import fill, section, table, verdict_card
from graphslim.support.progress import Tick, silent
from graphslim.support.text import count, share

_SHOWN = 24
"""The number of charts shown at first; the others unfold."""
_ASKED = {"macs": "MACs", "params": "parameters", "size": "size", "latency": "latency"}


def render(report: Report, tick: Tick = silent) -> str:
    """The page as text.

    Args:
        report: the contents.
        tick: called for each chart that is drawn.

    Raises:
        GraphslimError: matplotlib is not installed.
    """
    charts.require_library()
    names = Names(
        [layer.name for part in report.parts for layer in part.layers],
        [part.name for part in report.parts if part.kind is not None],
    )
    body = [
        _head(report),
        _network(report, names),
        _costs(report, names),
        _scores(report, names, tick),
    ]
    if report.repaired is not None:
        body.append(_repair(report.repaired))
    if report.looks:
        body.append(_looks(report.looks))
    body += [
        _delivered(report),
        _outputs(report),
        _walls(report),
        _settings(report),
    ]
    return fill(f"{report.model.get('name', 'graph')}: what was pruned", body)


def _head(report: Report) -> str:
    name = escape(report.model.get("name", "graph"))
    total, prunable = report.channels
    tiles = [
        _tile("channels in groups", (total, total - report.removed), None),
        _tile("parameters", report.params, _asked(report, "params")),
        _tile("multiply-accumulates", report.macs, _asked(report, "macs")),
        _tile("size in bytes", report.size, _asked(report, "size")),
    ]
    target = f" Written to <code>{escape(report.output)}</code>." if report.output else ""
    return (
        f"<header><h1>{name}</h1><p>{report.removed:,} of {prunable:,} prunable channels removed, "
        f"in {report.seconds:.2f} s.{target}</p></header>"
        f'<div class="verdict">{_verdicts(report)}{_budget(report)}</div>'
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _asked(report: Report, budget: str) -> Optional[float]:
    achieved = report.achieved
    return achieved.asked if achieved is not None and achieved.what == budget else None


def _tile(label: str, pair: Optional[Pair], asked: Optional[float]) -> str:
    if pair is None:
        return (
            f'<div class="card tile"><div class="what">{label}</div><div class="much">?</div>'
            '<div class="from">the size of an input is open</div></div>'
        )
    percent_left = 100 * pair[1] / pair[0] if pair[0] else 100.0
    mark = "" if asked is None else f'<b style="left:{100 * asked:.2f}%" title="asked"></b>'
    target = "" if asked is None else f"; asked for {100 * asked:.4g}&nbsp;%"
    change = f"{count(pair[0])} → {count(pair[1])} ({percent_left:.1f}&nbsp;%{target})"
    return (
        f'<div class="card tile"><div class="what">{label}</div>'
        f'<div class="much">{share(*pair) or "none"}</div>'
        f'<div class="meter"><i style="width:{min(percent_left, 100):.2f}%"></i>{mark}</div>'
        f'<div class="from">{change}</div></div>'
    )


def _budget(report: Report) -> str:
    outcome = report.achieved
    if outcome is None:
        return ""
    quantity = _ASKED.get(outcome.what)
    subject = f"of the {quantity} remain" if quantity else "of the channels in scope go"
    if outcome.what not in _ASKED and outcome.what != "ratio":
        subject = outcome.what.replace("_", " ")
    asked, achieved = f"{100 * outcome.asked:.4g} %", f"{100 * outcome.achieved:.4g} %"
    reason = f"<br>{escape(outcome.reason)}" if outcome.reason else ""
    return (
        f'<div class="card"><strong>Asked for {asked}, achieved {achieved}</strong>'
        f'<span class="soft">{escape(subject)}{reason}</span></div>'
    )


def _verdicts(report: Report) -> str:
    """Cards: first how the network changed, then whether the cut was right."""
    change, surgery = report.change, report.surgery
    if change is None and surgery is None:
        text = "<strong>Not verified</strong>The outputs were not compared."
        return f'<div class="card">{text}</div>'
    cards = []
    if change is not None:
        title, text = verdict(change)
        cards.append(verdict_card(title, text, "warn" if change.far else ""))
        cards += [verdict_card("Caution", str(caution), "warn") for caution in change.cautions()]
    if surgery is not None and change is not None:
        cards.append(verdict_card("The cut itself was checked", surgery_verdict(surgery)))
    elif surgery is not None:
        title, text = _agreed(surgery)
        cards.append(verdict_card(title, text))
        cards += [verdict_card("Caution", str(caution), "warn") for caution in surgery.cautions()]
    return "".join(cards)


def _agreed(agreement: Agreement) -> Tuple[str, str]:
    """The title and the sentence of a comparison that shows whether the cut was right."""
    worst = agreement.worst
    text = f"as the {agreement.against}, over {agreement.inputs}"
    if agreement.same:
        return "Outputs: the same, bit for bit", text
    apart = f"{text}; the largest difference is {worst.relative:.2g} of the range of {worst.name}"
    if agreement.ok:
        return f"Outputs: the same within {agreement.tolerance:g} of their range", apart
    return "Outputs: NOT the same", apart


def _legend(*items: Tuple[str, str]) -> str:
    marks = [f'<span><i class="{shade}"></i>{text}</span>' for shade, text in items]
    return f'<div class="legend">{"".join(marks)}</div>'


def _network(report: Report, names: Names) -> str:
    lead = (
        "From input to output, one bar for each convolution and matrix product. A bar is as long "
        "as the square root of the layer's width, and coloured by the share that stays."
    )
    legend = _legend(("kept", "stays"), ("gone", "removed"), ("wall", "may not be removed"))
    return section("The network", lead, legend, network(report.parts, names))


def _costs(report: Report, names: Names) -> str:
    lead = "By block, and by layer where there is none; the costliest first."
    legend = _legend(("kept", "after"), ("gone", "saved"))
    return section("What it costs", lead, legend, costs(report.parts, names))


def _scores(report: Report, names: Names, tick: Tick) -> str:
    scored = [group for group in report.groups if group.scores]
    if not scored:
        reasons = sorted({group.why for group in report.groups})
        dead = "they are dead: no output needs them" if reasons == ["dead"] else "they were given"
        lead = f"No criterion scored the channels that went; {dead}."
        return section("What went", lead if reasons else "Nothing went.")
    lead = (
        f"How <code>{escape(scored[0].why)}</code> scored the channels of each group that loses "
        "some: the number of channels, over their score (on a logarithmic axis where few are far "
        "above the rest). The cut is drawn where a score parts what goes from what stays."
    )
    legend = _legend(("kept", "stays"), ("gone", "removed"), ("cut", "the cut"))
    figures: List[str] = []
    for group in scored:
        tick(len(figures), len(scored), "drawing")
        figures.append(_figure(group, names))
    shown = f'<div class="charts">{"".join(figures[:_SHOWN])}</div>'
    hidden = "".join(figures[_SHOWN:])
    more = f'<details class="charted"><summary>and {len(figures) - _SHOWN} more groups</summary>'
    more += f'<div class="charts">{hidden}</div></details>'
    return section("Scores, and the cut", lead, legend, shown, more if hidden else "")


def _figure(group: GroupPlan, names: Names) -> str:
    name = group.block or group.id
    width_after = group.channels - len(group.removed)
    cut = charts.cut_between(group.scores, group.removed)
    cut_text = "" if cut is None else f", cut at {cut:.3g}"
    label = f"{name}: {group.channels} channels, {width_after} stay{cut_text}"
    return (
        f'<figure title="{escape(label)}"><figcaption><b>{tail(names(name))}</b>'
        f'<span class="soft">{group.channels} → {width_after}{cut_text}</span></figcaption>'
        f"{charts.histogram(group.scores, group.removed, label)}</figure>"
    )


def _outputs(report: Report) -> str:
    agreements = [outputs for outputs in (report.change, report.surgery) if outputs is not None]
    if not agreements:
        return section("What became of the outputs?", "They were not compared.")
    inputs = agreements[0].inputs
    lead = (
        f"Over {inputs}. The error is a root mean square, as a share of what the original's output "
        "varies by from input to input: at 100 % the result is no nearer to the original than the "
        "mean of its answers is. The bars show the largest difference as a share of the output's "
        "range, on a logarithmic scale."
    )
    if agreements[0].random:
        lead += " Random inputs tell little of real ones."
    if report.change is not None and report.surgery is not None:
        lead += (
            " The masked original is the network with the weights that read removed channels set "
            "to zero, which the pruned one has to equal within the dashed line."
        )
    cards = "".join([_agreement(outputs, outputs is report.surgery) for outputs in agreements])
    return section("What became of the outputs?", lead, f'<div class="two">{cards}</div>')


def _repair(repaired: Repaired) -> str:
    """What each stage of a repair came to, and how the loss fell."""
    training, tuning, gate = repaired.images
    lead = (
        f"The weights that stay were fitted to what the original computes on {training} images "
        f"without labels, tuned on {tuning}. Every stage was judged on {gate} that no stage looked "
        "at, and thrown away where it was no better on these."
    )
    stages = table(*repair_table(repaired))
    cards: List[str] = []
    for stage in repaired.stages:
        if stage.curve:
            points = [(point.step, point.loss) for point in stage.curve]
            best = min(points, key=_loss)[1]
            label = f"{stage.title}: loss {points[0][1]:.3g} at first, {best:.3g} at best"
            legend = _legend(
                ("kept", "loss over the images for tuning, by steps"),
                ("gone", "the smallest"),
            )
            cards.append(
                f'<div class="card"><h3>{escape(stage.title)}, {stage.seconds:.0f} s</h3>{legend}'
                f"{charts.curve(points, label)}</div>"
            )
    cautions = [verdict_card("Caution", str(caution), "warn") for caution in repaired.cautions()]
    warned = f'<div class="verdict">{"".join(cautions)}</div>' if cautions else ""
    shown = f'<div class="two">{"".join(cards)}</div>' if cards else ""
    return section(
        "What the repair brought back", lead, f'<div class="card gap">{stages}</div>', shown, warned
    )


def _looks(looks: Sequence[Look]) -> str:
    """Outputs that are pictures, a row for each image."""
    cards = []
    for look in looks:
        heads = "".join([f"<th>{escape(head)}</th>" for head in look.heads])
        rows = []
        for number, pictures in enumerate(look.rows, 1):
            cells = [
                f'<td><img src="{charts.picture(picture)}" alt="{escape(head)} of image {number}">'
                "</td>"
                for head, picture in zip(look.heads, pictures)
            ]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        cards.append(
            f'<div class="card gap"><h3>{escape(look.output)}</h3><table class="looks"><tr>{heads}'
            f"</tr>{''.join(rows)}</table></div>"
        )
    lead = (
        "Images that no stage looked at, and what each network makes of them, on the scale of what "
        "the original makes. Of several channels the largest is shown, of classes their number."
    )
    return section("Side by side", lead, *cards)


def _delivered(report: Report) -> str:
    """The file that was delivered, and its time; empty for a graph that was not timed."""
    delivery, timed = report.delivery, report.timed
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


def _loss(point: Tuple[int, float]) -> float:
    return point[1] if point[1] == point[1] else float("inf")


def _agreement(agreement: Agreement, is_check: bool) -> str:
    """The chart and the table of one comparison; only a check has a tolerance line."""
    bars = [(output.name, output.relative) for output in agreement.outputs]
    chart = charts.differences(bars, agreement.tolerance if is_check else None)
    return (
        f'<div class="card"><h3>Against the {escape(agreement.against)}</h3>{chart}'
        f"{table(columns_of(agreement), rows_of(agreement))}</div>"
    )


def _walls(report: Report) -> str:
    total, prunable = report.channels
    if not report.walls:
        return section("What could not be pruned", "Nothing: every group is prunable.")
    head = (
        '<thead><tr><th>because</th><th class="number">channels</th><th>where</th>'
        "<th>what you can do</th></tr></thead>"
    )
    rows = "".join([_wall(wall) for wall in report.walls])
    lead = f"{total - prunable:,} of {total:,} channels stay whatever is asked for."
    table = f'<div class="table"><table class="walls">{head}<tbody>{rows}</tbody></table></div>'
    return section("What could not be pruned, and why", lead, table)


def _wall(wall: Wall) -> str:
    names = [f"<code>{escape(node or group)}</code>" for group, _, node in wall.groups]
    names = list(dict.fromkeys(names))
    places = ", ".join(names[:3])
    if len(names) > 3:
        further = ", ".join(names[3:])
        places += f"<details><summary>and {len(names) - 3} more</summary>{further}</details>"
    return (
        f'<tr><td><b>{escape(wall.reason)}</b></td><td class="number">{wall.channels:,}</td>'
        f"<td>{places}</td><td>{escape(wall.advice)}</td></tr>"
    )


def _settings(report: Report) -> str:
    # A repair has a section of its own.
    settings = [
        (key, _setting_text(value)) for key, value in report.settings.items() if key != "repair"
    ]
    rows: Sequence[Tuple[str, str]] = [
        *[(_setting_name(key), text) for key, text in settings if text],
        ("model", report.model.get("name", "")),
        ("SHA-256", report.model.get("sha256", "")),
        ("graphslim", __version__),
    ]
    text = "".join([f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows])
    lead = "The same model and the same settings give the same plan."
    return section("How it was asked for", lead, f"<dl>{text}</dl>")


def _setting_name(key: str) -> str:
    """A setting as the command line spells it, where it is an option of a selection."""
    flags = {name: known.flag_of(name) for name, _, known in options_of(Selection)}
    return flags.get(key, key.replace("_", " "))


def _setting_text(value: object) -> str:
    """A setting as text; empty for None."""
    if isinstance(value, dict):
        return ", ".join(
            [f"{_setting_name(key)} {_setting_text(item)}" for key, item in value.items()]
        )
    if isinstance(value, (list, tuple)):
        return ", ".join([_setting_text(item) for item in value])
    return "" if value is None else str(value)
