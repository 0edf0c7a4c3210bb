"""Figures at the end of a run, from the lines of `metrics.jsonl`."""

from collections.abc import Mapping, Sequence

Line = Mapping[str, float | None]


def kept_line(history: Sequence[dict[str, float | None]]) -> dict[str, float | None] | None:
    """Returns the line with the held-out figures of the weights that were kept; None if none were held out."""
    best, score = None, None
    for line in history:
        bound, distortion = line.get("validation_bound"), line.get("validation_distortion")
        if distortion is None and bound is None:
            continue
        own = (True, bound) if bound is not None else (False, -(distortion or 0.0))
        if score is None or own > score:
            best, score = line, own
    return best


def figures(line: Line, prefix: str = "") -> str:
    """Returns bound, distortion and rate of a line as text, nats."""
    found = {key: line.get(f"{prefix}{key}") for key in ("bound", "distortion", "rate")}
    texts = [f"{key} {value:,.2f}" for key, value in found.items() if value is not None]
    return f"{', '.join(texts)} nats" if texts else "no finite figures"


def summary_of(history: Sequence[dict[str, float | None]]) -> str:
    """Returns the held-out figures, and the step whose weights were kept, as a sentence."""
    kept = kept_line(history)
    if kept is None:
        last = next((line for line in reversed(history) if "distortion" in line), {})
        return f"{figures(last)} on the training images; none were held out, so the last weights were kept"
    step, end = (int(line["step"] or 0) for line in (kept, history[-1]))
    return f"{figures(kept, 'validation_')} on the held-out images; the weights of step {step:,} of {end:,} were kept"
