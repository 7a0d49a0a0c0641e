"""The `parcelhub` command: `main` is the entry, one file per group of commands.

Command modules import at their top only what is cheap; a command imports what it needs when it runs, so that
`parcelhub --help` answers at once.
"""

from serving.cores import share_cores

share_cores()
