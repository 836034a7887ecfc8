"""Files of verdicts from elsewhere: as tables of their own numbers, with intervals, or imported into a result."""
