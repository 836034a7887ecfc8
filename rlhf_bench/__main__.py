"""`python -m rlhf_bench` is `rlhf-bench`."""

from rlhf_bench.cli import main

if __name__ == "__main__":
    main()
