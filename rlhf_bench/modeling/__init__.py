"""Models: loading and saving, adapters, prompt templates, tokenising, log-probabilities, sampling, reward models."""
