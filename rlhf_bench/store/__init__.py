"""A results folder, `results/<suite>/<run>/`: read and written here, and nowhere else.

result    the finished folder: manifest, responses, scores, metrics, training logs, audit and judge
parts     what an evaluation has finished so far: the scored responses of each model, a shard of the prompts at a time
"""

import pyarrow as pa

from rlhf_bench.store.parts import PartStore
from rlhf_bench.store.result import MANIFEST_KEYS, ResultStore, find_results, order_models
from rlhf_bench.types import ANCHORS

__all__ = ["ANCHORS", "MANIFEST_KEYS", "PartStore", "ResultStore", "find_results", "order_models"]

# Arrow's own allocator keeps what it has freed, of 150,000 rows 200 MB; the C library hands it back
pa.set_memory_pool(pa.system_memory_pool())
