"""The outside world: exposures, models, associations, references, products."""
