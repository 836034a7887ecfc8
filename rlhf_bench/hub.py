"""Is the Hugging Face hub within reach? Asked once, so that a machine without a network fails at once and not after a
minute of retries."""

from __future__ import annotations

import functools
import os
import socket
from urllib.parse import urlsplit

__all__ = ["hub_answers"]


@functools.cache
def hub_answers(timeout: float = 3.0) -> bool:
    """True if a connection to the hub can be opened. Behind a proxy it is taken for granted."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    url = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((url.hostname or "", url.port or 443), timeout=timeout):
            return True
    except OSError:
        return False
