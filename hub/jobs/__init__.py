"""Jobs: the queue with its leases and logs, the worker that claims, and the process that a job is.

`queue.Jobs` is the hub's side; `worker` and `run` speak to the hub with its client.
"""
