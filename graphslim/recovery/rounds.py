"""Gradual pruning: to the budget in rounds, each chosen on the repaired network of the one before.

A network that loses half of itself at once is hard to repair, and what a criterion says of channels
holds for the network as it is. So the way is walked in steps with repair in between (Zhu and Gupta
2017, arXiv 1710.01878). Each round keeps the same share of what the one before left: their cubic
schedule is for hundreds of steps, and in three would go 70 % of the way in the first.
"""

from __future__ import annotations

import glob
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Set

import numpy as np

from graphslim.channels.groups import Removal, analyse, as_asked
from graphslim.errors import PlanError, VerifyError
from graphslim.ir import Graph
from graphslim.measure.norm_statistics import cautions_about
from graphslim.measure.samples import Data, Examples
from graphslim.measure.shares import Shares, share_out
from graphslim.measure.verify import compare_on
from graphslim.plans import (
    Achieved,
    GroupSettings,
    Plan,
    Selection,
    check_possible,
    compose,
    fit,
    in_scope,
    rules_of,
)
from graphslim.plans.compose import origins_of
from graphslim.recovery.result import Repaired, Stage
from graphslim.recovery.run import (
    DISTILLATION,
    LEAST_SQUARES,
    Wish,
    Work,
    changed,
    opened,
    with_numbers,
)
from graphslim.recovery.state import State, StateLike, state_of
from graphslim.rewrite import apply, zero_consumers
from graphslim.support.progress import Tick, silent

PlanOf = Callable[[Graph, Selection], Plan]
"""Makes a plan for a graph by a selection."""
_WALKED = ("ratio", "macs", "params", "size")
"""Budgets that can be reached in steps."""
_MORE = 4
"""How many times the steps and the time of a round the next one gets. What little training lacks in
the last round is missed more than in those before, where least squares does most."""
REMOVAL = "removal"
"""What the stage is called in which channels go."""


class Gradual(NamedTuple):
    """The outcome of gradual pruning.

    Attributes:
        plan: what was removed in all rounds, as one plan for the original.
        repaired: the graph, and what became of it. `before` is the original without the channels of
            the plan, as they would be removed at once without a repair.
    """

    plan: Plan
    repaired: Repaired


def prune_in_rounds(
    graph: Graph,
    selection: Selection,
    rounds: int,
    plan_of: PlanOf,
    wish: Wish,
    data: Data,
    state: StateLike = None,
    progress: Tick = silent,
) -> Gradual:
    """Prunes to a budget in rounds, and repairs the network after each; see `prune_gradually`.

    Args:
        graph: the original.
        selection: what goes, with a criterion and a budget for the whole way.
        rounds: how many.
        plan_of: what makes the plans.
        wish: what the repair is to do; steps and seconds are those of all rounds together.
        data: the images.
        state: where what is done is kept.
        progress: told of what takes long.

    Raises:
        PlanError: the selection cannot be walked in rounds, or makes no sense for the graph.
        VerifyError: a graph does not run, or a round's surgery failed its check.
        GraphslimError: as for `repair`.
    """
    check_walkable(selection, rounds)
    graph = as_asked(graph, selection)
    channels = analyse(graph)
    # The last round is hardest: what it cannot reach is told before the first one is repaired.
    check_possible(graph, channels, in_scope(graph, channels, selection), selection)
    examples = opened(graph, data, wish)
    kept = state_of(state, lambda: purpose_of(graph, selection, rounds, wish, examples))
    shares = share_out(examples, wish.seed, wish.batch)
    walk = _Walk(graph, selection, rounds, plan_of, wish, shares, kept, progress)
    walk.run()
    gradual = walk.outcome({**wish.settings(examples), "rounds": rounds})
    image_cautions = tuple(cautions_about(graph, examples))
    return gradual._replace(repaired=gradual.repaired._replace(image_cautions=image_cautions))


def purpose_of(
    graph: Graph, selection: Selection, rounds: int, wish: Wish, examples: Examples
) -> Dict[str, Any]:
    """What has to be the same where a state of pruning is gone on with; see `state`."""
    options = {f"the option {name}": value for name, value in vars(selection).items()}
    return {**options, **wish.purpose(graph, examples), "the number of rounds": rounds}


def check_walkable(selection: Selection, rounds: int) -> None:
    """Refuses what cannot be walked in rounds.

    Raises:
        PlanError: there is no criterion, nothing that says how much of the network stays, or no
            round.
    """
    if rounds < 1:
        raise PlanError("must be 1 or more", f"--rounds {rounds}")
    selection.check()
    by_threshold = any(given.threshold is not None for _, given in selection.by_name)
    what, _ = selection.budget or ("ratio", 0.0)
    if selection.criterion is None or what not in _WALKED or by_threshold:
        raise PlanError(
            "the way to a threshold, to a measured time or to dead channels has no steps",
            "--rounds",
            "give a criterion and one of --ratio, --macs, --params and --size, or leave it out",
        )


