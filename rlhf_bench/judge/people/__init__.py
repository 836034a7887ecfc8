"""People's labels as those of a judge, and verdicts that other pipelines stored."""
