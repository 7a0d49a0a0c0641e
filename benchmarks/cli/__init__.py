"""The commands of `parcelhub bench`."""
