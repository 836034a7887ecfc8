"""Evaluate models and texts side by side: `evaluate(...)` gives an `Evaluation`, its tables and figures.

request        what was asked for: enough to repeat it, and to see that it is done already
plan           which models, texts, prompts and reward models that means; everything is checked here
matching       prompts that files of responses share with the data and with each other
sources        what it is made with, by path and hash; nothing is loaded
measure        every number of a model's responses; measure_text: those that need no model; measure_kl: likelihoods;
               measure_base: what each of them is given
parts          a model's rows, or a pool, under one seed, each shard stored as it is finished
assemble       the results folder, made of what is stored
manifest       what a result is made of
run            all of it, into a results folder
result         what the folder holds, as frames and figures
"""

from rlhf_bench.evaluate.result import Evaluation
from rlhf_bench.evaluate.run import evaluate, run_request

__all__ = ["Evaluation", "evaluate", "run_request"]
