"""The HTTP server that tests run in child processes; `integration.harness.servers` starts and steers it."""
