"""What the entrances over HTTP share: who asks, dependencies of routes, audit, refusals and their documents."""
