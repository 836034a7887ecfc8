"""Win rates by a judge: what it is asked, what it answered, what it cost, and how far to believe it."""
