"""The typed REST client of commands, workers and jobs: `client.HubClient`; `transfer` sends and gets folders."""
