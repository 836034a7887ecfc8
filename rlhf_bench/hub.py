"""The Hugging Face hub: what can be a name there, and is it within reach? It is checked once, so that a machine without
a network fails at once and not after a minute of retries."""

from __future__ import annotations

import functools
import os
from pathlib import Path

PROBE_SECONDS = 3.0
_TRUE = {"1", "ON", "YES", "TRUE"}  # huggingface_hub's own reading


@functools.cache
def hub_answers() -> bool:
    """True unless the user works offline or one request, without retries, gets no answer at all."""
    if any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")):
        return False
    import huggingface_hub

    try:
        # Any answer will do. The session carries the user's proxies and certificates.
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception:  # the HTTP library, and so its errors, differ between versions
        return False
    return True


def looks_like_path(name: str | Path) -> bool:
    """True for what cannot be a name on the hub, which is NAME or ORG/NAME."""
    return str(name).startswith((".", "/", "~")) or str(name).count("/") > 1
