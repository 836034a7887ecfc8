"""How work is divided: processes, a pool of workers, shards of a data set."""
