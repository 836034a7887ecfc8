"""Coverage of the intervals and false positives of the tests, by simulation: writes docs/coverage.md and
docs/coverage-judges.md.

    python benchmarks/coverage.py  # some 15 minutes of one core
    python benchmarks/coverage.py 2000  # of 2,000 tables a cell instead of 800

The tables of the pages are from files of their own: coverage_prompts.py, coverage_seeds.py, coverage_tests.py,
coverage_shares.py and coverage_judges.py. Each cell draws from a stream of its own, so that it does not depend on the
other cells.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
from pathlib import Path

from coverage_judges import print_audit, print_equal_length, print_ppi, print_unread
from coverage_prompts import print_coverage
from coverage_seeds import print_seeds, print_z, print_z_differences
from coverage_shares import print_claims, print_of_models, print_paired, print_self_bleu
from coverage_tests import print_tests

TESTED = 10_000  # tables a row of the tests
JUDGED = 60  # runs a row of a judge

HOW_TO_USE = """\
# Which interval to believe, and when

Every number of a report has a 95 % interval. This page says how often such an interval holds the truth, and how often
a test finds a difference that is not there, in the situations that evaluations are in. In short:

- **One seed, 100 prompts or more, no mark ‡**: believe it. Means, win rates, KL, correlations, shares and their
  differences are held in 93 to 97 %. But the interval is about these checkpoints: another training seed may give
  another number, and the interval does not contain that.
- **Several seeds**: believe the interval for "this method, trained again, on new prompts". It holds 93 to
  99 % (91 to 93 % under long tails), and a p value below .001 is what it says. The price is width: with 2 seeds a
  limit is 12.7 standard errors of the seeds away, with 3 seeds 4.3, with 5 seeds 2.8. With 2 seeds hardly any
  difference can be shown (see *Power*); train 3 at the least, 5 where it matters, and read the rows of each seed beside
  the pooled one.
- **p (Wilcoxon) and the effect size** know no seeds, so a pooled row of several seeds has neither.
- **‡ Long tails** (a few prompts carry the number): 90 to 94 %, and the misses are on one side: the truth lies beyond
  the end nearer to the tail. Only more prompts help.
- **‡ Near 0 or 1** (fewer than 10 prompts on the rarer side): 86 to 100 %.
- **Fewer than 100 prompts**: 92 to 95 %; below 10 prompts a plain t is used, which assumes normal numbers.
- **Rewards (z)** and all that is made of them allow for the reference's mean and standard deviation being estimates
  from the same prompts. The reference itself is 0 by definition and has no interval.
- **Win rates with unread orders** hold the truth in 95 % or more. **At equal length** the rate of one model alone rests
  on a prior for the judge's length bias: heed its warning.
- **Many metrics**: a single p below .05 among many metrics that were not named beforehand is no finding. Use `p
  (table)`; use `p (Holm)` for a metric that was named beforehand.

A value in bold lies outside 93 to 97 %. `python benchmarks/coverage.py` writes the page.
Win rates, the audit of a judge and labelled shares are on [a page of their own](coverage-judges.md)."""

JUDGES = """\
# What a judge's numbers hold

Win rates with orders that could not be read, the audit of a judge, the rate at equal length of one model alone, and
shares that labels of a sample correct. [Which interval to believe](coverage.md) has all others.

    python benchmarks/coverage.py"""

PROMPTS = """
## One seed: by prompts and kind of tail
"""

SEEDS = """
## Several seeds

