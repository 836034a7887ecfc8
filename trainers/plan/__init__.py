"""What a training would need, before it begins: `train --dry-run`."""
