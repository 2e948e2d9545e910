"""How long tests/test_model.py runs: the profile `model`, or `long` where pytest is told so.

Only the long one looks for the shortest sequence of steps that fails; that takes minutes.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

_COMMON = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile(
    "model",
    _COMMON,
    derandomize=True,
    max_examples=21,
    stateful_step_count=25,
    phases=[Phase.generate],
    print_blob=False,
)
settings.register_profile("long", _COMMON, max_examples=200, stateful_step_count=50)


def chosen_settings() -> settings:
    return settings.get_profile("long" if settings.get_current_profile_name() == "long" else "model")