class _Walk:
    """Gradual pruning as it goes on.

    Attributes:
        slim: the repaired network of the last round; at first the original.
        plan: what was removed so far, in the channels of the original; None for nothing.
    """

    def __init__(
        self,
        graph: Graph,
        selection: Selection,
        rounds: int,
        plan_of: PlanOf,
        wish: Wish,
        shares: Shares,
        state: State,
        progress: Tick,
    ) -> None:
        self._graph, self._selection, self._rounds = graph, selection, rounds
        self._plan_of, self._wish, self._shares = plan_of, wish, shares
        self._state, self._progress = state, progress
        self.slim, self.plan = graph, None  # type: Graph, Optional[Plan]
        # The same without any repair: what a state holds is told from it.
        self._plain = graph
        self._touched: Set[str] = set()
        self._plans: List[Plan] = []
        self._done: List[Dict[str, Any]] = []
        self._stages: List[Stage] = []
        self._seconds, self._left, self._hurried = wish.seconds, 1.0, False

    def run(self) -> None:
        """All rounds, but those that the state holds."""
        for number in range(1 + self._resume(), self._rounds + 1):
            # Once training was ended from the keyboard, the rest of the way is one step.
            if not self._hurried or number == self._rounds:
                self._round(number)

    def outcome(self, settings: Mapping[str, Any]) -> Gradual:
        """What came of it: never worse than plain removal, on the images that no stage has seen."""
        plan = self.plan
        if plan is None:
            plan = self._plan_of(self._graph, self._selection)
        plain = apply(self._graph, plan)
        at_once = Work(self._graph, plain, plan, self._shares, self._wish, silent, State())
        kept = [stage.after for stage in self._stages if stage.kept]
        if kept and not kept[-1].is_better_than(at_once.before):
            self.slim = plain
            note = "what the rounds gave was no better than the removal of all at once"
            self._stages.append(Stage(REMOVAL, True, at_once.before, 0.0, note=note))
        repaired = at_once.result(settings)
        return Gradual(plan, repaired._replace(graph=self.slim, stages=tuple(self._stages)))

    def _round(self, number: int) -> None:
        started = time.perf_counter()
        plan = self._planned(number)
        whole, wish = self.slim, self._share_of(number)
        if plan is not None and plan.removed:
            self._remove(plan, number)
        else:
            wish = wish.without(LEAST_SQUARES)
        if self.plan is None:
            return
        work = Work(
            self._graph,
            self.slim,
            self.plan,
            self._shares,
            wish,
            lambda done, total, step: self._progress(
                done, total, f"round {number} of {self._rounds}: {step}"
            ),
            self._state,
            number,
            None if plan is None else (whole, plan),
        )
        if plan is not None and plan.removed:
            took = time.perf_counter() - started
            self._stages.append(Stage(REMOVAL, True, work.before, took, round=number))
        work.run()
        self._touched |= set(changed(self.slim, work.slim))
        self.slim, self._hurried = work.slim, work.interrupted
        self._stages += work.stages
        for stage in work.stages:
            self._seconds -= stage.seconds if stage.name == DISTILLATION else 0.0
        self._keep(number)

    def _planned(self, number: int) -> Optional[Plan]:
        """What goes in a round; None if so little is left already."""
        text = self._state.get("plan")
        if text is not None:
            return Plan.from_json(text, "the state")
        selection = self._selection_for(number / self._rounds)
        plan = None if selection is None else self._plan_of(self.slim, selection)
        if plan is not None and self._state.path is not None:
            self._state.put("plan", plan.to_json())
        return plan

    def _selection_for(self, way: float) -> Optional[Selection]:
        """The selection by which a network that lost channels is brought to a part of the way.

        The share of the original that stays shrinks by the same factor in each round.

        Args:
            way: the part of the way, above 0; 1 is all of it.

        Returns:
            the selection; None if no more is left already.
        """
        selection = self._limited(way)
        if selection.budget is None:
            return selection
        what, asked = selection.budget
        staying = 1 - asked if what == "ratio" else asked
        share = staying**way / self._left
        if share >= 1:
            return None
        return replace(selection, **{what: 1 - share if what == "ratio" else share})

    def _limited(self, way: float) -> Selection:
        """The selection with all that it says of shares of groups said of those of the original."""
        selection = self._selection
        if selection.max_ratio == 1 and not selection.by_name:
            return selection
        channels, now = analyse(self._graph), analyse(self.slim)
        removal = Removal.none(channels)
        if self.plan is not None:
            removal = Removal(channels, fit(self._graph, self.plan).removed)
        origins = origins_of(removal, now)
        rules = rules_of(self._graph, channels, channels.groups, selection)
        owner = np.full(channels.count, -1)
        for number, group in enumerate(channels.groups):
            owner[group.channels] = number
        limits = []
        for group in now.groups:
            origin = origins[group.channels[0]]
            if not group.prunable or origin < 0 or owner[origin] < 0:
                continue
            whole = channels.groups[owner[origin]]
            rule, ratio = rules[whole.id], None
            if rule.ratio is not None:
                ratio = max(0.0, 1 - len(whole) * (1 - rule.ratio) ** way / len(group))
            least = min(rule.least, len(group))
            settings = GroupSettings(ratio=ratio, max_ratio=1.0, min_channels=least)
            limits.append((glob.escape(group.id), settings))
        return replace(selection, max_ratio=1.0, by_name=(*selection.by_name, *limits))

    def _share_of(self, number: int) -> Wish:
        """What is done in a round, and its share of the steps and of the time that is left."""
        shares = [_MORE**other for other in range(1, self._rounds + 1)]
        each = [self._wish.steps * share // sum(shares) for share in shares]
        each[-1] += self._wish.steps - sum(each)
        steps = each[number - 1]
        seconds = max(0.0, self._seconds) * shares[number - 1] / sum(shares[number - 1 :])
        wish = self._wish._replace(steps=max(1, steps), seconds=seconds)
        return wish.without(DISTILLATION) if self._hurried or not steps else wish

    def _remove(self, plan: Plan, number: int) -> None:
        """Takes channels from the network, and adds them to what was removed so far.

        Raises:
            VerifyError: what is left does not compute what the network computes without them.
        """
        slim = apply(self.slim, plan)
        surgery = compare_on(zero_consumers(self.slim, plan), slim, self._shares.tuning)
        if not surgery.ok:
            raise VerifyError(
                f"the result of round {number} differs by {surgery.worst.relative:.3g} of the "
                f"range of {surgery.worst.name}",
                self._graph.name,
                "a bug; please report it",
            )
        self._add(plan)
        self.slim = slim

    def _add(self, plan: Plan) -> None:
        """Composes a plan with those of the rounds before; `slim` is the network before it."""
        achieved = plan.achieved
        if achieved is not None:
            self._left *= 1 - achieved.achieved if achieved.what == "ratio" else achieved.achieved
        self._done.append({"removed": plan.removed, "left": round(self._left, 6)})
        own = self._selection
        settings = {**plan.settings, **own.settings(), "rounds": list(self._done)}
        settings["aggregate"] = plan.settings.get("aggregate", own.aggregate)
        whole = plan
        if self.plan is not None:
            whole = compose(self._graph, self.plan, self._plain, plan, settings)
        if own.budget is not None and achieved is not None:
            what, asked = own.budget
            left = 1 - self._left if what == "ratio" else self._left
            achieved = Achieved(what, asked, round(left, 6), achieved.reason)
        self.plan = whole._replace(settings=settings, achieved=achieved)
        self._plain = apply(self._plain, plan)
        self._plans.append(plan)

    def _keep(self, number: int) -> None:
        """Puts all that later rounds need into the state."""
        if self._state.path is None:
            return
        weights = {}
        for node in self._plain:
            if node.op == "Const" and node.attrs["value"].dtype.is_floating:
                numbers = self.slim[node.name].attrs["value"].numbers()
                same = np.array_equal(numbers, node.attrs["value"].numbers())
                if node.name in self._touched or not same:
                    weights[node.name] = numbers
        part = {
            "number": number,
            "plans": [plan.to_json() for plan in self._plans],
            "weights": weights,
            "stages": self._stages,
            "seconds": self._seconds,
            "hurried": self._hurried,
        }
        self._state.put("rounds", part, forget=["plan", "stages", "training"])

    def _resume(self) -> int:
        """Takes over what the state holds; gives the number of the last round that was done."""
        part = self._state.get("rounds")
        if part is None:
            return 0
        for text in part["plans"]:
            self._add(Plan.from_json(text, "the state"))
        self.slim = with_numbers(self._plain, part["weights"])
        self._touched = set(part["weights"])
        self._stages, self._seconds = list(part["stages"]), part["seconds"]
        self._hurried = part["hurried"]
        return int(part["number"])
