"""What ``luigi.cfg`` sets for a run, for runs that are started where no ``luigi.cfg`` is.

Luigi reads the file in the current folder only (or where ``LUIGI_CONFIG_PATH`` leads), and without it a run in which
steps have failed ends with exit code 0.
"""

from __future__ import annotations

from luigi.configuration import get_config

DEFAULTS = {
    "core": {"log_level": "WARNING", "no_lock": "true"},
    "worker": {"check_complete_on_run": "true"},
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
}
"""By section; the same as in the ``luigi.cfg`` that comes with the pipeline."""


def set_luigi_defaults() -> None:
    """Set what nobody has set."""
    config = get_config()
    for section, values in DEFAULTS.items():
        for name, value in values.items():
            if not config.has_option(section, name) and not config.has_option(section, name.replace("_", "-")):
                config.set(section, name, value)
