"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]  # stage, done, of, note
Ticks = Callable[[int, int], None]  # done, of: within one stage


def stage(progress: Progress | None, name: str) -> Ticks | None:
    """What a single stage may call; None where nobody listens."""
    if progress is None:
        return None
    return lambda done, of: progress(name, done, of, "")


def prefixed(progress: Progress | None, prefix: str) -> Progress | None:
    """For a part of the work whose stages have the same names as another part's."""
    if progress is None:
        return None
    return lambda name, done, of, note: progress(prefix + name, done, of, note)
