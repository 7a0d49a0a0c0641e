"""How good few images are enough, which recipe and which base; how fast pictures are made."""
