"""A SavedModel of a frozen graph; runs in the converter's process."""

from __future__ import annotations

import os
import tempfile
from typing import Dict, Sequence

from graphslim import runtime
from graphslim.delivery.imported import Named, imported


def convert(definition: bytes, inputs: Sequence[str], outputs: Sequence[Named]) -> Dict[str, bytes]:
    """Writes a SavedModel with the signature `serving_default`; gives its files.

    Args:
        definition: a GraphDef.
        inputs: the names of the placeholders.
        outputs: pairs of a name and the tensor that has it in the signature.

    Raises:
        EmitError: TensorFlow refuses the graph.
    """
    tf = runtime.tensorflow("it writes SavedModels")
    with tempfile.TemporaryDirectory() as place, tf.Graph().as_default() as holder:
        # The signature has the names, so that no tensor needs to be renamed.
        fed, wanted = imported(
            tf, holder, definition, inputs, [(name, name) for _, name in outputs]
        )
        folder = os.path.join(place, "model")
        with tf.Session(graph=holder) as session:
            builder = tf.saved_model.Builder(folder)
            signature = tf.saved_model.predict_signature_def(
                dict(zip(inputs, fed)), dict(zip([name for name, _ in outputs], wanted))
            )
            builder.add_meta_graph_and_variables(
                session, [tf.saved_model.tag_constants.SERVING], {"serving_default": signature}
            )
            builder.save()
        files = {}
        for parent, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(parent, name)
                with open(path, "rb") as file:
                    files[os.path.relpath(path, folder)] = file.read()
        return files
