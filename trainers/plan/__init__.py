"""What a training needs: `train --dry-run` before it begins, and the time that is left."""
