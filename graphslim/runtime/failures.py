"""What TensorFlow says when it fails, in one line."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """What an error says in its first line, or behind the place that current TensorFlow tells."""
    text = str(getattr(error, "message", None) or error)
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if lines and lines[0] == "Graph execution error:":
        places = [at for at, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
        lines = lines[places[-1] + 1 :] if places else lines[1:]
    return lines[0][:300] if lines else type(error).__name__
