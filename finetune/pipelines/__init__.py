"""What a job or a command runs from end to end: a fine-tune, a base (also on many machines), the growth of the base."""
