"""How the weight of the cross entropy changes over a training run."""

import optax

from rmi_jax import checks, ranges


def warmup_schedule(
    warmup_steps: int, transition_steps: int, *, final_weight: float = 0.5
) -> optax.Schedule:
    """Schedule for ``bce_weight``: 1 during a warm-up, then linearly down to its final weight.

    For comparisons: in the probes made so far the even mix from the first step, the default of
    `rmi_loss`, was better than a warm-up over 30 % of the steps (docs/choosing-settings). While the
    weight is 1, the RMI work is skipped.

    Args:
      warmup_steps: number of steps on cross entropy alone.
      transition_steps: number of steps from there to ``final_weight``.
      final_weight: the weight that is kept, in [0, 1]; the paper's is 0.5.

    Returns:
      A function of the step, concrete or traced, whose value is a scalar in [0, 1]: exactly 1
      while ``step <= warmup_steps``.

    Raises:
      TypeError: if a number of steps is not a static int, or ``final_weight`` not a real number.
      ValueError: if ``warmup_steps`` is negative, ``transition_steps`` is not positive, or
        ``final_weight`` is not in [0, 1].

    Example:
      >>> schedule = warmup_schedule(1000, 500)
      >>> [float(schedule(step)) for step in (0, 1000, 1250, 1500, 9000)]
      [1.0, 1.0, 0.75, 0.5, 0.5]
    """
    warmup_steps = checks.static_int("warmup_steps", warmup_steps, least=0)
    transition_steps = checks.positive_int("transition_steps", transition_steps)
    remedy = "the cross entropy's largest weight is 1"
    ranges.scalar("final_weight", final_weight, most=1, remedy=remedy)
    # Optax's interpolation starts at its first value only up to rounding, unless that is 0. A
    # weight a little above 1 would be refused, and one a little below would start the RMI work.
    rmi_weight = optax.linear_schedule(
        0.0, 1 - final_weight, transition_steps, transition_begin=warmup_steps
    )
    return lambda step: 1 - rmi_weight(step)
