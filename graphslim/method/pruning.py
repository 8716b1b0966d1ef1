"""`Pruning`: the interface that the users of tf1pruning know, on the engine of graphslim."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from graphslim.checkpoint import Trained
from graphslim.checkpoint.files import make_folder
from graphslim.checkpoint.soft import soft_prune, summarise
from graphslim.checkpoint.strip import strip
from graphslim.errors import LoadError
from graphslim.method import texts
from graphslim.method.dictionaries import (
    read_dictionary,
    read_filters,
    write_dictionary,
    write_text,
)
from graphslim.method.rebuild import DEFAULT_OUTPUTS, feeds_of, latest, names_of, opened, rebuild
from graphslim.method.scopes import Scope, Scopes, choose_filters, plan_filters
from graphslim.support.writing import replacing_folder

TOLERATED = 0.1
"""The failed rate up to which the published method counts pruning as done."""

DICTIONARIES, PRUNED, REBUILT, STRIPPED = (
    "Pruning_Dict",
    "Pruned_Dir",
    "Rebuild_CKPT",
    "Stripped_Dir",
)
PRUNED_TEXT, SUMMARY_TEXT, FROZEN = "Pruned_Filters.txt", "Pruning_Summary.txt", "modify.pb"


class Pruning:
    """Soft pruning of a checkpoint's blocks, and their stripping after retraining.

    The method is that of tf1pruning (github.com/Gideon0805/Tensorflow_Model_Pruning): soft filter
    pruning (He et al. 2018, arXiv 1808.06866) by redundancy (Liu et al. 2017, arXiv 1705.10748).
    Around a training script::

        pruning = Pruning(input_ckpt_path, output_dir=folder, output_nodes="logits")
        for threshold in (0.8, 0.7, 0.6, 0.55, 0.5):
            pruning.set_threshold(threshold)
            failed_rate, again = 1.0, False
            while failed_rate > 0.1:
                pruning.set_output_dir(a_folder_of_its_own)
                train(pruning.pruning_process(retrain=again), a_folder_of_its_own)
                pruning.get_retrained_ckpt(a_folder_of_its_own)
                failed_rate, again = pruning.get_pruning_summary(), True
        pruning.get_rebuild_graph()
        pruning.get_strip_params()
        pruning.get_strip_ckpt()

    Args:
        input_ckpt_path: the checkpoint to prune, with its `.meta`.
        scope_names: the name scopes of inverted residual and SE blocks, with or without a slash at
            the end; by default every block that is found.
        scope_conv_dict: by scope, its convolutions as `[node, axis]`, the scoring one first; by
            default `get_pruning_params` finds them. Like every dictionary here it may be the path
            of a `.json`, or of a pickle that the published class wrote.
        conv_vars_dict, bias_vars_dict: the variables of the convolutions; the channel analysis
            finds them, and they are only kept until `get_pruning_params` finds its own.
        pruning_filters_dict: by scope, the filters of its scoring layer that are to go.
        pruned_ckpt_path, retrained_ckpt_path: checkpoints of earlier steps.
        rebuild_meta_graph: a MetaGraph of the network without training; by default it is made from
            that of the training.
        input_tensors_map: by input of that MetaGraph, a placeholder (or its name) to replace it.
        ckpt_to_strip: the checkpoint that `get_rebuild_graph` wrote.
        strip_nodes_dict, strip_vars_dict: the nodes and variables to strip; they are only kept
            until `get_strip_params` finds its own.
        output_dir: the folder to write to; by default that of the checkpoint. It is made if it
            does not exist.
        output_nodes: the network's outputs, separated by commas.
        export_ckpt_path, export_pb_path: kept, and replaced by what `get_strip_ckpt` wrote.

    Attributes:
        failed_rate: the failed rate that `get_pruning_summary` last returned.

    Raises:
        TypeError: no checkpoint is given.
        LoadError: a dictionary cannot be read.
        EmitError: the folder cannot be made.
    """

    def __init__(
        self,
        input_ckpt_path: Optional[str] = None,
        scope_names: Optional[Sequence[str]] = None,
        scope_conv_dict: Any = None,
        conv_vars_dict: Any = None,
        bias_vars_dict: Any = None,
        pruning_filters_dict: Any = None,
        pruned_ckpt_path: str = "",
        retrained_ckpt_path: str = "",
        rebuild_meta_graph: Optional[str] = None,
        input_tensors_map: Optional[Mapping[str, Any]] = None,
        ckpt_to_strip: str = "",
        strip_nodes_dict: Any = None,
        strip_vars_dict: Any = None,
        output_dir: Optional[str] = None,
        output_nodes: str = DEFAULT_OUTPUTS,
        export_ckpt_path: str = "",
        export_pb_path: str = "",
    ) -> None:
        # The attributes have the names of the published class, since scripts read them.
        self._input_ckpt_path = _path(input_ckpt_path, "input_ckpt_path")
        self._scope_names = _names(scope_names)
        self._scope_conv_dict = read_dictionary(scope_conv_dict, "scope_conv_dict")
        self._conv_vars_dict = read_dictionary(conv_vars_dict, "conv_vars_dict")
        self._bias_vars_dict = read_dictionary(bias_vars_dict, "bias_vars_dict")
        self._pruning_filters_dict = read_filters(pruning_filters_dict, "pruning_filters_dict")
        self._pruned_ckpt_path = os.fspath(pruned_ckpt_path)
        self._retrained_ckpt_path = os.fspath(retrained_ckpt_path)
        self._rebuild_meta_graph = rebuild_meta_graph
        self._input_tensors_map = feeds_of(input_tensors_map)
        self._ckpt_to_strip = os.fspath(ckpt_to_strip)
        self._strip_nodes_dict = read_dictionary(strip_nodes_dict, "strip_nodes_dict")
        self._strip_vars_dict = read_dictionary(strip_vars_dict, "strip_vars_dict")
        self._output_nodes = output_nodes
        names_of(output_nodes)
        self._export_ckpt_path = os.fspath(export_ckpt_path)
        self._export_pb_path = os.fspath(export_pb_path)
        self._threshold: float = 0
        self.failed_rate: float = 0
        self.set_output_dir(
            os.path.dirname(self._input_ckpt_path) or "." if output_dir is None else output_dir
        )

    def set_output_dir(self, dir_path: Optional[str] = None) -> None:
        """Sets the folder that the next steps write to; it is made if it does not exist.

        Raises:
            TypeError: no folder is given.
            EmitError: the folder cannot be made.
        """
        folder = _path(dir_path, "dir_path")
        make_folder(folder)
        self._output_dir = folder

    def set_threshold(self, value: float) -> None:
        """Sets the redundancy, a share from 0 to 1, above which filters go."""
        self._threshold = value

    def get_pruning_params(self) -> None:
        """Finds the convolutions of every scope, and their variables.

        Writes `Scope_Conv_Dict.json`, `Conv_Vars_Dict.json` and `Bias_Vars_Dict.json` to the
        folder `Pruning_Dict`.

        Raises:
            LoadError: the checkpoint cannot be read.
            PlanError: a scope has no block, or one whose channels must stay.
            EmitError: a file cannot be written.
        """
        trained = self._opened(self._input_ckpt_path)
        scopes = self._scopes(trained, by_names=True)
        self._scope_conv_dict = texts.scope_convolutions(scopes)
        self._conv_vars_dict = texts.convolution_variables(scopes)
        self._bias_vars_dict = texts.vector_variables(scopes)
        self._write("Scope_Conv_Dict.json", self._scope_conv_dict)
        self._write("Conv_Vars_Dict.json", self._conv_vars_dict)
        self._write("Bias_Vars_Dict.json", self._bias_vars_dict)

    def get_pruning_filters(self) -> None:
        """Chooses the filters that go by the threshold; writes `Pruning_Dict/Pruned_Filters.json`.

        From each scope's scoring layer go the filters whose redundancy exceeds the threshold, their
        number rounded to a multiple of four, the most redundant first; at least one filter stays.

        Raises:
            LoadError, PlanError, EmitError: as for `get_pruning_params`.
        """
        trained = self._opened(self._input_ckpt_path)
        scopes = self._scopes(trained)
        self._pruning_filters_dict = choose_filters(trained.graph, scopes, self._threshold)
        self._write("Pruned_Filters.json", self._pruning_filters_dict)

    def get_pruning_ckpt(self, pruning_filters_path: Optional[str] = None) -> str:
        """Sets the chosen filters, and what their channels touch, to zero in a new checkpoint.

        The checkpoint keeps its name, and is written to the folder `Pruned_Dir` together with
        `Pruned_Filters.txt`.

        Args:
            pruning_filters_path: a `.json` of filters by scope, or a pickle of the published class;
                these filters replace the chosen ones, in later steps too.

        Returns:
            the prefix of the checkpoint to retrain.

        Raises:
            LoadError: a file cannot be read.
            PlanError: a scope or filter does not exist, or a scope would lose all its filters.
            EmitError: the folder cannot be written.
        """
        if pruning_filters_path is not None:
            path = _path(pruning_filters_path, "pruning_filters_path")
            self._pruning_filters_dict = read_filters(path, path)
        filters = self._pruning_filters_dict
        trained = self._opened(self._input_ckpt_path)
        scopes = self._scopes_of_filters(trained)
        plan = plan_filters(trained.graph, scopes, filters)
        folder = os.path.join(self._output_dir, PRUNED)
        target = os.path.join(folder, os.path.basename(trained.prefix))
        text = texts.pruned_text(
            self._input_ckpt_path, target, filters, scopes, self._threshold, pruning_filters_path
        )
        with replacing_folder(folder, force=True) as fresh:
            soft_prune(trained, plan, fresh)
            write_text(os.path.join(fresh, PRUNED_TEXT), text)
        self._pruned_ckpt_path = target
        return target

    def get_retrained_ckpt(self, retrain_path: str) -> str:
        """The prefix of a folder's latest checkpoint, which the next steps work on.

        Raises:
            LoadError: the folder has no checkpoint.
            RuntimeUnavailable: TensorFlow, which finds the checkpoint, is not installed.
        """
        self._retrained_ckpt_path = latest(_path(retrain_path, "retrain_path"))
        self._input_ckpt_path = self._retrained_ckpt_path
        return self._retrained_ckpt_path

    def get_pruning_summary(self) -> float:
        """The failed rate of the retrained checkpoint; writes `Pruning_Summary.txt` beside it.

        Returns:
            the share of the filters set to zero, over all convolutions of all scopes, whose
            absolute sum is 1e-9 or more again; 0 where none was.

        Raises:
            LoadError: the checkpoint cannot be read, or none has been named.
            PlanError: the checkpoint is of another network than the filters.
            EmitError: the text cannot be written.
        """
        prefix = _done(self._retrained_ckpt_path, "retrained_ckpt_path", "get_retrained_ckpt")
        trained = self._opened(prefix)
        scopes = self._scopes_of_filters(trained)
        filters = self._pruning_filters_dict
        self.failed_rate = summarise(trained, plan_filters(trained.graph, scopes, filters)).rate
        text = texts.summary_text(trained, filters, scopes)
        write_text(os.path.join(os.path.dirname(prefix), SUMMARY_TEXT), text)
        return self.failed_rate

    def pruning_process(self, retrain: bool = False) -> str:
        """Sets filters to zero: with `retrain` the same as before, else those of the threshold.

        Returns:
            the prefix of the checkpoint to retrain.

        Raises:
            LoadError, PlanError, EmitError: as for the steps.
        """
        if not retrain:
            self.get_pruning_params()
            self.get_pruning_filters()
        return self.get_pruning_ckpt()

    def get_rebuild_graph(self) -> str:
        """Writes the retrained checkpoint without what training added to it.

        The folder `Rebuild_CKPT` gets the checkpoint, its MetaGraph, and the graph as text.

        Returns:
            the prefix of the new checkpoint.

        Raises:
            LoadError: a file cannot be read, or is of another network.
            EmitError: the folder cannot be written.
        """
        prefix = _done(self._retrained_ckpt_path, "retrained_ckpt_path", "get_retrained_ckpt")
        self._ckpt_to_strip = rebuild(
            self._opened(prefix),
            os.path.join(self._output_dir, REBUILT),
            self._rebuild_meta_graph,
            self._input_tensors_map,
        )
        return self._ckpt_to_strip

    def get_strip_params(self) -> None:
        """Finds what stripping cuts.

        Writes `Strip_Nodes_Dict.json` and `Strip_Vars_Dict.json` to the folder `Pruning_Dict`.

        Raises:
            LoadError, PlanError, EmitError: as for `get_pruning_params`.
        """
        trained = self._opened(self._to_strip())
        scopes = self._scopes(trained)
        self._strip_nodes_dict = texts.strip_nodes(scopes, trained.whole)
        self._strip_vars_dict = texts.strip_variables(scopes)
        self._write("Strip_Nodes_Dict.json", self._strip_nodes_dict)
        self._write("Strip_Vars_Dict.json", self._strip_vars_dict)

    def get_strip_ckpt(self) -> str:
        """Cuts the filters from the rebuilt checkpoint and from its inference graph.

        The folder `Stripped_Dir` gets the checkpoint, its MetaGraph and the frozen `modify.pb`.

        Returns:
            the checkpoint's prefix.

        Raises:
            LoadError, PlanError, EmitError: as for the other steps.
            VerifyError: more than a tenth of the filters are not zero, or the outputs of the
                stripped graph differ by more than allowed. Nothing is written then.
        """
        trained = self._opened(self._to_strip())
        scopes = self._scopes_of_filters(trained)
        plan = plan_filters(trained.graph, scopes, self._pruning_filters_dict)
        folder = os.path.join(self._output_dir, STRIPPED)
        name = os.path.basename(trained.prefix)
        tolerated = summarise(trained, plan).rate <= TOLERATED
        with replacing_folder(folder, force=True) as fresh:
            stripped = strip(trained, plan, fresh, allow_unconverged=tolerated)
            os.rename(stripped.graph_path, os.path.join(fresh, FROZEN))
        self._export_ckpt_path = os.path.join(folder, name)
        self._export_pb_path = os.path.join(folder, FROZEN)
        return self._export_ckpt_path

    def _to_strip(self) -> str:
        return _done(self._ckpt_to_strip, "ckpt_to_strip", "get_rebuild_graph")

    def _opened(self, prefix: str) -> Trained:
        return opened(prefix, self._output_nodes)

    def _scopes(self, trained: Trained, by_names: bool = False) -> Dict[str, Scope]:
        """The scopes to prune: those named, those of the dictionary, or else every block."""
        scopes = Scopes(trained.graph, trained.statistics)
        if self._scope_names and (by_names or not self._scope_conv_dict):
            return scopes.named(self._scope_names)
        known = self._scope_conv_dict
        return scopes.named(list(known), known) if known else scopes.every()

    def _scopes_of_filters(self, trained: Trained) -> Dict[str, Scope]:
        """The scopes of the filters that were chosen or given."""
        scopes = Scopes(trained.graph, trained.statistics)
        return scopes.named(list(self._pruning_filters_dict), self._scope_conv_dict)

    def _write(self, name: str, tree: Mapping[str, Any]) -> None:
        folder = os.path.join(self._output_dir, DICTIONARIES)
        make_folder(folder)
        write_dictionary(os.path.join(folder, name), tree)


def _path(path: Any, argument: str) -> str:
    """A path as text.

    Raises:
        TypeError: the argument is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{argument} has to be a path, and is {path!r}")
    return os.fspath(path)


def _names(names: Optional[Sequence[str]]) -> Tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _done(value: str, name: str, step: str) -> str:
    """A value that an earlier step or an argument has to have set.

    Raises:
        LoadError: neither an earlier step nor an argument has set the value.
    """
    if not value:
        raise LoadError("is not known yet", name, f"call {step}() first, or give it")
    return value
