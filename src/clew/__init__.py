"""clew: follow one request through all your Python services."""

