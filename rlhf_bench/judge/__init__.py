"""Win rates by a judge: its questions, its answers, their cost, and how far to trust it."""