The prompts are crossed with the seeds. The limit of the seeds (Student's t over their means, S - 1 degrees of freedom)
and that of the prompts (bootstrap-t) are combined by the root of their squared distances from the mean, and the result
is never nearer than the prompts alone would have it. It errs on the wide side where the seeds hardly differ, since so
few seeds cannot show that they do not. Prompts have sd 1 and responses .5, unless stated; the lognormal has sigma 1.
{error}
"""

SEEDS_END = """
Shares are combined on the scale of the logit; seeds of sd 1 on it are, around .91, seeds between .69 and .98. The
misses are on one side: the interval lies above a share that a rare bad seed pulls down."""

TESTS = """
## Tests over several seeds: false positives and power

How often p is below each level for two models that are alike, and how often Holm's correction over the 10 pairs of five
such models lets one through at 5 % (*Holm*); *Power* is how often models that differ by .25 differ at 5 %. A
response has sd .8, the prompts are 150; *interaction* is the sd of what a model does on a prompt under every seed.
"""

TESTS_END = """
- The test keeps its level everywhere, in the tail and after Holm too. Satterthwaite's degrees of freedom, which are
  estimated from two or three seeds, do not: p < .001 comes up to 50 times too often with 2 seeds, 15 times with 3.
- A t test over the seeds' means takes the prompts as they are, and fails where models differ by prompt (interaction).
- The price is power. Where seeds are alike and models do not differ by prompt, .23 against Satterthwaite's .61 with
  2 seeds, .67 against .78 with 3, .99 against .99 with 5; with a large interaction and 5 seeds of sd .1, .57
  against .65."""

Z = """
## Rewards z-scored by the reference

The reference's mean and standard deviation are estimates from the same prompts. Their influence is part of the
interval; taken as known, a large gain is held far too seldom. The gain is in sds of a response
to one prompt; 150 prompts, one or four samples.
"""

Z_DIFFERENCES = """
The same for what is made of z-scores, with a gain of 3.7 and one seed: a difference from the reference (tables of
pairs, alarms, `compare`), and the hypervolume of a model at 2 nats below 10. At equal KL, best-of-n and the frontier
are made of the same values.
"""

PAIRED = """
## Differences of paired shares

`sycophancy` and `right_change` are differences of two shares on the same questions: -1, 0 or 1 a response. With one
sample a question they have the score interval of Tango (1998) at every value; with several, that of a mean, and Tango's
with n = questions where fewer than 10 questions differ from the others. With 4 samples a third of the questions never
change. A limit that a mean's interval throws outside of -1 to 1 is clipped there, and the table says so.
"""

OF_MODELS = """
Below 42 questions the intervals of 4 samples are wide rather than narrow: a mean of 4 varies less than the single draw
that n = questions means.

## Shares of two models

`ended`, `refused` and what suites check by rule are shares. Their difference between two models has Tango's interval,
with one sample a prompt always, with several where fewer than 10 prompts differ; its p value is McNemar's. A mean's
interval is beside it: near 0 and 1 it is far too narrow. The models are drawn independently.
"""

CLAIMS = """
## How often a table claims something

Two models that are the same, 7 metrics, one seed: how often some metric is called different, by `p (table)` and by any
metric's own p.
"""

SELF_BLEU = """
## Self-BLEU

Its interval is a jackknife's, set to the width that random halves of the texts show
(`rlhf_bench/scorers/self_bleu.py`). Below 40 texts it is a plain jackknife, which is 1.2 to 1.4 times as wide as
needed.
"""

UNREAD = """
## Win rates with unread orders

Orders are unread at random; the interval covers the bounds and the sampling error, so it is wide rather than narrow.
{error}
"""

AUDIT = """
## What the audit of a judge accuses

Runs of 200 pairs with true labels, {runs} a row; Holm over the three checks at 5 %. "Planted" is the share of verdicts
by chance. A tie is no error, and no verdict by chance either. A judge that errs in one way only is to be accused of
that alone. With wrong labels the size of chance is that of the labels, and is accused only beyond their stated share.
"""

EQUAL_LENGTH = """
## Win rate at equal length, one model alone

57 simulated files of 805 instructions, each of one model against one baseline, four times; counts are of 57. "Length
bias" is what the judge adds, in log odds, to a response that is one standard deviation longer (tanh of it); it has an
sd of .25 between models. "Own slope" is how much better or worse a model is itself where its answers are longer.
Distances are in points, to the rate that the same verdicts would have without the bias. Likewise AlpacaEval's
length-controlled rates are made of the same verdicts as its raw rates. Those of 57 published models are 4.8 points off,
with a rank correlation of .961, which is a bias of .9 here; in rates over instructions of unequal difficulty it shows
as .7. "Judge's bias known" is a rule that takes the mean bias as known, "model's bias known" one that knows each
model's: no file tells either.

- At .9 the rate at equal length meets every aim: nearer than raw on average, at most 3 of 57 farther by over a point,
  better ranks, and a warning on each that is off by over 5 points. Of all other files off by so much one has no warning
  (of 228 at 1.2).
- From .3 on it is nearer than raw on average, with better ranks, but at .3 and .6 between 3.8 and 14.5 of 57 are
  farther by over a point. The rule that knows the judge's bias has 4.2 to 9.2 of them.
- A judge without a length bias, or with .15, is corrected for one all the same, and the raw rate is the nearer one.
"""

PPI = """
## Shares that labels of a sample correct

`rlhf_bench.evaluate.prediction_powered`: the labeller's share of all responses, corrected by people's labels of some
that were drawn at random. The last column is the width of the interval over that of the labels alone.
"""


def print_intervals(tables: int) -> None:
    few = max(tables // 5, 2)
    error = f"{tables:,} tables a cell (standard error {math.sqrt(0.95 * 0.05 / tables):.1%})."
    print(HOW_TO_USE)
    print(PROMPTS)
    print_coverage(tables)
    print(SEEDS.format(error=error))
    print_seeds(tables)
    print(SEEDS_END)
    print(TESTS)
    print_tests(TESTED)
    print(TESTS_END)
    print(Z)
    print_z(tables)
    print(Z_DIFFERENCES)
    print_z_differences(tables)
    print(PAIRED)
    print_paired(few)
    print(OF_MODELS)
    print_of_models(few)
    print(CLAIMS)
    print_claims(tables)
    print(SELF_BLEU)
    print_self_bleu(few)


def print_judges(tables: int) -> None:
    print(JUDGES)
    print(UNREAD.format(error=f"{JUDGED} tables a cell (standard error {math.sqrt(0.95 * 0.05 / JUDGED):.1%})."))
    print_unread(JUDGED)
    print(AUDIT.format(runs=JUDGED))
    print_audit(JUDGED)
    print(EQUAL_LENGTH)
    print_equal_length()
    print(PPI)
    print_ppi(tables)


def main(tables: int = 800) -> None:
    docs = Path(__file__).parent.parent / "docs"
    for name, page in (("coverage.md", print_intervals), ("coverage-judges.md", print_judges)):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            page(tables)
        (docs / name).write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
