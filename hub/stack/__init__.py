"""Processes on one machine: `parcelhub up`, `doctor` and `demo`."""
