"""The whole loop with a plain session: train, prune softly, train again, strip, verify.

For current TensorFlow, through `compat.v1`; it runs in TensorFlow 1.15 as well. `estimator.py`
does the same with an Estimator.

    python examples/digits/session.py out
"""

from __future__ import annotations

import os
from typing import Optional

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import data  # noqa: E402
import network  # noqa: E402
import results  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

import graphslim as gs  # noqa: E402

RATE, RETRAIN_RATE = 0.05, 0.025


def train(
    digits: data.Digits,
    folder: str,
    steps: int,
    rate: float,
    seed: int,
    start: Optional[str] = None,
) -> str:
    """Trains from the beginning, or on from the checkpoint `start`; gives the new one's prefix."""
    with tf.Graph().as_default():
        tf.set_random_seed(seed)
        image = tf.placeholder(tf.float32, [None, data.SIZE, data.SIZE, 1], name="image")
        label = tf.placeholder(tf.int64, [None], name="label")
        logits = network.logits(image, training=True)
        tf.nn.softmax(logits, name=results.OUTPUT)
        loss = network.loss_of(logits, label)
        step = tf.train.get_or_create_global_step()
        first = tf.placeholder(tf.int64, [], name="first_step")
        train_op = network.train_op_of(loss, network.rate_at(step - first, steps, rate), step)
        saver = tf.train.Saver()
        with tf.Session(config=network.one_thread()) as session:
            session.run(tf.global_variables_initializer())
            if start:
                saver.restore(session, start)
            begin = int(session.run(step))
            for images, labels in data.batches(digits, steps, seed + begin):
                feed = {image: images, label: labels, first: begin}
                value, _ = session.run([loss, train_op], feed)
            print(f"  step {begin + steps}: loss {value:.3f}", flush=True)
            os.makedirs(folder, exist_ok=True)
            return saver.save(session, os.path.join(folder, "model.ckpt"), step)


def main() -> None:
    """Runs the loop; prints a table and writes a chart."""
    args = results.arguments(__doc__ or "")
    digits, held_out = data.load(args.seed, args.data)
    found = results.Results(held_out, args.folder, args.seed)

    first = os.path.join(args.folder, "first")
    unpruned = train(digits, first, args.steps, RATE, args.seed)
    found.add("unpruned", gs.load(unpruned, outputs=[results.OUTPUT]))

    # The whole of the method. Each step is a checkpoint with more filters set to zero; training
    # goes on from it as it would from any other. What is zero stays so: no gradient reaches it.
    pruned = os.path.join(args.folder, "pruned")
    steps = gs.training.schedule(unpruned, pruned, args.thresholds, **results.CHOICE)
    for step in steps:
        trained = os.path.join(step.folder, "trained")
        step.retrained(
            train(digits, trained, args.retrain_steps, RETRAIN_RATE, args.seed, step.checkpoint)
        )
        found.add_step(step)

    # The same network without the zeros: a checkpoint that trains on, and a frozen graph that was
    # checked against the one with the zeros.
    stripped = os.path.join(args.folder, "stripped")
    slim = gs.strip(steps.result, steps.plan, stripped, outputs=[results.OUTPUT])
    found.add_stripped(slim)
    found.report()


if __name__ == "__main__":
    main()
