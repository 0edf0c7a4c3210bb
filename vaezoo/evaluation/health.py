"""Sentences on the health of a model: what its figures show to be wrong, and what to try next. Imports no torch."""

from collections.abc import Iterator, Mapping, Sequence

FEW, MANY = 2.0, 10  # effective draws below which an evidence depends on one of so many draws
LITTLE_RATE = 0.1  # nats; below it latents carry no information
ACTIVE = "active (variance of the posterior mean over 0.01)"
REPAIRS = "Fewer latents, a smaller rate weight, rate_warmup or free_bits may help."


def findings(values: Mapping[str, object]) -> list[str]:
    """Returns a sentence for each problem that figures show, with what to try next; empty for none.

    Args:
        values: figures as in `Report.as_dict()`; what is missing is not checked.
    """
    return [*remarks({**values, "reason": None}), *_latents(values), *_levels(values), *_scale(values)]


def remarks(values: Mapping[str, object]) -> list[str]:
    """Returns the sentences below the metrics of a model: the reason of a missing one, few draws and unused codes."""
    reason = [str(values["reason"])] if values.get("reason") else []
    return [*reason, *_draws(values), *_codes(values)]


def note_on_activity(active: int, latents: int) -> list[str]:
    """Returns a sentence if fewer than half of the latents are active, else none."""
    if active >= latents / 2:
        return []
    if not active:
        return [
            f"Posterior collapse: 0 of {latents} latents are {ACTIVE}; the decoder ignores all of them. A smaller rate "
            "weight, rate_warmup, free_bits or a smaller decoder may help."
        ]
    return [f"{active} of {latents} latents are {ACTIVE}; the other {latents - active} carry nothing. {REPAIRS}"]


def _draws(values: Mapping[str, object]) -> Iterator[str]:
    share, samples = values.get("effective_samples"), values.get("samples")
    if isinstance(share, int | float) and isinstance(samples, int) and samples >= MANY and share * samples < FEW:
        yield (
            f"On average {share * samples:.1f} of the {samples:,} draws decide the log-evidence of an example: it is "
            "too low, and its standard error does not show by how much. It rises with K; the bound is more reliable."
        )


def _codes(values: Mapping[str, object]) -> Iterator[str]:
    used, codes, examples = (values.get(key) for key in ("used_codes", "codes", "examples"))
    if not (isinstance(used, int) and isinstance(codes, int) and isinstance(examples, int)):
        return
    if 2 * used < min(codes, examples):
        yield (
            f"{used:,} of {codes:,} codes are in use. Fewer codes, a larger revival, or another variant (sim-vq-vae, "
            "ibq-vae, fsq-vae) may help."
        )


def _latents(values: Mapping[str, object]) -> Iterator[str]:
    active, latents, dead = (values.get(key) for key in ("active_units", "latents", "dead_channels"))
    if isinstance(active, int) and isinstance(latents, int):
        yield from note_on_activity(active, latents)
    if isinstance(dead, int) and dead and active:
        yield (
            f"{dead} channel{'s' if dead > 1 else ''} of the latents carr{'y' if dead > 1 else 'ies'} nothing at any "
            "position. Fewer channels give the same reconstructions; a smaller rate weight may bring them into use."
        )


def _levels(values: Mapping[str, object]) -> Iterator[str]:
    given = values.get("level_rates")
    rates = given if isinstance(given, Sequence) else ()
    for number, rate in enumerate(rates, 1):
        if rate < LITTLE_RATE:
            yield (
                f"Level {number} of {len(rates)} (1 is the top) has a rate of {rate:.2f} nats: it carries nothing. "
                "Free nats for each level (free_bits), rate_warmup or fewer levels may help."
            )


def _scale(values: Mapping[str, object]) -> Iterator[str]:
    share = values.get("scale_at_floor")
    if isinstance(share, int | float) and share > 0:
        yield (
            f"{100 * share:.3g} % of the elements of x have a likelihood whose scale is at its lower limit, so that "
            "the bound has no meaning as a density. Remove constant columns or pixels, add noise to the data, or set "
            "a fixed scale (architecture.likelihood)."
        )
