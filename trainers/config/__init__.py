"""What a recipe can say: its keys, their checks, their names in other libraries."""
