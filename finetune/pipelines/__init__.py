"""What a job or a command runs from end to end: a fine-tune, a base, a base on many machines."""
