"""How good a model is: mask AP against ground truth, calibration of scores, the learning curve, what to label next."""
