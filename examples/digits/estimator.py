"""The whole loop with an Estimator: train, prune softly, train again, strip, verify.

For TensorFlow 1.15. `session.py` does the same without an Estimator, which current TensorFlow has
no more.

    python examples/digits/estimator.py out
"""

from __future__ import annotations

import os
from typing import Any, Dict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import data  # noqa: E402
import network  # noqa: E402
import results  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

import graphslim as gs  # noqa: E402

RATE, RETRAIN_RATE = 0.05, 0.025


def model_fn(features: Any, labels: Any, mode: str, params: Dict[str, Any]) -> Any:
    """The network with what the Estimator wants of it."""
    logits = network.logits(features, training=mode == tf.estimator.ModeKeys.TRAIN)
    probabilities = tf.nn.softmax(logits, name=results.OUTPUT)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=probabilities)
    loss = network.loss_of(logits, labels)
    if mode == tf.estimator.ModeKeys.EVAL:
        right = tf.metrics.accuracy(labels, tf.argmax(logits, axis=1))
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={"accuracy": right})
    step = tf.train.get_or_create_global_step()
    rate = network.rate_at(step - params["first"], params["steps"], params["rate"])
    train_op = network.train_op_of(loss, rate, step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def train(
    digits: data.Digits, held_out: data.Digits, folder: str, steps: int, rate: float, seed: int
) -> str:
    """Trains in a folder, from the checkpoint there if it holds one; gives the folder."""
    latest = tf.train.latest_checkpoint(folder)
    first = int(tf.train.load_variable(latest, "global_step")) if latest else 0
    config = tf.estimator.RunConfig(
        folder,
        tf_random_seed=seed,
        session_config=network.one_thread(),
        save_checkpoints_steps=steps,
        save_summary_steps=steps,
    )
    params = {"first": first, "steps": steps, "rate": rate}
    estimator = tf.estimator.Estimator(model_fn, config=config, params=params)

    def seen() -> Any:
        image, label = [None, data.SIZE, data.SIZE, 1], [None]
        return tf.data.Dataset.from_generator(
            lambda: data.batches(digits, steps, seed + first),
            (tf.float32, tf.int64),
            (tf.TensorShape(image), tf.TensorShape(label)),
        )

    def unseen() -> Any:
        return tf.data.Dataset.from_tensor_slices(tuple(held_out)).batch(data.BATCH)

    estimator.train(seen, steps=steps)
    found = estimator.evaluate(unseen)
    print(f"  step {first + steps}: held-out accuracy {found['accuracy']:.4f}", flush=True)
    return folder


def main() -> None:
    """Runs the loop; prints a table and writes a chart."""
    args = results.arguments(__doc__ or "")
    digits, held_out = data.load(args.seed, args.data)
    found = results.Results(held_out, args.folder, args.seed)

    first = os.path.join(args.folder, "first")
    unpruned = train(digits, held_out, first, args.steps, RATE, args.seed)
    found.add("unpruned", gs.load(unpruned, outputs=[results.OUTPUT]))

    # The whole of the method. Each step is a folder with a checkpoint in which more filters are
    # zero; an Estimator goes on from it as from any other. What is zero stays so: no gradient
    # reaches it.
    pruned = os.path.join(args.folder, "pruned")
    steps = gs.training.schedule(
        tf.train.latest_checkpoint(unpruned), pruned, args.thresholds, **results.CHOICE
    )
    for step in steps:
        step.retrained(
            train(digits, held_out, step.folder, args.retrain_steps, RETRAIN_RATE, args.seed)
        )
        found.add_step(step)

    # The same network without the zeros: a checkpoint that trains on, and a frozen graph that was
    # checked against the one with the zeros.
    stripped = os.path.join(args.folder, "stripped")
    slim = gs.strip(steps.result, steps.plan, stripped, outputs=[results.OUTPUT])
    found.add_stripped(slim)
    found.report()


if __name__ == "__main__":
    tf.logging.set_verbosity(tf.logging.ERROR)
    main()
