"""The robot's side: clients, the words of an answer, outcomes of picks. Imports no torch."""
